//! One simulated peer: the state machine, its links, and what the world knows of it.

use std::sync::Arc;

use cloak_base::{Instant, Rng};
use cloak_overlay::{Contact, Overlay, Place, Standing};

use crate::geography;
use crate::malice::Malice;
use crate::signatures::Keys;

/// The number of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u32);

/// One link between two peers, for as long as it is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u32);

/// What a peer is like, before it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nature {
    /// Whether others can dial it.
    pub reachable: bool,
    /// How it lies, if it does.
    pub malice: Malice,
}

/// A simulated peer. Every event of its looks at this, so it is small, and what few events look at
/// is elsewhere: a hundred thousand of these fit into a large cache.
pub struct Peer {
    /// The state machine; `None` before the start and after death.
    pub(crate) overlay: Option<Box<Overlay>>,
    pub(crate) links: Vec<Half>,
    /// When the earliest timer event in the queue is due.
    pub(crate) armed: Option<Instant>,
    pub(crate) sent: Traffic,
    pub(crate) at: geography::Place,
    pub(crate) nature: Nature,
    pub(crate) asleep: bool,
    /// Peers of different sides do not hear one another.
    pub(crate) side: u8,
    /// Whether it was told whether it can be dialled.
    pub(crate) told_reachability: bool,
    pub(crate) rest: Box<Rest>,
}

/// The rest of a peer.
pub(crate) struct Rest {
    pub(crate) keys: Keys,
    pub(crate) contact: Contact,
    pub(crate) standing: Standing,
    pub(crate) rng: Rng,
    /// Whom it remembered when it was started last.
    pub(crate) remembered: Box<[PeerId]>,
    pub(crate) place: Place,
    /// When the place changed last.
    pub(crate) placed_at: Instant,
    pub(crate) started_at: Instant,
}

/// Messages and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Messages.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// One end of a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Half {
    pub(crate) peer: PeerId,
    pub(crate) link: LinkId,
    /// What is sent now arrives after what was sent before.
    pub(crate) clear_at: Instant,
    /// Whether the state machine was told that it is up.
    pub(crate) told: bool,
    /// Nothing passes any more.
    pub(crate) broken: bool,
    /// Whether this end dialled.
    pub(crate) dialled: bool,
}

impl PeerId {
    /// Its place in lists of all peers.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Display for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Nature {
    /// An honest peer that can be dialled.
    pub const HONEST: Self = Self { reachable: true, malice: Malice::None };
}

impl Peer {
    pub(crate) fn new(
        keys: Keys,
        contact: Contact,
        standing: Standing,
        nature: Nature,
        at: geography::Place,
        rng: Rng,
    ) -> Self {
        let rest = Rest {
            keys,
            contact,
            standing,
            rng,
            remembered: Box::default(),
            place: Place::Seeking,
            placed_at: Instant::ZERO,
            started_at: Instant::ZERO,
        };
        Self {
            overlay: None,
            links: Vec::new(),
            armed: None,
            sent: Traffic::default(),
            at,
            nature,
            asleep: false,
            side: 0,
            told_reachability: false,
            rest: Box::new(rest),
        }
    }

    /// Whether its state machine runs, asleep or not.
    pub fn is_alive(&self) -> bool {
        self.overlay.is_some()
    }

    /// Whether it takes part at the moment.
    pub fn is_awake(&self) -> bool {
        self.is_alive() && !self.asleep
    }

    /// Its place, as it told it last.
    pub fn place(&self) -> &Place {
        &self.rest.place
    }

    /// Whether it takes part and is where a peer of its nature should be.
    pub fn is_settled(&self) -> bool {
        match self.rest.place {
            Place::Inner { .. } => true,
            Place::Attached { .. } => !self.nature.reachable,
            Place::Seeking => false,
        }
    }

    /// What it sent so far.
    pub fn sent(&self) -> Traffic {
        self.sent
    }

    /// What it is like.
    pub fn nature(&self) -> Nature {
        self.nature
    }

    /// Where it may be dialled.
    pub fn contact(&self) -> &Contact {
        &self.rest.contact
    }

    /// When it was started last.
    pub fn started_at(&self) -> Instant {
        self.rest.started_at
    }

    /// Whom it remembered when it was started last.
    pub fn remembered(&self) -> &[PeerId] {
        &self.rest.remembered
    }

    /// When its place changed last.
    pub fn placed_at(&self) -> Instant {
        self.rest.placed_at
    }

    pub(crate) fn half(&self, peer: PeerId) -> Option<&Half> {
        self.position(peer).ok().map(|at| &self.links[at])
    }

    pub(crate) fn half_mut(&mut self, peer: PeerId) -> Option<&mut Half> {
        self.position(peer).ok().map(|at| &mut self.links[at])
    }

    /// Puts an end in the place of the last one with that peer, which it gives back.
    pub(crate) fn put_half(&mut self, half: Half) -> Option<Half> {
        match self.position(half.peer) {
            Ok(at) => Some(std::mem::replace(&mut self.links[at], half)),
            Err(at) => {
                self.links.insert(at, half);
                None
            }
        }
    }

    pub(crate) fn remove_half(&mut self, peer: PeerId) -> Option<Half> {
        self.position(peer).ok().map(|at| self.links.remove(at))
    }

    pub(crate) fn certifier(&self) -> Arc<dyn cloak_overlay::Certifier + Send + Sync> {
        self.rest.keys.certifier.clone()
    }

    fn position(&self, peer: PeerId) -> Result<usize, usize> {
        self.links.binary_search_by_key(&peer, |half| half.peer)
    }
}
