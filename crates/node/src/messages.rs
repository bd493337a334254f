//! What peers tell us over their channels, and what we do about it.

use std::sync::Arc;
use std::time::Duration;

use cloak_session::Suspicion;
use cloak_wire::{Code, PeerFrame, Purpose};

use crate::accept::serve_lane;
use crate::lane::{Lane, Opener};
use crate::peer::{DIALS_MAX, Peer};
use crate::registry::Command;
use crate::shared::Shared;

/// A peer that asks to be dialled gets one lane per request, this many at a time.
const REVERSE_DIALS_MAX: usize = 32;
/// Time for one of them.
const REVERSE_TIMEOUT: Duration = Duration::from_secs(10);

impl Shared {
    /// Handles a message; gives the reply to send over the same channel.
    ///
    /// # Errors
    /// The peer broke the protocol: its channel is closed with this code.
    pub(crate) fn peer_message(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        message: PeerFrame,
    ) -> Result<Option<PeerFrame>, Code> {
        match message {
            PeerFrame::Binding { record } => return self.learn_from(peer, &record),
            PeerFrame::Overlay { message } => self.overlay.deliver(peer, message.into()),
            PeerFrame::DialBack { cookie, at: Some(at) } => {
                self.prove_locator(peer, cookie, at);
            }
            PeerFrame::DialBack { cookie, at: None } => self.reverse_lane(peer, cookie),
            PeerFrame::Nudge { sessions } => {
                let sessions: std::collections::BTreeSet<_> = sessions.into_iter().collect();
                for id in sessions {
                    if let Some(session) = self.sessions.get(peer.device(), id) {
                        let _ = session.tell(Command::Suspect(Suspicion::Nudged));
                    }
                }
            }
            PeerFrame::Serials(serials) => self.catch_up(peer, serials),
            PeerFrame::FetchRevocations(serials) => self.send_revocations(peer, serials),
            PeerFrame::Revocations { list } => self.adopt_revocations(&list)?,
            PeerFrame::Renew { membership } => {
                return Ok(Some(match self.renew(peer, &membership) {
                    Ok(membership) => PeerFrame::Renewed { membership: membership.into() },
                    Err(code) => PeerFrame::Refused { code },
                }));
            }
            PeerFrame::Renewed { membership } => self.renewed(&membership),
            PeerFrame::Certify { certificate } => {
                return Ok(Some(match self.certify(peer, &certificate) {
                    Ok(certificate) => PeerFrame::Certified { certificate: certificate.into() },
                    Err(code) => PeerFrame::Refused { code },
                }));
            }
            PeerFrame::Certified { certificate } => self.certified(&certificate),
            PeerFrame::Appoint { certificate } => self.appointed(&certificate)?,
            PeerFrame::Refused { code } => tracing::debug!(%code, "a request was refused"),
            PeerFrame::Circuit { .. } | PeerFrame::Hop { .. } | PeerFrame::NoCircuit { .. } => {
                return Ok(self.circuit_message(peer, message));
            }
            PeerFrame::Redeem { .. } | PeerFrame::Redeemed { .. } => return Err(Code::Violation),
            // The channel answers these itself.
            PeerFrame::Probe { .. } | PeerFrame::Alive { .. } => {}
        }
        Ok(None)
    }

    /// Dials the lane that a peer asked for, and serves it.
    fn reverse_lane(self: &Arc<Self>, peer: &Arc<Peer>, cookie: u64) {
        let Some(dial) = peer.begin_dial(DIALS_MAX) else { return };
        if !peer.begin_reverse(REVERSE_DIALS_MAX) {
            return;
        }
        let (shared, peer) = (Arc::clone(self), Arc::clone(peer));
        self.tasks.spawn(async move {
            let cancel = shared.cancel.clone();
            let dialled = tokio::select! {
                biased;
                () = cancel.cancelled() => None,
                dialled = tokio::time::timeout(REVERSE_TIMEOUT, shared.dial_reverse(&peer, cookie)) => {
                    dialled.ok().flatten()
                }
            };
            drop(dial);
            if let Some(lane) = dialled {
                serve_lane(shared, lane).await;
            }
            peer.end_reverse();
        });
    }

    async fn dial_reverse(self: &Arc<Self>, peer: &Arc<Peer>, cookie: u64) -> Option<Lane> {
        let connection = self.race(peer.device()).await.ok()?;
        let (connection, hello, local_nonce) =
            self.greet(connection, Purpose::Reverse { cookie }).await.ok()?;
        Some(Lane {
            id: self.next_lane_id(),
            connection,
            peer: Arc::clone(peer),
            local: self.tls.device(),
            local_nonce,
            peer_nonce: Some(hello.nonce),
            lent: None,
            unread: std::collections::VecDeque::new(),
            opener: Opener::Peer,
        })
    }
}
