//! What a node can be told: the `[overlay]`, `[session]`, `[memory]` and `[device]` tables.

use std::net::SocketAddr;
use std::time::Duration;

use cloak_base::ByteSize;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::text;

/// All of a node's settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeConfig {
    /// Transports.
    pub overlay: OverlayConfig,
    /// Sessions.
    pub session: SessionConfig,
    /// Memory.
    pub memory: MemoryConfig,
    /// This device among those of its entity.
    pub device: DeviceConfig,
}

/// `[overlay]`: how peers reach us and we reach them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OverlayConfig {
    /// Where transports are accepted. Port 0 takes any.
    pub listen: Vec<SocketAddr>,
    /// What others should dial instead of the addresses of our interfaces (a port forward).
    pub advertise: Vec<SocketAddr>,
    /// Peers to try besides those that are known: `ADDRESS:PORT`, or `KEY@ADDRESS:PORT`.
    pub peers: Vec<String>,
    /// Whether realm peers on the same LAN are found by multicast DNS.
    pub lan: bool,
    /// Whether we relay for peers that cannot reach each other.
    pub relay: bool,
    /// Most circuits that we relay at a time.
    pub relay_circuits: usize,
    /// Bytes per second that we relay for one device, both ways together.
    #[serde(deserialize_with = "text::byte_size::deserialize")]
    pub relay_rate: ByteSize,
    /// Whether private addresses outside our own subnets may be dialled.
    pub private_locators: bool,
}

impl Default for OverlayConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([0u16; 8], 7140))],
            advertise: Vec::new(),
            peers: Vec::new(),
            lan: false,
            relay: true,
            relay_circuits: 256,
            relay_rate: ByteSize(32 << 20),
            private_locators: false,
        }
    }
}

/// `[session]`: what a session may hold, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionConfig {
    /// A session suspended for longer is lost, and both sides say so.
    #[serde(deserialize_with = "text::duration::deserialize")]
    pub linger: Duration,
    /// Most bytes kept per session and direction.
    #[serde(deserialize_with = "text::byte_size::deserialize")]
    pub buffer_max: ByteSize,
    /// Most bytes that suspended sessions may keep on disk, in all.
    #[serde(deserialize_with = "text::byte_size::deserialize")]
    pub spill_max: ByteSize,
    /// Most sessions with one peer device.
    pub sessions_max: usize,
    /// To whom the other end of our applications' sessions may be handed over.
    pub follow: Follow,
    /// Bytes kept of the last that an application was given, and most that it is given unread: what it has not
    /// read when its session leaves it goes to the next one. Zero, which keeps none, or [`TAIL_MIN`] to
    /// [`TAIL_MAX`].
    #[serde(deserialize_with = "tail")]
    pub tail: ByteSize,
    /// Label of the device of this entity that keeps a copy of the sessions that our applications open, to
    /// take them if this device dies; empty for none.
    pub escrow: String,
    /// Whether the other devices of this entity may list the sessions of this one, and fetch them.
    pub fetch: bool,
    /// How often sessions of balanced services are compared with what the other devices of this entity have.
    #[serde(deserialize_with = "balance_every")]
    pub balance_every: Duration,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            linger: Duration::from_secs(24 * 3600),
            buffer_max: ByteSize(4 << 20),
            spill_max: ByteSize(1 << 30),
            sessions_max: 16_384,
            follow: Follow::Entity,
            tail: ByteSize(0),
            escrow: String::new(),
            fetch: true,
            balance_every: Duration::from_secs(10),
        }
    }
}

/// Shortest time between two comparisons: they cost a round trip to each device.
const BALANCE_EVERY_MIN: Duration = Duration::from_millis(100);

fn balance_every<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let every = text::duration::deserialize(from)?;
    if every < BALANCE_EVERY_MIN {
        return Err(D::Error::custom("balance_every is 100ms at least"));
    }
    Ok(every)
}

/// Most bytes that are kept of what an application was given, and most that go to another device as unread.
pub const TAIL_MAX: u64 = 1 << 20;
/// Fewest, where any are: whoever may have less unread is asked all the time what it has read.
pub const TAIL_MIN: u64 = 64 << 10;

fn tail<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    let size = text::byte_size::deserialize(deserializer)?;
    if size.0 == 0 || (TAIL_MIN..=TAIL_MAX).contains(&size.0) {
        return Ok(size);
    }
    let (least, most) = (ByteSize(TAIL_MIN), ByteSize(TAIL_MAX));
    Err(D::Error::custom(format!("a tail is 0, or {least} to {most}")))
}

/// To whom the other end of a session that an application of ours opened may be handed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Follow {
    /// Other devices of the same entity.
    #[default]
    Entity,
    /// Every member of the realm.
    Realm,
}

/// `[memory]`: the one ledger for all buffers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryConfig {
    /// Most bytes held in buffers; over it new sessions are refused with `busy`.
    #[serde(deserialize_with = "text::byte_size::deserialize")]
    pub max: ByteSize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { max: ByteSize(512 << 20) }
    }
}

/// `[device]`: this device among those of its entity.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceConfig {
    /// A name resolves to the reachable device with the lowest number that has the service.
    pub preference: u32,
}
