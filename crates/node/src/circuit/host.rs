//! The host: consent, limits, a hop to each end, and the bytes between them.

use std::sync::Arc;

use cloak_base::DeviceId;
use cloak_transport::{Carrier, Place, splice};
use cloak_wire::{Code, PeerFrame};

use crate::peer::Peer;
use crate::shared::Shared;
use crate::sync::read;

/// The devices at the ends of a circuit.
#[derive(Clone, Copy)]
struct Ends {
    from: DeviceId,
    to: DeviceId,
}

impl Shared {
    /// Opens the circuit that `asker` wants to `to`, in a task of its own. It may be for somebody else,
    /// `from`, whose host the asker is.
    ///
    /// # Errors
    /// Why there will be none.
    pub(super) fn host(
        self: &Arc<Self>,
        asker: &Arc<Peer>,
        circuit: u64,
        to: DeviceId,
        from: Option<DeviceId>,
    ) -> Result<(), Code> {
        if !read(&self.config).overlay.relay {
            return Err(Code::NotAllowed);
        }
        self.standing(asker)?;
        let ends = Ends { from: from.unwrap_or(asker.device()), to };
        if to == ends.from || to == asker.device() || to == self.tls.device() {
            return Err(Code::Violation);
        }
        let target = self.peers.get(&to).map(|peer| Arc::clone(&peer));
        let target = target.filter(|target| target.direct_link().is_some());
        match &target {
            Some(target) => self.standing(target)?,
            None if from.is_none() => {}
            // Two hosts are enough: more would only hide a loop.
            None => return Err(Code::PeerUnreachable),
        }
        let admitted = self.circuits.relaying.admit(asker.device(), to);
        let place = admitted.map_err(|_| Code::Busy)?;
        let (shared, asker) = (Arc::clone(self), Arc::clone(asker));
        self.tasks.spawn(async move { shared.carry(&asker, circuit, ends, target, &place).await });
        Ok(())
    }

    /// Opens both hops and splices them, until the circuit ends or one of the two neighbours may no
    /// longer be served.
    async fn carry(
        self: &Arc<Self>,
        asker: &Arc<Peer>,
        circuit: u64,
        ends: Ends,
        target: Option<Arc<Peer>>,
        place: &Place,
    ) {
        let (cancel, dismissal) = (self.cancel.clone(), asker.dismissal());
        let carrying = async {
            let hops = tokio::try_join!(
                self.hop_of(asker, circuit, None),
                self.other_hop(ends, target, asker.device()),
            );
            let (one, (other, neighbour)) = match hops {
                Ok(hops) => hops,
                Err(code) => return asker.send(PeerFrame::NoCircuit { circuit, code }),
            };
            tokio::select! {
                biased;
                () = neighbour.dismissal().cancelled_owned() => {}
                (end, bytes) = splice(one, other, place) => {
                    tracing::debug!(?end, bytes, "a circuit ended");
                }
            }
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = dismissal.cancelled() => {}
            () = carrying => {}
        }
    }

    /// The hop towards the other end, and the neighbour at its end: that device itself, or else one of
    /// its hosts.
    async fn other_hop(
        self: &Arc<Self>,
        ends: Ends,
        target: Option<Arc<Peer>>,
        asker: DeviceId,
    ) -> Result<(Carrier, Arc<Peer>), Code> {
        let Ends { from, to } = ends;
        if let Some(target) = target {
            let hop = self.hop_of(&target, self.random_u64(), Some(from)).await?;
            return Ok((hop, target));
        }
        let mut error = Code::PeerUnreachable;
        for host in self.hosts_of(to).await {
            if [asker, from, self.tls.device()].contains(&host) {
                continue;
            }
            let hop = match self.admit_peer(host) {
                Ok(host) => self.hop_towards(&host, to, Some(from)).await.map(|hop| (hop, host)),
                Err(code) => Err(code),
            };
            match hop {
                Ok(found) => return Ok(found),
                Err(code) => error = code,
            }
        }
        Err(error)
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
        end.send(PeerFrame::Hop { circuit, from, cookie });
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
