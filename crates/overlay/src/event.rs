//! What goes into the state machine and what comes out of it.

use std::net::SocketAddr;
use std::time::Duration;

use cloak_base::{DeviceId, UnixTime};
use cloak_geometry::Address;

use crate::cert::{Term, TreeId};
use crate::contact::{Contact, Standing};
use crate::message::{Message, Passed};
use crate::record::{Key, Record};

/// Something that happened outside.
#[derive(Debug, Clone)]
pub enum Input {
    /// Begin. Without contacts this device can only wait, or found a tree.
    Start {
        /// Remembered peers.
        bootstrap: Vec<Contact>,
    },
    /// A link is up.
    LinkUp {
        /// With whom.
        contact: Contact,
        /// What was verified of it.
        standing: Standing,
    },
    /// A link is down; its peer may live.
    LinkDown {
        /// Whose.
        device: DeviceId,
    },
    /// An [`Event::Dial`] failed.
    DialFailed {
        /// Whose.
        device: DeviceId,
    },
    /// A message over a link.
    Message {
        /// Whose link.
        from: DeviceId,
        /// The message.
        message: Message,
    },
    /// Bytes that were no message.
    Malformed {
        /// Whose.
        from: DeviceId,
    },
    /// The instant of [`crate::Overlay::poll_timeout`] came.
    Timeout,
    /// A neighbour dialled us back, or can no longer.
    Reachability {
        /// Whether others can dial us.
        confirmed: bool,
    },
    /// Others may dial us elsewhere from now on.
    Moved {
        /// Best first, at most [`LOCATORS_MAX`](crate::LOCATORS_MAX) count.
        locators: Vec<SocketAddr>,
    },
    /// The wall-clock time, where it is not what was counted on from the start: the clock was set.
    WallClock(UnixTime),
    /// Back from sleep, or on another network: everything is to be checked at once.
    Woke,
    /// Something that this device's owner wants.
    Command(Command),
}

/// What this device's owner wants.
#[derive(Debug, Clone)]
pub enum Command {
    /// Publish our record, and keep it alive until it is withdrawn or expires.
    Publish {
        /// Under which key.
        key: Key,
        /// The record.
        record: Record,
    },
    /// No longer keep it alive; it expires.
    Withdraw {
        /// Under which key.
        key: Key,
    },
    /// Give a record of somebody else back to its binders, once: we held it before we restarted.
    Restore {
        /// Under which key.
        key: Key,
        /// The record.
        record: Record,
    },
    /// Find a record.
    Lookup {
        /// Names the answer.
        id: LookupId,
        /// Under which key.
        key: Key,
    },
    /// Reach a peer and hear from it.
    Ping {
        /// Names the answer.
        id: LookupId,
        /// Whom.
        to: Destination,
    },
    /// Show the way to a peer.
    Trace {
        /// Names the answer.
        id: LookupId,
        /// To whom.
        to: Destination,
    },
    /// Leave in order: hand down and say so. Wait until nothing is to be transmitted.
    Leave,
}

/// Names a question of this device's owner, who chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(pub u64);

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The address, its own or its host's.
    pub address: Address,
    /// Who must be there; `None` accepts whoever is.
    pub device: Option<DeviceId>,
}

/// Something for the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Dial this device, and answer with `LinkUp` or `DialFailed`.
    Dial {
        /// Whom.
        contact: Contact,
    },
    /// The overlay no longer needs this link; sessions may.
    Hangup {
        /// Whose.
        device: DeviceId,
        /// Why.
        code: Code,
    },
    /// Our place changed.
    Placed(Place),
    /// A record was found.
    Found {
        /// Which lookup.
        id: LookupId,
        /// What.
        record: Record,
        /// Who had it.
        binder: DeviceId,
        /// Hops to it.
        hops: u8,
        /// Time since its publisher last confirmed it there.
        age: Duration,
        /// Questions that it took.
        steps: u8,
    },
    /// Enough binders say that there is no such record.
    NotFound {
        /// Which lookup.
        id: LookupId,
        /// How many.
        points_asked: u8,
    },
    /// Too few binders answered.
    LookupFailed {
        /// Which lookup.
        id: LookupId,
        /// Questions that were asked.
        steps: u8,
    },
    /// A record that we did not publish counts more than ours: go above it, and say so.
    Superseded {
        /// Under which key.
        key: Key,
        /// That record, which was verified.
        record: Record,
    },
    /// The answer to a ping; `hops` is `None` when none came.
    Pong {
        /// Which ping.
        id: LookupId,
        /// Hops to it.
        hops: Option<u8>,
    },
    /// The answer to a trace; empty when none came.
    Traced {
        /// Which trace.
        id: LookupId,
        /// Whether the last peer is the destination.
        arrived: bool,
        /// The peers on the way.
        passed: Vec<Passed>,
    },
    /// A peer broke a limit or lied: drop it.
    Misbehaved {
        /// Who.
        device: DeviceId,
        /// How.
        code: Code,
    },
}

/// Why a link is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// It has no use any more.
    Unused,
    /// Its peer is silent.
    Silent,
    /// Its peer sent what is no message.
    Malformed,
    /// Its peer sends too much.
    Flood,
    /// Its peer claims a place without a certificate for it.
    FalseAddress,
    /// Its peer sent a record that does not count.
    FalseRecord,
}

/// Where this device is in the overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nowhere yet.
    Seeking,
    /// In a tree.
    Inner {
        /// The virtual address.
        address: Address,
        /// Which tree.
        tree: TreeId,
        /// The term.
        term: Term,
    },
    /// Below hosts.
    Attached {
        /// The hosts and their addresses.
        hosts: Vec<(DeviceId, Address)>,
    },
}
