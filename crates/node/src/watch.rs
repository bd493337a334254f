//! What the machine does to transports: networks change, and it sleeps.

use std::sync::Arc;

use cloak_transport::{NetworkWatch, WakeWatch};

use crate::peer::PeerCommand;
use crate::registry::Command;
use crate::shared::Shared;

/// Reacts to changes of addresses and routes until the node stops.
pub(crate) async fn network(shared: Arc<Shared>) {
    let mut watch = NetworkWatch::start();
    loop {
        tokio::select! {
            biased;
            () = shared.cancel.cancelled() => return,
            () = watch.changed() => {}
        }
        tracing::info!("the network changed");
        shared.locators.network_changed();
        shared.publish();
        shared.confirm_anew();
        shared.overlay.woke();
        shared.tell_peers(|| PeerCommand::NetworkChanged);
        for session in shared.sessions.all() {
            let _ = session.tell(Command::NetworkChanged);
        }
    }
}

/// Reacts to wake-ups until the node stops.
pub(crate) async fn wake(shared: Arc<Shared>) {
    let mut watch = WakeWatch::start(Arc::clone(&shared.clock));
    loop {
        let slept = tokio::select! {
            biased;
            () = shared.cancel.cancelled() => return,
            slept = watch.woke() => slept,
        };
        tracing::info!(?slept, "the machine slept");
        shared.publish();
        shared.overlay.woke();
        shared.tell_peers(|| PeerCommand::Woke);
        for session in shared.sessions.all() {
            let _ = session.tell(Command::Suspect(cloak_session::Suspicion::Woke));
        }
    }
}
