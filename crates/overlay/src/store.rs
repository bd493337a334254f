//! Records that we hold for others: as their binder, or as a copy for the peer that would be.
//!
//! What a record is to us follows from our address and our children: we bind the points below us
//! that are not below a child. All else is a copy, see [`crate::keep`]. A record lives while its
//! publisher touches it, and not beyond its own expiry.

use std::collections::BTreeMap;
use std::ops::Bound;

use cloak_base::{DeviceId, Epoch, Instant};
use cloak_geometry::Address;

use crate::event::Code;
use crate::lookup::Cached;
use crate::message::{
    Body, Copy, Found, HELD_MAX, Held, HeldRecord, Message, Origin, Outcome, Purpose,
};
use crate::overlay::Overlay;
use crate::record::{Key, Record};

/// Records held, by point and key, and those that passed.
#[derive(Default)]
pub(crate) struct Store {
    held: BTreeMap<(Address, Key), Entry>,
    pub(crate) cached: Vec<Cached>,
    pub(crate) strays: Vec<(Address, Key)>,
}

pub(crate) struct Entry {
    pub(crate) record: Record,
    /// When its publisher confirmed it last.
    pub(crate) touched: Instant,
    /// Whether it is kept for a sibling: what that binds by now may be newer.
    pub(crate) kept: bool,
}

/// Bytes of records in one message, so that it stays below its maximum.
const HELD_BYTES: usize = 4 * 1024;

impl Store {
    pub(crate) fn get(&self, point: &Address, key: &Key) -> Option<&Entry> {
        if self.held.is_empty() {
            return None;
        }
        self.held.get(&(point.clone(), key.clone()))
    }

    pub(crate) fn remove(&mut self, point: &Address, key: &Key) {
        self.held.remove(&(point.clone(), key.clone()));
    }

    /// A copy is good for longer; false when there is none as new as that.
    pub(crate) fn touch(&mut self, copy: &Copy, now: Instant) -> bool {
        let entry = self.held.get_mut(&(copy.point.clone(), copy.key.clone()));
        let entry = entry.filter(|entry| entry.record.epoch >= copy.epoch);
        entry.map(|entry| entry.touched = now).is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Address, &Key, &Entry)> {
        self.held.iter().map(|((point, key), entry)| (point, key, entry))
    }

    /// What is held for points below an address.
    fn below<'a>(
        &'a self,
        address: &'a Address,
    ) -> impl Iterator<Item = (&'a Address, &'a Key, &'a Entry)> {
        let empty = Key::new(&[]).expect("invariant: no bytes are not too many");
        let from = Bound::Included((address.clone(), empty));
        let range = self.held.range((from, Bound::Unbounded));
        range
            .take_while(|((point, _), _)| point.as_bytes().starts_with(address.as_bytes()))
            .map(|((point, key), entry)| (point, key, entry))
    }

    /// Takes a record unless a newer one is held. Of two with one epoch the greater bytes win, so
    /// that all peers keep the same.
    fn put(&mut self, point: &Address, key: &Key, entry: Entry) -> Put {
        let row = self.held.entry((point.clone(), key.clone()));
        let std::collections::btree_map::Entry::Occupied(mut row) = row else {
            row.or_insert(entry);
            return Put::New;
        };
        let held = row.get_mut();
        let Entry { record, touched, kept } = entry;
        let (ours, theirs) =
            ((held.record.epoch, &held.record.bytes), (record.epoch, &record.bytes));
        if ours > theirs {
            return Put::Superseded(held.record.clone());
        }
        (held.touched, held.kept) = (held.touched.max(touched), kept);
        if ours == theirs {
            return Put::Same;
        }
        held.record = record;
        Put::New
    }
}

enum Put {
    New,
    Same,
    Superseded(Record),
}

