//! Names to devices: the entity's record, then its devices' records, each looked up in the overlay
//! unless a good one is here.
//!
//! A linked peer shows its record whenever it changes, so for those nothing is looked up. Where the
//! overlay does not answer, what is known from before has to do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloak_base::{DeviceId, EntityId, Instant};
use cloak_identity::{EntityBinding, Name, RecordKey};
use cloak_transport::deadline;
use cloak_wire::Code;
use tokio::task::JoinSet;

use crate::directory::Candidate;
use crate::overlay::{Found, LookupError, overlay_key};
use crate::shared::Shared;
use crate::sync::lock;

/// How long after the start a name that is not known may still come with a place in the overlay.
const JOINING: Duration = Duration::from_secs(10);
/// The same while no other device is known.
const JOINING_ALONE: Duration = Duration::from_secs(3);
/// Time for the overlay to answer all questions about one name.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// Where a good answer is known from before, nobody waits longer than this for a newer one. It is looked
/// for all the same: just after an absence the overlay takes seconds.
const KNOWN_AFTER: Duration = Duration::from_secs(1);
/// An entity's record is looked up again after this long.
const CURRENT_FOR: Duration = Duration::from_secs(300);
/// Entity records that are kept.
const ENTITIES_MAX: usize = 256;

/// Entity records that were looked up lately.
#[derive(Default)]
pub(crate) struct Entities(Mutex<BTreeMap<RecordKey, Known>>);

struct Known {
    binding: EntityBinding,
    answer: Answer,
    since: Instant,
}

/// Whose record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Entity(EntityId),
    Device(DeviceId),
}

/// A record that stands behind a resolution, and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) subject: Subject,
    /// Who had it; `None` for a record that its own device showed us.
    pub(crate) binder: Option<DeviceId>,
    /// Hops to the binder.
    pub(crate) hops: u8,
    /// Time since the publisher confirmed it there.
    pub(crate) age: Duration,
    /// Whether it was here, and nobody was asked.
    pub(crate) cached: bool,
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(crate) struct Resolution {
    /// In the order in which to try them; never empty.
    pub(crate) devices: Vec<Candidate>,
    pub(crate) answers: Vec<Answer>,
}

impl Shared {
    /// The devices that a name stands for.
    ///
    /// # Errors
    /// [`Code::UnknownName`]; [`Code::Timeout`] where an answer may exist but did not come.
    pub(crate) async fn resolve(self: &Arc<Self>, name: &Name) -> Result<Resolution, Code> {
        self.wait_while_joining(name).await;
        let known = || self.directory.lookup(name, self.clock.wall());
        let is_known = known().iter().any(|candidate| candidate.fresh);
        let (shared, wanted) = (Arc::clone(self), name.clone());
        let mut asking = Box::pin(async move {
            let asked = tokio::time::timeout(ANSWER_TIMEOUT, shared.ask_until_found(&wanted)).await;
            asked.unwrap_or(Err(LookupError::Failed))
        });
        let asked = tokio::select! {
            biased;
            asked = &mut asking => asked,
            () = tokio::time::sleep(KNOWN_AFTER), if is_known => {
                self.in_background(asking);
                Err(LookupError::Failed)
            }
        };
        let mut devices = known();
        if asked == Err(LookupError::NotFound) {
            devices.retain(|candidate| candidate.fresh);
        }
        match asked {
            _ if !devices.is_empty() => {
                Ok(Resolution { devices, answers: asked.unwrap_or_default() })
            }
            Err(LookupError::Failed) if !self.is_alone() => Err(Code::Timeout),
            _ => Err(Code::UnknownName),
        }
    }

    /// Asks in the background where a device is now.
    pub(crate) fn ask_where(self: &Arc<Self>, device: DeviceId) {
        let shared = Arc::clone(self);
        self.in_background(async move {
            tokio::time::timeout(ANSWER_TIMEOUT, shared.ask_for_device(device)).await
        });
    }

