//! The record of our entity: which devices it has. Any of them publishes it; together they keep one.
//!
//! Each looks up what is published, and signs anew only where that lacks a device or comes to its
//! end. Otherwise it keeps alive the very record that it found, whoever signed it. What is found may
//! be older than what is known to be published, for answers are cached: then it is signed anew too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloak_base::{DeviceId, Epoch};
use cloak_identity::{EntityBinding, EntityRecord, RecordKey, Signed};
use cloak_overlay::Key;

use super::task::{key, record};
use super::{LookupError, OverlayPeer};
use crate::shared::Shared;
use crate::sync::lock;

/// Pause before we answer a record that is above ours.
const OUTBID_MIN: Duration = Duration::from_millis(500);
const OUTBID_MAX: Duration = Duration::from_secs(3);

/// Pause before it is asked again what is published.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(3);

/// What this device does about its entity's record.
#[derive(Default)]
pub(crate) struct Siblings {
    /// The record is being looked at.
    busy: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What we keep alive.
    kept: Option<Vec<u8>>,
    /// The highest epoch that was seen.
    seen: Epoch,
}

impl OverlayPeer {
    /// Publishes our device record.
    pub(crate) fn publish_device(
        &self,
        own: DeviceId,
        made: &Signed<cloak_identity::DeviceRecord>,
        bytes: &[u8],
    ) {
        let record = record(made.epoch(), made.validity().expires, bytes);
        self.publish(key(&RecordKey::Device(own)), record);
    }
}

impl Shared {
    /// Sees to our entity's record, in a task of its own, unless one is at it.
    pub(crate) fn check_entity_record(self: &Arc<Self>) {
        self.check_entity_record_after(Duration::ZERO);
    }

    fn check_entity_record_after(self: &Arc<Self>, pause: Duration) {
        if !self.overlay.is_placed() || self.siblings.busy.swap(true, Ordering::Relaxed) {
            return;
        }
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            let cancel = shared.cancel.clone();
            let settled = async {
                tokio::time::sleep(pause).await;
                while !shared.settle_entity_record().await {
                    let pause = shared.split_rng().duration(AGAIN_MIN, AGAIN_MAX);
                    tokio::time::sleep(pause).await;
                }
            };
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                () = settled => {}
            }
            shared.siblings.busy.store(false, Ordering::Relaxed);
        });
    }

    /// False when nobody answered.
    async fn settle_entity_record(&self) -> bool {
        let found = match self.overlay.lookup(key(&RecordKey::Entity(self.home.entity()))).await {
            Ok(found) => self.verify_entity(&found.record.bytes),
            Err(LookupError::NotFound) => None,
            // Whether there is one is asked until somebody says.
            Err(LookupError::Failed) => return false,
        };
        let mut state = lock(&self.siblings.state);
        let seen = found.as_ref().map_or(Epoch(0), EntityBinding::epoch);
        if state.kept.is_some() && seen < state.seen {
            // Ours is newer than what a cache still has.
            return true;
        }
        state.seen = state.seen.max(seen);
        let bytes = match (self.sign_entity(found.as_ref(), state.seen), found) {
            (Some(signed), _) => {
                state.seen = signed.epoch();
                signed.encode()
            }
            (None, Some(found)) => found.bytes().to_vec(),
            (None, None) => return true,
        };
        if state.kept.as_ref() != Some(&bytes) {
            self.publish_entity(&bytes);
            state.kept = Some(bytes);
        }
        true
    }

    /// The record that is to be published instead of the one that was found, if any is.
    fn sign_entity(
        &self,
        found: Option<&EntityBinding>,
        seen: Epoch,
    ) -> Option<Signed<EntityRecord>> {
        let now = self.clock.wall();
        let trust = self.home.trust();
        let is_outdated = found.is_some_and(|found| found.epoch() < seen);
        let enrolled = trust.roster.devices().map(|(_, held)| held.device);
        let met = self.directory.devices_of(self.home.entity(), now);
        let mut devices = EntityRecord::devices_to_list(
            &trust.credentials,
            enrolled.chain(met),
            found.filter(|_| !is_outdated),
            &trust.revocations,
            now,
        )?;
        devices.extend(found.into_iter().flat_map(|found| found.devices()).copied());
        let epoch = EntityRecord::epoch_above(seen, self.tls.device(), now);
        let device = &self.home.keys().device;
        Some(EntityRecord::sign(device, &trust.credentials, devices, epoch, now))
    }

    /// Under our entity's id, and under its name.
    fn publish_entity(&self, bytes: &[u8]) {
        let Some(binding) = self.verify_entity(bytes) else { return };
        let name = RecordKey::from(binding.entity_name().entity_name());
        for under in [name, RecordKey::Entity(binding.entity())] {
            let record = record(binding.epoch(), binding.validity().expires, bytes);
            self.overlay.publish(key(&under), record);
        }
    }

    /// An entity record, where it counts.
    pub(crate) fn verify_entity(&self, bytes: &[u8]) -> Option<EntityBinding> {
        let signed = Signed::<EntityRecord>::decode(bytes).ok()?;
        let (trust, now) = (self.home.trust(), self.clock.wall());
        EntityBinding::verify(signed, &trust.realm, &trust.revocations, now).ok()
    }

    /// A record that counts more than what we published is held in the overlay.
    pub(crate) fn superseded(self: &Arc<Self>, under: &Key, record: &[u8]) {
        match RecordKey::from_bytes(under.as_bytes()) {
            Ok(RecordKey::Device(device)) if device == self.tls.device() => self.learn(record),
            Ok(_) => {
                let Some(epoch) = self.verify_entity(record).map(|binding| binding.epoch()) else {
                    return;
                };
                {
                    let mut state = lock(&self.siblings.state);
                    state.seen = state.seen.max(epoch);
                    state.kept = None;
                }
                // Two devices that outbid each other do so in no hurry.
                let pause = self.split_rng().duration(OUTBID_MIN, OUTBID_MAX);
                self.check_entity_record_after(pause);
            }
            Err(_) => {}
        }
    }
}
