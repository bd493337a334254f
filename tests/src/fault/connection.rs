//! One connection through the proxy: held, dialled on, pumped both ways, ended.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Direction, Mode, Rules, Shared, lock};

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// Pieces per second that a slow direction is cut into.
const SLOW_PIECES_PER_SECOND: u64 = 50;
/// How often a held connection is looked at for a dialler that gave up.
const LOOK: Duration = Duration::from_millis(10);
/// A reordered connection waits so long for one to let pass.
const REORDER_WAIT: Duration = Duration::from_secs(2);

/// Accepts until the proxy is dropped.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((dialler, _)) = accepted else {
            // Out of descriptors: leave the queue alone for a moment.
            tokio::time::sleep(LOOK).await;
            continue;
        };
        let number = shared.next.fetch_add(1, Ordering::SeqCst);
        if shared.rules.borrow().mode == Mode::Refuse {
            reset(&dialler);
            continue;
        }
        let cut = shared.stop.child_token();
        lock(&shared.connections).insert(number, cut.clone());
        let connection = Connection::new(number, Arc::clone(&shared));
        shared.tasks.spawn(async move {
            connection.run(dialler, cut).await;
            lock(&connection.shared.connections).remove(&number);
        });
    }
}

struct Connection {
    number: u64,
    shared: Arc<Shared>,
    in_flight: AtomicBool,
}

impl Connection {
    fn new(number: u64, shared: Arc<Shared>) -> Self {
        let gave_up = shared.gave_up.load(Ordering::SeqCst);
        let now = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        shared.tasks.spawn(Self::count_peak(Arc::clone(&shared), now, gave_up));
        Self { number, shared, in_flight: AtomicBool::new(true) }
    }

    /// Counts a dial when it is certain who had given up before it came: a dialler that ends one dial
    /// and begins the next has never had two.
    async fn count_peak(shared: Arc<Shared>, now: u64, gave_up: u64) {
        tokio::time::sleep(2 * LOOK).await;
        let since = shared.gave_up.load(Ordering::SeqCst) - gave_up;
        shared.in_flight_peak.fetch_max(now.saturating_sub(since), Ordering::SeqCst);
    }

    async fn run(&self, mut dialler: TcpStream, cut: CancellationToken) {
        let _ = dialler.set_nodelay(true);
        let before = tokio::select! {
            biased;
            () = cut.cancelled() => None,
            opened = self.open(&dialler) => opened,
        };
        let Some((mut target, passed)) = before else { return reset(&dialler) };
        let ended = tokio::select! {
            biased;
            () = cut.cancelled() => false,
            both = self.pump_both(&mut dialler, &mut target, passed) => both.is_ok(),
        };
        if !ended {
            reset(&dialler);
            reset(&target);
        }
        self.landed();
    }

    /// Waits until it may go on, and dials the target.
    async fn open(&self, dialler: &TcpStream) -> Option<(TcpStream, Option<Arc<Notify>>)> {
        let mut rules = self.shared.rules.subscribe();
        let mut passed = None;
        if rules.borrow_and_update().mode == Mode::ReorderNew {
            passed = self.reorder().await;
        }
        let target = loop {
            let may = rules.borrow_and_update().moves(Direction::Up, self.number);
            let target = *lock(&self.shared.target);
            match target {
                Some(target) if may => break target,
                _ => self.look_until_change(dialler, &mut rules).await,
            }
        };
        self.dial(target).await.ok().map(|stream| (stream, passed))
    }

    /// The first of a pair waits for the second; the second gets what releases the first.
    async fn reorder(&self) -> Option<Arc<Notify>> {
        let first = lock(&self.shared.waiting).take();
        if first.is_some() {
            return first;
        }
        let passed = Arc::new(Notify::new());
        *lock(&self.shared.waiting) = Some(Arc::clone(&passed));
        // Without a second one it goes on alone.
        let _ = tokio::time::timeout(REORDER_WAIT, passed.notified()).await;
        let mut waiting = lock(&self.shared.waiting);
        if waiting.as_ref().is_some_and(|waiting| Arc::ptr_eq(waiting, &passed)) {
            *waiting = None;
        }
        None
    }

