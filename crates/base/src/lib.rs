//! Words that every other crate uses: ids, time, byte sizes, seeded randomness, redaction.
//!
//! Nothing here does IO, reads a clock or draws from the operating system.

mod bytesize;
mod cbor;
mod id;
mod redacted;
mod rng;
mod time;

pub use bytesize::{ByteSize, ParseByteSizeError};
pub use id::{
    DeviceId, EntityId, Epoch, Generation, Incarnation, ParseIdError, RealmId, SessionId,
};
pub use redacted::Redacted;
pub use rng::Rng;
pub use time::{Instant, UnixTime};
