//! The envelope of every signed record.
//!
//! It carries the payload as bytes, and the signature is over exactly these: nothing is encoded
//! again to be verified, and nothing is decoded before its signature is. A value of [`Signed`]
//! exists only if its signature holds; whether the signer had the right to sign is for the caller.

use std::ops::Deref;

use minicbor::bytes::{ByteArray, ByteSlice};
use minicbor::decode::{Decode, Decoder, Error as CborError};
use minicbor::encode::{Encode, Encoder, Error as EncodeError, Write};

use crate::codec::{self, Cbor, DecodeError};
use crate::key::{PublicKey, SIGNATURE_LEN, SecretKey};

/// Bytes that the envelope adds: array and string headers, signer, signature.
const OVERHEAD: usize = 1 + 3 + 2 + 32 + 2 + SIGNATURE_LEN;

/// A kind of record that is signed.
#[expect(private_bounds, reason = "records are those of this crate")]
pub trait Record: Cbor {
    /// Keeps a signature of one kind from being shown as another's.
    const DOMAIN: &'static str;
    /// Most bytes that the payload may have.
    const PAYLOAD_MAX: usize;
}

/// A record whose signature holds. Dereferences to the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<T> {
    record: T,
    payload: Vec<u8>,
    signer: PublicKey,
    signature: [u8; SIGNATURE_LEN],
}

impl<T: Record> Signed<T> {
    /// Most bytes that the envelope may have.
    pub const MAX: usize = T::PAYLOAD_MAX + OVERHEAD;

    /// Signs `record` with `key`.
    ///
    /// # Panics
    /// When the record is larger than its kind may be: its constructors see to that.
    pub fn sign(record: T, key: &SecretKey) -> Self {
        let payload = codec::encode(&record);
        assert!(payload.len() <= T::PAYLOAD_MAX, "invariant: constructors bound every record");
        let signature = key.sign(T::DOMAIN, &payload);
        Self { record, payload, signer: key.public_key(), signature }
    }

    /// Who signed.
    pub fn signer(&self) -> PublicKey {
        self.signer
    }

    /// The record without its envelope.
    pub fn into_record(self) -> T {
        self.record
    }

    /// The signed bytes.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The envelope as it travels.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads an envelope and verifies its signature.
    ///
    /// # Errors
    /// Anything but the one encoding of a validly signed record.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, Self::MAX)
    }

    fn open(
        payload: &[u8],
        signer: PublicKey,
        signature: [u8; SIGNATURE_LEN],
    ) -> Result<Self, DecodeError> {
        if payload.len() > T::PAYLOAD_MAX {
            return Err(DecodeError::TooLarge { max: T::PAYLOAD_MAX });
        }
        signer.verify(T::DOMAIN, payload, &signature).map_err(|_| DecodeError::BadSignature)?;
        let record = codec::decode(payload, T::PAYLOAD_MAX)?;
        Ok(Self { record, payload: payload.to_vec(), signer, signature })
    }
}

impl<T> Deref for Signed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.record
    }
}

impl<T, C> Encode<C> for Signed<T> {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        e.array(3)?.bytes(&self.payload)?.bytes(self.signer.as_bytes())?.bytes(&self.signature)?;
        Ok(())
    }
}

impl<'b, T: Record, C> Decode<'b, C> for Signed<T> {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, CborError> {
        let (payload, signer, signature): (&ByteSlice, ByteArray<32>, ByteArray<SIGNATURE_LEN>) =
            Decode::decode(d, ctx)?;
        Self::open(payload, PublicKey::from_bytes(*signer), *signature).map_err(CborError::custom)
    }
}

#[cfg(test)]
mod tests {
    use cloak_base::Rng;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
    struct Note(#[n(0)] u64, #[n(1)] String);

    impl Record for Note {
        const DOMAIN: &'static str = "note";
        const PAYLOAD_MAX: usize = 40;
    }

    #[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
    struct Twin(#[n(0)] u64, #[n(1)] String);

    impl Record for Twin {
        const DOMAIN: &'static str = "twin";
        const PAYLOAD_MAX: usize = 40;
    }

    fn key() -> SecretKey {
        SecretKey::generate(&mut Rng::from_u64(3))
    }

    fn envelope(payload: &[u8]) -> Vec<u8> {
        let signature = key().sign(Note::DOMAIN, payload);
        let parts = (
            <&ByteSlice>::from(payload),
            ByteArray::from(key().public()),
            ByteArray::from(signature),
        );
        codec::encode(&parts)
    }

    #[test]
    fn a_signature_counts_for_one_kind_of_record() {
        let note = Signed::sign(Note(1, "x".into()), &key());
        assert_eq!(Signed::<Note>::decode(&note.encode()), Ok(note.clone()));
        assert_eq!(Signed::<Twin>::decode(&note.encode()), Err(DecodeError::BadSignature));
    }

    #[test]
    fn a_signed_payload_must_be_canonical_and_small() {
        let decode = |payload: &[u8]| Signed::<Note>::decode(&envelope(payload));
        assert!(decode(&[0x82, 0x01, 0x60]).is_ok());
        assert_eq!(decode(&[0x82, 0x18, 0x01, 0x60]), Err(DecodeError::NotCanonical));
        assert_eq!(decode(&[0x82, 0x01, 0x60, 0x00]), Err(DecodeError::NotCanonical));
        assert_eq!(decode(&[0x82, 0x60, 0x01]), Err(DecodeError::Malformed));
        assert_eq!(decode(&[0; 41]), Err(DecodeError::TooLarge { max: 40 }));
        let max = Signed::<Note>::MAX;
        assert_eq!(Signed::<Note>::decode(&vec![0; max + 1]), Err(DecodeError::TooLarge { max }));
    }

    proptest! {
        #[test]
        fn tampering_with_any_byte_is_refused(number: u64, at: prop::sample::Index, flip in 1u8..) {
            let mut bytes = Signed::sign(Note(number, "text".into()), &key()).encode();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(Signed::<Note>::decode(&bytes).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            prop_assert!(Signed::<Note>::decode(&bytes).is_err());
        }
    }
}
