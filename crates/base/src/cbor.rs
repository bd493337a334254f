//! The CBOR form (RFC 8949) of the words in this crate: ids are byte strings of their exact
//! length, times and epochs are unsigned integers.

use minicbor::bytes::{ByteArray, ByteSlice};
use minicbor::decode::{Decode, Decoder, Error as DecodeError};
use minicbor::encode::{Encode, Encoder, Error as EncodeError, Write};

use crate::{DeviceId, EntityId, Epoch, Generation, Incarnation, RealmId, SessionId, UnixTime};

macro_rules! byte_string {
    ($($name:ident)*) => {$(
        impl<C> Encode<C> for $name {
            fn encode<W: Write>(
                &self,
                e: &mut Encoder<W>,
                ctx: &mut C,
            ) -> Result<(), EncodeError<W::Error>> {
                <&ByteSlice>::from(&self.as_bytes()[..]).encode(e, ctx)
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, DecodeError> {
                let bytes = ByteArray::<{ $name::LEN }>::decode(d, ctx)?;
                Ok(Self::from_bytes(*bytes))
            }
        }
    )*};
}

macro_rules! unsigned {
    ($($name:ident)*) => {$(
        impl<C> Encode<C> for $name {
            fn encode<W: Write>(
                &self,
                e: &mut Encoder<W>,
                ctx: &mut C,
            ) -> Result<(), EncodeError<W::Error>> {
                self.0.encode(e, ctx)
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, DecodeError> {
                u64::decode(d, ctx).map(Self)
            }
        }
    )*};
}

byte_string!(DeviceId EntityId RealmId SessionId);
unsigned!(Epoch Generation UnixTime);

impl<C> Encode<C> for Incarnation {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        (self.counter, self.random).encode(e, ctx)
    }
}

impl<'b, C> Decode<'b, C> for Incarnation {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, DecodeError> {
        let (counter, random) = Decode::decode(d, ctx)?;
        Ok(Self { counter, random })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_length() {
        let id = DeviceId::from_bytes([7; 32]);
        let bytes = minicbor::to_vec(id).unwrap();
        assert_eq!((bytes.len(), minicbor::decode(&bytes).ok()), (34, Some(id)));
        assert!(minicbor::decode::<SessionId>(&bytes).is_err());
    }
}
