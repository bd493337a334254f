//! Many connections at once: what they cost while nothing moves, and while a little moves on each.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use cloak_tests::clock;
use cloak_tests::pattern::Pattern;
use cloak_tests::realm::Realm;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::origin;
use crate::path::{Gateways, Path};
use crate::proc::{processor_seconds, resident_kib};
use crate::results::{
    ACTIVE_COST, IDLE, MANY_IDLE, Results, SCALE_ACTIVE, SCALE_IDLE, SCALE_MEMORY,
};

/// Connections of the comparison.
const SESSIONS: usize = 1_000;
/// Bytes that each has moved before it falls idle.
const ANSWER: u64 = 1024;
/// Until they are idle: a session watches its lane for 10 s after bytes moved.
const SETTLE: Duration = Duration::from_secs(15);
/// How long they are watched.
const WATCH: Duration = Duration::from_secs(10);
/// Descriptors of a gateway that are not sessions': listeners, channels, the store.
const OTHER_DESCRIPTORS: u64 = 200;
/// A session takes the application's socket and a lane.
const DESCRIPTORS_EACH: u64 = 2;
/// The most that are of interest.
const SESSIONS_MAX: u64 = 10_000;

/// Bytes a second each way on an active connection, and how often a piece of them is sent.
const RATE: usize = 64 * 1024;
const PIECES: usize = 10;
const CONTENT: Pattern = Pattern::new(0x5EED);

/// What an idle connection holds in memory.
pub(crate) fn idle(paths: &[&dyn Path], results: &mut Results) {
    for path in paths.iter().filter(|path| !path.ends().is_empty()) {
        let (each, _streams) = opened(*path, SESSIONS);
        results.push(IDLE, path.name(), each);
    }
}

/// What many active connections cost.
pub(crate) fn active(paths: &[&dyn Path], results: &mut Results) {
    for path in paths.iter().filter(|path| !path.ends().is_empty()) {
        results.push(ACTIVE_COST, path.name(), active_share(*path, SESSIONS));
    }
}

/// How the cost of a session grows with their number. Each time with new gateways: memory that a
/// process has had for earlier sessions would serve the next ones unseen.
pub(crate) fn scale(realm: &Realm, server: SocketAddr, results: &mut Results) {
    for count in [100, SESSIONS, sessions_max()] {
        let path = &Gateways::direct(realm, server, count);
        let row = format!("{count} sessions");
        let (each, streams) = opened(path, count);
        let used = processor_seconds(&path.ends());
        settle(WATCH);
        let used = processor_seconds(&path.ends()) - used;
        results.push(SCALE_MEMORY, &row, each);
        let share = 100.0 * used / WATCH.as_secs_f64();
        results.push(SCALE_IDLE, &row, share);
        drop(streams);
        if count > SESSIONS {
            results.push(MANY_IDLE, path.name(), share);
        } else {
            #[expect(clippy::cast_precision_loss, reason = "thousands")]
            let share = active_share(path, count) / count as f64;
            results.push(SCALE_ACTIVE, &row, share);
        }
    }
}

/// As many sessions as the descriptors of a process allow.
pub(crate) fn sessions_max() -> usize {
    let descriptors = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let most = descriptors.saturating_sub(OTHER_DESCRIPTORS) / DESCRIPTORS_EACH;
    usize::try_from(most.min(SESSIONS_MAX)).unwrap_or(usize::MAX)
}

/// Opens that many, and says what each added to the memory of both ends, in KiB, once it is idle.
fn opened(path: &dyn Path, count: usize) -> (f64, Vec<TcpStream>) {
    // The first one pays for what all of them share.
    let _first = open(path);
    settle(SETTLE);
    let before = resident_kib(&path.ends());
    let streams: Vec<TcpStream> = (0..count).map(|_| open(path)).collect();
    settle(SETTLE);
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let each = (resident_kib(&path.ends()) - before) / count as f64;
    (each, streams)
}

fn open(path: &dyn Path) -> TcpStream {
    let mut stream = path.dial();
    origin::get(&mut stream, ANSWER);
    stream
}

/// Processor time of both ends, in percent of a core, while [`RATE`] flows each way on each of
/// `count` connections and every byte is checked.
fn active_share(path: &dyn Path, count: usize) -> f64 {
    let seconds = WATCH.as_secs() as usize;
    let streams: Vec<TcpStream> = (0..count)
        .map(|_| {
            let mut stream = path.dial();
            let request = origin::echo_request((RATE * (seconds + 1)) as u64);
            stream.write_all(&request).expect("the path takes a request");
            exchange_one(&mut stream);
            stream
        })
        .collect();
    let used = processor_seconds(&path.ends());
    let start = clock::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut tasks = JoinSet::new();
        for (number, stream) in streams.into_iter().enumerate() {
            tasks.spawn(exchange(stream, number, seconds * PIECES));
        }
        while let Some(exchanged) = tasks.join_next().await {
            exchanged.expect("every byte came back as it was");
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    100.0 * (processor_seconds(&path.ends()) - used) / seconds
}

const PIECE: usize = RATE / PIECES;

/// The first piece, so that everything is open when the clock starts.
fn exchange_one(stream: &mut TcpStream) {
    let mut back = vec![0; PIECE];
    stream.write_all(&CONTENT.bytes(PIECE)).expect("the path takes bytes");
    stream.read_exact(&mut back).expect("they come back");
    CONTENT.check(0, &back).expect("as they were");
}

/// Sends a piece ten times a second, and checks what comes back.
async fn exchange(stream: TcpStream, number: usize, pieces: usize) {
    stream.set_nonblocking(true).expect("a socket can be switched");
    let mut stream = tokio::net::TcpStream::from_std(stream).expect("inside a runtime");
    let period = Duration::from_secs(1) / PIECES as u32;
    // All streams together make an even load.
    tokio::time::sleep(period * (number % 100) as u32 / 100).await;
    let mut ticks = tokio::time::interval(period);
    let (mut piece, mut offset) = (vec![0; PIECE], PIECE as u64);
    for _ in 0..pieces {
        ticks.tick().await;
        CONTENT.fill(offset, &mut piece);
        stream.write_all(&piece).await.expect("the path takes bytes");
        stream.read_exact(&mut piece).await.expect("they come back");
        CONTENT.check(offset, &piece).expect("as they were");
        offset += PIECE as u64;
    }
}

/// Nothing is waited for: nothing is to happen.
fn settle(span: Duration) {
    clock::every(span, span, || ());
}
