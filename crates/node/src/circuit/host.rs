//! The host: consent, limits, a hop to each end, and the bytes between them.

use std::sync::Arc;

use cloak_base::DeviceId;
use cloak_transport::{Carrier, Place, splice};
use cloak_wire::{Code, PeerFrame};

use crate::peer::{Peer, PeerCommand};
use crate::shared::Shared;
use crate::sync::read;

impl Shared {
    /// Opens the circuit that `asker` wants to `to`, in a task of its own.
    ///
    /// # Errors
    /// Why there will be none.
    pub(super) fn host(
        self: &Arc<Self>,
        asker: &Arc<Peer>,
        circuit: u64,
        to: DeviceId,
    ) -> Result<(), Code> {
        if !read(&self.config).overlay.relay {
            return Err(Code::NotAllowed);
        }
        self.standing(asker)?;
        let target = self.peers.get(&to).map(|peer| Arc::clone(&peer));
        let target = target.filter(|target| target.direct_link().is_some());
        let target = target.ok_or(Code::PeerUnreachable)?;
        self.standing(&target)?;
        if target.device() == asker.device() {
            return Err(Code::Violation);
        }
        let admitted = self.circuits.relaying.admit(asker.device(), to);
        let place = admitted.map_err(|_| Code::Busy)?;
        let (shared, asker) = (Arc::clone(self), Arc::clone(asker));
        self.tasks.spawn(async move { shared.carry(&asker, circuit, &target, &place).await });
        Ok(())
    }

    /// Opens both hops and splices them, until the circuit ends or one of the two may no longer be
    /// served.
    async fn carry(
        self: &Arc<Self>,
        asker: &Arc<Peer>,
        circuit: u64,
        target: &Arc<Peer>,
        place: &Place,
    ) {
        let own = self.random_u64();
        let (cancel, dismissals) = (self.cancel.clone(), [asker.dismissal(), target.dismissal()]);
        let carrying = async {
            let hops = tokio::try_join!(
                self.hop_of(asker, circuit, None),
                self.hop_of(target, own, Some(asker.device())),
            );
            let (one, other) = match hops {
                Ok(hops) => hops,
                Err(code) => {
                    let refusal = PeerFrame::NoCircuit { circuit, code };
                    asker.tell(PeerCommand::Send(refusal));
                    return;
                }
            };
            let (end, bytes) = splice(one, other, place).await;
            tracing::debug!(?end, bytes, "a circuit ended");
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = dismissals[0].cancelled() => {}
            () = dismissals[1].cancelled() => {}
            () = carrying => {}
        }
    }

    /// The hop to one end: dialled by it with our cookie, or by us with its own.
    async fn hop_of(
        self: &Arc<Self>,
        end: &Arc<Peer>,
        circuit: u64,
        from: Option<DeviceId>,
    ) -> Result<Carrier, Code> {
        let link = end.direct_link().ok_or(Code::PeerUnreachable)?;
        let cookies = &self.circuits.cookies;
        let issued = cookies.issue(self.random_cookie(), end.device(), link.from.ip());
        let mut waiting = issued.ok_or(Code::Busy)?;
        let mut awaited = self.circuits.expect(end.device(), circuit)?;
        let cookie = waiting.cookie();
        end.tell(PeerCommand::Send(PeerFrame::Hop { circuit, from, cookie }));
        tokio::select! {
            biased;
            hop = waiting.hop() => hop.ok_or(Code::Timeout),
            answer = awaited.answer() => {
                let at = link.dialled_at.ok_or(Code::Violation)?;
                self.dial_hop(end.device(), at, answer?).await
            }
        }
    }
}