    /// What comes of it the directory remembers.
    fn in_background<T>(&self, question: impl Future<Output = T> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                _ = question => {}
            }
        });
    }

    /// Looks a device's record up, and takes it over.
    pub(crate) async fn ask_for_device(
        self: &Arc<Self>,
        device: DeviceId,
    ) -> Result<Answer, LookupError> {
        let found = self.overlay.lookup(overlay_key(&RecordKey::Device(device))).await?;
        self.learn(&found.record.bytes);
        Ok(answer(Subject::Device(device), &found))
    }

    /// Whether there is nobody whom we could ask.
    pub(crate) fn is_alone(&self) -> bool {
        self.peers.is_empty() && self.directory.contacts().is_empty()
    }

    /// Who starts a gateway and uses it at once shall not be told that a name is unknown before
    /// anybody could have told us of it.
    async fn wait_while_joining(&self, name: &Name) {
        let patience = if self.is_alone() { JOINING_ALONE } else { JOINING };
        let until = deadline(&*self.clock, self.started_at + patience);
        let mut place = self.overlay.watch_place();
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            let known = !self.directory.lookup(name, self.clock.wall()).is_empty();
            if known || self.overlay.is_placed() {
                return;
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(until) => return,
                _ = place.changed() => {}
                () = news => {}
            }
        }
    }

    /// Asks anew where what was remembered of the entity does not lead to the device.
    async fn ask_until_found(self: &Arc<Self>, name: &Name) -> Result<Vec<Answer>, LookupError> {
        let answers = self.ask_for(name).await?;
        let is_remembered = answers.first().is_some_and(|answer| answer.cached);
        if is_remembered && self.directory.lookup(name, self.clock.wall()).is_empty() {
            self.entities.forget(&RecordKey::from(name.entity_name()));
            return self.ask_for(name).await;
        }
        Ok(answers)
    }

    /// Sees to it that the directory has the records behind a name.
    async fn ask_for(self: &Arc<Self>, name: &Name) -> Result<Vec<Answer>, LookupError> {
        let (entity, answer) = self.entity_record(name).await?;
        let mut answers = vec![answer];
        let mut questions = JoinSet::new();
        for device in entity.devices().iter().copied() {
            if self.is_current(device) {
                answers.extend(self.answer_here(device));
            } else {
                let shared = Arc::clone(self);
                questions.spawn(async move { shared.ask_for_device(device).await });
            }
        }
        while let Some(asked) = questions.join_next().await {
            // A device that publishes nothing is not here; another one may be.
            answers.extend(asked.into_iter().flatten());
        }
        Ok(answers)
    }

    /// Whether the record of a device that is here is as good as any.
    fn is_current(&self, device: DeviceId) -> bool {
        let linked = self.known_peer(device).is_some_and(|peer| peer.is_linked());
        let known = self.directory.device(device).is_some();
        device == self.tls.device()
            || (linked && known)
            || self.directory.is_current(device, self.clock.now())
    }

    fn answer_here(&self, device: DeviceId) -> Option<Answer> {
        self.directory.device(device)?;
        let (subject, age) = (Subject::Device(device), Duration::ZERO);
        Some(Answer { subject, binder: None, hops: 0, age, cached: true })
    }

    async fn entity_record(
        self: &Arc<Self>,
        name: &Name,
    ) -> Result<(EntityBinding, Answer), LookupError> {
        let under = RecordKey::from(name.entity_name());
        let now = self.clock.now();
        if let Some(known) = lock(&self.entities.0).get(&under)
            && now.since(known.since) < CURRENT_FOR
        {
            let answer = Answer { cached: true, ..known.answer };
            return Ok((known.binding.clone(), answer));
        }
        let found = self.overlay.lookup(overlay_key(&under)).await?;
        // The overlay verified it under the same trust a moment ago.
        let binding = self.verify_entity(&found.record.bytes).ok_or(LookupError::Failed)?;
        let answer = answer(Subject::Entity(binding.entity()), &found);
        let known = Known { binding: binding.clone(), answer, since: now };
        self.entities.keep(under, known);
        Ok((binding, answer))
    }
}

impl Entities {
    fn forget(&self, under: &RecordKey) {
        lock(&self.0).remove(under);
    }

    fn keep(&self, under: RecordKey, known: Known) {
        let mut entities = lock(&self.0);
        if entities.len() >= ENTITIES_MAX && !entities.contains_key(&under) {
            let oldest = entities.iter().min_by_key(|(_, known)| known.since);
            let oldest = oldest.map(|(under, _)| under.clone());
            oldest.map(|under| entities.remove(&under));
        }
        entities.insert(under, known);
    }
}

fn answer(subject: Subject, found: &Found) -> Answer {
    let (binder, hops, age) = (Some(found.binder), found.hops, found.age);
    Answer { subject, binder, hops, age, cached: false }
}
