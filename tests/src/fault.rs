//! A TCP proxy that misbehaves on command, to stand between two gateways.
//!
//! It listens on a loopback port and forwards to a target that may change at run time. [`Mode`]
//! says what happens to bytes; the other methods do something once. What one direction read while
//! it was allowed to is held, not dropped, when it no longer is: TCP carries everything or breaks.
//!
//! All tasks run on one small runtime of the test process, belong to their proxy and end with it.

mod connection;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What happens to the bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwarded at once.
    Pass,
    /// New connections are accepted, nothing is forwarded, and nobody is told of an end.
    BlackHole,
    /// As [`Mode::BlackHole`], but in one direction only.
    HalfOpen(Direction),
    /// At most so many bytes per second, for each connection and direction.
    Slow(u64),
    /// Each byte is a segment of its own.
    OneByteAtATime,
    /// Of two new connections the later one arrives first.
    ReorderNew,
    /// New connections are reset as soon as they are accepted; existing ones go on.
    Refuse,
}

/// A direction through the proxy, seen from who dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the dialler to the target.
    Up,
    /// From the target to the dialler.
    Down,
}

/// What a proxy has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Connections accepted since the start.
    pub dials: u64,
    /// Connections open now.
    pub open: u64,
    /// Dials in flight: accepted, no byte from the target yet, and not given up by the dialler.
    pub in_flight: u64,
    /// Most dials in flight at once since the start, or since [`FaultProxy::restart_peak`]; known some
    /// milliseconds later.
    pub in_flight_peak: u64,
    /// Bytes forwarded from diallers to the target.
    pub bytes_up: u64,
    /// Bytes forwarded from the target to diallers.
    pub bytes_down: u64,
}

/// The proxy. Dropping it resets what is open.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What applies to connections at the moment.
#[derive(Debug, Clone, Copy)]
struct Rules {
    mode: Mode,
    /// Connections with a smaller number are dead: nothing moves, nobody is told.
    frozen_below: u64,
}

impl Rules {
    fn moves(self, direction: Direction, connection: u64) -> bool {
        let mode = match self.mode {
            Mode::BlackHole => false,
            Mode::HalfOpen(blocked) => blocked != direction,
            _ => true,
        };
        mode && connection >= self.frozen_below
    }
}

#[derive(Debug)]
struct Shared {
    rules: watch::Sender<Rules>,
    target: Mutex<Option<SocketAddr>>,
    source: Mutex<Option<IpAddr>>,
    connections: Mutex<BTreeMap<u64, CancellationToken>>,
    /// The first of a reordered pair waits here for the second.
    waiting: Mutex<Option<Arc<Notify>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
    next: AtomicU64,
    in_flight: AtomicU64,
    in_flight_peak: AtomicU64,
    /// Dials that ended before the target said anything.
    gave_up: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

impl FaultProxy {
    /// Starts one that has no target yet: connections wait for [`FaultProxy::retarget`].
    ///
    /// # Panics
    /// When no loopback port is free.
    #[must_use]
    pub fn start() -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into())
    }

    /// Starts one on another address of this machine.
    ///
    /// # Panics
    /// When no port of it is free.
    #[must_use]
    pub fn start_on(address: IpAddr) -> Self {
        let bind = || TcpListener::bind((address, 0));
        let listener = runtime().block_on(bind()).expect("a free loopback port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared::new());
        let accept = connection::accept(listener, Arc::clone(&shared));
        shared.tasks.spawn_on(accept, runtime().handle());
        Self { address, shared }
    }

    /// Starts one before `target`.
    #[must_use]
    pub fn before(target: SocketAddr) -> Self {
        let proxy = Self::start();
        proxy.retarget(target);
        proxy
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// New connections go to `target`: the peer's listener has moved.
    pub fn retarget(&self, target: SocketAddr) {
        *lock(&self.shared.target) = Some(target);
        self.shared.rules.send_modify(|_| {});
    }

    /// Switches the mode, for new and existing connections.
    pub fn set_mode(&self, mode: Mode) {
        self.shared.rules.send_modify(|rules| rules.mode = mode);
    }

    /// Resets every open connection, both halves of it. Others may be made at once.
    pub fn reset_all(&self) {
        lock(&self.shared.connections).values().for_each(CancellationToken::cancel);
    }

    /// Makes every open connection a zombie: it stays open, nothing moves, nobody is told. New ones
    /// work. So does an address translator that forgot its table.
    pub fn freeze_open(&self) {
        let next = self.shared.next.load(Ordering::SeqCst);
        self.shared.rules.send_modify(|rules| rules.frozen_below = next);
    }

    /// An address translator gives up its table: open connections are zombies, new ones arrive at the
    /// target from `source` and another port.
    pub fn rebind(&self, source: IpAddr) {
        *lock(&self.shared.source) = Some(source);
        self.freeze_open();
    }

    /// Starts the peak of dials in flight anew.
    pub fn restart_peak(&self) {
        let now = self.shared.in_flight.load(Ordering::SeqCst);
        self.shared.in_flight_peak.store(now, Ordering::SeqCst);
    }

    /// What it has seen.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Stats {
            dials: read(&self.shared.next),
            open: lock(&self.shared.connections).len() as u64,
            in_flight: read(&self.shared.in_flight),
            in_flight_peak: read(&self.shared.in_flight_peak),
            bytes_up: read(&self.shared.bytes_up),
            bytes_down: read(&self.shared.bytes_down),
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.reset_all();
        self.shared.tasks.close();
    }
}

impl Shared {
    fn new() -> Self {
        let rules = Rules { mode: Mode::Pass, frozen_below: 0 };
        Self {
            rules: watch::Sender::new(rules),
            target: Mutex::new(None),
            source: Mutex::new(None),
            connections: Mutex::new(BTreeMap::new()),
            waiting: Mutex::new(None),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            next: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            in_flight_peak: AtomicU64::new(0),
            gave_up: AtomicU64::new(0),
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
        }
    }

    fn count(&self, direction: Direction, bytes: usize) {
        let counter = match direction {
            Direction::Up => &self.bytes_up,
            Direction::Down => &self.bytes_down,
        };
        counter.fetch_add(bytes as u64, Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The runtime of all fault proxies of a test process.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).thread_name("fault").enable_all();
        builder.build().expect("two threads can be started")
    })
}

#[cfg(test)]
mod tests;
