//! Small requests: how long they take over a fresh connection and over an open one, what they cost
//! in system calls, and how many connections a second many workers get.

use std::io::Read;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cloak_tests::clock::{self, wait_until};
use cloak_tests::process::Owned;
use cloak_tests::skip;
use rustix::process::Signal;

use crate::bulk::timed;
use crate::origin;
use crate::path::Path;
use crate::proc::{processor_seconds, threads};
use crate::results::{
    FRESH, FRESH_TAIL, KEPT, KEPT_CALLS, KEPT_TAIL, Measure, RATE, RATE_COST, Results,
};
use crate::sample::Sample;
use crate::turns;

/// Bytes of an answer.
const ANSWER: u64 = 1024;
/// Requests that warm a path up.
const WARM_UP: usize = 100;
/// A round ends then, however few requests it made: one path takes 44 ms for each.
const ROUND_MAX: Duration = Duration::from_secs(3);
const WORKERS: u64 = 64;
/// How long they work in a round.
const WORK: Duration = Duration::from_secs(2);
/// Requests whose system calls are counted.
const COUNTED: u32 = 500;
/// Until `strace` has all threads.
const ATTACHED_WITHIN: Duration = Duration::from_secs(20);

/// A new connection and a small answer over it.
pub(crate) fn fresh(paths: &[&dyn Path], rounds: usize, requests: usize, results: &mut Results) {
    for path in paths {
        (0..WARM_UP).for_each(|_| origin::get(&mut path.dial(), ANSWER));
    }
    for path in turns(paths, rounds) {
        let times = round(requests, || origin::get(&mut path.dial(), ANSWER));
        record(&times, [FRESH, FRESH_TAIL], path, results);
    }
}

/// A small answer over a connection that is open.
pub(crate) fn kept(paths: &[&dyn Path], rounds: usize, requests: usize, results: &mut Results) {
    let mut streams: Vec<TcpStream> = paths.iter().map(|path| path.dial()).collect();
    for stream in &mut streams {
        (0..WARM_UP).for_each(|_| origin::get(stream, ANSWER));
    }
    for path in turns(paths, rounds) {
        let at = paths.iter().position(|other| other.name() == path.name()).expect("one of them");
        let times = round(requests, || origin::get(&mut streams[at], ANSWER));
        record(&times, [KEPT, KEPT_TAIL], path, results);
    }
    if skip::program("strace").is_none() {
        eprintln!("LEFT OUT: system calls: `strace` is not installed");
        return;
    }
    for (path, stream) in paths.iter().zip(&mut streams) {
        if !path.ends().is_empty() {
            let calls = system_calls(&path.ends(), || origin::get(stream, ANSWER));
            results.push(KEPT_CALLS, path.name(), calls);
        }
    }
}

/// Connections per second of many workers, and what one costs.
pub(crate) fn rate(paths: &[&dyn Path], rounds: usize, results: &mut Results) {
    for path in turns(paths, rounds) {
        let (ends, done) = (path.ends(), AtomicU64::new(0));
        let used = processor_seconds(&ends);
        let start = clock::now();
        let seconds = timed(WORKERS, |_| {
            while start.elapsed() < WORK {
                origin::get(&mut path.dial(), ANSWER);
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let done = done.into_inner() as f64;
        results.push(RATE, path.name(), done / seconds);
        if !ends.is_empty() {
            let used = processor_seconds(&ends) - used;
            results.push(RATE_COST, path.name(), used / done * 1e6);
        }
    }
}

/// The times of one round, in µs.
fn round(requests: usize, mut request: impl FnMut()) -> Sample {
    let (start, mut times) = (clock::now(), Sample::default());
    while times.len() < requests && start.elapsed() < ROUND_MAX {
        let start = clock::now();
        request();
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times
}

fn record(times: &Sample, [middle, tail]: [Measure; 2], path: &dyn Path, results: &mut Results) {
    results.push(middle, path.name(), times.median());
    results.push(tail, path.name(), times.percentile(99));
}

/// System calls of all these processes for one request, as `strace` counts them.
fn system_calls(processes: &[u32], mut request: impl FnMut()) -> f64 {
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-U", "calls,name"]);
    for id in processes {
        command.args(["-p", &id.to_string()]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("strace starts");
    let mut stderr = child.stderr.take().expect("piped above");
    let mut strace = Owned::new(child);
    wait_until("strace has every thread", ATTACHED_WITHIN, || {
        processes
            .iter()
            .flat_map(|id| threads(*id))
            .all(|status| !status.contains("TracerPid:\t0\n"))
    });
    (0..COUNTED).for_each(|_| request());
    strace.signal(Signal::INT);
    let mut table = String::new();
    stderr.read_to_string(&mut table).expect("strace prints its table");
    let total =
        table.lines().find_map(|line| line.trim().strip_suffix("total")?.trim().parse().ok());
    total.map_or(f64::NAN, |total: f64| total / f64::from(COUNTED))
}
