//! Throughput, and processor time per GiB.

use cloak_tests::clock;

use crate::origin;
use crate::path::Path;
use crate::proc::processor_seconds;
use crate::results::{
    DOWN, DOWN_COST, EIGHT, EIGHT_COST, Measure, RELAY_COST, Results, UP, UP_COST,
};
use crate::turns;

/// Bytes of the transfer that warms a path up.
const WARM_UP: u64 = 64 << 20;

const MIB: f64 = (1 << 20) as f64;
const GIB: f64 = (1 << 30) as f64;

/// A kind of transfer.
#[derive(Debug, Clone, Copy)]
struct Transfer {
    throughput: Measure,
    cost: Measure,
    streams: u64,
    run: fn(std::net::TcpStream, u64),
}

const TRANSFERS: [Transfer; 3] = [
    Transfer { throughput: DOWN, cost: DOWN_COST, streams: 1, run: origin::download },
    Transfer { throughput: UP, cost: UP_COST, streams: 1, run: origin::upload },
    Transfer { throughput: EIGHT, cost: EIGHT_COST, streams: 8, run: origin::download },
];

pub(crate) fn measure(paths: &[&dyn Path], rounds: usize, bytes: u64, results: &mut Results) {
    for path in paths {
        origin::download(path.dial(), WARM_UP);
        origin::upload(path.dial(), WARM_UP);
    }
    for transfer in TRANSFERS {
        for path in turns(paths, rounds) {
            transfer.through(path, bytes, results);
        }
    }
}

impl Transfer {
    fn through(self, path: &dyn Path, bytes: u64, results: &mut Results) {
        let (ends, host) = (path.ends(), path.host());
        let at_start = (processor_seconds(&ends), host.map(|id| processor_seconds(&[id])));
        let seconds = timed(self.streams, |_| (self.run)(path.dial(), bytes / self.streams));
        #[expect(clippy::cast_precision_loss, reason = "sizes of transfers are far below 2^52")]
        let bytes = bytes as f64;
        results.push(self.throughput, path.name(), bytes / MIB / seconds);
        if !ends.is_empty() {
            let used = processor_seconds(&ends) - at_start.0;
            results.push(self.cost, path.name(), used / (bytes / GIB));
        }
        if let (Some(id), Some(at_start), true) = (host, at_start.1, self.throughput == DOWN) {
            let used = processor_seconds(&[id]) - at_start;
            results.push(RELAY_COST, path.name(), used / (bytes / GIB));
        }
    }
}

/// Seconds that `count` threads take together.
pub(crate) fn timed(count: u64, run: impl Fn(u64) + Sync) -> f64 {
    let start = clock::now();
    std::thread::scope(|scope| {
        let run = &run;
        for number in 0..count {
            scope.spawn(move || run(number));
        }
    });
    start.elapsed().as_secs_f64()
}
