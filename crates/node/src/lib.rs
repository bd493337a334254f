//! Drives sessions over lanes and peers over channels; keeps the home; the library's public face.
//!
//! A [`Node`] is one device of a realm at work. It opens sessions to names ([`Opener`]), serves those
//! of others ([`ServiceTable`]), and shows what there is in plain [views](Status). Inside, each
//! session is one task that owns its state machine, its lane and its application ([`driver`]); each
//! peer device is one task that owns its channel and its dials ([`peer`]).

mod accept;
mod admin;
mod api;
mod certificates;
mod circuit;
mod config;
mod directory;
mod discovery;
mod driver;
mod handover;
mod hello;
mod home;
mod join;
mod keys;
mod lane;
mod library;
mod locators;
mod messages;
mod node;
mod open;
mod overlay;
mod pause;
mod peer;
mod publish;
mod reach;
mod registry;
mod resolve;
mod shared;
mod spill;
mod store;
mod sync;
pub mod text;
mod timer;
mod trust;
mod upkeep;
mod view;
mod watch;
mod why;

pub use admin::{InviteReply, InviteRequest};
pub use api::{
    Application, Backend, BoxFuture, Condition, Departure, EXIT_PORT, Incoming, Movable,
    OpenRequest, OpenedSession, Opener, STATE_MAX, ServiceTable, Wish, Wished,
};
pub use cloak_wire::{Balance, Code, EARLY_MAX, Early, Target};
pub use config::{
    DeviceConfig, Follow, MemoryConfig, NodeConfig, OverlayConfig, SessionConfig, TAIL_MAX,
    TAIL_MIN,
};
pub use directory::Candidate;
pub use handover::{Drained, OfferView};
pub use home::{Home, HomeError, InitNames};
pub use join::{InviteKind, JoinError};
pub use keys::KeysError;
pub use library::{Arrival, LeaveError, ListenError, Listener, Listeners, Signals, Stream};
pub use node::{ControlError, Node, StartError};
pub use store::StoreError;
pub use view::{
    HeldView, HopView, LocatorView, MemberView, MovingView, NameView, PeerView, PingView,
    PlaceView, ResolveStep, SessionState, SessionView, Status, TraceView,
};
