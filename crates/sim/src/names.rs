//! Names and their records, as simulated owners publish them.
//!
//! A record's bytes are a tag over its key and epoch, filled up to the size of a device record in
//! the product, so that traffic and memory are honest. Liars can make records, but none that count.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use cloak_base::{Epoch, UnixTime};
use cloak_overlay::{Key, Record, RecordVerifier};

/// Bytes of a record: a device record with certificate, address and four locators.
const RECORD_BYTES: usize = 320;
/// Life of a record: longer than any scenario.
const LIFE_SECONDS: u64 = 24 * 3600;

/// The key of name number `number`.
pub fn key(number: u32) -> Key {
    Key::new(format!("\0name-{number}").as_bytes()).expect("invariant: a short name is a key")
}

/// The number of a name's key.
pub fn number(key: &Key) -> Option<u32> {
    let text = std::str::from_utf8(key.as_bytes()).ok()?;
    text.strip_prefix("\0name-")?.parse().ok()
}

/// The record of a name, as its owner signs it.
pub fn record(key: &Key, epoch: Epoch, now: UnixTime) -> Record {
    let expires = UnixTime(now.0 + LIFE_SECONDS);
    let mut bytes = vec![0; RECORD_BYTES];
    bytes[..8].copy_from_slice(&tag(key, epoch, expires).to_be_bytes());
    Record { epoch, expires, bytes: bytes.into() }
}

/// A record that says something else, and does not count.
pub fn forged(key: &Key, like: &Record) -> Record {
    let mut bytes = like.bytes.to_vec();
    bytes[..8].copy_from_slice(&(!tag(key, like.epoch, like.expires)).to_be_bytes());
    Record { epoch: like.epoch.next(), expires: like.expires, bytes: Arc::from(bytes) }
}

/// Whether an owner made the record.
pub fn is_genuine(key: &Key, record: &Record) -> bool {
    record.bytes.get(..8) == Some(&tag(key, record.epoch, record.expires).to_be_bytes()[..])
}

/// Verifies records for simulated peers.
pub struct Verifier;

impl RecordVerifier for Verifier {
    fn verify(&self, key: &Key, record: &Record, now: UnixTime) -> bool {
        is_genuine(key, record) && now < record.expires
    }

    fn is_forged(&self, key: &Key, record: &Record) -> bool {
        !is_genuine(key, record)
    }
}

fn tag(key: &Key, epoch: Epoch, expires: UnixTime) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key.as_bytes(), epoch.0, expires.0).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_owners_count_until_they_expire_and_forged_ones_never() {
        let (key, now) = (key(7), UnixTime(1000));
        let record = record(&key, Epoch(3), now);
        assert!(Verifier.verify(&key, &record, now));
        assert!(!Verifier.verify(&super::key(8), &record, now));
        assert!(!Verifier.verify(&key, &record, record.expires));
        assert!(!Verifier.verify(&key, &forged(&key, &record), now));
        assert_eq!(number(&key), Some(7));
    }
}
