//! Peers found by other means than bindings: configured addresses and multicast DNS on the LAN.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cloak_base::DeviceId;
use cloak_transport::{HANDSHAKE_TIMEOUT, Lan};
use cloak_wire::Purpose;

use crate::peer::PeerCommand;
use crate::shared::Shared;
use crate::sync::read;

/// Pause between two tries of a configured peer that is not linked.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// A device that was found is tried for this long.
const TRY_FOR: Duration = Duration::from_secs(10);

/// Starts what the settings ask for.
pub(crate) fn start(shared: &Arc<Shared>) {
    let overlay = read(&shared.config).overlay.clone();
    for peer in overlay.peers {
        shared.tasks.spawn(configured(Arc::clone(shared), peer));
    }
    if overlay.lan {
        shared.tasks.spawn(lan(Arc::clone(shared)));
    }
}

/// Tries one configured peer, `[KEY@]ADDRESS`, whenever it is not linked.
async fn configured(shared: Arc<Shared>, text: String) {
    let (key, address) = match text.split_once('@') {
        None => (None, text.as_str()),
        Some((key, address)) => (key.parse::<DeviceId>().ok(), address),
    };
    loop {
        if let Err(error) = try_configured(&shared, key, address).await {
            tracing::debug!(%error, "a configured peer is not reachable");
        }
        tokio::select! {
            biased;
            () = shared.cancel.cancelled() => return,
            () = tokio::time::sleep(RETRY_EVERY) => {}
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum TryError {
    #[error("the address cannot be resolved: {0}")]
    Address(#[from] std::io::Error),
    #[error("no device answered as it should")]
    Dial,
}

async fn try_configured(
    shared: &Arc<Shared>,
    key: Option<DeviceId>,
    address: &str,
) -> Result<(), TryError> {
    for locator in tokio::net::lookup_host(address).await? {
        let known = key.or_else(|| shared.directory.hinted(locator));
        let peer = known.and_then(|device| shared.known_peer(device));
        // One that was met here before is dialled when the overlay wants it.
        if peer.is_some_and(|peer| peer.is_linked()) || (known.is_some() && is_in_touch(shared)) {
            return Ok(());
        }
        if let Some(device) = key {
            shared.found(device, locator);
            continue;
        }
        let dial = shared.dialler.dial(locator, None);
        let connection = tokio::time::timeout(HANDSHAKE_TIMEOUT, dial)
            .await
            .map_err(|_| TryError::Dial)?
            .map_err(|_| TryError::Dial)?;
        let device = connection.peer();
        let (connection, hello, _) =
            shared.greet(connection, Purpose::Peer).await.map_err(|_| TryError::Dial)?;
        shared.found(device, locator);
        shared.peer(device).tell(PeerCommand::Channel(Box::new(connection), Box::new(hello)));
    }
    Ok(())
}

/// Whether any peer is linked.
fn is_in_touch(shared: &Arc<Shared>) -> bool {
    shared.all_peers().iter().any(|peer| peer.is_linked())
}

async fn lan(shared: Arc<Shared>) {
    let Some(port) = shared.locators.port() else { return };
    let device = shared.tls.device();
    let mut lan = match Lan::start(shared.home.realm_id(), device, port) {
        Ok(lan) => lan,
        Err(error) => {
            shared.warn("lan", Some(format!("peers on the LAN are not found: {error}")));
            return;
        }
    };
    loop {
        tokio::select! {
            biased;
            () = shared.cancel.cancelled() => return,
            (device, locator) = lan.found() => shared.found(device, locator),
        }
    }
}

impl Shared {
    /// A device may be at this address; the handshake will tell.
    fn found(self: &Arc<Self>, device: DeviceId, locator: SocketAddr) {
        if device == self.tls.device() {
            return;
        }
        let is_news = self.directory.hint(device, locator);
        let Ok(peer) = self.admit_peer(device) else { return };
        // Once linked, it is for the overlay to say whether the link is of use.
        peer.keep_until(self.clock.now() + TRY_FOR);
        if is_news {
            peer.tell(PeerCommand::Rebound);
        }
    }
}
