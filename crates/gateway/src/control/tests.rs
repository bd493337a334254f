use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;

use cloak_node::{
    Application, Code, Early, Home, InitNames, NodeConfig, OpenRequest, OpenedSession, Opener,
};
use cloak_transport::SystemClock;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::message::{Connect, Named, SessionId, Stopping};
use super::*;
use crate::{OutboundConfig, Proxy, ProxyConfig};

/// A gateway with a control socket and nothing else, in a home of its own.
struct Gateway {
    home: PathBuf,
    node: Node,
    stop: CancellationToken,
    cancel: CancellationToken,
    running: JoinHandle<()>,
}

struct NoReload;

impl Reload for NoReload {
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, Refusal>> {
        Box::pin(async { Err(Refusal::usage("bad-configuration", "line 1, column 2")) })
    }

    fn aliases(&self) -> BoxFuture<'_, BTreeMap<String, String>> {
        Box::pin(async { BTreeMap::from([("db".to_owned(), "nobody.cloak".to_owned())]) })
    }
}

impl Gateway {
    async fn start(tag: &str) -> Self {
        let home = std::env::temp_dir().join(format!("cloak-ctl-{tag}-{}", std::process::id()));
        let names =
            InitNames { name: "alice".into(), realm: "lab".into(), device: "laptop".into() };
        let opened = Home::init(&home, names, &SystemClock).unwrap();
        let mut config = NodeConfig::default();
        config.overlay.listen = vec![(Ipv4Addr::LOCALHOST, 0).into()];
        config.overlay.lan = false;
        let services = Arc::new(Services::new(&[], &crate::ExitConfig::default()).unwrap());
        let clock = Arc::new(SystemClock);
        let node = Node::start(opened, config, services.clone(), clock).await.unwrap();
        let listen = ProxyConfig { listen: vec![], ..ProxyConfig::default() };
        let proxy = Proxy::bind(&listen, &OutboundConfig::default(), &BTreeMap::new()).unwrap();
        let (stop, cancel) = (CancellationToken::new(), CancellationToken::new());
        let control = Control {
            node: node.clone(),
            services,
            proxy: proxy.handle(),
            home: home.clone(),
            reload: Arc::new(NoReload),
            stop: stop.clone(),
        };
        let listener = Control::bind(&home.join("control.sock")).unwrap();
        #[expect(clippy::disallowed_methods, reason = "owned by the gateway of the test")]
        let running = tokio::spawn(control.run(listener, cancel.clone()));
        Self { home, node, stop, cancel, running }
    }

    fn socket(&self) -> PathBuf {
        self.home.join("control.sock")
    }

    fn client(&self) -> Client {
        Client::new(&self.socket())
    }

