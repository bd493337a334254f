//! Deadlines and limits.

use std::io::ErrorKind;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::*;

#[tokio::test]
async fn handshake_has_a_deadline() {
    let gateway = Gateway::configured(&config("handshake_timeout = \"200ms\""), "direct", &[]);
    for unfinished in [
        &b""[..],
        b"\x05",
        b"\x05\x01\x00",
        b"\x05\x01\x00\x05\x01\x00\x03\x20bob",
        b"\x04\x01\x00\x50",
        b"\x04\x01\x00\x50\x00\x00\x00\x01ann",
    ] {
        let mut stream = gateway.connect().await;
        stream.write_all(unfinished).await.unwrap();
        read_all(&mut stream).await;
    }
    let answer = gateway.say("GET http://bob.cloak/ HTTP/1.1\r\nHos").await;
    assert_eq!(outcome(&answer), (408, Some("request-timeout")));
}

/// One byte at a time does not prolong the deadline.
#[tokio::test]
async fn slowloris_is_cut_off() {
    let gateway = Gateway::configured(&config("handshake_timeout = \"200ms\""), "direct", &[]);
    for start in ["GET / HTTP/1.1\r\nX: ", "\x04\x01\0P\0\0\0\x01", "\x05\u{7f}"] {
        let (mut read, mut write) = gateway.connect().await.into_split();
        write.write_all(start.as_bytes()).await.unwrap();
        let trickling = async {
            let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
            while write.write_all(b"x").await.is_ok() {
                tick.tick().await;
            }
        };
        let mut answer = Vec::new();
        let reading = read.read_to_end(&mut answer);
        let ended = async {
            tokio::select! { _ = trickling => {}, _ = reading => {} }
        };
        timeout(DEADLINE, ended).await.expect("cut off");
    }
}

#[tokio::test]
async fn big_heads_are_answered_431() {
    let gateway = Gateway::start(&[]);
    for start in ["GET http://bob.cloak/ HTTP/1.1\r\nX: ", "GET /"] {
        let answer = gateway.say(format!("{start}{}", "x".repeat(65 * 1024))).await;
        assert_eq!(outcome(&answer), (431, Some("header-too-large")));
    }
    let many = "X: y\r\n".repeat(300);
    let answer = gateway.say(format!("GET / HTTP/1.1\r\n{many}\r\n")).await;
    assert_eq!(outcome(&answer).0, 431);
    let long = "x".repeat(60 * 1024);
    let fits = format!(
        "GET http://bob.cloak/ HTTP/1.1\r\nHost: bob.cloak\r\nConnection: close\r\nX: {long}\r\n\r\n"
    );
    assert_eq!(outcome(&gateway.say(fits).await), (502, Some("unknown-name")));
}

#[tokio::test]
async fn a_session_that_does_not_open_is_a_timeout() {
    let config = config("open_timeout = \"200ms\"");
    let gateway = Gateway::configured(&config, "direct", &[("bob.cloak", Peer::Hangs)]);
    assert_eq!(gateway.socks5("bob.cloak", 80).await.0, 6);
    assert_eq!(outcome(&gateway.http_connect("bob.cloak:80").await.0), (504, Some("timeout")));
}

#[tokio::test]
async fn too_many_connections_are_told_busy() {
    let config = config("connections_max = 1");
    let gateway =
        Gateway::configured(&config, "direct", &[("bob.cloak", Peer::Backend(echo().await))]);
    let (code, mut first) = gateway.socks5("bob.cloak", 80).await;
    assert_eq!(code, 0);
    assert_eq!(gateway.socks5("bob.cloak", 80).await.0, 1);
    let (head, refused) = gateway.http_connect("bob.cloak:80").await;
    assert_eq!(outcome(&head), (503, Some("busy")));
    drop(refused);
    first.write_all(b"hello").await.unwrap();
    assert_eq!(read_text(&mut first, 5).await, "hello");
    drop(first);
    // The place is free as soon as the session has noticed.
    let freed = async { while gateway.socks5("bob.cloak", 80).await.0 != 0 {} };
    timeout(DEADLINE, freed).await.unwrap();
}

#[tokio::test]
async fn same_user_setting_refuses_other_users() {
    use std::os::unix::process::CommandExt;
    let gateway = Gateway::configured(&config("same_user = true"), "direct", &[]);
    let welcome = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(outcome(&gateway.say(welcome).await).0, 200, "ourselves");
    // Changing the user needs privilege, and a program that speaks TCP.
    if !rustix::process::geteuid().is_root() || !has_program("curl") {
        eprintln!("skipped: only root can play another user");
        return;
    }
    let url = format!("http://{}/", gateway.address);
    let curl = tokio::task::spawn_blocking(move || {
        std::process::Command::new("curl")
            .args(["-sS", "-m", "10", &url])
            .uid(65534)
            .gid(65534)
            .output()
    });
    let output = curl.await.unwrap().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    let answered = matches!(output.status.code(), Some(52 | 56));
    assert!(answered, "refused by us, not by something else: {output:?}");
}

