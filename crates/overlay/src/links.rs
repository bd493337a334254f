//! Linked peers, in the order of their ids.

use cloak_base::{DeviceId, Instant};
use cloak_geometry::Address;

use crate::chain::Chain;
use crate::contact::{Contact, Standing};
use crate::limits::Budget;
use crate::message::Below;
use crate::snapshot::Role;

/// A linked peer, as far as we know it.
pub(crate) struct Link {
    pub(crate) contact: Contact,
    pub(crate) standing: Standing,
    pub(crate) role: Role,
    /// When anything came from it.
    pub(crate) heard: Instant,
    /// When the link was last of use, for links that are nothing for long.
    pub(crate) used: Instant,
    /// Its verified place.
    pub(crate) chain: Option<Chain>,
    /// Its address, when its place is in our tree.
    pub(crate) address: Option<Address>,
    /// Whether it says that its way to a living root is whole.
    pub(crate) rooted: bool,
    /// Free child places that it told.
    pub(crate) room: u8,
    /// A probe that it has not answered yet, and since when.
    pub(crate) probed: Option<Instant>,
    /// Lost a hop and was not heard since: gets nothing to forward.
    pub(crate) suspected: bool,
    /// What a child told of its subtree.
    pub(crate) below: Option<Box<Below>>,
    /// What it may still send.
    pub(crate) budget: Budget,
}

impl Link {
    pub(crate) fn new(contact: Contact, standing: Standing, now: Instant, budget: Budget) -> Self {
        Self {
            contact,
            standing,
            role: Role::Passing,
            heard: now,
            used: now,
            chain: None,
            address: None,
            rooted: false,
            room: 0,
            probed: None,
            suspected: false,
            below: None,
            budget,
        }
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.contact.device
    }
}

/// All links. Few enough for a sorted row.
#[derive(Default)]
pub(crate) struct Links(Vec<Link>);

impl Links {
    pub(crate) fn get(&self, device: DeviceId) -> Option<&Link> {
        self.position(device).ok().map(|at| &self.0[at])
    }

    pub(crate) fn get_mut(&mut self, device: DeviceId) -> Option<&mut Link> {
        self.position(device).ok().map(|at| &mut self.0[at])
    }

    pub(crate) fn has(&self, device: DeviceId) -> bool {
        self.position(device).is_ok()
    }

    pub(crate) fn insert(&mut self, link: Link) {
        match self.position(link.device()) {
            Ok(at) => self.0[at] = link,
            Err(at) => self.0.insert(at, link),
        }
    }

    pub(crate) fn remove(&mut self, device: DeviceId) -> Option<Link> {
        self.position(device).ok().map(|at| self.0.remove(at))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.0.iter()
    }

    pub(crate) fn with_role(&self, role: Role) -> impl Iterator<Item = &Link> {
        self.0.iter().filter(move |link| link.role == role)
    }

    pub(crate) fn count(&self, role: Role) -> usize {
        self.with_role(role).count()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The devices that `which` holds for, to be walked through while links change.
    pub(crate) fn devices(&self, which: impl Fn(&Link) -> bool) -> Vec<DeviceId> {
        self.0.iter().filter(|link| which(link)).map(Link::device).collect()
    }

    fn position(&self, device: DeviceId) -> Result<usize, usize> {
        self.0.binary_search_by(|link| link.contact.device.cmp(&device))
    }
}
