//! Strict CBOR: size first, every byte consumed, and one encoding per value.
//!
//! Decoders of the CBOR library accept overlong integers and duplicate keys, so a value is encoded
//! again and compared. That makes the hash of a record's bytes an identity of the record.

use std::collections::BTreeSet;

use minicbor::decode::{Decode, Decoder, Error as CborError};
use minicbor::encode::Encode;

/// Bytes that are not the one encoding of a valid value. The peer that made them is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than this kind of value ever is; nothing was decoded.
    #[error("longer than {max} bytes")]
    TooLarge {
        /// Most bytes a value of the kind may have.
        max: usize,
    },
    /// Not the encoding of such a value.
    #[error("malformed")]
    Malformed,
    /// Trailing bytes, or another encoding than the one that the value has.
    #[error("not in canonical form")]
    NotCanonical,
    /// The signature, or one of a certificate inside, is not of the stated key over these bytes.
    #[error("a signature is wrong")]
    BadSignature,
}

/// A value with a strict CBOR form.
pub(crate) trait Cbor: Encode<()> + for<'b> Decode<'b, ()> {}

impl<T: Encode<()> + for<'b> Decode<'b, ()>> Cbor for T {}

/// The one encoding of `value`.
pub(crate) fn encode(value: &impl Encode<()>) -> Vec<u8> {
    minicbor::to_vec(value).expect("invariant: encoding into memory cannot fail")
}

/// The value that `bytes`, at most `max` of them, are the one encoding of.
pub(crate) fn decode<T: Cbor>(bytes: &[u8], max: usize) -> Result<T, DecodeError> {
    if bytes.len() > max {
        return Err(DecodeError::TooLarge { max });
    }
    let mut decoder = Decoder::new(bytes);
    let value: T = decoder.decode().map_err(|error| cause(&error))?;
    if decoder.position() != bytes.len() || encode(&value) != bytes {
        return Err(DecodeError::NotCanonical);
    }
    Ok(value)
}

/// Decodes a sequence of at most `MAX` elements.
pub(crate) fn at_most<'b, C, T: Decode<'b, C>, const MAX: usize>(
    d: &mut Decoder<'b>,
    ctx: &mut C,
) -> Result<Vec<T>, CborError> {
    let values = Vec::decode(d, ctx)?;
    if values.len() > MAX { Err(CborError::custom(DecodeError::Malformed)) } else { Ok(values) }
}

/// Decodes a set of at most `MAX` elements.
pub(crate) fn set_at_most<'b, C, T: Decode<'b, C> + Ord, const MAX: usize>(
    d: &mut Decoder<'b>,
    ctx: &mut C,
) -> Result<BTreeSet<T>, CborError> {
    at_most::<C, T, MAX>(d, ctx).map(BTreeSet::from_iter)
}

/// What a decoder of this crate reported from inside the CBOR library, else `Malformed`.
fn cause(error: &CborError) -> DecodeError {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<DecodeError>())
        .copied()
        .unwrap_or(DecodeError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_encoding_only() {
        assert_eq!(decode::<u64>(&[0x17], 1), Ok(23));
        assert_eq!(decode::<u64>(&[0x18, 0x17], 2), Err(DecodeError::NotCanonical));
        assert_eq!(decode::<u64>(&[0x17, 0x00], 2), Err(DecodeError::NotCanonical));
        assert_eq!(decode::<u64>(&[0x18], 2), Err(DecodeError::Malformed));
        assert_eq!(decode::<u64>(&[0x17], 0), Err(DecodeError::TooLarge { max: 0 }));
    }

    #[test]
    fn sequences_are_bounded_and_huge_headers_allocate_nothing() {
        let read = |bytes: &[u8]| at_most::<(), u8, 2>(&mut Decoder::new(bytes), &mut ());
        assert_eq!(read(&[0x82, 1, 2]).ok(), Some(vec![1, 2]));
        assert!(read(&[0x83, 1, 2, 3]).is_err());
        assert!(read(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
