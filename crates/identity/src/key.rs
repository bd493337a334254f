//! Secret keys. One type serves devices, entities, a realm's authority and its recovery key; what
//! a key is for shows in the id made of its public half.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use cloak_base::{DeviceId, EntityId, Rng};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::text::{self, TextError};

/// Length of a signature in bytes.
pub(crate) const SIGNATURE_LEN: usize = 64;
/// How the text form of a secret key starts.
const PREFIX: &str = "cloak-secret-key-1";

/// An Ed25519 secret key. It is wiped when dropped, and neither `Debug` nor any error shows it.
#[derive(Clone)]
pub struct SecretKey {
    seed: Zeroizing<[u8; 32]>,
    public: PublicKey,
}

/// An Ed25519 public key in a role that has no id of its own: a realm's authority, a signer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct PublicKey(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    [u8; 32],
);

/// A signature that is not of the key over the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not this key's signature over these bytes")]
pub struct BadSignature;

impl SecretKey {
    /// A new key.
    pub fn generate(rng: &mut Rng) -> Self {
        Self::from_seed(rng.bytes())
    }

    /// The key with this seed (RFC 8032, the 32-byte private key).
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        let public = pair(&seed).public_key().as_ref().try_into();
        Self { public: PublicKey(public.expect("invariant: an Ed25519 key has 32 bytes")), seed }
    }

    /// The seed, for a TLS stack or a key file. Whoever holds it is the key's owner.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The bytes of the public half.
    pub fn public(&self) -> [u8; 32] {
        self.public.0
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// The device that has this key.
    pub fn device_id(&self) -> DeviceId {
        self.public.into()
    }

    /// The entity that has this key.
    pub fn entity_id(&self) -> EntityId {
        self.public.into()
    }

    /// Signs `payload` as a record of the kind `domain`: the signature counts for no other kind.
    pub fn sign(&self, domain: &'static str, payload: &[u8]) -> [u8; SIGNATURE_LEN] {
        let signature = pair(&self.seed).sign(&message(domain, payload));
        signature.as_ref().try_into().expect("invariant: an Ed25519 signature has 64 bytes")
    }

    /// One line for a backup: `cloak-secret-key-1` and base32 with a checksum. It reads back with
    /// `parse`, in either letter case. The text is wiped when dropped.
    pub fn to_text(&self) -> Zeroizing<String> {
        text::to_line(PREFIX, &*self.seed)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {:?})", self.public)
    }
}

impl FromStr for SecretKey {
    type Err = TextError;

    fn from_str(line: &str) -> Result<Self, TextError> {
        let body = text::from_line(PREFIX, line)?;
        let seed: [u8; 32] = body.as_slice().try_into().map_err(|_| TextError::Content)?;
        Ok(Self::from_seed(seed))
    }
}

impl PublicKey {
    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks a signature made by [`SecretKey::sign`].
    ///
    /// # Errors
    /// When it is not this key's, of that kind, over these bytes.
    pub fn verify(
        &self,
        domain: &'static str,
        payload: &[u8],
        signature: &[u8; SIGNATURE_LEN],
    ) -> Result<(), BadSignature> {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(&message(domain, payload), signature)
            .map_err(|_| BadSignature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", DeviceId::from(*self).fmt_short())
    }
}

macro_rules! same_bytes {
    ($($id:ident)*) => {$(
        impl From<$id> for PublicKey {
            fn from(id: $id) -> Self {
                Self(*id.as_bytes())
            }
        }

        impl From<PublicKey> for $id {
            fn from(key: PublicKey) -> Self {
                Self::from_bytes(key.0)
            }
        }
    )*};
}

same_bytes!(DeviceId EntityId);

fn pair(seed: &[u8; 32]) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed).expect("invariant: any 32 bytes are an Ed25519 seed")
}

/// What is signed. TLS signs with device keys too, but its messages start with 64 spaces, so
/// neither can stand for the other.
fn message(domain: &'static str, payload: &[u8]) -> Vec<u8> {
    [b"cloak/1 ", domain.as_bytes(), b"\0", payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_half_and_signatures_are_those_of_rfc_8032() {
        let key = SecretKey::from_seed(hex(
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        ));
        assert_eq!(
            key.device_id().to_string(),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        let signature = key.sign("test", b"payload");
        assert_eq!(key.public_key().verify("test", b"payload", &signature), Ok(()));
        for (domain, payload) in [("other", b"payload"), ("test", b"Payload")] {
            let verified = key.public_key().verify(domain, payload, &signature);
            assert_eq!(verified, Err(BadSignature));
        }
    }

    #[test]
    fn the_text_form_round_trips_and_tells_typos() {
        let key = SecretKey::generate(&mut Rng::from_u64(1));
        let line = key.to_text();
        assert!(line.starts_with("cloak-secret-key-1"));
        for form in [line.to_string(), line.to_uppercase(), format!(" {}\n", *line)] {
            assert_eq!(form.parse::<SecretKey>().unwrap().public(), key.public());
        }
        let cut = &line[..line.len() - 8];
        let error = |text: &str| text.parse::<SecretKey>().unwrap_err();
        assert_eq!(error("age1xyz"), TextError::Prefix { expected: PREFIX });
        assert_eq!(error(cut), TextError::Checksum);
        assert_eq!(error(&format!("{cut}00000000")), TextError::Alphabet);
        assert_eq!(error(&text::to_line(PREFIX, b"short")), TextError::Content);
    }

    #[test]
    fn secrets_are_never_printed() {
        let key = SecretKey::from_seed([0xab; 32]);
        let shown = format!("{key:?} {:?}", Some(&key));
        let text = key.to_text();
        for secret in ["abab", "ABAB", "171, 171", &text[PREFIX.len()..PREFIX.len() + 8]] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    fn hex(text: &str) -> [u8; 32] {
        *text.parse::<DeviceId>().unwrap().as_bytes()
    }
}
