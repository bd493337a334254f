//! Records that we hold for others: as their binder, or as a copy for the peer that would be.
//!
//! What a record is to us follows from our address and our children: we bind the points below us
//! that are not below a child. The parent of a binder has a copy of everything that the binder
//! has, a root gives its copies to two children; so whoever binds next has them already. A record
//! lives while its publisher touches it, and not beyond its own expiry.

use std::collections::BTreeMap;
use std::ops::Bound;

use cloak_base::{DeviceId, Epoch, Instant};
use cloak_geometry::Address;

use crate::event::Code;
use crate::lookup::Cached;
use crate::message::{Body, Copy, Found, HELD_MAX, Held, HeldRecord, Message, Origin, Outcome};
use crate::overlay::Overlay;
use crate::record::{Key, Record};

/// Records held, by point and key, and those that passed.
#[derive(Default)]
pub(crate) struct Store {
    held: BTreeMap<(Address, Key), Entry>,
    pub(crate) cached: Vec<Cached>,
}

pub(crate) struct Entry {
    pub(crate) record: Record,
    /// When its publisher confirmed it last.
    pub(crate) touched: Instant,
}

/// Children that hold the copies of a root.
const ROOT_COPIES: usize = 2;
/// Bytes of records in one message, so that it stays below its maximum.
const HELD_BYTES: usize = 4 * 1024;

impl Store {
    pub(crate) fn get(&self, point: &Address, key: &Key) -> Option<&Entry> {
        if self.held.is_empty() {
            return None;
        }
        self.held.get(&(point.clone(), key.clone()))
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
    fn put(&mut self, point: &Address, key: &Key, record: &Record, touched: Instant) -> Put {
        let row = self.held.entry((point.clone(), key.clone()));
        let std::collections::btree_map::Entry::Occupied(mut row) = row else {
            row.or_insert(Entry { record: record.clone(), touched });
            return Put::New;
        };
        let held = row.get_mut();
        let (ours, theirs) =
            ((held.record.epoch, &held.record.bytes), (record.epoch, &record.bytes));
        if ours > theirs {
            return Put::Superseded(held.record.epoch);
        }
        held.touched = held.touched.max(touched);
        if ours == theirs {
            return Put::Same;
        }
        held.record = record.clone();
        Put::New
    }
}

enum Put {
    New,
    Same,
    Superseded(Epoch),
}

impl Overlay {
    pub(crate) fn on_store(&mut self, origin: &Origin, to: &Address, key: &Key, record: &Record) {
        let outcome = self.store_record(to, key, record);
        let (key, point) = (key.clone(), to.clone());
        self.answer(origin, Body::Stored { key, point, outcome });
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
            Some(entry) if entry.record.epoch > epoch => Outcome::Superseded(entry.record.epoch),
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
        self.answer(origin, Body::Stored { key, point, outcome });
    }

    /// A binder's record was confirmed: our copy is, too.
    pub(crate) fn on_keep_copy(&mut self, from: DeviceId, copy: Box<Copy>) {
        let now = self.now;
        if !self.is_kin(from) {
            return;
        }
        match self.store.held.get_mut(&(copy.point.clone(), copy.key.clone())) {
            Some(entry) if entry.record.epoch >= copy.epoch => entry.touched = now,
            _ => self.send(from, Message::WantCopy(copy)),
        }
    }

    pub(crate) fn on_want_copy(&mut self, from: DeviceId, copy: &Copy) {
        if !self.is_kin(from) {
            return;
        }
        if let Some(entry) = self.store.get(&copy.point, &copy.key) {
            let held = self.held_record(&copy.point, &copy.key, entry);
            self.send_held(from, true, false, vec![held]);
        }
    }

