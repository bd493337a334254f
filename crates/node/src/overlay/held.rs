//! The records that this device holds for others, kept over a restart.
//!
//! They are given back to their binders, a few at a time, once there is a place in the overlay again.
//! So a realm whose gateways all restarted still finds the names of those that are away.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cloak_base::UnixTime;
use cloak_overlay::{Key, Record, Snapshot};

use crate::home::Home;
use crate::shared::Shared;
use crate::store::StoreError;

/// Records that are written at most. With 2 KiB each the store grows by 4 MiB.
const HELD_MAX: usize = 2048;
/// Between two records that are given back, each to five binders: far below what a link may carry.
pub(super) const GIVE_BACK_EVERY: Duration = Duration::from_millis(50);
/// Where they are in the store.
const STORED: &str = "held";

/// The records of the last run that still count by their time.
pub(super) fn load(home: &Home, now: UnixTime) -> VecDeque<(Key, Record)> {
    let stored = home.store().get(STORED).ok().flatten().unwrap_or_default();
    let mut records: VecDeque<(Key, Record)> =
        minicbor::decode::<Vec<(Key, Record)>>(&stored).unwrap_or_default().into();
    records.retain(|(_, record)| record.expires > now);
    records
}

fn save(home: &Home, snapshot: &Snapshot) -> Result<(), StoreError> {
    let held = snapshot.held.iter().map(|held| (&held.key, &held.record));
    // Of one record at several points, once.
    let held: BTreeMap<&Key, &Record> = held.collect();
    let held: Vec<_> = held.into_iter().take(HELD_MAX).collect();
    let bytes = minicbor::to_vec(&held).expect("invariant: encoding into memory cannot fail");
    home.store().put(&[(STORED, &bytes)])
}

impl Shared {
    /// Writes what is held for others.
    pub(crate) async fn save_held(self: &Arc<Self>) {
        let Some(snapshot) = self.overlay.snapshot().await else { return };
        let shared = Arc::clone(self);
        let saved = self.tasks.spawn_blocking(move || save(&shared.home, &snapshot)).await;
        if let Ok(saved) = saved {
            self.storage_result(&saved);
        }
    }
}

#[cfg(test)]
mod tests {
    use cloak_base::Epoch;
    use cloak_overlay::{Address, Holding, Place, Stats};
    use cloak_transport::SystemClock;

    use super::*;
    use crate::home::InitNames;

    #[test]
    fn what_is_held_survives_a_restart_until_it_expires() {
        let dir = tempfile::tempdir().unwrap();
        let names = InitNames { name: "alice".into(), realm: "home".into(), device: "desk".into() };
        let home = Home::init(&dir.path().join("home"), names, &SystemClock).unwrap();
        let holding = |name: &str, expires: u64| Holding {
            key: Key::new(name.as_bytes()).unwrap(),
            point: Address::ROOT,
            record: Record {
                epoch: Epoch(3),
                expires: UnixTime(expires),
                bytes: name.as_bytes().into(),
            },
            copy: false,
        };
        let held = vec![holding("a", 1000), holding("b", 2000), holding("b", 2000)];
        let snapshot = Snapshot {
            place: Place::Seeking,
            rooted: false,
            warming: false,
            parent: None,
            neighbours: Vec::new(),
            held,
            stats: Stats::default(),
        };
        save(&home, &snapshot).unwrap();
        let keys = |now| load(&home, UnixTime(now)).into_iter().map(|(key, _)| key);
        assert_eq!(keys(1).collect::<Vec<_>>().len(), 2);
        let left: Vec<_> = keys(1500).collect();
        assert_eq!(left, [Key::new(b"b").unwrap()]);
    }
}
