//! Records as the overlay sees them: opaque bytes under a key, fenced by an epoch.

use std::fmt;
use std::sync::Arc;

use cloak_base::{Epoch, UnixTime};
use minicbor::{Decode, Encode};

use crate::codec;

/// Longest key: a label of 63 bytes, or an id of 32, and a byte that tells them apart.
pub const KEY_MAX: usize = 64;
/// Longest record. With what surrounds it, it fits a message of [`crate::MESSAGE_MAX`].
pub const RECORD_MAX: usize = 7 * 1024;

/// What a record is found under: a name or an id, in its one form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Key(
    #[n(0)]
    #[cbor(decode_with = "codec::short_bytes::<_, KEY_MAX>", encode_with = "codec::put_bytes")]
    Arc<[u8]>,
);

/// A key that is longer than [`KEY_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key has at most {KEY_MAX} bytes")]
pub struct KeyTooLong;

impl Key {
    /// The key with these bytes.
    ///
    /// # Errors
    /// When there are too many.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyTooLong> {
        if bytes.len() > KEY_MAX { Err(KeyTooLong) } else { Ok(Self(bytes.into())) }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// A signed record. Its bytes are opaque; a [`RecordVerifier`] knows what they must be.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Record {
    /// The highest wins everywhere.
    #[n(0)]
    pub epoch: Epoch,
    /// When binders drop it.
    #[n(1)]
    pub expires: UnixTime,
    /// The signed form, at most [`RECORD_MAX`].
    #[n(2)]
    #[cbor(decode_with = "codec::short_bytes::<_, RECORD_MAX>", encode_with = "codec::put_bytes")]
    pub bytes: Arc<[u8]>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({}, {} bytes)", self.epoch.0, self.bytes.len())
    }
}

/// Says whether bytes count for a key. In the product these are the signed bindings of `identity`.
pub trait RecordVerifier {
    /// Whether `record`'s bytes are a valid record for `key`, with the epoch and expiry beside them.
    fn verify(&self, key: &Key, record: &Record, now: UnixTime) -> bool;

    /// Whether nobody can have kept `record` for `key` in good faith, whatever the time, and whatever
    /// was revoked. Asked where it does not count: the peer that passed it on is dropped for it.
    fn is_forged(&self, key: &Key, record: &Record) -> bool;
}
