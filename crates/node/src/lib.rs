//! Drives sessions over lanes and peers over channels; keeps the home; the library's public face.

mod api;
mod view;

pub use api::{Application, BoxFuture, Incoming, OpenRequest, OpenedSession, Opener, ServiceTable};
pub use view::{
    LocatorView, MemberView, NameView, PeerView, ResolveStep, SessionState, SessionView, Status,
};
pub use cloak_wire::{Code, Target};
