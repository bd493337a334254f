//! What opens a plain hop of a circuit: magic and cookie one way, one status byte the other.
//!
//! Then the bytes are those of the circuit's ends. The first byte is none that a TLS record begins
//! with, so that one listener serves both. See docs/PROTOCOL.md, "Circuits".

use std::fmt;

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

/// Begins a preamble. A TLS handshake begins with 0x16.
pub const PREAMBLE_MAGIC: [u8; 4] = [0xc1, b'h', b'o', b'p'];
/// Bytes of a preamble: magic and cookie.
pub const PREAMBLE_LEN: usize = PREAMBLE_MAGIC.len() + 32;

/// Random bytes that open one hop, once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Cookie(#[n(0)] pub ByteArray<32>);

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(..)")
    }
}

/// The answer to a preamble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The circuit's bytes follow.
    Open,
    /// The cookie is unknown, used or too old, or another's; the connection ends.
    Refused,
}

impl Status {
    /// The byte on the wire.
    pub fn byte(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Refused => 1,
        }
    }

    /// What the byte says; none for one that no peer sends.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Open),
            1 => Some(Self::Refused),
            _ => None,
        }
    }
}

/// The preamble with this cookie.
pub fn preamble(cookie: &Cookie) -> [u8; PREAMBLE_LEN] {
    let mut bytes = [0; PREAMBLE_LEN];
    let (magic, rest) = bytes.split_at_mut(PREAMBLE_MAGIC.len());
    magic.copy_from_slice(&PREAMBLE_MAGIC);
    rest.copy_from_slice(&cookie.0[..]);
    bytes
}

/// The cookie of a preamble; none where it is not one.
pub fn parse_preamble(bytes: &[u8; PREAMBLE_LEN]) -> Option<Cookie> {
    let cookie = bytes.strip_prefix(&PREAMBLE_MAGIC)?;
    let cookie: [u8; 32] = cookie.try_into().ok()?;
    Some(Cookie(cookie.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preamble_is_read_back_and_is_no_tls_record() {
        let cookie = Cookie([7; 32].into());
        let mut bytes = preamble(&cookie);
        assert_ne!(bytes[0], 0x16);
        assert_eq!(parse_preamble(&bytes), Some(cookie));
        bytes[3] ^= 1;
        assert_eq!(parse_preamble(&bytes), None);
        assert_eq!(format!("{cookie:?}"), "Cookie(..)");
        for status in [Status::Open, Status::Refused] {
            assert_eq!(Status::from_byte(status.byte()), Some(status));
        }
        assert_eq!(Status::from_byte(0x16), None);
    }
}
