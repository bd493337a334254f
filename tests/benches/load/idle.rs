//! What open sessions cost that do nothing.

use std::net::TcpStream;
use std::time::Duration;

use cloak_tests::clock;

use crate::origin;
use crate::path::{Gateways, Path};
use crate::proc::{processor_seconds, resident_kib};
use crate::relay::Relays;

const SESSIONS: u32 = 1_000;
/// Bytes that each has moved before it falls idle.
const ANSWER: u64 = 1024;
/// Until they are idle: a session watches its lane for 10 s after bytes moved.
const SETTLE: Duration = Duration::from_secs(15);
/// How long they are watched.
const WATCH: Duration = Duration::from_secs(10);

pub(crate) fn measure() {
    let server = origin::start();
    println!("idle: {SESSIONS} connections open, each has moved 1 KiB");
    println!("| path | KiB each, near end | KiB each, far end | near end % of a core | far end |");
    println!("|---|---|---|---|---|");
    row("relays", &Relays::before(server));
    row("Cloak", &Gateways::before(server));
    println!();
}

fn row(name: &str, path: &dyn Path) {
    // The first one pays for what all of them share.
    let _first = open(path);
    settle(SETTLE);
    let before = path.ids().map(resident_kib);
    let _streams: Vec<TcpStream> = (0..SESSIONS).map(|_| open(path)).collect();
    settle(SETTLE);
    let used = path.ids().map(|id| processor_seconds(&[id]));
    settle(WATCH);
    let [near, far] = path.ids().map(resident_kib);
    let each = [near - before[0], far - before[1]].map(|kib| kib / f64::from(SESSIONS));
    let [near, far] = path.ids().map(|id| processor_seconds(&[id]));
    let share =
        [near - used[0], far - used[1]].map(|seconds| 100.0 * seconds / WATCH.as_secs_f64());
    println!("| {name} | {:.1} | {:.1} | {:.2} | {:.2} |", each[0], each[1], share[0], share[1]);
}

fn open(path: &dyn Path) -> TcpStream {
    let mut stream = path.dial();
    origin::get(&mut stream, ANSWER);
    stream
}

/// Nothing is waited for: nothing is to happen.
fn settle(span: Duration) {
    clock::every(span, span, || ());
}
