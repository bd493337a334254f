//! Devices as the overlay sees them: where they may be dialled, and what was verified of them.

use std::net::SocketAddr;
use std::sync::Arc;

use cloak_base::{DeviceId, EntityId, UnixTime};
use minicbor::{Decode, Encode};

use crate::codec;

/// Most locators in a contact.
pub const LOCATORS_MAX: usize = 8;

/// A device and where it may be dialled. Locators are opaque here; the driver filters them.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Contact {
    /// Who must answer there.
    #[n(0)]
    pub device: DeviceId,
    /// Best first, at most [`LOCATORS_MAX`]. Shared: one contact is held in many tables.
    #[n(1)]
    #[cbor(with = "codec::locators")]
    pub locators: Arc<[SocketAddr]>,
}

impl Contact {
    /// The contact of a device; what is beyond [`LOCATORS_MAX`] is left out.
    pub fn new(device: DeviceId, locators: &[SocketAddr]) -> Self {
        Self { device, locators: locators[..locators.len().min(LOCATORS_MAX)].into() }
    }
}

impl std::fmt::Debug for Contact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Contact({})", self.device.fmt_short())
    }
}

/// What a founder counts for; the lower number goes first. The realm's authority certifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Rank(#[n(0)] pub u32);

impl Rank {
    /// Nobody certified anything: such a device founds islands, which yield to every other tree.
    pub const NONE: Self = Self(u32::MAX);
}

/// What the driver verified of a linked device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whose device it is.
    pub entity: EntityId,
    /// Places in the tree that the entity may hold.
    pub positions: u8,
}

/// This device.
#[derive(Debug, Clone)]
pub struct Own {
    /// Where peers may dial it.
    pub contact: Contact,
    /// What peers will verify of it.
    pub standing: Standing,
    /// Wall-clock time at the moment of construction; from there it is counted on, until
    /// [`Input::WallClock`](crate::Input::WallClock) tells another.
    pub started: UnixTime,
}
