//! Who signs how: Ed25519 for up to a thousand peers, a keyed tag above that.
//!
//! The tag costs next to nothing, so that a hundred thousand peers spend their time in the overlay.
//! Simulated liars do not forge it: all they can do is what they could do against Ed25519.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use cloak_base::{DeviceId, Rng};
use cloak_identity::{PublicKey, SecretKey};
use cloak_overlay::{Certifier, Domain, Rank, Signature};

/// Up to this many peers, signatures are real.
pub const REAL_PEERS_MAX: usize = 1000;
/// What the authority signs a rank under.
const RANK_DOMAIN: &str = "cloak simulation rank\n";

/// How the peers of a simulation sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signatures {
    /// Ed25519.
    Real,
    /// A keyed tag.
    Tags,
}

/// A device's id and what it signs with.
pub struct Keys {
    /// The id.
    pub device: DeviceId,
    /// Signs and verifies.
    pub certifier: Arc<dyn Certifier + Send + Sync>,
}

impl Signatures {
    /// What simulations of this size use.
    pub fn for_peers(peers: usize) -> Self {
        if peers <= REAL_PEERS_MAX { Self::Real } else { Self::Tags }
    }

    /// Draws a device. A tag device's id ends with its number, so that it is found without a search.
    pub fn draw(self, number: u32, rank: Rank, rng: &mut Rng) -> Keys {
        match self {
            Self::Real => {
                let key = SecretKey::generate(rng);
                Keys { device: key.device_id(), certifier: Arc::new(Real { key, rank }) }
            }
            Self::Tags => {
                let mut id = rng.bytes::<32>();
                id[28..].copy_from_slice(&number.to_be_bytes());
                let device = DeviceId::from_bytes(id);
                Keys { device, certifier: Arc::new(Tags { device, rank }) }
            }
        }
    }
}

struct Real {
    key: SecretKey,
    rank: Rank,
}

impl Certifier for Real {
    fn sign(&self, domain: Domain, bytes: &[u8]) -> Signature {
        Signature(self.key.sign(domain.prefix(), bytes))
    }

    fn verify(
        &self,
        device: &DeviceId,
        domain: Domain,
        bytes: &[u8],
        signature: &Signature,
    ) -> bool {
        PublicKey::from(*device).verify(domain.prefix(), bytes, &signature.0).is_ok()
    }

    fn verify_rank(&self, device: &DeviceId, rank: Rank, proof: &[u8]) -> bool {
        let proof = proof.try_into();
        let valid = |proof: [u8; 64]| {
            authority().public_key().verify(RANK_DOMAIN, &rank_bytes(device, rank), &proof).is_ok()
        };
        proof.is_ok_and(valid)
    }

    fn rank(&self) -> (Rank, Vec<u8>) {
        let bytes = rank_bytes(&self.key.device_id(), self.rank);
        certified(self.rank, || Signature(authority().sign(RANK_DOMAIN, &bytes)))
    }
}

struct Tags {
    device: DeviceId,
    rank: Rank,
}

impl Certifier for Tags {
    fn sign(&self, domain: Domain, bytes: &[u8]) -> Signature {
        tag(&self.device, domain.prefix(), bytes)
    }

    fn verify(
        &self,
        device: &DeviceId,
        domain: Domain,
        bytes: &[u8],
        signature: &Signature,
    ) -> bool {
        tag(device, domain.prefix(), bytes) == *signature
    }

    fn verify_rank(&self, device: &DeviceId, rank: Rank, proof: &[u8]) -> bool {
        tag(device, RANK_DOMAIN, &rank.0.to_be_bytes()).0[..] == *proof
    }

    fn rank(&self) -> (Rank, Vec<u8>) {
        certified(self.rank, || tag(&self.device, RANK_DOMAIN, &self.rank.0.to_be_bytes()))
    }
}

/// The realm's authority, the same in all simulations.
fn authority() -> SecretKey {
    SecretKey::from_seed([0x5a; 32])
}

/// A rank with its certificate; no rank has none.
fn certified(rank: Rank, sign: impl FnOnce() -> Signature) -> (Rank, Vec<u8>) {
    (rank, if rank == Rank::NONE { Vec::new() } else { sign().0.to_vec() })
}

fn rank_bytes(device: &DeviceId, rank: Rank) -> Vec<u8> {
    [&device.as_bytes()[..], &rank.0.to_be_bytes()].concat()
}

fn tag(device: &DeviceId, domain: &str, bytes: &[u8]) -> Signature {
    let mut hasher = DefaultHasher::new();
    (device, domain, bytes).hash(&mut hasher);
    let mut signature = [0x7a; 64];
    signature[..8].copy_from_slice(&hasher.finish().to_be_bytes());
    Signature(signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_counts_for_its_device_its_purpose_and_its_bytes_alone() {
        for kind in [Signatures::Real, Signatures::Tags] {
            let mut rng = Rng::from_u64(9);
            let (a, b) = (kind.draw(0, Rank(1), &mut rng), kind.draw(1, Rank::NONE, &mut rng));
            let signature = a.certifier.sign(Domain::Vote, b"yes");
            let counts = |device: &Keys, domain, bytes: &[u8]| {
                b.certifier.verify(&device.device, domain, bytes, &signature)
            };
            assert!(counts(&a, Domain::Vote, b"yes"), "{kind:?}");
            assert!(!counts(&b, Domain::Vote, b"yes"), "{kind:?}");
            assert!(!counts(&a, Domain::Will, b"yes"), "{kind:?}");
            assert!(!counts(&a, Domain::Vote, b"no"), "{kind:?}");
            let (rank, proof) = a.certifier.rank();
            assert_eq!((rank, b.certifier.rank()), (Rank(1), (Rank::NONE, Vec::new())), "{kind:?}");
            assert!(b.certifier.verify_rank(&a.device, Rank(1), &proof), "{kind:?}");
            assert!(!b.certifier.verify_rank(&a.device, Rank(0), &proof), "{kind:?}");
            assert!(!b.certifier.verify_rank(&b.device, Rank(1), &proof), "{kind:?}");
        }
    }
}
