//! A fake node, backends to connect to, and plain clients.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use cloak_gateway::{ListenAddress, OutboundConfig, Proxy, ProxyConfig, ProxyHandle};
use cloak_node::{Application, BoxFuture, Code, OpenRequest, OpenedSession, Opener, Target};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Longest time anything in a test may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// What the fake node does with a name.
#[derive(Clone)]
pub(crate) enum Peer {
    /// A session to this backend.
    Backend(SocketAddr),
    /// A refusal.
    Refuses(Code),
    /// Never answers.
    Hangs,
    /// The test plays the session.
    Test(mpsc::Sender<Box<dyn Application>>),
}

/// A node with these names, each at whatever port.
pub(crate) struct FakeNode {
    peers: BTreeMap<String, Peer>,
    opened: Mutex<Vec<(String, Target)>>,
    said: Mutex<Vec<Vec<u8>>>,
    tasks: TaskTracker,
}

impl FakeNode {
    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<(String, Target)> {
        self.opened.lock().unwrap().clone()
    }

    /// Names and ports of all services asked for so far.
    pub(crate) fn opened(&self) -> Vec<(String, u16)> {
        let service = |(name, target)| match target {
            Target::Service(port) => (name, port),
            host => panic!("{host:?} is no service"),
        };
        self.requests().into_iter().map(service).collect()
    }

    /// What was said with each of them.
    pub(crate) fn said(&self) -> Vec<Vec<u8>> {
        self.said.lock().unwrap().clone()
    }
}

impl Opener for FakeNode {
    fn open(&self, request: OpenRequest) -> BoxFuture<'_, Result<Box<dyn OpenedSession>, Code>> {
        self.opened.lock().unwrap().push((request.name.clone(), request.target.clone()));
        self.said.lock().unwrap().push(request.early.to_vec());
        let peer = self.peers.get(&request.name).cloned();
        let tasks = self.tasks.clone();
        Box::pin(async move {
            let session: Box<dyn OpenedSession> = match peer {
                None => return Err(Code::UnknownName),
                Some(Peer::Refuses(code)) => return Err(code),
                Some(Peer::Hangs) => return std::future::pending().await,
                Some(Peer::Test(sender)) => Box::new(Handed(sender, request.early.to_vec())),
                Some(Peer::Backend(address)) => {
                    let backend = TcpStream::connect(address).await;
                    let mut backend = backend.map_err(|_| Code::BackendRefused)?;
                    backend.write_all(&request.early).await.unwrap();
                    Box::new(Carried(backend, tasks))
                }
            };
            Ok(session)
        })
    }
}

struct Handed(mpsc::Sender<Box<dyn Application>>, Vec<u8>);

impl OpenedSession for Handed {
    fn attach(self: Box<Self>, application: Box<dyn Application>) {
        let Self(sender, early) = *self;
        let application = Box::new(Said { early, application });
        assert!(sender.try_send(application).is_ok(), "a test takes one application at a time");
    }
}

/// An application, and what it said before its session was open.
struct Said {
    early: Vec<u8>,
    application: Box<dyn Application>,
}

impl AsyncRead for Said {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.application).poll_read(cx, buf);
        }
        let len = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early.drain(..len).collect::<Vec<u8>>());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Said {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.application).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.application).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.application).poll_shutdown(cx)
    }
}

impl Application for Said {
    fn reset(self: Box<Self>) {
        self.application.reset();
    }
}

struct Carried(TcpStream, TaskTracker);

impl OpenedSession for Carried {
    fn attach(self: Box<Self>, mut application: Box<dyn Application>) {
        let Self(mut backend, tasks) = *self;
        tasks.spawn(async move {
            let copied = tokio::io::copy_bidirectional(&mut application, &mut backend).await;
            if copied.is_err() {
                application.reset();
                Box::new(backend).reset();
            }
        });
    }
}

