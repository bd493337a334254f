//! Bugs that tests plant, to show that the property harness would find them.
//!
//! Without the feature `planted` there is no way to choose one and every check is constant false.

use crate::Config;

/// A deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub enum Planted {
    /// `Ack` says `delivered` for what was only received.
    AcknowledgeBeforeDelivery,
    /// Any rank is accepted.
    EpochUnchecked,
    /// `Fin` goes out as soon as the application has finished, ahead of the bytes before it.
    EarlyFin,
    /// A replay starts one byte late.
    OffByOneReplay,
    /// Offsets in `Ack` lose their upper half.
    Offset32Bit,
    /// An end takes itself back without asking.
    TakesBackUnasked,
    /// An end that has its next owner still lets the one before take itself back.
    OwnerUnchecked,
    /// An end that is asked for the session still takes the peer for paused.
    TakesThePeerForPaused,
    /// What is sent and acknowledged does not wait for the holder of an escrow.
    EscrowUngated,
}

impl Config {
    #[cfg(feature = "planted")]
    pub(crate) fn has(&self, bug: Planted) -> bool {
        self.planted == Some(bug)
    }

    #[cfg(not(feature = "planted"))]
    #[expect(clippy::unused_self, reason = "same signature as with the feature")]
    pub(crate) const fn has(&self, _bug: Planted) -> bool {
        false
    }
}
