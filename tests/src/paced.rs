//! Paced load: a download and an upload at once over one stream, every byte checked by its offset as
//! it comes and by SHA-256 at the end; and a reader of ticks that knows when the last one came.
//!
//! The client begins with a header of two numbers (bytes per second, bytes each way); then both
//! sides send their pattern at that pace, the client half-closes, and the server, which read to the
//! end, appends `LENGTH SHA256` of what it got. So a whole run also shows that a half-close travels.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client;
use crate::clock::{self, Pace};
use crate::origin::{STREAM_BUFFER, TcpOrigin};
use crate::pattern::{Pattern, Sha256};

/// Seed of what the client sends.
const UP: Pattern = Pattern::new(0xA11CE);
/// Seed of what the server sends.
const DOWN: Pattern = Pattern::new(0xB0B);
/// Pieces per second: small enough that a cut always falls into a moving stream.
const PIECES_PER_SECOND: u64 = 100;

/// The server's side.
#[must_use]
pub fn origin() -> TcpOrigin {
    TcpOrigin::serve(crate::origin::bind(), |served| serve(served.stream))
}

fn serve(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut header = [0; 16];
    stream.read_exact(&mut header)?;
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&header[at..at + 8]);
        u64::from_be_bytes(bytes)
    };
    let (rate, length) = (number(0), number(8));
    let mut writer = stream.try_clone()?;
    let sending = std::thread::spawn(move || send(&mut writer, DOWN, rate, length));
    let mut digest = Sha256::new();
    let received = receive(stream, UP, length, &mut digest, &AtomicU64::new(0))?;
    let ended = stream.read(&mut [0; 1])? == 0;
    sending.join().map_err(|_| io::Error::other("the sending thread panicked"))??;
    let trailer = if ended { digest.finish() } else { "more than was said".to_owned() };
    stream.write_all(format!("{received} {trailer}").as_bytes())
}

/// A load that runs in threads of its own.
#[derive(Debug)]
pub struct Load {
    bytes: u64,
    received: Arc<AtomicU64>,
    thread: JoinHandle<io::Result<String>>,
}

impl Load {
    /// Starts a load of `rate` bytes per second each way for `span`, through a SOCKS5 proxy.
    ///
    /// # Panics
    /// When no stream can be opened.
    #[track_caller]
    #[must_use]
    pub fn start(proxy: SocketAddr, host: &str, port: u16, rate: u64, span: Duration) -> Self {
        let stream = client::socks5(proxy, host, port).expect("the service is reachable");
        Self::over(stream, rate, span)
    }

    /// The same over a stream that exists.
    #[must_use]
    pub fn over(stream: TcpStream, rate: u64, span: Duration) -> Self {
        let bytes = rate * u64::try_from(span.as_millis()).unwrap_or(u64::MAX) / 1000;
        // How long it may take is for whoever waits for its end to say.
        stream.set_read_timeout(None).expect("a timeout can be unset");
        let received = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&received);
        let thread = std::thread::spawn(move || exchange(stream, rate, bytes, &counter));
        Self { bytes, received, thread }
    }

    /// Bytes that have come down and were right.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::SeqCst)
    }

    /// Whether it is over, well or not.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end and asserts that every byte came once, in order, both ways.
    ///
    /// # Panics
    /// When one did not, or when it takes longer than `within`.
    #[track_caller]
    pub fn finish(self, within: Duration) {
        clock::wait_until("the load is over", within, || self.thread.is_finished());
        let result = self.thread.join().expect("the load does not panic");
        let trailer = result.unwrap_or_else(|error| {
            panic!("after {} bytes down: {error}", self.received.load(Ordering::SeqCst))
        });
        assert_eq!(trailer, format!("{} {}", self.bytes, UP.sha256(self.bytes)), "the upload");
    }
}

fn exchange(
    mut stream: TcpStream,
    rate: u64,
    bytes: u64,
    received: &AtomicU64,
) -> io::Result<String> {
    stream.write_all(&[rate.to_be_bytes(), bytes.to_be_bytes()].concat())?;
    let mut writer = stream.try_clone()?;
    let sending = std::thread::spawn(move || {
        send(&mut writer, UP, rate, bytes)?;
        writer.shutdown(Shutdown::Write)
    });
    let mut digest = Sha256::new();
    receive(&mut stream, DOWN, bytes, &mut digest, received)?;
    if digest.finish() != DOWN.sha256(bytes) {
        return Err(io::Error::other("the download's digest is wrong"));
    }
    sending.join().map_err(|_| io::Error::other("the sending thread panicked"))??;
    let mut trailer = String::new();
    stream.read_to_string(&mut trailer)?;
    Ok(trailer)
}

fn send(to: &mut TcpStream, pattern: Pattern, rate: u64, length: u64) -> io::Result<()> {
    let mut pace = Pace::new(rate);
    let piece = usize::try_from(rate / PIECES_PER_SECOND).unwrap_or(STREAM_BUFFER);
    let mut buffer = vec![0; piece.clamp(1, STREAM_BUFFER)];
    let mut offset = 0;
    while offset < length {
        let take = usize::try_from(length - offset).unwrap_or(usize::MAX).min(buffer.len());
        pattern.fill(offset, &mut buffer[..take]);
        to.write_all(&buffer[..take])?;
        offset += take as u64;
        pace.spend(take as u64);
    }
    Ok(())
}

