//! Which of two lanes a session belongs to, when both ends chose one at the same time.

use cloak_base::Epoch;

/// Which end of the session this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Its `Open` was answered.
    Responder,
    /// It sent the `Open`. Above the responder at the same epoch.
    Initiator,
}

impl Role {
    /// The other end.
    pub fn other(self) -> Self {
        match self {
            Self::Responder => Self::Initiator,
            Self::Initiator => Self::Responder,
        }
    }
}

/// Rank of an `Open` or `Resume`: its epoch, then who sent it. A lane is committed only with a rank
/// above the highest committed one, so each end's ranks rise and both settle on the same lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// Counts attempts over both ends.
    pub epoch: Epoch,
    /// Who made the attempt.
    pub role: Role,
}

impl Rank {
    /// Below every rank that is ever sent: epochs on the wire start at one.
    pub const NONE: Self = Self { epoch: Epoch(0), role: Role::Responder };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_decides_then_the_initiator() {
        let rank = |epoch, role| Rank { epoch: Epoch(epoch), role };
        assert!(rank(1, Role::Initiator) > rank(1, Role::Responder));
        assert!(rank(2, Role::Responder) > rank(1, Role::Initiator));
        assert!(rank(1, Role::Responder) > Rank::NONE);
    }
}