    /// Sends bytes as they are, and gives back all that comes.
    async fn raw(&self, request: &str) -> String {
        let mut socket = UnixStream::connect(self.socket()).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn end(self) {
        self.cancel.cancel();
        self.running.await.unwrap();
        self.node.shutdown().await;
        std::fs::remove_dir_all(&self.home).unwrap();
    }
}

fn refusal(result: Result<Answer, ClientError>) -> Refusal {
    match result {
        Err(ClientError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn views_and_refusals_have_their_form() {
    let gateway = Gateway::start("views").await;
    let client = gateway.client();
    let status: GatewayStatus = client.get(path::STATUS).await.unwrap().read().unwrap();
    assert_eq!(status.node.name, "laptop.alice.cloak");
    assert_eq!(status.node.overlay, "alone");
    for path in [path::PEERS, path::SESSIONS, path::SERVICES] {
        let rows: Value = client.get(path).await.unwrap().read().unwrap();
        assert_eq!(rows, Value::Array(vec![]), "{path}");
    }
    let names: Value = client.get(path::NAMES).await.unwrap().read().unwrap();
    assert_eq!((&names[0]["name"], &names[0]["kind"]), (&"db".into(), &"alias".into()));

    let unknown = refusal(client.post(path::SESSION_SHOW, &SessionId { id: "0a".into() }).await);
    assert_eq!((unknown.exit, &*unknown.code), (4, "unknown-session"));
    assert_eq!(
        refusal(client.post(path::SESSION_CLOSE, &SessionId { id: "0a".into() }).await).exit,
        4
    );
    assert_eq!(
        refusal(client.post(path::MEMBER_REVOKE, &Named { name: "bob".into() }).await).exit,
        4
    );
    assert_eq!(refusal(client.post(path::RELOAD, &()).await).exit, 2);
    assert_eq!(refusal(client.get("/v1/nothing").await).exit, 4);
    assert_eq!(refusal(client.post(path::RESOLVE, &"x").await).exit, 2);
    gateway.end().await;
}

#[tokio::test]
async fn no_csrf_no_rebinding_over_the_socket() {
    let gateway = Gateway::start("csrf").await;
    for header in ["Host: cloak\r\nOrigin: http://evil.example", "Host: cloak.evil.example"] {
        let request = format!("POST /v1/stop HTTP/1.1\r\n{header}\r\nConnection: close\r\n\r\n");
        let answer = gateway.raw(&request).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    let put = "PUT /v1/stop HTTP/1.1\r\nHost: cloak\r\nConnection: close\r\n\r\n";
    assert!(gateway.raw(put).await.starts_with("HTTP/1.1 405 "));
    assert!(!gateway.stop.is_cancelled());
    let long = "x".repeat(message::REQUEST_BYTES_MAX + 1);
    assert_eq!(refusal(gateway.client().post(path::RESOLVE, &long).await).exit, 2);
    gateway.end().await;
}

#[tokio::test]
async fn the_socket_is_private_and_replaces_one_left_behind() {
    let gateway = Gateway::start("mode").await;
    let mode = std::fs::metadata(gateway.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let stopping: Stopping = gateway.client().post(path::STOP, &()).await.unwrap().read().unwrap();
    assert_eq!(stopping.pid, std::process::id());
    assert!(gateway.stop.is_cancelled());
    drop(Control::bind(&gateway.socket()).unwrap());
    assert!(matches!(gateway.client().get(path::STATUS).await, Err(ClientError::NotRunning)));
    gateway.end().await;
}

/// Opens sessions that echo, but for the name `nobody.cloak`.
struct Echo(TaskTracker);

struct EchoSession(TaskTracker, Early);

impl Opener for Echo {
    fn open(&self, request: OpenRequest) -> BoxFuture<'_, Result<Box<dyn OpenedSession>, Code>> {
        Box::pin(async move {
            if request.name == "nobody.cloak" {
                return Err(Code::UnknownName);
            }
            Ok(Box::new(EchoSession(self.0.clone(), request.early)) as Box<dyn OpenedSession>)
        })
    }
}

impl OpenedSession for EchoSession {
    fn attach(self: Box<Self>, application: Box<dyn Application>) {
        let Self(tasks, early) = *self;
        tasks.spawn(async move {
            let (mut from, mut to) = tokio::io::split(application);
            let mut all = early.to_vec();
            let _ = from.read_to_end(&mut all).await;
            let _ = to.write_all(&all).await;
            let _ = to.shutdown().await;
        });
    }
}

#[tokio::test]
async fn a_connection_becomes_a_stream() {
    let path = std::env::temp_dir().join(format!("cloak-ctl-stream-{}.sock", std::process::id()));
    let listener = Control::bind(&path).unwrap();
    let (tasks, opener) = (TaskTracker::new(), Arc::new(Echo(TaskTracker::new())));
    let streams = tasks.clone();
    tasks.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service_fn(|request| {
                let (opener, streams) = (opener.clone(), streams.clone());
                async move {
                    Ok::<_, Infallible>(stream::connect(&*opener, request, &streams).await)
                }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            let _ = connection.with_upgrades().await;
        }
    });

    let client = Client::new(&path);
    let ask = |name: &str| Connect::new(name.to_owned(), 80, b"here, ");
    let Err(ClientError::Refused(refused)) = client.open(&ask("nobody.cloak")).await else {
        panic!("a name that nobody has")
    };
    assert_eq!((refused.exit, &*refused.code), (4, "unknown-name"));

    let Rejoined { socket, early } = client.open(&ask("alice.cloak")).await.unwrap();
    assert!(early.is_empty());
    let mut stream = super::chunks::Chunked::new(socket);
    stream.write_all(b"there and back").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "here, there and back");
    std::fs::remove_file(path).unwrap();
}
