//! A new connection and a small answer over it: how long it takes, and what it costs in handshakes.

use cloak_tests::clock;
use cloak_tests::gateway::Up;
use cloak_tests::pair::Pair;
use cloak_tests::realm::Realm;

use crate::origin;
use crate::path::{Gateways, PORT, Path, through};
use crate::relay::Relays;
use crate::sample::Sample;

/// Connections of one path in one round.
const CONNECTIONS: usize = 200;
/// Connections that warm a path up.
const WARM_UP: usize = 50;
/// Bytes of an answer.
const ANSWER: u64 = 1024;

pub(crate) fn measure(rounds: usize) {
    let server = origin::start();
    let (relays, gateways) = (Relays::before(server), Gateways::before(server));
    let paths: [&dyn Path; 2] = [&relays, &gateways];
    for path in paths {
        (0..WARM_UP).for_each(|_| request(path));
    }
    let mut times: [Sample; 2] = Default::default();
    for round in 0..rounds {
        for index in [round % 2, (round + 1) % 2] {
            for _ in 0..CONNECTIONS {
                let start = clock::now();
                request(paths[index]);
                times[index].push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    println!("fresh: new connection and 1 KiB, {} of them, µs", rounds * CONNECTIONS);
    println!("| path | p50 | p99 |");
    println!("|---|---|---|");
    for (name, times) in ["relays", "Cloak"].into_iter().zip(&times) {
        println!("| {name} | {:.0} | {:.0} |", times.median(), times.percentile(99));
    }
    drop((relays, gateways));
    println!("{} dials between the gateways for {CONNECTIONS} connections\n", dials(server));
}

fn request(path: &dyn Path) {
    origin::get(&mut path.dial(), ANSWER);
}

/// Dials between two gateways during [`CONNECTIONS`] connections in a row, on a warm lane. They
/// are counted by proxies between the two, which is why no time is taken here.
fn dials(server: std::net::SocketAddr) -> u64 {
    let pair = Pair::start(Realm::alone(), &Up::default().expose(PORT, server));
    let request = |_| origin::get(&mut through(&pair.alice), ANSWER);
    (0..WARM_UP).for_each(request);
    let before = pair.dials();
    (0..CONNECTIONS).for_each(request);
    pair.dials() - before
}