impl Overlay {
    pub(crate) fn on_store(&mut self, origin: &Origin, to: &Address, key: &Key, record: &Record) {
        let outcome = self.store_record(to, key, record);
        let (key, point, epoch) = (key.clone(), to.clone(), record.epoch);
        self.answer(origin, Body::Stored { key, point, outcome, epoch });
    }

    pub(crate) fn on_touch(
        &mut self,
        origin: &Origin,
        to: &Address,
        key: &Key,
        epoch: Epoch,
        digest: u64,
    ) {
        let now = self.now;
        let row = (to.clone(), key.clone());
        let outcome = match self.store.held.get_mut(&row) {
            Some(entry) if entry.record.epoch > epoch => Outcome::Superseded(entry.record.clone()),
            Some(entry) if entry.record.epoch == epoch && digest_of(&entry.record) == digest => {
                entry.touched = now;
                Outcome::Kept
            }
            _ => Outcome::Unknown,
        };
        let (point, key) = row;
        if outcome == Outcome::Kept {
            let copy = Copy { point: point.clone(), key: key.clone(), epoch };
            for holder in self.copy_holders() {
                self.send(holder, Message::KeepCopy(Box::new(copy.clone())));
            }
        }
        self.answer(origin, Body::Stored { key, point, outcome, epoch });
    }

    pub(crate) fn on_find(&mut self, origin: &Origin, to: &Address, key: &Key, id: u32, hops: u8) {
        if self.answer_from_store(origin, to, key, id, hops) {
            return;
        }
        // A fragment does not know what is bound elsewhere, a binder that waits for what it binds has
        // not seen it, and a child that is silent may have it.
        let complete = self.tree.rooted && self.tree.warming.is_none() && !self.is_recalling();
        let knows = complete && self.binds(to);
        let body = match self.tree.chain.clone().filter(|_| knows) {
            Some(chain) => Body::Missing { id, chain },
            None => Body::Unsure { id },
        };
        self.answer(origin, body);
    }

    /// Answers a question from what is held or cached here; false when that is nothing.
    pub(crate) fn answer_from_store(
        &mut self,
        origin: &Origin,
        to: &Address,
        key: &Key,
        id: u32,
        hops: u8,
    ) -> bool {
        let now = self.unix();
        let held = self.store.get(to, key).filter(|entry| entry.record.expires >= now);
        // A copy, or what is left of an earlier place, may be old.
        let held = held.filter(|_| self.binds(to));
        let found = if let Some(entry) = held {
            let (record, age) = (entry.record.clone(), self.age_of(entry));
            let (key, binder) = (key.clone(), self.own_device());
            Found { id, key, record, binder, age, hops, cached: false }
        } else if let Some(cached) = self.fresh_cached(key) {
            let age = seconds(self.now, cached.since).saturating_add(cached.age);
            let (record, binder) = (cached.record.clone(), cached.binder);
            Found { id, key: key.clone(), record, binder, age, hops, cached: true }
        } else {
            return false;
        };
        self.answer(origin, Body::Found(Box::new(found)));
        true
    }

    /// A record that we have ourselves, for one of these points.
    pub(crate) fn known(&self, points: &[Address], key: &Key) -> Option<(Record, u32)> {
        let now = self.unix();
        let held = points.iter().filter(|point| self.binds(point));
        let held = held.filter_map(|point| self.store.get(point, key));
        let held = held.filter(|entry| entry.record.expires >= now).max_by_key(|e| e.record.epoch);
        if let Some(entry) = held {
            return Some((entry.record.clone(), self.age_of(entry)));
        }
        // What passed was not verified then.
        let counts = |cached: &&Cached| self.verifier.verify(key, &cached.record, now);
        let cached = self.fresh_cached(key).filter(counts)?;
        Some((cached.record.clone(), seconds(self.now, cached.since).saturating_add(cached.age)))
    }

