//! A peer as the overlay's neighbour.
//!
//! The overlay says for which peers it needs a link and uses the direct channel, if there is one: a
//! neighbour is a peer channel. A peer that broke the overlay's rules has none for it for a while.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use cloak_base::Instant;
use cloak_wire::Code;

use super::{Peer, PeerCommand};
use crate::sync::lock;

/// What the overlay has to do with a peer.
#[derive(Default)]
pub(super) struct OverlayUse {
    /// It is a neighbour.
    is_neighbour: bool,
    /// A link is tried until then.
    keep_until: Instant,
    /// It broke the rules, and is no neighbour until then.
    shunned_until: Instant,
    /// Counts the links that came up where there was none.
    pub(super) generation: u64,
}

/// A direct channel that the overlay may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OverlayLink {
    /// Another number is another link.
    pub(crate) generation: u64,
    /// Where we reached the peer, if we dialled it.
    pub(crate) dialled_at: Option<SocketAddr>,
}

impl Peer {
    /// The overlay needs the link, or no longer.
    pub(crate) fn keep_for_overlay(&self, is_neighbour: bool) {
        let mut overlay = lock(&self.overlay);
        (overlay.is_neighbour, overlay.keep_until) = (is_neighbour, Instant::ZERO);
        drop(overlay);
        self.wanted.notify_one();
    }

    /// A link is tried until then, even where nothing else needs one.
    pub(crate) fn keep_until(&self, until: Instant) {
        let mut overlay = lock(&self.overlay);
        overlay.keep_until = overlay.keep_until.max(until);
        drop(overlay);
        self.wanted.notify_one();
    }

    /// The peer broke the overlay's rules: its channel ends, and it is no neighbour until then.
    pub(crate) fn shun(&self, code: Code, until: Instant) {
        lock(&self.overlay).shunned_until = until;
        self.set_error(Some(format!("dropped: {code}")));
        self.tell(PeerCommand::Drop(code));
    }

    /// The link that the overlay may use now.
    pub(crate) fn overlay_link(&self, now: Instant) -> Option<OverlayLink> {
        let link = self.direct_link()?;
        let overlay = lock(&self.overlay);
        (now >= overlay.shunned_until)
            .then_some(OverlayLink { generation: overlay.generation, dialled_at: link.dialled_at })
    }

    /// Whether a channel is needed, so that one is dialled: by the overlay, or by so many `sessions` that are
    /// not suspended on purpose.
    pub(crate) fn needs_channel(&self, sessions: usize, now: Instant) -> bool {
        let overlay = lock(&self.overlay);
        let kept = overlay.is_neighbour || overlay.keep_until > now;
        drop(overlay);
        kept || sessions > 0 || self.is_waited_for()
    }

    /// A place for one more overlay message of this peer to wait.
    pub(crate) fn begin_overlay_message(&self, most: usize) -> bool {
        let begun = self.overlay_messages.fetch_add(1, Ordering::Relaxed) < most;
        if !begun {
            self.end_overlay_message();
        }
        begun
    }

    /// An overlay message no longer waits.
    pub(crate) fn end_overlay_message(&self) {
        self.overlay_messages.fetch_sub(1, Ordering::Relaxed);
    }
}
