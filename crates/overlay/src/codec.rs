//! Fields whose types come from elsewhere, and lists with a maximum, in CBOR.
//!
//! Every decoder here checks a length before it allocates for it.

use std::net::SocketAddr;
use std::sync::Arc;

use cloak_geometry::{Address, Degree};
use minicbor::Decoder;
use minicbor::decode::{Decode, Error};
use minicbor::encode::Write;

use crate::contact::LOCATORS_MAX;

/// Decodes a list of at most `MAX` items.
pub(crate) fn at_most<'b, C, T: Decode<'b, C>, const MAX: usize>(
    d: &mut Decoder<'b>,
    ctx: &mut C,
) -> Result<Vec<T>, Error> {
    let count = d.array()?.ok_or_else(|| Error::message("a list without a length"))?;
    let count = usize::try_from(count).ok().filter(|count| *count <= MAX);
    let count = count.ok_or_else(|| Error::message("too many items"))?;
    (0..count).map(|_| T::decode(d, ctx)).collect()
}

/// Decodes a byte string of at most `MAX` bytes.
pub(crate) fn short_bytes<C, const MAX: usize>(
    d: &mut Decoder<'_>,
    _: &mut C,
) -> Result<Arc<[u8]>, Error> {
    let bytes = d.bytes()?;
    if bytes.len() > MAX { Err(Error::message("too many bytes")) } else { Ok(bytes.into()) }
}

/// A shared byte string.
pub(crate) fn put_bytes<C, W: Write>(
    bytes: &Arc<[u8]>,
    e: &mut minicbor::Encoder<W>,
    _: &mut C,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    e.bytes(bytes)?.ok()
}

/// A shared list of locators.
pub(crate) mod locators {
    use super::*;

    pub(crate) fn encode<C, W: Write>(
        list: &Arc<[SocketAddr]>,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        minicbor::Encode::encode(&**list, e, ctx)
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, ctx: &mut C) -> Result<Arc<[SocketAddr]>, Error> {
        at_most::<C, SocketAddr, LOCATORS_MAX>(d, ctx).map(Into::into)
    }
}

/// Deepest address that is taken from a peer. Real trees have less than ten levels.
pub(crate) const DEPTH_MAX: usize = 64;

/// A virtual address: a byte string of child indices.
///
/// Indices are checked against the largest degree only: an address counts once a certificate for it
/// was verified, and there each index is checked against the realm's degree.
pub(crate) mod address {
    use super::*;

    pub(crate) fn encode<C, W: Write>(
        address: &Address,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(address.as_bytes())?.ok()
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Address, Error> {
        let bytes = d.bytes()?;
        if bytes.len() > DEPTH_MAX {
            return Err(Error::message("too deep an address"));
        }
        Address::from_bytes(bytes, Degree::MAX).map_err(|_| Error::message("not an address"))
    }
}
