//! The ends of a circuit: one asks a host for it, the other is told by the host.

use std::sync::Arc;
use std::time::Duration;

use cloak_base::DeviceId;
use cloak_transport::{Carrier, Connection, HANDSHAKE_TIMEOUT, deadline};
use cloak_wire::{Code, Cookie, PeerFrame, Purpose};
use tokio::task::JoinSet;

use super::Circuits;
use crate::accept::dispatch;
use crate::peer::Peer;
use crate::shared::Shared;

/// Time for a host to answer a `Circuit`.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for a link with a host.
const LINK_TIMEOUT: Duration = Duration::from_secs(4);
/// Time between the starts of two circuits through different hosts.
const HOSTS_STAGGER: Duration = Duration::from_millis(500);

impl Shared {
    /// A connection to `device` through whichever of the hosts gives one first.
    ///
    /// # Errors
    /// The code of the host that was best.
    pub(crate) async fn reach_through_hosts(
        self: &Arc<Self>,
        device: DeviceId,
    ) -> Result<Connection, Code> {
        let mut attempts = JoinSet::new();
        for (wait, host) in (0..).zip(self.hosts_to(device)) {
            let shared = Arc::clone(self);
            attempts.spawn(async move {
                tokio::time::sleep(HOSTS_STAGGER * wait).await;
                let host = shared.admit_peer(host)?;
                shared.reach_through(&host, device).await
            });
        }
        let mut error = Code::PeerUnreachable;
        while let Some(attempt) = attempts.join_next().await {
            match attempt {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(code)) => error = code,
                Err(_) => {}
            }
        }
        Err(error)
    }

    /// Asks one host for a circuit, and proves both ends to each other through it.
    async fn reach_through(
        self: &Arc<Self>,
        host: &Arc<Peer>,
        device: DeviceId,
    ) -> Result<Connection, Code> {
        let hop = self.hop_towards(host, device, None).await?;
        Connection::dial_over(hop, &self.tls, device, host.device())
            .await
            .map_err(|_| Code::PeerUnreachable)
    }

    /// Our hop of a circuit through a host to `device`, which may be for somebody else, `from`.
    pub(super) async fn hop_towards(
        self: &Arc<Self>,
        host: &Arc<Peer>,
        device: DeviceId,
        from: Option<DeviceId>,
    ) -> Result<Carrier, Code> {
        self.link_with_host(host).await?;
        let circuit = self.random_u64();
        let mut awaited = self.circuits.expect(host.device(), circuit)?;
        host.send(PeerFrame::Circuit { circuit, to: device, from });
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, awaited.answer()).await;
        let cookie = answer.map_err(|_| Code::Timeout)??;
        self.open_hop(host, circuit, cookie).await
    }

    /// Sees to it that there is a direct link with a host, which may be one that only its guest's
    /// record names.
    async fn link_with_host(self: &Arc<Self>, host: &Arc<Peer>) -> Result<(), Code> {
        let until = self.clock.now() + LINK_TIMEOUT;
        host.keep_until(until + ANSWER_TIMEOUT);
        let linked = host.linked_directly();
        if host.direct_link().is_some() {
            return Ok(());
        }
        if self.locators_of(host.device()).is_empty() {
            let asked = self.ask_for_device(host.device()).await;
            asked.map_err(|_| Code::PeerUnreachable)?;
        }
        let until = deadline(&*self.clock, until);
        tokio::time::timeout_at(until, linked).await.map_err(|_| Code::PeerUnreachable)
    }

    /// Opens our hop of a circuit: whoever dialled the link with the host dials the hop too.
    async fn open_hop(
        self: &Arc<Self>,
        host: &Arc<Peer>,
        circuit: u64,
        cookie: Cookie,
    ) -> Result<Carrier, Code> {
        let link = host.direct_link().ok_or(Code::PeerUnreachable)?;
        if let Some(at) = link.dialled_at {
            return self.dial_hop(host.device(), at, cookie).await;
        }
        let Circuits { cookies, .. } = &self.circuits;
        let issued = cookies.issue(self.random_cookie(), host.device(), link.from.ip());
        let mut waiting = issued.ok_or(Code::Busy)?;
        let cookie = waiting.cookie();
        host.send(PeerFrame::Hop { circuit, from: None, cookie });
        waiting.hop().await.ok_or(Code::PeerUnreachable)
    }

    /// A host has a circuit for us that `from` asked for.
    pub(super) fn answer_circuit(
        self: &Arc<Self>,
        host: &Arc<Peer>,
        circuit: u64,
        from: DeviceId,
        cookie: Cookie,
    ) {
        let Ok(place) = Arc::clone(&self.circuits.incoming).try_acquire_owned() else { return };
        let (shared, host) = (Arc::clone(self), Arc::clone(host));
        self.tasks.spawn(async move {
            let cancel = shared.cancel.clone();
            let greeted = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                greeted = shared.meet(&host, circuit, from, cookie) => greeted,
            };
            drop(place);
            match greeted {
                Ok((connection, hello, nonce)) => dispatch(shared, connection, hello, nonce).await,
                Err(code) => tracing::debug!(%code, "a circuit came to nothing"),
            }
        });
    }

    /// The acceptor's side of what [`Shared::reach_through`] does.
    async fn meet(
        self: &Arc<Self>,
        host: &Arc<Peer>,
        circuit: u64,
        from: DeviceId,
        cookie: Cookie,
    ) -> Result<(Connection, cloak_wire::Hello, cloak_wire::Nonce), Code> {
        let hop = self.open_hop(host, circuit, cookie).await?;
        let until = deadline(&*self.clock, self.clock.now() + HANDSHAKE_TIMEOUT);
        let accepting = Connection::accept_over(hop, &self.tls, host.device());
        let accepted = tokio::time::timeout_at(until, accepting).await;
        let mut connection =
            accepted.map_err(|_| Code::Timeout)?.map_err(|_| Code::PeerUnreachable)?;
        if connection.peer() != from {
            return Err(Code::WrongPeer);
        }
        let (hello, nonce) = self.welcome(&mut connection, until).await?;
        // What proves a locator, or a neighbour, is none of it through a host.
        match hello.purpose {
            Purpose::Peer | Purpose::Lane | Purpose::Reverse { .. } => {}
            Purpose::Join | Purpose::Proof { .. } | Purpose::Hop { .. } => {
                return Err(Code::Violation);
            }
        }
        Ok((connection, hello, nonce))
    }
}
