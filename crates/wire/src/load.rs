//! How a device stands with a service, among those of its entity that have it.

use minicbor::{Decode, Encode};

/// By what running sessions of a service move between the devices that have it, without anybody's order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Balance {
    /// They stay.
    #[default]
    #[n(0)]
    None,
    /// To the device with the lowest preference.
    #[n(1)]
    Preference,
    /// From devices with many sessions to those with few.
    #[n(2)]
    Load,
}

/// A service of a device that would take running sessions of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Load {
    /// Running sessions that it has.
    #[n(0)]
    pub sessions: u32,
    /// By what it would pass them on itself.
    #[n(1)]
    pub balance: Balance,
}