    /// Records from kin: our parent hands down what we bind, a child hands up what we bind, and
    /// copies.
    pub(crate) fn on_held(&mut self, from: DeviceId, held: Held) {
        let child = self.tree.child(from).copied();
        let parent = self.tree.parent == Some(from);
        if child.is_none() && !parent {
            return;
        }
        let Some(records) = self.verified(from, held.records) else { return };
        match (held.purpose, &child) {
            (Purpose::Copy, Some(binder)) => self.pass_copies(binder, records),
            (Purpose::Bind, _) => {
                records.iter().for_each(|held| self.hold(held, false));
                self.copy_to_holders(records, Some(from));
            }
            (purpose, _) => {
                let kept = purpose == Purpose::Keep;
                records.iter().for_each(|held| self.hold(held, kept));
            }
        }
        if held.last && parent {
            self.tree.warming = None;
        }
        if held.last && child.is_some() {
            self.recall_answered(Some(from));
        }
    }

    /// Those that count. `None` when one is forged: its sender is dropped.
    fn verified(&mut self, from: DeviceId, records: Vec<HeldRecord>) -> Option<Vec<HeldRecord>> {
        let unix = self.unix();
        let mut valid = Vec::with_capacity(records.len());
        for held in records {
            let HeldRecord { point, key, record, .. } = &held;
            let known = self.store.get(point, key).is_some_and(|entry| entry.record == *record);
            if known || self.verifier.verify(key, record, unix) {
                valid.push(held);
            } else if self.verifier.is_forged(key, record) {
                self.misbehaved(from, Code::FalseRecord);
                return None;
            }
            // Else it is over or revoked, or one of the two clocks is wrong.
        }
        Some(valid)
    }

    /// Puts a record that counts into the store, while there is room.
    pub(crate) fn hold(&mut self, held: &HeldRecord, kept: bool) {
        let HeldRecord { point, key, record, age } = held;
        if self.has_room(point, key) && self.points(key).contains(point) {
            let touched = self.now - std::time::Duration::from_secs(u64::from(*age));
            self.store.put(point, key, Entry { record: record.clone(), touched, kept });
        }
    }

    /// Gives a new child what it binds from now on. We keep it until the child's copies have
    /// keepers.
    pub(crate) fn hand_down(&mut self, index: u8, child: DeviceId) {
        let Some(address) = self.address() else { return };
        let Ok(below) = address.child(index, self.config.degree) else { return };
        let records = self.held_below(&below, |_| true);
        let last = self.is_all_for(child);
        self.send_held(child, Purpose::Bind, last, records);
    }

    /// Before we go: our parent binds what we did.
    pub(crate) fn hand_over(&mut self, parent: DeviceId) {
        let Some(own) = self.address().cloned() else { return };
        let records = self.held_below(&own, |_| true);
        self.send_held(parent, Purpose::Bind, false, records);
    }

    pub(crate) fn sweep_store(&mut self) {
        let (now, unix) = (self.now, self.unix());
        let (untouched, cached) = (self.config.untouched_max, self.config.cached_for);
        self.store.held.retain(|_, entry| {
            now.since(entry.touched) <= untouched && entry.record.expires >= unix
        });
        self.store.cached.retain(|entry| now.since(entry.since) <= cached);
    }

    /// Whether we, and no child of ours, bind a point.
    pub(crate) fn binds(&self, point: &Address) -> bool {
        let Some(own) = self.address() else { return false };
        let next = point.as_bytes().get(own.depth()).copied();
        point.as_bytes().starts_with(own.as_bytes())
            && next.is_none_or(|index| self.tree.child_at(index).is_none())
    }

    fn store_record(&mut self, point: &Address, key: &Key, record: &Record) -> Outcome {
        let unix = self.unix();
        if !self.has_room(point, key)
            || !self.points(key).contains(point)
            || record.expires < unix
            || !self.verifier.verify(key, record, unix)
        {
            return Outcome::Refused;
        }
        let entry = Entry { record: record.clone(), touched: self.now, kept: false };
        match self.store.put(point, key, entry) {
            Put::Superseded(held) => Outcome::Superseded(held),
            Put::Same | Put::New => {
                let (point, key, record) = (point.clone(), key.clone(), record.clone());
                self.copy_to_holders(vec![HeldRecord { point, key, record, age: 0 }], None);
                Outcome::Kept
            }
        }
    }

