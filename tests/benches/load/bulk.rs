//! Throughput, and processor time per GiB.

use cloak_tests::clock;

use crate::origin;
use crate::path::{Gateways, Path};
use crate::proc::processor_seconds;
use crate::relay::Relays;
use crate::sample::Sample;

/// Bytes of the transfer that warms a path up.
const WARM_UP: u64 = 64 << 20;

const MIB: f64 = (1 << 20) as f64;
const GIB: f64 = (1 << 30) as f64;

/// A kind of transfer.
#[derive(Debug, Clone, Copy)]
struct Transfer {
    name: &'static str,
    streams: u64,
    run: fn(std::net::TcpStream, u64),
}

const TRANSFERS: [Transfer; 3] = [
    Transfer { name: "1 stream down", streams: 1, run: origin::download },
    Transfer { name: "1 stream up", streams: 1, run: origin::upload },
    Transfer { name: "8 streams down", streams: 8, run: origin::download },
];

/// What one path did with one kind of transfer.
#[derive(Debug, Default)]
struct Results {
    mib_per_second: Sample,
    seconds_per_gib: Sample,
}

pub(crate) fn measure(rounds: usize, bytes: u64) {
    let server = origin::start();
    let (relays, gateways) = (Relays::before(server), Gateways::before(server));
    let paths: [&dyn Path; 2] = [&relays, &gateways];
    for path in paths {
        origin::download(path.dial(), WARM_UP);
        origin::upload(path.dial(), WARM_UP);
    }
    println!("bulk: {rounds} rounds of {} MiB, medians", bytes >> 20);
    println!(
        "| transfer | relays MiB/s | Cloak MiB/s | ratio | relays CPU s/GiB | Cloak CPU s/GiB |"
    );
    println!("|---|---|---|---|---|---|");
    for transfer in TRANSFERS {
        let mut results: [Results; 2] = Default::default();
        for round in 0..rounds {
            // Who goes first takes turns.
            for index in [round % 2, (round + 1) % 2] {
                transfer.through(paths[index], bytes, &mut results[index]);
            }
        }
        let [relays, cloak] = results;
        println!(
            "| {} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} |",
            transfer.name,
            relays.mib_per_second.median(),
            cloak.mib_per_second.median(),
            cloak.mib_per_second.over(&relays.mib_per_second).median(),
            relays.seconds_per_gib.median(),
            cloak.seconds_per_gib.median(),
        );
    }
    println!();
}

impl Transfer {
    #[expect(clippy::cast_precision_loss, reason = "sizes of transfers are far below 2^52")]
    fn through(self, path: &dyn Path, bytes: u64, results: &mut Results) {
        let used = processor_seconds(&path.ids());
        let start = clock::now();
        std::thread::scope(|scope| {
            for _ in 0..self.streams {
                scope.spawn(|| (self.run)(path.dial(), bytes / self.streams));
            }
        });
        let (seconds, bytes) = (start.elapsed().as_secs_f64(), bytes as f64);
        let used = processor_seconds(&path.ids()) - used;
        results.mib_per_second.push(bytes / MIB / seconds);
        results.seconds_per_gib.push(used / (bytes / GIB));
    }
}