#[tokio::test]
async fn non_loopback_without_auth_refuses_to_start() {
    use cloak_gateway::{BindError, Proxy};
    let exposed = config("listen = [\"127.0.0.1:0\", \"0.0.0.0:0\"]");
    let address = exposed.listen[1].clone();
    let error = Proxy::bind(&exposed, &outbound("direct"), &Default::default()).unwrap_err();
    assert_eq!(error, BindError::OpenToStrangers(address));
    let scratch = Scratch::new();
    let path = scratch.password("x");
    let guarded = config(&format!("listen = [\"0.0.0.0:0\"]\n{}", users(&path)));
    assert!(Proxy::bind(&guarded, &outbound("direct"), &Default::default()).is_ok());
    let exposed_file = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&path, exposed_file).unwrap();
    let error = Proxy::bind(&guarded, &outbound("direct"), &Default::default()).unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[tokio::test]
async fn a_unix_socket_is_ours_alone_and_replaces_only_a_dead_one() {
    use cloak_gateway::{BindError, Proxy};
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let path = scratch.path("proxy.sock");
    let config = config(&format!("listen = [\"unix:{}\"]", path.display()));
    let bind = || Proxy::bind(&config, &outbound("direct"), &Default::default());
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let proxy = bind().expect("a dead program's socket is replaced");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(bind().unwrap_err(), BindError::InUse(path.clone()));
    drop(proxy);
    assert!(!path.exists(), "removed with the listener");
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(bind().unwrap_err(), BindError::NotASocket(path.clone()));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let taken = crate::support::config("listen = [\"127.0.0.1:0\"]");
    let first = Proxy::bind(&taken, &outbound("direct"), &Default::default()).unwrap();
    let again = crate::support::config(&format!("listen = [\"{}\"]", first.addresses()[0]));
    let error = Proxy::bind(&again, &outbound("direct"), &Default::default()).unwrap_err();
    let expected =
        BindError::Listen { address: again.listen[0].clone(), reason: ErrorKind::AddrInUse };
    assert_eq!(error, expected);
}

/// Runs twice: once as the test, and once as a process of its own with few descriptors.
#[tokio::test]
async fn exhausted_descriptors_are_answered_busy() {
    const ROLE: &str = "CLOAK_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(ROLE).is_some() {
        return run_with_few_descriptors().await;
    }
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "limits::exhausted_descriptors_are_answered_busy", "--nocapture"])
        .env(ROLE, "1")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = tokio::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let address: std::net::SocketAddr = loop {
        let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
        if let Some((_, address)) = line.split_once("proxy=") {
            break address.parse().unwrap();
        }
    };
    let mut held = Vec::new();
    let exhausted = async {
        loop {
            match ask(address).await {
                (0, stream) => held.push(stream),
                (code, _) => return code,
            }
            assert!(held.len() < 4 * FREE_DESCRIPTORS, "the limit holds");
        }
    };
    assert_eq!(timeout(DEADLINE, exhausted).await.unwrap(), 1, "busy");
    assert!(!held.is_empty(), "served as long as there are descriptors");
    drop(held);
    let served = async { while ask(address).await.0 != 0 {} };
    timeout(DEADLINE, served).await.expect("served again when descriptors are free");
}

async fn ask(address: std::net::SocketAddr) -> (u8, tokio::net::TcpStream) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    (socks5_request(&mut stream, &socks5_name("bob.cloak", 80)).await, stream)
}

async fn run_with_few_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let (sender, mut sessions) = tokio::sync::mpsc::channel(8);
    let gateway = Gateway::start(&[("bob.cloak", Peer::Test(sender))]);
    let used = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = u64::try_from(used + FREE_DESCRIPTORS).ok();
    setrlimit(Resource::Nofile, limit).unwrap();
    println!("proxy={}", gateway.address);
    gateway.tasks.spawn(async move {
        let reading = tokio_util::task::TaskTracker::new();
        while let Some(mut application) = sessions.recv().await {
            reading.spawn(async move { application.read_to_end(&mut Vec::new()).await });
        }
    });
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
}

/// About: the listener's spare one, and numbers above the limit that were inherited, count too.
const FREE_DESCRIPTORS: usize = 6;
