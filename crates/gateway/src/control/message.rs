//! What travels over the control socket: the JSON of requests and answers, and the paths.
//!
//! The views of `cloak-node` are answers too. Fields are added, never renamed or removed, within
//! `/v1`.

use std::borrow::Cow;

use cloak_node::{EARLY_MAX, Early, HeldView, Status};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

/// The paths, each with the command that asks for it.
pub mod path {
    /// GET: `cloak status`.
    pub const STATUS: &str = "/v1/status";
    /// GET: `cloak peers`.
    pub const PEERS: &str = "/v1/peers";
    /// GET: `cloak services`.
    pub const SERVICES: &str = "/v1/services";
    /// GET: `cloak names`.
    pub const NAMES: &str = "/v1/names";
    /// GET: `cloak sessions`.
    pub const SESSIONS: &str = "/v1/sessions";
    /// GET: `cloak member list`.
    pub const MEMBERS: &str = "/v1/members";
    /// GET: `cloak device list`.
    pub const DEVICES: &str = "/v1/devices";
    /// GET: `cloak sessions offers`.
    pub const OFFERS: &str = "/v1/sessions/offers";
    /// POST [`super::SessionId`]: `cloak sessions accept`; the answer comes once the session is here.
    pub const OFFER_ACCEPT: &str = "/v1/sessions/accept";
    /// POST [`super::SessionId`]: `cloak sessions refuse`.
    pub const OFFER_REFUSE: &str = "/v1/sessions/refuse";
    /// GET: `cloak sessions --entity`.
    pub const ENTITY_SESSIONS: &str = "/v1/sessions/entity";
    /// POST [`super::SessionId`]: `cloak sessions show`.
    pub const SESSION_SHOW: &str = "/v1/sessions/show";
    /// POST [`super::SessionId`]: `cloak sessions close`.
    pub const SESSION_CLOSE: &str = "/v1/sessions/close";
    /// POST [`super::Move`]: `cloak sessions move`.
    pub const SESSION_MOVE: &str = "/v1/sessions/move";
    /// POST [`super::SessionId`]: `cloak sessions hold`.
    pub const SESSION_HOLD: &str = "/v1/sessions/hold";
    /// POST [`super::SessionId`]: `cloak sessions suspend`.
    pub const SESSION_SUSPEND: &str = "/v1/sessions/suspend";
    /// POST [`super::SessionId`]: `cloak sessions resume`.
    pub const SESSION_RESUME: &str = "/v1/sessions/resume";
    /// POST [`super::Attach`] with an upgrade: `cloak sessions attach`.
    pub const SESSION_ATTACH: &str = "/v1/sessions/attach";
    /// POST [`super::AttachAt`]: `cloak sessions attach --listen` and `--unix`.
    pub const SESSION_ATTACH_AT: &str = "/v1/sessions/attach-at";
    /// POST [`super::ServiceName`]: `cloak resolve`.
    pub const RESOLVE: &str = "/v1/resolve";
    /// POST [`super::ServiceName`]: `cloak ping`.
    pub const PING: &str = "/v1/ping";
    /// POST [`super::ServiceName`]: `cloak trace`.
    pub const TRACE: &str = "/v1/trace";
    /// POST [`super::ServiceName`]: `cloak why`.
    pub const WHY: &str = "/v1/why";
    /// POST [`super::Connect`] with an upgrade: `cloak connect`.
    pub const CONNECT: &str = "/v1/connect";
    /// POST [`super::Invite`]: `cloak invite` and `cloak device invite`.
    pub const INVITE: &str = "/v1/invite";
    /// POST [`super::Named`]: `cloak member revoke`.
    pub const MEMBER_REVOKE: &str = "/v1/members/revoke";
    /// POST [`super::Named`]: `cloak device revoke`.
    pub const DEVICE_REVOKE: &str = "/v1/devices/revoke";
    /// POST [`super::Named`]: `cloak device steward`.
    pub const DEVICE_STEWARD: &str = "/v1/devices/steward";
    /// POST: `cloak device backup`.
    pub const DEVICE_BACKUP: &str = "/v1/devices/backup";
    /// POST [`super::EntityBackup`]: `cloak device restore`.
    pub const DEVICE_RESTORE: &str = "/v1/devices/restore";
    /// POST: `cloak realm backup`.
    pub const REALM_BACKUP: &str = "/v1/realm/backup";
    /// POST [`super::RealmBackup`]: `cloak realm restore`.
    pub const REALM_RESTORE: &str = "/v1/realm/restore";
    /// POST: `cloak reload`.
    pub const RELOAD: &str = "/v1/reload";
    /// POST [`super::Drain`]: `cloak drain`; the answer comes when it is over, and then the gateway ends.
    pub const DRAIN: &str = "/v1/drain";
    /// POST: `cloak stop`.
    pub const STOP: &str = "/v1/stop";
}

