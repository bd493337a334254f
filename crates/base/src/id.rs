//! Identifiers. Each is a newtype, so that a device can never stand where an entity is meant.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A text that is not the lower-case hexadecimal form of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: {expected} lower-case hexadecimal digits were expected")]
pub struct ParseIdError {
    /// Number of digits the id has.
    pub expected: usize,
}

/// The first eight bytes as a number that orders as they do.
fn head(id: &[u8]) -> u64 {
    id.first_chunk().map_or(0, |head| u64::from_be_bytes(*head))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The id with exactly these bytes.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The id held by `bytes`, or `None` when the length is wrong.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The first ten hexadecimal digits: enough for logs and for people.
            pub fn fmt_short(&self) -> impl fmt::Display + use<> {
                Short(self.0[..5].try_into().expect("invariant: ids are longer than five bytes"))
            }
        }

        impl Ord for $name {
            /// As the bytes do. Ids are random: their first eight bytes nearly always tell them
            /// apart, which is a comparison of two numbers.
            fn cmp(&self, other: &Self) -> Ordering {
                head(&self.0).cmp(&head(&other.0)).then_with(|| self.0.cmp(&other.0))
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.fmt_short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let mut bytes = [0; $len];
                decode_hex(text, &mut bytes).ok_or(ParseIdError { expected: $len * 2 })?;
                Ok(Self(bytes))
            }
        }
    };
}

id! {
    /// A device: its Ed25519 public key, which is also its TLS identity.
    DeviceId, 32
}
id! {
    /// An entity: its long-term Ed25519 public key.
    EntityId, 32
}
id! {
    /// A realm: the SHA-256 hash of its genesis record.
    RealmId, 32
}
id! {
    /// A session, drawn at random by its initiator.
    SessionId, 16
}

/// Counts the resumes of one session; the higher epoch wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Counts the owners of one end of a session; each hand-over takes the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// One run of a gateway: a counter kept on disk, and a random number against restored backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// Raised and stored at every start.
    pub counter: u64,
    /// Drawn at every start.
    pub random: u64,
}

struct Short([u8; 5]);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn decode_hex(text: &str, out: &mut [u8]) -> Option<()> {
    if text.len() != out.len() * 2 {
        return None;
    }
    for (pair, byte) in text.as_bytes().chunks_exact(2).zip(out) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

fn digit(ascii: u8) -> Option<u8> {
    match ascii {
        b'0'..=b'9' => Some(ascii - b'0'),
        b'a'..=b'f' => Some(ascii - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_rejects_anything_else() {
        let id = SessionId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.fmt_short().to_string(), id.to_string()[..10]);
        for bad in ["", "0", "zz", &id.to_string().to_uppercase(), &format!("{id}0")] {
            assert_eq!(bad.parse::<SessionId>(), Err(ParseIdError { expected: 32 }), "{bad}");
        }
    }

    #[test]
    fn ids_order_as_their_bytes_do() {
        for (at, of) in (0..32).flat_map(|at| (0..32).map(move |of| (at, of))) {
            let (mut a, mut b) = ([7; 32], [7; 32]);
            (a[at], b[of]) = (9, 8);
            let (one, other) = (DeviceId::from_bytes(a), DeviceId::from_bytes(b));
            assert_eq!(one.cmp(&other), a.cmp(&b), "{at} {of}");
        }
    }
}
