//! Circuits: connections to devices that can be reached through a host only.
//!
//! Three roles meet here. An end that wants one asks a host for it, the other end is told by the host
//! ([`end`]), and the host opens a hop to each and splices them ([`host`]); a host that does not reach
//! the other end asks one of that end's hosts in its turn. Which hosts are asked is decided in
//! [`choice`] alone. See docs/PROTOCOL.md, "Circuits".

mod choice;
mod end;
mod host;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use cloak_base::DeviceId;
use cloak_transport::{Carrier, Clock, Cookies, HopError, RelayLimits, Relaying};
use cloak_wire::{Code, Cookie, PeerFrame, Purpose};
use tokio::sync::{Semaphore, oneshot};

use crate::config::OverlayConfig;
use crate::peer::Peer;
use crate::shared::Shared;
use crate::sync::lock;

/// Circuits that other devices are opening to us, up to their verified `Hello`.
const INCOMING_MAX: usize = 64;
/// Answers that are awaited from neighbours, at most.
const AWAITED_MAX: usize = 1024;

/// What a neighbour says of a circuit: its cookie, or why there is none.
type Answer = Result<Cookie, Code>;

/// What a node knows of circuits.
pub(crate) struct Circuits {
    pub(crate) cookies: Cookies,
    pub(crate) relaying: Relaying,
    incoming: Arc<Semaphore>,
    /// By the neighbour who has to answer, and the circuit.
    awaited: Mutex<HashMap<(DeviceId, u64), oneshot::Sender<Answer>>>,
}

/// An answer that is awaited; dropping it ends that.
struct Awaited<'a> {
    circuits: &'a Circuits,
    key: (DeviceId, u64),
    answer: oneshot::Receiver<Answer>,
}

impl Circuits {
    pub(crate) fn new(cookies: Cookies, config: &OverlayConfig, clock: Arc<dyn Clock>) -> Self {
        let limits = RelayLimits {
            circuits: config.relay_circuits,
            rate: config.relay_rate.0,
            ..RelayLimits::default()
        };
        Self {
            cookies,
            relaying: Relaying::new(limits, clock),
            incoming: Arc::new(Semaphore::new(INCOMING_MAX)),
            awaited: Mutex::default(),
        }
    }

    /// Awaits what `neighbour` says of a circuit.
    fn expect(&self, neighbour: DeviceId, circuit: u64) -> Result<Awaited<'_>, Code> {
        let (sender, answer) = oneshot::channel();
        let key = (neighbour, circuit);
        let mut awaited = lock(&self.awaited);
        if awaited.len() >= AWAITED_MAX {
            return Err(Code::Busy);
        }
        awaited.insert(key, sender);
        Ok(Awaited { circuits: self, key, answer })
    }

    /// A neighbour answered; what nobody waits for any more is dropped.
    fn answered(&self, neighbour: DeviceId, circuit: u64, answer: Answer) {
        if let Some(waiting) = lock(&self.awaited).remove(&(neighbour, circuit)) {
            let _ = waiting.send(answer);
        }
    }
}

impl Awaited<'_> {
    async fn answer(&mut self) -> Answer {
        (&mut self.answer).await.unwrap_or(Err(Code::PeerUnreachable))
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        lock(&self.circuits.awaited).remove(&self.key);
    }
}

impl Shared {
    /// A neighbour says something of a circuit. Gives the reply.
    pub(crate) fn circuit_message(
        self: &Arc<Self>,
        neighbour: &Arc<Peer>,
        message: PeerFrame,
    ) -> Option<PeerFrame> {
        match message {
            PeerFrame::Circuit { circuit, to, from } => {
                let refused = self.host(neighbour, circuit, to, from).err();
                return refused.map(|code| PeerFrame::NoCircuit { circuit, code });
            }
            PeerFrame::Hop { circuit, from: Some(from), cookie } => {
                self.answer_circuit(neighbour, circuit, from, cookie);
            }
            PeerFrame::Hop { circuit, from: None, cookie } => {
                self.circuits.answered(neighbour.device(), circuit, Ok(cookie));
            }
            PeerFrame::NoCircuit { circuit, code } => {
                self.circuits.answered(neighbour.device(), circuit, Err(code));
            }
            _ => {}
        }
        None
    }

    fn random_cookie(&self) -> Cookie {
        Cookie(self.random_bytes::<32>().into())
    }

    /// Dials a hop to a neighbour at the address where our link to it leads; in TLS, where something
    /// on the way swallows what is not.
    async fn dial_hop(
        self: &Arc<Self>,
        neighbour: DeviceId,
        at: SocketAddr,
        cookie: Cookie,
    ) -> Result<Carrier, Code> {
        match self.dialler.hop(at, &cookie).await {
            Ok(tcp) => return Ok(tcp.into()),
            Err(HopError::Silent) => {}
            Err(HopError::Refused) => return Err(Code::NotAllowed),
            Err(HopError::Io(_)) => return Err(Code::PeerUnreachable),
        }
        let dialled = self.dialler.dial(at, Some(neighbour)).await;
        let connection = dialled.map_err(|_| Code::PeerUnreachable)?;
        let (connection, ..) = self.greet(connection, Purpose::Hop { cookie }).await?;
        Ok(Carrier::wrapped(connection))
    }
}
