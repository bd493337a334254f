//! How peers lie. A liar runs the honest state machine; what it says is changed on its way out.

use cloak_base::DeviceId;
use cloak_overlay::{Body, Greet, Message, Routed};

use crate::names;

/// What a liar does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Malice {
    /// Nothing: an honest peer.
    None,
    /// Acknowledges what it should pass on, and drops it.
    Drop,
    /// Claims its parent's address.
    FalseAddress,
    /// Keeps the records to itself that it should give out.
    Withhold,
    /// Gives out other records in their place.
    Forge,
}

impl Malice {
    /// All kinds of liars.
    pub const ALL: [Self; 4] = [Self::Drop, Self::FalseAddress, Self::Withhold, Self::Forge];

    /// Whether it is an honest peer.
    pub fn is_honest(self) -> bool {
        self == Self::None
    }

    /// What it sends in place of a message; `None` is nothing.
    pub(crate) fn corrupt(self, own: DeviceId, message: Message) -> Option<Message> {
        match (self, message) {
            (Self::None, message) => Some(message),
            (Self::Drop, Message::Routed(routed)) if routed.origin.device != own => None,
            (Self::FalseAddress, Message::Greet(greet)) => Some(claim_parents_place(*greet)),
            (Self::Withhold, Message::Routed(routed)) if answers(&routed, own) => None,
            (Self::Forge, Message::Routed(routed)) if answers(&routed, own) => Some(forge(*routed)),
            (_, message) => Some(message),
        }
    }
}

fn answers(routed: &Routed, own: DeviceId) -> bool {
    routed.origin.device == own && matches!(routed.body, Body::Found(_))
}

fn claim_parents_place(greet: Greet) -> Message {
    let chain = greet.chain.as_ref().and_then(|chain| chain.above().cloned());
    Message::Greet(Box::new(Greet { chain: chain.or(greet.chain), ..greet }))
}

fn forge(mut routed: Routed) -> Message {
    if let Body::Found(found) = &mut routed.body {
        found.record = names::forged(&found.key, &found.record);
    }
    Message::Routed(Box::new(routed))
}
