//! `cloak drain`: sessions leave before the gateway ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cloak_identity::Name;
use cloak_session::{Role, State};
use cloak_wire::{Balance, Code, Target};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::Node;
use crate::api::Movable;
use crate::directory::Candidate;
use crate::registry::SessionHandle;
use crate::shared::Shared;

/// Sessions that are moved at a time.
const MOVES_MAX: usize = 16;
/// The kind of warning that `status` shows meanwhile.
const WARNING: &str = "draining";
/// Pause before sessions that could not move are looked at again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What became of the sessions of a gateway that was drained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Went on to another device.
    pub moved: u64,
    /// Came to their end by themselves.
    pub ended: u64,
    /// Still there when the deadline came.
    pub left: u64,
}

/// Says that new sessions go elsewhere, until it is dropped before the end.
struct Draining {
    shared: Arc<Shared>,
    /// The end follows: names are not to lead here again.
    is_over: bool,
}

impl Draining {
    fn begin(shared: &Arc<Shared>) -> Self {
        shared.draining.fetch_add(1, Ordering::Relaxed);
        let sentence = "sessions are leaving, and new ones are not taken: `cloak drain` runs";
        shared.warn(WARNING, Some(sentence.to_owned()));
        shared.publish();
        Self { shared: Arc::clone(shared), is_over: false }
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        if !self.is_over && self.shared.draining.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.shared.warn(WARNING, None);
            self.shared.publish();
        }
    }
}

impl Node {
    /// Takes no new sessions, moves what can be moved to other devices of our entity that expose the same
    /// service, and waits until the others have ended, for `deadline` at most. After that the node is to be
    /// shut down: it takes no new sessions any more.
    ///
    /// # Cancel safety
    /// Dropping the future ends the draining: new sessions are taken again. Moves under way go on.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        let shared = &self.0;
        let mut draining = Draining::begin(shared);
        let begun = shared.sessions.all().len() as u64;
        let mut moved = 0;
        let work = async {
            loop {
                moved += shared.move_services().await;
                if shared.sessions.all().is_empty() {
                    return;
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        };
        let _ = tokio::time::timeout(deadline, work).await;
        let left = shared.sessions.all().len() as u64;
        draining.is_over = true;
        Drained { moved, ended: begun.saturating_sub(moved + left), left }
    }
}

impl Shared {
    /// Whether new sessions go elsewhere.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed) > 0
    }

    /// Moves what can be moved to other devices of ours; gives how many sessions that were. Some moves take
    /// seconds to come to nothing: others go on beside them, and those that are likely to begin with.
    async fn move_services(self: &Arc<Self>) -> u64 {
        let mut movable = self.sessions.all();
        movable.retain(|handle| {
            let rule = self.services.movable(&handle.target);
            handle.role == Role::Responder && rule != Movable::No
        });
        movable
            .sort_by_key(|handle| !handle.snapshot().is_some_and(|one| one.state == State::Live));
        let places = Arc::new(Semaphore::new(MOVES_MAX));
        let mut moves = Vec::new();
        for handle in movable {
            let (shared, places) = (Arc::clone(self), Arc::clone(&places));
            // They belong to the node: a move that has begun comes to its end.
            moves.push(self.tasks.spawn(async move {
                let _place = places.acquire().await;
                shared.is_draining() && shared.move_service(&handle).await.is_ok()
            }));
        }
        let mut moved = 0;
        for done in moves {
            moved += u64::from(done.await.unwrap_or(false));
        }
        moved
    }

    /// Moves a session to another device of ours that has its service, if there is one.
    async fn move_service(self: &Arc<Self>, handle: &Arc<SessionHandle>) -> Result<(), Code> {
        let Target::Service(port) = handle.target else { return Err(Code::NotMovable) };
        let mut last = Err(Code::NoService);
        let mut siblings = self.other_devices().await?;
        siblings.retain(|one| one.ports.contains(&port));
        for Candidate { device, .. } in siblings {
            last = self.hand_over(handle, device, Balance::None).await;
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// The other devices of our entity, those that are linked first.
    pub(super) async fn other_devices(self: &Arc<Self>) -> Result<Vec<Candidate>, Code> {
        let name = Name::parse(&self.home.entity_name()).map_err(|_| Code::BadName)?;
        let mut found = self.resolve(&name).await?.devices;
        found.retain(|one| one.device != self.tls.device());
        found.sort_by_key(|one| !self.is_reachable(one));
        Ok(found)
    }
}