/// The protocol a connection is upgraded to by [`path::CONNECT`] and [`path::SESSION_ATTACH`]: see [`super::chunks`].
pub(super) const STREAM_PROTOCOL: &str = "cloak-stream/2";

/// The header of the answer to [`path::SESSION_ATTACH`] that says where the program goes on: a [`HeldView`].
pub(super) const HELD_HEADER: &str = "cloak-held";

/// Largest body of a request: a realm backup is the longest text there is.
pub(super) const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// A session, by its id or the beginning of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionId {
    /// Hexadecimal digits.
    pub id: String,
}

/// Hands a session over to another device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The session's id, or the beginning of it.
    pub id: String,
    /// Label of a device of ours, or the name of any device or entity.
    pub to: String,
}

/// Gives a session to the connection on which this is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// The session's id, or the beginning of it.
    pub id: String,
    /// Offset of the first byte that it gets, see [`HeldView`]; null for where the program before stopped
    /// reading, as far as that is known.
    #[serde(default)]
    pub from: Option<u64>,
}

/// Gives a session to the first program that connects to a socket of the gateway's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachAt {
    /// The session's id, or the beginning of it.
    pub id: String,
    /// A loopback address and port, port 0 for any; or `unix:` and the path of a new socket.
    pub listen: String,
    /// As in [`Attach`].
    #[serde(default)]
    pub from: Option<u64>,
}

/// Where a session waits for its application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachable {
    /// Which session, and where it goes on.
    #[serde(flatten)]
    pub held: HeldView,
    /// Where to connect.
    pub listen: String,
}

/// A name, and for some requests a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceName {
    /// For example `demo.cloak`.
    pub name: String,
    /// The service's port.
    #[serde(default)]
    pub port: Option<u16>,
}

/// Asks for a session to a service. Not for printing: it holds bytes of the application.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// For example `demo.cloak`.
    pub name: String,
    /// The service's port.
    pub port: u16,
    /// The first bytes of the stream, at most [`EARLY_MAX`](cloak_node::EARLY_MAX), in base64: they
    /// save a round trip to the peer. The stream goes on after them.
    #[serde(default)]
    pub early: String,
}

impl Connect {
    /// Asks for a session that begins with `early`; what is more than may go early is left out.
    pub fn new(name: String, port: u16, early: &[u8]) -> Self {
        Self { name, port, early: BASE64.encode(&Early::of(early)) }
    }

    /// The first bytes of the stream; none where it is not what is asked for.
    pub(super) fn early(&self) -> Option<Early> {
        let bytes = BASE64.decode(self.early.as_bytes()).ok()?;
        (bytes.len() <= EARLY_MAX).then(|| Early::of(&bytes))
    }
}

/// A member or a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The member's name or the device's label.
    pub name: String,
}

/// Asks for an invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// For a new member, or for a further device of our entity.
    pub kind: InvitationKind,
    /// The name it fixes; only for a member.
    #[serde(default)]
    pub name: Option<String>,
    /// How long it can be redeemed, in seconds.
    pub ttl_seconds: u64,
}

/// What an invitation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InvitationKind {
    /// A new member of the realm.
    Member,
    /// A further device of our entity.
    Device,
}

/// An invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// One line of text; a secret.
    pub invitation: String,
    /// When it expires, RFC 3339.
    pub expires: String,
    /// What stands in the way of redeeming it.
    pub warning: Option<String>,
}

/// The text that restores a realm's authority; a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RealmBackup {
    /// The text.
    pub backup: String,
}

/// The text that restores an entity's key; a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntityBackup {
    /// The text.
    pub backup: String,
}

/// `cloak status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// The node's part.
    #[serde(flatten)]
    pub node: Status,
    /// Addresses of the proxy port.
    pub proxy_listen: Vec<String>,
    /// Services exposed here.
    pub services: u64,
    /// The home.
    pub home: String,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Sections that changed and are in force.
    pub changed: Vec<String>,
    /// Sections that changed but need a restart.
    pub restart_needed: Vec<String>,
}

/// Lets sessions leave, then ends the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Longest wait for sessions that cannot move, in milliseconds.
    pub deadline_ms: u64,
}

/// The gateway is going to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// Its process, for those who want to wait for its end.
    pub pid: u32,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// A stable word, as in `Cloak-Error`.
    pub code: Cow<'static, str>,
    /// One clear sentence.
    pub message: String,
    /// Exit code of the command: 1 failed, 2 wrong usage, 4 not found.
    pub exit: u8,
}

impl Refusal {
    /// It failed.
    pub fn failed(code: &'static str, message: impl ToString) -> Self {
        Self { code: code.into(), message: message.to_string(), exit: 1 }
    }

    /// The request or the configuration is wrong.
    pub fn usage(code: &'static str, message: impl ToString) -> Self {
        Self { code: code.into(), message: message.to_string(), exit: 2 }
    }

    /// The name, session or device is not there.
    pub fn not_found(code: &'static str, message: impl ToString) -> Self {
        Self { code: code.into(), message: message.to_string(), exit: 4 }
    }
}
