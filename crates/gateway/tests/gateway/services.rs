//! The service side.

use cloak_base::{DeviceId, EntityId};
use cloak_gateway::{ExitConfig, ServiceConfig, Services, ServicesError};
use cloak_node::{Code, EXIT_PORT, Incoming, ServiceTable, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

fn services(text: &str) -> Vec<ServiceConfig> {
    #[derive(serde::Deserialize)]
    struct File {
        service: Vec<ServiceConfig>,
    }
    toml::from_str::<File>(text).unwrap().service
}

fn exit(text: &str) -> ExitConfig {
    toml::from_str(text).unwrap()
}

fn table(text: &str) -> Services {
    Services::new(&services(text), &ExitConfig::default()).unwrap()
}

fn incoming(peer: &str, port: u16) -> Incoming {
    Incoming {
        peer: peer.to_owned(),
        entity: EntityId::from_bytes([7; 32]),
        device: DeviceId::from_bytes([8; 32]),
        target: Target::Service(port),
    }
}

#[tokio::test]
async fn services_are_reached_by_whom_they_allow() {
    let key = EntityId::from_bytes([7; 32]);
    let services = table(&format!(
        "[[service]]\nport = 80\ntarget = \"{}\"\nallow = [\"alice.cloak\"]\n\
         [[service]]\nport = 81\ntarget = \"x:1\"\nallow = [\"realm\"]\n\
         [[service]]\nport = 82\ntarget = \"x:1\"\nallow = [\"{key}\"]\n\
         [[service]]\nport = 83\ntarget = \"x:1\"\n",
        echo().await
    ));
    assert_eq!(services.ports(), [80, 81, 82, 83]);
    assert_eq!(services.authorise(&incoming("alice.cloak", 80)), Ok(()));
    assert_eq!(services.authorise(&incoming("bob.cloak", 80)), Err(Code::NotAllowed));
    assert_eq!(services.authorise(&incoming("xalice.cloak", 80)), Err(Code::NotAllowed));
    assert_eq!(services.authorise(&incoming("bob.cloak", 81)), Ok(()));
    assert_eq!(services.authorise(&incoming("bob.cloak", 82)), Ok(()));
    assert_eq!(services.authorise(&incoming("bob.cloak", 83)), Err(Code::NotAllowed));
    assert_eq!(services.authorise(&incoming("bob.cloak", 84)), Err(Code::NoService));
    let (mut application, target) =
        services.connect(incoming("alice.cloak", 80)).await.ok().unwrap();
    assert!(target.starts_with("127.0.0.1:"));
    application.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    application.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    let refused = services.connect(incoming("bob.cloak", 80)).await;
    assert_eq!(refused.err(), Some(Code::NotAllowed), "asked again, whoever calls");
}

#[tokio::test]
async fn egress_connects_to_configured_targets_only() {
    let backend = echo().await;
    let text = format!("[[service]]\nport = 80\ntarget = \"{backend}\"\nallow = [\"anyone\"]");
    let services = table(&text);
    let mut hostile = incoming("alice.cloak", 80);
    for host in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "localhost", "169.254.169.254"] {
        hostile.target = Target::Host(host.to_owned(), backend.port());
        assert_eq!(services.authorise(&hostile), Err(Code::NotAllowed), "{host}");
        assert_eq!(services.connect(hostile.clone()).await.err(), Some(Code::NotAllowed));
    }
    let by_port = incoming("alice.cloak", backend.port());
    assert_eq!(services.connect(by_port).await.err(), Some(Code::NoService));
}

/// What a peer that may use the exit asks it for.
fn host(host: &str, port: u16) -> Incoming {
    let target = Target::Host(host.to_owned(), port);
    Incoming { target, ..incoming("alice.cloak", port) }
}

