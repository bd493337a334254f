//! The node's slow clockwork: records refreshed, memberships renewed, expired things dropped.

use std::sync::Arc;
use std::time::Duration;

use cloak_wire::PeerFrame;

use crate::certificates::EXPIRY_WARNING;
use crate::peer::PeerCommand;
use crate::registry::Command;
use crate::shared::Shared;

/// How often the rest is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// Our record is published anew after this long; it lives for an hour.
const REFRESH_EVERY: Duration = Duration::from_secs(1200);
/// How often it is looked whether our entity's record lacks anything.
const ENTITY_EVERY: Duration = Duration::from_secs(300);
/// Records that come together are written together.
const SAVE_AFTER: Duration = Duration::from_secs(1);
/// How often what is held for others is written. At a stop it is as well.
const SAVE_HELD_EVERY: Duration = Duration::from_secs(300);
/// Without a place in the overlay for this long, somebody should look at it.
const PLACELESS_WARNING: Duration = Duration::from_secs(30);
/// A peer without a channel, and of no use, is forgotten after this long.
const RETIRE_AFTER: Duration = Duration::from_secs(600);
/// How often a device that nobody could dial back asks again: its firewall may have changed.
const CONFIRM_EVERY: Duration = Duration::from_secs(30);
/// How often the ledger is looked at. With [`SHED_MAX`] sessions of at most 4 MiB each, memory is
/// freed faster than any network fills it.
const RELIEVE_EVERY: Duration = Duration::from_millis(250);
/// Sessions told to shed in one round, while the ledger is over its high-water mark.
const SHED_MAX: usize = 256;
/// Less free space than this on the home's disk is worth a warning: the store grows by pages of its own.
const DISK_LOW: u64 = 4 << 20;

pub(crate) async fn run(shared: Arc<Shared>) {
    let mut published = shared.clock.now();
    let (mut confirmed, mut looked) = (published, published);
    let (mut kept, mut placed) = (published, published);
    loop {
        tokio::select! {
            biased;
            () = shared.cancel.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let now = shared.clock.now();
        // A clock that was wrong may have been set.
        if now.since(published) >= REFRESH_EVERY || shared.is_unpublished() {
            published = now;
            shared.publish();
        }
        if now.since(confirmed) >= CONFIRM_EVERY {
            confirmed = now;
            shared.confirm_anew();
        }
        if now.since(kept) >= SAVE_HELD_EVERY {
            kept = now;
            shared.save_held().await;
        }
        if shared.overlay.is_placed() || shared.is_alone() {
            placed = now;
        }
        shared.warn_placeless(now.since(placed) >= PLACELESS_WARNING);
        shared.check_relays();
        shared.outbid();
        if now.since(looked) >= ENTITY_EVERY {
            looked = now;
            shared.check_entity_record();
        }
        shared.retire_peers();
        shared.renew_membership();
        shared.renew_certificates();
        shared.dismiss_revoked();
        shared.reauthorise_all();
        shared.check_disk();
    }
}

/// Writes records that are news, a moment after they came, until the node stops: a gateway that
/// crashes knows its neighbours again.
pub(crate) async fn save(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            biased;
            () = shared.cancel.cancelled() => return,
            () = shared.unsaved.notified() => {}
        }
        tokio::time::sleep(SAVE_AFTER).await;
        let saver = Arc::clone(&shared);
        let _ = shared.tasks.spawn_blocking(move || saver.save_directory()).await;
    }
}

/// Keeps the buffers below the ledger's high-water mark until the node stops.
pub(crate) async fn memory(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            biased;
            () = shared.cancel.cancelled() => return,
            () = tokio::time::sleep(RELIEVE_EVERY) => relieve(&shared),
        }
    }
}

/// Asks the sessions that hold most to let go of bytes their peers still have.
fn relieve(shared: &Shared) {
    if !shared.ledger.is_over_high_water() {
        return;
    }
    let mut sessions: Vec<_> = shared
        .sessions
        .all()
        .into_iter()
        .filter_map(|session| Some((session.snapshot()?.held, session)))
        .collect();
    sessions.sort_by_key(|(held, _)| std::cmp::Reverse(*held));
    for (_, session) in sessions.into_iter().take(SHED_MAX) {
        let _ = session.tell(Command::Shed);
    }
}

impl Shared {
    /// Forgets peers that nothing has needed for long.
    fn retire_peers(&self) {
        let now = self.clock.now();
        for peer in self.all_peers() {
            let sessions = self.sessions.count(peer.device());
            if peer.is_idle()
                && sessions == 0
                && !peer.needs_channel(sessions, now)
                && !peer.may_need_channel(now)
                && peer.unlinked_for(now) >= RETIRE_AFTER
            {
                self.peers.remove(&peer.device());
                peer.tell(PeerCommand::Retire);
            }
        }
    }

    /// Says so when the overlay is out of reach.
    fn warn_placeless(&self, is_placeless: bool) {
        self.warn(
            "overlay",
            is_placeless.then(|| {
                "the overlay is out of reach, so names of others may not be found: no gateway that \
                 can be dialled answers"
                    .to_owned()
            }),
        );
    }

    /// Says in time that the home's disk is full.
    fn check_disk(&self) {
        let free = rustix::fs::statvfs(self.home.dir())
            .map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        self.warn(
            "disk",
            (free < DISK_LOW).then(|| {
                "the disk of the home is full; the gateway goes on serving, but cannot remember \
                 what changes: free some space"
                    .to_owned()
            }),
        );
    }

    /// From half of our membership's life on, asks linked peers for a longer one; says so when it
    /// comes to its end.
    fn renew_membership(self: &Arc<Self>) {
        let wall = self.clock.wall();
        let left = self.home.membership_expires().since(wall);
        self.warn(
            "membership",
            (left < EXPIRY_WARNING).then(|| {
                format!(
                    "our membership expires at {}; link to a registrar of the realm to renew it",
                    self.home.membership_expires()
                )
            }),
        );
        let Some(membership) = self.home.membership_to_renew(wall) else { return };
        self.renew_own();
        for peer in self.all_peers().into_iter().filter(|peer| peer.is_linked()) {
            let frame = PeerFrame::Renew { membership: membership.clone().into() };
            peer.send(frame);
        }
    }
}