/// A running proxy in front of a fake node.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) node: Arc<FakeNode>,
    pub(crate) handle: ProxyHandle,
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Gateway {
    pub(crate) fn start(peers: &[(&str, Peer)]) -> Self {
        Self::configured(&config(""), "direct", peers)
    }

    pub(crate) fn configured(config: &ProxyConfig, route: &str, peers: &[(&str, Peer)]) -> Self {
        let aliases = [("short".to_owned(), "bob.cloak".to_owned())].into();
        let proxy = Proxy::bind(config, &outbound(route), &aliases).unwrap();
        let address = proxy.addresses().iter().find_map(tcp).unwrap_or(([127, 0, 0, 1], 0).into());
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let peers = peers.iter().map(|(name, peer)| ((*name).to_owned(), peer.clone())).collect();
        let opened = Mutex::default();
        let node =
            Arc::new(FakeNode { peers, opened, said: Mutex::default(), tasks: tasks.clone() });
        let handle = proxy.handle();
        tasks.spawn(proxy.run(Arc::clone(&node) as Arc<dyn Opener>, cancel.clone()));
        Self { address, node, handle, cancel, tasks }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes and returns everything that comes back until the proxy closes.
    pub(crate) async fn say(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        read_all(&mut stream).await
    }

    /// A SOCKS5 request; the reply code, and the stream.
    pub(crate) async fn socks5(&self, host: &str, port: u16) -> (u8, TcpStream) {
        let mut stream = self.connect().await;
        let code = socks5_request(&mut stream, &socks5_name(host, port)).await;
        (code, stream)
    }

    /// A CONNECT request; head of the answer, and the stream.
    pub(crate) async fn http_connect(&self, authority: &str) -> (String, TcpStream) {
        let mut stream = self.connect().await;
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        (read_head(&mut stream).await, stream)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn tcp(address: &ListenAddress) -> Option<SocketAddr> {
    match address {
        ListenAddress::Tcp(address) => Some(*address),
        ListenAddress::Unix(_) => None,
    }
}

/// `[proxy]` with these lines, on any port of loopback unless they say otherwise.
pub(crate) fn config(lines: &str) -> ProxyConfig {
    let listen = if lines.contains("listen") { "" } else { "listen = [\"127.0.0.1:0\"]\n" };
    toml::from_str(&format!("{listen}{lines}")).unwrap()
}

pub(crate) fn outbound(route: &str) -> OutboundConfig {
    OutboundConfig { default: route.parse().unwrap() }
}

/// A listener whose connections are handled by `handle`, each in its own task.
pub(crate) async fn backend<F, R>(handle: F) -> SocketAddr
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = TaskTracker::new();
    tasks.clone().spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tasks.spawn(handle(stream));
        }
    });
    address
}

/// A backend that sends everything back.
pub(crate) async fn echo() -> SocketAddr {
    backend(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
}

/// A backend that answers every request head on a connection with `answer`, and reports the heads.
pub(crate) async fn origin(answer: &'static str) -> (SocketAddr, mpsc::Receiver<String>) {
    let (heads, seen) = mpsc::channel(64);
    let address = backend(move |mut stream| {
        let heads = heads.clone();
        async move {
            loop {
                let head = read_head(&mut stream).await;
                if head.is_empty() || heads.send(head).await.is_err() {
                    return;
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (address, seen)
}

/// Everything until the end of the stream; what a reset cut off is not complained about.
pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await;
    let _ = read.expect("the stream did not end in time");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A head with its empty line; what there is of it at the end of the stream.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    let reading = async {
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("no head in time");
    String::from_utf8_lossy(&head).into_owned()
}

/// Exactly this many bytes.
pub(crate) async fn read_text(stream: &mut TcpStream, len: usize) -> String {
    let mut bytes = vec![0; len];
    let read = tokio::time::timeout(DEADLINE, stream.read_exact(&mut bytes)).await;
    read.expect("no bytes in time").unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn socks5_name(host: &str, port: u16) -> Vec<u8> {
    let len = u8::try_from(host.len()).unwrap();
    [&[5, 1, 0, 3, len], host.as_bytes(), &port.to_be_bytes()].concat()
}

/// Greets without authentication and sends a request; the reply code.
pub(crate) async fn socks5_request(stream: &mut TcpStream, request: &[u8]) -> u8 {
    stream.write_all(&[5, 1, 0]).await.unwrap();
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(greeting, [5, 0]);
    stream.write_all(request).await.unwrap();
    let mut reply = [0; 10];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut reply)).await.unwrap().unwrap();
    assert_eq!((reply[0], reply[2]), (5, 0));
    reply[1]
}

/// Status and `Cloak-Error` of an answer.
pub(crate) fn outcome(answer: &str) -> (u16, Option<&str>) {
    let status = answer.get(9..12).and_then(|digits| digits.parse().ok());
    let lines = answer.split("\r\n");
    let error = lines.into_iter().find_map(|line| line.strip_prefix("cloak-error: "));
    (status.unwrap_or_else(|| panic!("no answer: {answer:?}")), error)
}

/// A directory that goes with its owner.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("cloak-gw-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A password file that only its owner may read.
    pub(crate) fn password(&self, password: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path("password");
        std::fs::write(&path, format!("{password}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn users(path: &Path) -> String {
    format!("users = [{{ name = \"ann\", password_file = \"{}\" }}]", path.display())
}

/// Whether a program is here; where everything must be (`CI=true`), its lack is a failure.
pub(crate) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    assert!(found || std::env::var_os("CI").is_none(), "{name} is not installed");
    if !found {
        eprintln!("skipped: {name} is not installed");
    }
    found
}
