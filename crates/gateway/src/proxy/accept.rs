//! Accepting connections within limits.
//!
//! Over the limit, or without descriptors, an application is told `busy` in its own protocol as
//! long as that is cheap: a spare descriptor is kept to accept it with.

use std::fs::File;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cloak_node::Code;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::listener::{Accepted, Bound, Peer};
use crate::ingress::{Ingress, Shared, Slot};
use crate::outbound::is_exhaustion;
use crate::same_user;
use crate::stream::{Client, Prefixed};

/// Accepts the connections of one listener.
pub(super) struct Acceptor {
    pub(super) shared: Arc<Shared>,
    pub(super) tasks: TaskTracker,
    pub(super) over: CancellationToken,
}

impl Acceptor {
    pub(super) async fn run(self, bound: Bound, cancel: CancellationToken) {
        let mut spare = spare_descriptor();
        let mut exhausted = false;
        loop {
            let accepted = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                accepted = bound.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => {
                    exhausted = false;
                    self.admit(accepted);
                }
                Err(error) if is_exhaustion(&error) => {
                    if !exhausted {
                        warn!(%error, "applications are turned away until descriptors are free");
                    }
                    exhausted = true;
                    drop(spare.take());
                    self.turn_one_away(&bound).await;
                    spare = spare_descriptor();
                }
                // The application gave up while it waited in the backlog.
                Err(error) => debug!(%error, "accept"),
            }
        }
    }

    fn admit(&self, accepted: Accepted) {
        let max = self.shared.settings.load().connections_max;
        match self.shared.connections.take(max) {
            Some(slot) => self.spawn(accepted, slot, None),
            None => match self.shared.turned_away.take(TURNED_AWAY_MAX) {
                Some(slot) => self.spawn(accepted, slot, Some(Code::Busy)),
                None => debug!("over all limits"),
            },
        }
    }

    fn spawn(&self, accepted: Accepted, slot: Slot, refusal: Option<Code>) {
        let over = self.over.clone();
        let serving = serve(Arc::clone(&self.shared), accepted, Some(slot), refusal);
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = over.cancelled() => {}
                () = serving => {}
            }
        });
    }

    /// Without descriptors: tells one application, then waits, since more would fare the same. The
    /// kernel looks for a descriptor first, so there may be no application yet: the spare one is
    /// then free for the next.
    async fn turn_one_away(&self, bound: &Bound) {
        let refusing = async {
            if let Ok(accepted) = bound.accept().await {
                serve(Arc::clone(&self.shared), accepted, None, Some(Code::Busy)).await;
            }
        };
        // One that does not even say which protocol it speaks is not waited for.
        let _ = timeout(TURN_AWAY_TIMEOUT, refusing).await;
        sleep(BACK_OFF).await;
    }
}

async fn serve(shared: Arc<Shared>, accepted: Accepted, slot: Option<Slot>, refusal: Option<Code>) {
    let Accepted { socket, peer } = accepted;
    if shared.settings.load().same_user && !is_same_user(&peer).await {
        debug!("a connection of another user was refused");
        return;
    }
    let (application, local) = match &peer {
        Peer::Tcp { peer, local } => (peer.to_string(), is_loopback(local.ip())),
        Peer::Unix { .. } => ("unix".to_owned(), true),
    };
    let ingress = Ingress { shared, application: application.into(), local, refusal };
    ingress.serve(Prefixed::new(Client::new(socket, slot))).await;
}

async fn is_same_user(peer: &Peer) -> bool {
    match *peer {
        Peer::Unix { uid } => uid.is_some_and(same_user::admits_unix),
        Peer::Tcp { peer, local } => {
            let asked = tokio::task::spawn_blocking(move || same_user::admits_tcp(peer, local));
            matches!(asked.await, Ok(Ok(true)))
        }
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn spare_descriptor() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Most connections at a time that are only told that there are too many.
const TURNED_AWAY_MAX: usize = 64;
const TURN_AWAY_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after the descriptors ran out.
const BACK_OFF: Duration = Duration::from_millis(50);
