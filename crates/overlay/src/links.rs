//! Linked peers, in the order of their ids.

use std::cmp::Ordering;

use cloak_base::{DeviceId, Instant};
use cloak_geometry::Address;

use crate::chain::Chain;
use crate::contact::{Contact, Standing};
use crate::first::Score;
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
    /// How well it does as a first hop of ours.
    pub(crate) score: Score,
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
            score: Score::GOOD,
            budget,
        }
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.contact.device
    }
}

/// All links. Few enough for a row, sorted by id, with the beginnings of the ids in a row of their own: a
/// hundred thousand simulated peers do not fit into any cache, and every message is looked up here.
#[derive(Default)]
pub(crate) struct Links {
    beginnings: Vec<u64>,
    row: Vec<Link>,
}

impl Links {
    pub(crate) fn get(&self, device: DeviceId) -> Option<&Link> {
        self.position(device).ok().map(|at| &self.row[at])
    }

    pub(crate) fn get_mut(&mut self, device: DeviceId) -> Option<&mut Link> {
        self.position(device).ok().map(|at| &mut self.row[at])
    }

    pub(crate) fn has(&self, device: DeviceId) -> bool {
        self.position(device).is_ok()
    }

    pub(crate) fn insert(&mut self, link: Link) {
        match self.position(link.device()) {
            Ok(at) => self.row[at] = link,
            Err(at) => {
                self.beginnings.insert(at, beginning(link.device()));
                self.row.insert(at, link);
            }
        }
    }

    pub(crate) fn remove(&mut self, device: DeviceId) -> Option<Link> {
        let at = self.position(device).ok()?;
        self.beginnings.remove(at);
        Some(self.row.remove(at))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.row.iter()
    }

    pub(crate) fn with_role(&self, role: Role) -> impl Iterator<Item = &Link> {
        self.row.iter().filter(move |link| link.role == role)
    }

    pub(crate) fn count(&self, role: Role) -> usize {
        self.with_role(role).count()
    }

    pub(crate) fn len(&self) -> usize {
        self.row.len()
    }

    /// The devices that `which` holds for, to be walked through while links change.
    pub(crate) fn devices(&self, which: impl Fn(&Link) -> bool) -> Vec<DeviceId> {
        self.row.iter().filter(|link| which(link)).map(Link::device).collect()
    }

    fn position(&self, device: DeviceId) -> Result<usize, usize> {
        let beginning = beginning(device);
        let mut at = self.beginnings.partition_point(|other| *other < beginning);
        while self.beginnings.get(at) == Some(&beginning) {
            match self.row[at].device().cmp(&device) {
                Ordering::Less => at += 1,
                Ordering::Equal => return Ok(at),
                Ordering::Greater => break,
            }
        }
        Err(at)
    }
}

/// Orders ids like the whole of them, but for the few that begin alike.
fn beginning(device: DeviceId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *device.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