    pub(crate) fn on_find(&mut self, origin: &Origin, to: &Address, key: &Key, id: u32, hops: u8) {
        if self.answer_from_store(origin, to, key, id, hops) {
            return;
        }
        // A fragment does not know what is bound elsewhere, so it does not say.
        if let Some(chain) = self.tree.chain.clone().filter(|_| self.tree.rooted) {
            self.answer(origin, Body::Missing { id, chain });
        }
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
        // What is left of an earlier place may be old.
        let held = held.filter(|_| self.may_hold(to));
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
        let held = points.iter().filter(|point| self.may_hold(point));
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

    /// Records from kin: a parent hands down or up what we bind, or copies.
    pub(crate) fn on_held(&mut self, from: DeviceId, held: Held) {
        if !self.is_kin(from) {
            return;
        }
        let (now, unix) = (self.now, self.unix());
        for HeldRecord { point, key, record, age } in &held.records {
            let known = self.store.get(point, key).is_some_and(|entry| entry.record == *record);
            if !known && !self.verifier.verify(key, record, unix) {
                return self.misbehaved(from, Code::FalseRecord);
            }
            if known || self.store.held.len() < self.config.records_max {
                let age = std::time::Duration::from_secs(u64::from(*age));
                self.store.put(point, key, record, now - age);
            }
        }
        if held.last && self.tree.parent == Some(from) {
            self.tree.warming = false;
        }
        if !held.copies {
            self.copy_to_holders(held.records);
        }
    }

    /// Gives a new child what it binds from now on. We keep it, as copies.
    pub(crate) fn hand_down(&mut self, index: u8, child: DeviceId) {
        let Some(address) = self.address() else { return };
        let Ok(below) = address.child(index, self.config.degree) else { return };
        let entries = self.store.below(&below);
        let records = entries.map(|(point, key, entry)| self.held_record(point, key, entry));
        let records: Vec<HeldRecord> = records.collect();
        self.send_held(child, false, true, records);
    }

    /// Gives a new parent what it binds of what we have, and copies of what we bind.
    pub(crate) fn hand_up(&mut self, parent: DeviceId) {
        let Some(own) = self.address().cloned() else { return };
        let Some(above) = own.parent() else { return };
        let (mut theirs, mut copies) = (Vec::new(), Vec::new());
        for (point, key, entry) in self.store.below(&above) {
            let held = self.held_record(point, key, entry);
            if point.as_bytes().starts_with(own.as_bytes()) {
                copies.push(held);
            } else {
                theirs.push(held);
            }
        }
        self.send_held(parent, false, false, theirs);
        self.send_held(parent, true, false, copies);
    }

    /// Before we go: our parent gets what it does not have, to bind it.
    pub(crate) fn hand_over(&mut self, parent: DeviceId) {
        let all = self.store.iter();
        let records = all.map(|(point, key, entry)| self.held_record(point, key, entry)).collect();
        self.send_held(parent, true, false, records);
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
        let full = self.store.held.len() >= self.config.records_max
            && self.store.get(point, key).is_none();
        let unix = self.unix();
        if full || record.expires < unix || !self.verifier.verify(key, record, unix) {
            return Outcome::Refused;
        }
        match self.store.put(point, key, record, self.now) {
            Put::Superseded(epoch) => Outcome::Superseded(epoch),
            Put::Same | Put::New => {
                let (point, key, record) = (point.clone(), key.clone(), record.clone());
                self.copy_to_holders(vec![HeldRecord { point, key, record, age: 0 }]);
                Outcome::Kept
            }
        }
    }

    fn copy_to_holders(&mut self, records: Vec<HeldRecord>) {
        for held in &records {
            // A child that was warming sent it here, after we had handed down.
            if let Some(child) = self.child_binding(&held.point) {
                self.send_held(child, false, false, vec![held.clone()]);
            }
        }
        let bound: Vec<HeldRecord> =
            records.into_iter().filter(|held| self.binds(&held.point)).collect();
        for holder in self.copy_holders() {
            self.send_held(holder, true, false, bound.clone());
        }
    }

    /// Whether a point's records belong here: below us, or copies of our parent's, the root.
    fn may_hold(&self, point: &Address) -> bool {
        self.address()
            .is_some_and(|own| own.depth() <= 1 || point.as_bytes().starts_with(own.as_bytes()))
    }

    /// The child at or above the binder of a point below us.
    fn child_binding(&self, point: &Address) -> Option<DeviceId> {
        let own = self.address().filter(|own| point.as_bytes().starts_with(own.as_bytes()))?;
        let index = *point.as_bytes().get(own.depth())?;
        self.tree.child_at(index).map(|child| child.device)
    }

    /// Who has copies of what we bind.
    fn copy_holders(&self) -> Vec<DeviceId> {
        if let Some(parent) = self.tree.parent {
            return vec![parent];
        }
        if !self.tree.is_root() {
            return Vec::new();
        }
        self.tree.children.iter().take(ROOT_COPIES).map(|child| child.device).collect()
    }

    fn is_kin(&self, device: DeviceId) -> bool {
        self.tree.parent == Some(device) || self.tree.child(device).is_some()
    }

    fn held_record(&self, point: &Address, key: &Key, entry: &Entry) -> HeldRecord {
        let (record, age) = (entry.record.clone(), self.age_of(entry));
        HeldRecord { point: point.clone(), key: key.clone(), record, age }
    }

    /// Sends records in as many messages as they need; one at least, when it is to be the last.
    fn send_held(&mut self, to: DeviceId, copies: bool, last: bool, records: Vec<HeldRecord>) {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for record in records {
            if batch.len() >= HELD_MAX
                || bytes > HELD_BYTES - record.record.bytes.len().min(HELD_BYTES)
            {
                let records = std::mem::take(&mut batch);
                self.send(to, Message::Held(Box::new(Held { copies, last: false, records })));
                bytes = 0;
            }
            bytes += record.record.bytes.len() + HELD_OVERHEAD;
            batch.push(record);
        }
        if last || !batch.is_empty() {
            self.send(to, Message::Held(Box::new(Held { copies, last, records: batch })));
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