/// Reads `length` bytes and checks each; an early end is an error.
fn receive(
    from: &mut TcpStream,
    pattern: Pattern,
    length: u64,
    digest: &mut Sha256,
    counter: &AtomicU64,
) -> io::Result<u64> {
    let mut buffer = vec![0; STREAM_BUFFER];
    let mut offset = 0;
    while offset < length {
        let take = usize::try_from(length - offset).unwrap_or(usize::MAX).min(buffer.len());
        let count = from.read(&mut buffer[..take])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        pattern
            .check(offset, &buffer[..count])
            .map_err(|wrong| io::Error::other(format!("{wrong:?}")))?;
        digest.update(&buffer[..count]);
        offset += count as u64;
        counter.store(offset, Ordering::SeqCst);
    }
    Ok(offset)
}

/// Reads a [`TcpOrigin::ticker`] and remembers when ticks came; each must follow its predecessor.
#[derive(Debug)]
pub struct Ticks {
    seen: Arc<Mutex<TicksSeen>>,
    stream: TcpStream,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct TicksSeen {
    count: u64,
    last: Instant,
    /// When the first tick after the latest call of `mark` came.
    first_after_mark: Option<Instant>,
    broken: Option<String>,
}

impl Ticks {
    /// Reads them from `stream`.
    ///
    /// # Panics
    /// When the stream has no second handle.
    #[must_use]
    pub fn read(stream: TcpStream) -> Self {
        stream.set_read_timeout(None).expect("a timeout can be unset");
        let seen = TicksSeen { count: 0, last: clock::now(), first_after_mark: None, broken: None };
        let seen = Arc::new(Mutex::new(seen));
        let mut reader = stream.try_clone().expect("a second handle");
        let shared = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 8];
            loop {
                let read = reader.read_exact(&mut bytes);
                let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(why) = seen.take(read, u64::from_be_bytes(bytes)) {
                    seen.broken = Some(why);
                    return;
                }
            }
        });
        Self { seen, stream, thread: Some(thread) }
    }

    /// Ticks so far.
    ///
    /// # Panics
    /// When the stream broke, or a tick was lost or doubled.
    #[track_caller]
    #[must_use]
    pub fn count(&self) -> u64 {
        self.look(|seen| seen.count)
    }

    /// Time since the last tick.
    #[track_caller]
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.look(|seen| seen.last.elapsed())
    }

    /// Forgets what came so far, and returns the time from now on.
    #[track_caller]
    pub fn mark(&self) -> Instant {
        self.look(|seen| seen.first_after_mark = None);
        clock::now()
    }

    /// Waits for the first tick after `mark` was called, and returns how long after `mark` it came.
    #[track_caller]
    pub fn first_after(&self, mark: Instant, within: Duration) -> Duration {
        let first = clock::wait_for("a tick comes again", within, || {
            self.look(|seen| seen.first_after_mark)
        });
        first.saturating_duration_since(mark)
    }

    #[track_caller]
    fn look<T>(&self, look: impl FnOnce(&mut TicksSeen) -> T) -> T {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &seen.broken {
            panic!("the ticks broke off after {}: {why}", seen.count);
        }
        look(&mut seen)
    }
}

impl TicksSeen {
    fn take(&mut self, read: io::Result<()>, tick: u64) -> Result<(), String> {
        read.map_err(|error| error.to_string())?;
        if tick != self.count {
            return Err(format!("tick {tick} came where {} belongs", self.count));
        }
        self.count += 1;
        self.last = clock::now();
        self.first_after_mark.get_or_insert(self.last);
        Ok(())
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Median from a path's return to the first byte; what loopback and the tests' switch add is nothing.
const FIRST_BYTE_MEDIAN: Duration = Duration::from_millis(300);
/// The slowest in twenty.
const FIRST_BYTE_P95: Duration = Duration::from_secs(1);
/// Fewer recoveries than this have no 95th percentile.
const P95_SAMPLES: usize = 20;

/// Asserts how soon after a path's return the first bytes came: the median, and the 95th percentile
/// where there are enough of them.
///
/// # Panics
/// They came too late.
pub fn assert_quick(mut took: Vec<Duration>) {
    took.sort();
    println!("first byte after the path's return: {took:?}");
    let median = took[took.len() / 2];
    assert!(median <= FIRST_BYTE_MEDIAN, "median {median:?} of {took:?}");
    if took.len() >= P95_SAMPLES {
        let p95 = took[took.len() * 95 / 100];
        assert!(p95 <= FIRST_BYTE_P95, "95th percentile {p95:?} of {took:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{FaultProxy, Mode};

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn a_load_checks_both_ways() {
        let origin = origin();
        let stream = TcpStream::connect(origin.address()).unwrap();
        Load::over(stream, 1_000_000, Duration::from_millis(300)).finish(SOON);
    }

    #[test]
    #[should_panic(expected = "after")]
    fn a_load_notices_a_cut() {
        let origin = origin();
        let proxy = FaultProxy::before(origin.address());
        let stream = TcpStream::connect(proxy.address()).unwrap();
        let load = Load::over(stream, 100_000, Duration::from_secs(5));
        clock::wait_until("it moves", SOON, || load.received() > 0);
        proxy.reset_all();
        load.finish(SOON);
    }

    #[test]
    fn ticks_tell_of_a_pause_and_of_its_end() {
        let origin = TcpOrigin::ticker(Duration::from_millis(5));
        let proxy = FaultProxy::before(origin.address());
        let ticks = Ticks::read(TcpStream::connect(proxy.address()).unwrap());
        clock::wait_until("ticks come", SOON, || ticks.count() > 10);
        proxy.set_mode(Mode::BlackHole);
        clock::wait_until("they stop", SOON, || ticks.silence() > Duration::from_millis(200));
        let mark = ticks.mark();
        proxy.set_mode(Mode::Pass);
        assert!(ticks.first_after(mark, SOON) < Duration::from_secs(1));
    }
}
