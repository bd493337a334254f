//! What the control surface shows: plain values with stable names, bytes and milliseconds as
//! integers, times in RFC 3339.

use serde::{Deserialize, Serialize};

/// State of a session, from end-to-end acknowledgements, never from "the socket is still open".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// `Open` was sent, or the backend is being connected.
    Opening,
    /// Bytes flow, or could.
    Live,
    /// No lane is known to work; bytes are kept.
    Suspended,
    /// Kept without an application.
    Held,
    /// Both directions ended; the last acknowledgement is awaited.
    Closing,
    /// Ended with an error.
    Lost,
    /// Went on to another device.
    Moved,
}

/// A row of `cloak sessions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionView {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Its state.
    pub state: SessionState,
    /// When it entered that state.
    pub state_since: String,
    /// Why it is suspended, lost or on its way; null otherwise.
    pub reason: Option<String>,
    /// Which side is missing while suspended: `peer`, or `local` where this end was suspended on purpose; `owner`
    /// where another device of ours has it, does not answer, and this one keeps a copy; null otherwise.
    pub missing_side: Option<String>,
    /// `initiator` or `responder`.
    pub role: String,
    /// Name of the peer's entity.
    pub peer: String,
    /// Name or id of the peer's device.
    pub peer_device: String,
    /// The service's port; through an exit, the host's.
    pub port: u16,
    /// The host that is reached through an exit; null where it is a service.
    pub host: Option<String>,
    /// `direct`, `relay`, or null.
    pub lane: Option<String>,
    /// When it was opened.
    pub opened_at: String,
    /// How often it was resumed on another lane.
    pub resumes: u64,
    /// Application bytes sent to the peer.
    pub bytes_sent: u64,
    /// Application bytes received from the peer and accepted by the application.
    pub bytes_received: u64,
    /// Bytes held in buffers here.
    pub bytes_held: u64,
    /// Smoothed round-trip time of the lane.
    pub rtt_ms: Option<u64>,
    /// Peer address on the proxy side, or the target on the service side.
    pub application: String,
    /// The other device that has it; null where it is this one.
    #[serde(default)]
    pub device: Option<String>,
    /// When it is lost: held, unless an application comes before; suspended, unless a transport works before.
    #[serde(default)]
    pub expires: Option<String>,
    /// The hand-over that is under way, of either end.
    #[serde(default)]
    pub moving: Option<MovingView>,
    /// How many owners this end has had before the present one. Moves that came to nothing may count.
    #[serde(default)]
    pub generation: u64,
    /// The same of the other end.
    #[serde(default)]
    pub peer_generation: u64,
    /// Label of the device of ours that may take it if its own device dies; null without one.
    #[serde(default)]
    pub escrow: Option<String>,
}

/// A hand-over that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovingView {
    /// Whose end it is: `own` or `peer`.
    pub side: String,
    /// The device to which it goes.
    pub to: String,
    /// Since when.
    pub since: String,
}

/// Where the next program of a session that is held goes on: offsets in the stream from the other end, the
/// first byte of which is 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldView {
    /// The session's id.
    pub id: String,
    /// Of the first byte that it gets.
    pub from: u64,
    /// Of the first byte that is still there for it.
    pub earliest: u64,
    /// Of the first byte that no program was given.
    pub latest: u64,
    /// How many bytes before `latest` the program before had not read; null where that cannot be told.
    pub unread: Option<u64>,
}

/// A row of `cloak peers`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeerView {
    /// Device id.
    pub device: String,
    /// `laptop.alice.cloak`.
    pub name: String,
    /// `linked`, `dialling`, `unreachable`, or `idle` where no link is needed.
    pub state: String,
    /// When it entered that state.
    pub state_since: String,
    /// Address of the peer channel's other end; null where it leads through a relay.
    pub address: Option<String>,
    /// Whether the peer channel is `direct` or leads through a `relay`; null without one.
    pub link: Option<String>,
    /// Locators the peer published.
    pub locators: Vec<String>,
    /// What it is to us in the overlay: `parent`, `child`, `extra`, `host`, `guest` or `passing`;
    /// null where the overlay does not use the link.
    #[serde(default)]
    pub role: Option<String>,
    /// Its virtual address, where it has one in our tree: child indices with dots between.
    #[serde(default)]
    pub virtual_address: Option<String>,
    /// Devices through which it may be reached, as it published.
    pub relays: Vec<String>,
    /// Whether it relays for others, as it published.
    pub is_relay: bool,
    /// Round-trip time of the peer channel.
    pub rtt_ms: Option<u64>,
    /// Lanes in use.
    pub lanes: u64,
    /// Warm lanes in the pool.
    pub idle_lanes: u64,
    /// Sessions with this device.
    pub sessions: u64,
    /// Why the last dial failed.
    pub last_error: Option<String>,
}