#[tokio::test]
async fn an_exit_connects_for_whom_it_allows_and_not_to_private_addresses() {
    let backend = echo().await;
    let closed = Services::new(&[], &exit("allow = [\"alice.cloak\"]")).unwrap();
    assert_eq!(closed.ports(), [EXIT_PORT], "it is published");
    let bob = Incoming { peer: "bob.cloak".to_owned(), ..host("127.0.0.1", backend.port()) };
    assert_eq!(closed.authorise(&bob), Err(Code::NotAllowed));
    let mapped = ["::ffff:127.0.0.1", "64:ff9b::7f00:1", "::127.0.0.1"];
    // A resolver takes these for addresses.
    let spelled = ["127.1", "0x7f.1", "2130706433", "017700000001", "localhost"];
    for name in ["127.0.0.1", "::1", "[::1]"].into_iter().chain(mapped).chain(spelled) {
        let asked = host(name, backend.port());
        assert_eq!(closed.authorise(&asked), Ok(()), "who, not where to");
        assert_eq!(closed.connect(asked).await.err(), Some(Code::NotAllowed), "{name}");
    }
    for (name, code) in [
        ("bob.cloak", Code::NotAllowed),
        ("Bob.Cloak.", Code::NotAllowed),
        ("bob.cloak.localhost", Code::BadName),
        ("\u{1b}]0;title\u{7}", Code::BadName),
        ("a b", Code::BadName),
        ("", Code::BadName),
    ] {
        assert_eq!(closed.authorise(&host(name, 80)), Err(code), "before it is listed: {name:?}");
        assert_eq!(closed.connect(host(name, 80)).await.err(), Some(code), "{name:?}");
    }

    let open = Services::new(&[], &exit("allow = [\"alice.cloak\"]\nprivate = true")).unwrap();
    assert_eq!(open.connect(bob).await.err(), Some(Code::NotAllowed), "bob even so");
    for name in ["127.0.0.1", "::ffff:127.0.0.1", "localhost"] {
        let (mut application, address) =
            open.connect(host(name, backend.port())).await.ok().unwrap();
        assert_eq!(address, backend.to_string(), "{name}");
        application.write_all(b"hello").await.unwrap();
        let mut back = [0; 5];
        application.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"hello");
    }
    open.reload(&[], &ExitConfig::default()).unwrap();
    let asked = host("127.0.0.1", backend.port());
    assert_eq!(open.authorise(&asked), Err(Code::NotAllowed), "asked again at the next resume");
    assert!(open.ports().is_empty());
}

#[tokio::test]
async fn backends_that_are_down_are_told_from_what_is_not_configured() {
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let scratch = Scratch::new();
    let missing = scratch.path("missing.sock");
    let live = scratch.path("live.sock");
    let _listener = tokio::net::UnixListener::bind(&live).unwrap();
    let row = |port: u16, target: String| {
        format!("[[service]]\nport = {port}\ntarget = \"{target}\"\nallow = [\"realm\"]\n")
    };
    let unix = |path: &std::path::Path| format!("unix:{}", path.display());
    let text = row(1, closed.to_string()) + &row(2, unix(&missing)) + &row(3, unix(&live));
    let services = table(&text);
    for port in [1, 2] {
        let failed = services.connect(incoming("alice.cloak", port)).await;
        assert_eq!(failed.err(), Some(Code::BackendRefused));
    }
    assert!(services.connect(incoming("alice.cloak", 3)).await.is_ok());
}

#[tokio::test]
async fn a_reloaded_table_counts_at_once_and_a_bad_one_not_at_all() {
    let row = |port: u16, allow: &str| {
        format!("[[service]]\nport = {port}\ntarget = \"x:1\"\nallow = [{allow}]\n")
    };
    let table = table(&row(80, "\"realm\""));
    let nobody = ExitConfig::default();
    let twice = services(&(row(80, "") + &row(80, "")));
    assert_eq!(table.reload(&twice, &nobody), Err(ServicesError::Twice(80)));
    assert_eq!(table.authorise(&incoming("bob.cloak", 80)), Ok(()));
    table.reload(&services(&row(80, "\"alice.cloak\"")), &nobody).unwrap();
    assert_eq!(table.authorise(&incoming("bob.cloak", 80)), Err(Code::NotAllowed));
    assert_eq!(table.rows()[0].allow, ["alice.cloak"]);
}