    async fn dial(&self, target: SocketAddr) -> io::Result<TcpStream> {
        let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        let source = *lock(&self.shared.source);
        if let Some(source) = source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let stream = socket.connect(target).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// While held, only looks whether the dialler gave up, which ends its being in flight.
    async fn look_until_change(&self, dialler: &TcpStream, rules: &mut watch::Receiver<Rules>) {
        loop {
            tokio::select! {
                biased;
                changed = rules.changed() => {
                    if changed.is_ok() { return }
                    std::future::pending::<()>().await;
                }
                () = tokio::time::sleep(LOOK) => {
                    let ready = dialler.ready(Interest::READABLE | Interest::WRITABLE).await;
                    if ready.map_or(true, |ready| ready.is_read_closed() || ready.is_write_closed()) {
                        self.gave_up();
                    }
                }
            }
        }
    }

    async fn pump_both(
        &self,
        dialler: &mut TcpStream,
        target: &mut TcpStream,
        passed: Option<Arc<Notify>>,
    ) -> io::Result<()> {
        let (dialler_read, dialler_write) = dialler.split();
        let (target_read, target_write) = target.split();
        tokio::try_join!(
            self.pump(Direction::Up, dialler_read, target_write, None),
            self.pump(Direction::Down, target_read, dialler_write, passed),
        )?;
        Ok(())
    }

    async fn pump(
        &self,
        direction: Direction,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        mut passed: Option<Arc<Notify>>,
    ) -> io::Result<()> {
        let mut rules = self.shared.rules.subscribe();
        let mut buffer = vec![0; CHUNK];
        loop {
            let limit = self.may_move(direction, &from, &mut rules).await.piece();
            let read = tokio::select! {
                biased;
                _ = rules.changed() => continue,
                read = from.read(&mut buffer[..limit]) => read,
            };
            let mode = self.may_move(direction, &from, &mut rules).await;
            let count = read?;
            if count == 0 {
                return to.shutdown().await;
            }
            // Counted first: who has received a byte finds it counted.
            self.shared.count(direction, count);
            if direction == Direction::Down {
                self.landed();
            }
            mode.write(&buffer[..count], &mut to).await?;
            if direction == Direction::Down {
                passed.take().iter().for_each(|first| first.notify_one());
            }
        }
    }

    /// Waits until this direction may move.
    async fn may_move(
        &self,
        direction: Direction,
        from: &ReadHalf<'_>,
        rules: &mut watch::Receiver<Rules>,
    ) -> Mode {
        loop {
            let now = *rules.borrow_and_update();
            if now.moves(direction, self.number) {
                return now.mode;
            }
            match direction {
                Direction::Up => self.look_until_change(from.as_ref(), rules).await,
                Direction::Down => {
                    if rules.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }

    /// No longer a dial in flight.
    fn landed(&self) -> bool {
        let was_in_flight = self.in_flight.swap(false, Ordering::SeqCst);
        if was_in_flight {
            self.shared.in_flight.fetch_sub(1, Ordering::SeqCst);
        }
        was_in_flight
    }

    fn gave_up(&self) {
        if self.landed() {
            self.shared.gave_up.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.landed();
    }
}

impl Mode {
    /// Most bytes to read at once.
    fn piece(self) -> usize {
        match self {
            Self::Slow(rate) => {
                let piece = (rate / SLOW_PIECES_PER_SECOND).max(1);
                usize::try_from(piece).unwrap_or(CHUNK).min(CHUNK)
            }
            Self::OneByteAtATime => 1024,
            _ => CHUNK,
        }
    }

    async fn write(self, bytes: &[u8], to: &mut WriteHalf<'_>) -> io::Result<()> {
        match self {
            Self::Slow(rate) => {
                to.write_all(bytes).await?;
                let micros = bytes.len() as u64 * 1_000_000 / rate.max(1);
                tokio::time::sleep(Duration::from_micros(micros)).await;
                Ok(())
            }
            Self::OneByteAtATime => {
                for byte in bytes.chunks(1) {
                    to.write_all(byte).await?;
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
            _ => to.write_all(bytes).await,
        }
    }
}

/// The stream's drop will send a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