/// A row of `cloak names`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NameView {
    /// The name.
    pub name: String,
    /// `entity`, `device` or `alias`.
    pub kind: String,
    /// What it stands for: an entity id, a device id, or another name.
    pub target: String,
    /// Epoch of the binding; null for an alias.
    pub epoch: Option<u64>,
    /// When the binding expires.
    pub expires: Option<String>,
}

/// A row of `cloak member list` and `cloak device list`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemberView {
    /// The member's or device's name.
    pub name: String,
    /// Entity id or device id.
    pub id: String,
    /// When its certificate expires.
    pub expires: String,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// A step of `cloak resolve` and `cloak why`, in order; the first that is not `ok` is the failure.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ResolveStep {
    /// `name`, `entity`, `device`, `membership`, `path`, `authorisation`, `port`, `backend`, `session`.
    pub step: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// What was found, or what is wrong and what to do.
    pub detail: String,
    /// Code of the failure.
    pub code: Option<String>,
    /// Who held the record that shows it, a device id; null where none was needed, or its own
    /// device showed it to us.
    #[serde(default)]
    pub binder: Option<String>,
    /// Name of the binder, where it is known.
    #[serde(default)]
    pub binder_name: Option<String>,
    /// Hops to the binder.
    #[serde(default)]
    pub hops: Option<u8>,
    /// Time since the record's publisher confirmed it at the binder.
    #[serde(default)]
    pub age_ms: Option<u64>,
    /// Whether the record was here already.
    #[serde(default)]
    pub cached: bool,
}

/// Where this device is in the overlay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceView {
    /// `inner` in the tree, `attached` to hosts, or `seeking`.
    pub kind: String,
    /// Our virtual address: child indices with dots between, or `root`; null outside of a tree.
    pub address: Option<String>,
    /// The tree: its founder's device id and the second of its founding.
    pub tree: Option<String>,
    /// Counts the holders of our address.
    pub term: Option<u64>,
    /// Device id of our parent; null at the root and outside of a tree.
    pub parent: Option<String>,
    /// Device ids of our hosts.
    pub hosts: Vec<String>,
    /// Our children in the tree.
    pub children: u64,
    /// Peers that are attached to us.
    pub guests: u64,
    /// Records that we bind for others.
    pub bindings: u64,
    /// Records of which we keep copies.
    pub copies: u64,
}

/// `cloak ping`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingView {
    /// The device that was asked.
    pub device: String,
    /// Its name.
    pub name: String,
    /// Round trip through the overlay; null without an answer.
    pub overlay_ms: Option<u64>,
    /// Hops there.
    pub hops: Option<u8>,
    /// Round trip over a connection of our own; null where none could be opened.
    pub direct_ms: Option<u64>,
}

/// `cloak trace`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceView {
    /// The device at the end of the way.
    pub to: String,
    /// Whether the last hop is that device, or its host.
    pub arrived: bool,
    /// From here to there.
    pub hops: Vec<HopView>,
}

/// A hop of `cloak trace`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopView {
    /// Device id.
    pub device: String,
    /// Name, where it is known.
    pub name: Option<String>,
    /// Virtual address.
    pub address: String,
}

/// One of our own locators.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LocatorView {
    /// `address:port`.
    pub address: String,
    /// `advertised`, `interface` or `observed`.
    pub source: String,
    /// Whether a peer reached us there.
    pub confirmed: bool,
}

/// `cloak status`, the node's part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Program version.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Our device's name, `laptop.alice.cloak`.
    pub name: String,
    /// Our device id.
    pub device: String,
    /// Our entity id.
    pub entity: String,
    /// Our realm id.
    pub realm: String,
    /// `linked` with a peer, `alone` while no other device is known, `searching` otherwise.
    pub overlay: String,
    /// Where we are in it.
    #[serde(default)]
    pub place: PlaceView,
    /// Addresses of the overlay listener.
    pub overlay_listen: Vec<String>,
    /// Where others may reach us.
    pub locators: Vec<LocatorView>,
    /// Peers with a live channel.
    pub peers_linked: u64,
    /// Peers known.
    pub peers_known: u64,
    /// Circuits that we relay for others.
    pub circuits: u64,
    /// Sessions that are live.
    pub sessions_live: u64,
    /// Sessions that are suspended.
    pub sessions_suspended: u64,
    /// Bytes held in all buffers.
    pub memory_held: u64,
    /// Most bytes that may be held.
    pub memory_max: u64,
    /// When our membership expires.
    pub membership_expires: String,
    /// When this device's certificate expires.
    #[serde(default)]
    pub certificate_expires: String,
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// What an operator should look at, in sentences.
    pub warnings: Vec<String>,
}