    /// Copies of what we bind; what a child binds goes to that child, unless it came `from` it.
    fn copy_to_holders(&mut self, records: Vec<HeldRecord>, from: Option<DeviceId>) {
        for held in &records {
            // A child that was warming sent it here, after we had handed down, or it was recalled
            // too late.
            let child = self.child_binding(&held.point).filter(|child| Some(*child) != from);
            if let Some(child) = child {
                self.send_held(child, Purpose::Bind, false, vec![held.clone()]);
            }
        }
        let bound: Vec<HeldRecord> =
            records.into_iter().filter(|held| self.binds(&held.point)).collect();
        for holder in self.copy_holders() {
            self.send_held(holder, Purpose::Copy, false, bound.clone());
        }
    }

    fn has_room(&self, point: &Address, key: &Key) -> bool {
        self.store.held.len() < self.config.records_max || self.store.get(point, key).is_some()
    }

    /// The child at or above the binder of a point below us.
    pub(crate) fn child_binding(&self, point: &Address) -> Option<DeviceId> {
        let own = self.address().filter(|own| point.as_bytes().starts_with(own.as_bytes()))?;
        let index = *point.as_bytes().get(own.depth())?;
        self.tree.child_at(index).map(|child| child.device)
    }

    /// What is held for points below an address that `which` holds for.
    pub(crate) fn held_below(
        &self,
        address: &Address,
        which: impl Fn(&Address) -> bool,
    ) -> Vec<HeldRecord> {
        let entries = self.store.below(address).filter(|(point, _, _)| which(point));
        entries.map(|(point, key, entry)| self.held_record(point, key, entry)).collect()
    }

    /// What is held under a key for a point.
    pub(crate) fn held_at(&self, point: &Address, key: &Key) -> Option<HeldRecord> {
        self.store.get(point, key).map(|entry| self.held_record(point, key, entry))
    }

    fn held_record(&self, point: &Address, key: &Key, entry: &Entry) -> HeldRecord {
        let (record, age) = (entry.record.clone(), self.age_of(entry));
        HeldRecord { point: point.clone(), key: key.clone(), record, age }
    }

    /// Sends records in as many messages as they need; one at least, when it is to be the last.
    pub(crate) fn send_held(
        &mut self,
        to: DeviceId,
        purpose: Purpose,
        last: bool,
        records: Vec<HeldRecord>,
    ) {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for record in records {
            if batch.len() >= HELD_MAX
                || bytes > HELD_BYTES - record.record.bytes.len().min(HELD_BYTES)
            {
                let records = std::mem::take(&mut batch);
                self.send(to, Message::Held(Box::new(Held { purpose, last: false, records })));
                bytes = 0;
            }
            bytes += record.record.bytes.len() + HELD_OVERHEAD;
            batch.push(record);
        }
        if last || !batch.is_empty() {
            self.send(to, Message::Held(Box::new(Held { purpose, last, records: batch })));
        }
    }

    fn fresh_cached(&self, key: &Key) -> Option<&Cached> {
        let (now, life, unix) = (self.now, self.config.cached_for, self.unix());
        self.store.cached.iter().find(|cached| {
            cached.key == *key && now.since(cached.since) <= life && cached.record.expires >= unix
        })
    }

    fn age_of(&self, entry: &Entry) -> u32 {
        seconds(self.now, entry.touched)
    }
}

/// Tells records of one epoch apart; not for security, the records are signed.
pub(crate) fn digest_of(record: &Record) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    record.bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn seconds(now: Instant, since: Instant) -> u32 {
    u32::try_from(now.since(since).as_secs()).unwrap_or(u32::MAX)
}

/// A point, a key and numbers beside a record's own bytes.
const HELD_OVERHEAD: usize = 128;
