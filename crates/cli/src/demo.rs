//! `cloak demo`: a whole network in one process, with real homes, invitations and transports.
//!
//! The first peer founds the realm and runs the gateway that applications use; the others join by
//! its invitations. One of them is called `demo` and exposes a small web service. Everything is on
//! loopback, and the homes are removed at the end.

mod network;
mod scratch;
mod site;

use std::time::Duration;

use anyhow::Context;
use tokio::time::MissedTickBehavior;

use self::network::Network;
use crate::args::Demo;
use crate::exit::Failure;
use crate::log::LogConfig;
use crate::output::print;
use crate::{descriptors, log};

/// Runs it until Ctrl-C.
///
/// # Errors
/// The proxy's address is taken, or the peers do not find each other.
pub(crate) async fn run(asked: Demo) -> Result<(), Failure> {
    log::start(&LogConfig { level: "warn".to_owned(), ..LogConfig::default() });
    descriptors::raise();
    let mut end = End::new()?;
    let network = tokio::select! {
        biased;
        () = end.asked_for() => return Ok(()),
        network = Network::start(asked.peers, asked.proxy) => network?,
    };
    print(network.ready_line())?;
    print(explanation(&network, &asked))?;
    tokio::select! {
        biased;
        () = end.asked_for() => {}
        () = network.gateway().stop_requested().cancelled() => {}
        () = cut_now_and_then(&network, asked.chaos.map(Duration::from_millis)) => {}
    }
    network.shutdown().await;
    Ok(())
}

/// Ends never; without a period it does nothing.
async fn cut_now_and_then(network: &Network, period: Option<Duration>) {
    let Some(period) = period else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        network.gateway().node().cut_lanes();
    }
}

/// What to try, as lines that work as printed.
fn explanation(network: &Network, asked: &Demo) -> String {
    let proxy = network.gateway().proxy_addresses().join(" ");
    let port = proxy.rsplit(':').next().unwrap_or_default();
    let home = network.gateway_home().display();
    let chaos = match asked.chaos {
        Some(period) => format!(
            "Every {period} ms the gateway's transports are cut; downloads go on all the same.\n"
        ),
        None => "Add --chaos 500 to cut the gateway's transports twice a second.\n".to_owned(),
    };
    format!(
        "\nA realm of {} peers runs in this process. Try in another terminal:\n\n  \
         curl --socks5-hostname {proxy} http://demo.cloak/\n  \
         curl --proxy http://{proxy} http://demo.cloak/\n  \
         curl --socks5-hostname {proxy} --no-buffer http://demo.cloak/slow\n  \
         curl --socks5-hostname {proxy} http://demo.cloak/bytes/100000000 | sha256sum\n  \
         seq 100000000 | head -c 100000000 | sha256sum\n  \
         seq 1000000 | curl --socks5-hostname {proxy} --data-binary @- http://demo.cloak/echo \
         | sha256sum\n\n\
         In a browser, with nothing to set up: http://demo.cloak.localhost:{port}/\n\
         What the gateway sees:\n\n  \
         cloak --home {home} status\n  \
         cloak --home {home} peers\n  \
         cloak --home {home} resolve demo.cloak\n  \
         cloak --home {home} trace demo.cloak\n  \
         cloak --home {home} sessions\n\n\
         {chaos}Ctrl-C ends the demo.\n",
        asked.peers,
    )
}

/// SIGINT or SIGTERM.
struct End {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl End {
    fn new() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt()).context("cannot wait for Ctrl-C")?;
        let terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        Ok(Self { interrupt, terminate })
    }

    async fn asked_for(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
