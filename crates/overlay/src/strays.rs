//! Records that we bound in a tree that we left.
//!
//! Whoever publishes them may be out of the other trees' reach, or may not know for minutes that
//! there is a tree without them. So they are stored at their points in the new tree, each once, at a
//! pace: a tree that is dissolved brings along what it knew. Who has a newer one keeps it.

use std::time::Duration;

use crate::message::Body;
use crate::overlay::Overlay;
use crate::timers::Timer;

/// Records that are stored at a time.
const BATCH: usize = 16;
/// Between two batches: at this pace a full store is empty after two minutes.
const PAUSE: Duration = Duration::from_millis(250);

impl Overlay {
    /// We are in another tree: what we hold and do not bind there belongs to others.
    pub(crate) fn gather_strays(&mut self) {
        let strays =
            self.store.iter().filter(|(point, _, entry)| !entry.kept && !self.binds(point));
        let strays = strays.map(|(point, key, _)| (point.clone(), key.clone())).collect();
        self.store.strays = strays;
        if !self.store.strays.is_empty() {
            self.timers.set(Timer::Strays, self.now + PAUSE);
        }
    }

    pub(crate) fn on_strays_due(&mut self) {
        let rest = self.store.strays.len().saturating_sub(BATCH);
        for (point, key) in self.store.strays.split_off(rest) {
            let Some(held) = self.held_at(&point, &key) else { continue };
            self.originate(point, None, Body::Store { key, record: held.record });
        }
        if rest > 0 {
            self.timers.set(Timer::Strays, self.now + PAUSE);
        }
    }
}
