//! Proofs that an end knows the session's secret, bound to one connection and one attempt.
//!
//! HMAC-SHA-256 over fields of fixed length, so that no two inputs read the same. Everything a
//! `Resume` or `Resumed` says is covered.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign, verify};
use cloak_base::{DeviceId, Epoch, Generation, SessionId};
use cloak_wire::{Nonce, Proof, Secret};

use crate::{LaneEnds, Role};

/// What an end claims in a `Resume` or `Resumed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The session.
    pub session: SessionId,
    /// Epoch of the `Resume`; repeated in the `Resumed`.
    pub epoch: Epoch,
    /// Role of the end that makes the claim.
    pub role: Role,
    /// Its `received`.
    pub received: u64,
    /// Its `delivered`.
    pub delivered: u64,
    /// Its `credit`.
    pub credit: u64,
}

/// The proof of a `Resume`: label "resume", the dialler's nonce, the dialler's and the acceptor's
/// device keys, then the claim.
pub fn resume_proof(secret: &Secret, ends: &LaneEnds, claim: &Claim) -> Proof {
    seal(secret, &resume_input(ends, claim))
}

/// The proof of a `Resumed`: label "resumed", both nonces, both device keys, then the claim. `None`
/// while the acceptor's nonce is unknown.
pub fn resumed_proof(secret: &Secret, ends: &LaneEnds, claim: &Claim) -> Option<Proof> {
    Some(seal(secret, &resumed_input(ends, claim)?))
}

/// Whether `proof` is the one of this `Resume`; in constant time.
pub fn verify_resume(secret: &Secret, ends: &LaneEnds, claim: &Claim, proof: &Proof) -> bool {
    verify(&key(secret), &resume_input(ends, claim), &proof.0[..]).is_ok()
}

/// Whether `proof` is the one of this `Resumed`; in constant time. False while the acceptor's nonce
/// is unknown.
pub fn verify_resumed(secret: &Secret, ends: &LaneEnds, claim: &Claim, proof: &Proof) -> bool {
    resumed_input(ends, claim)
        .is_some_and(|input| verify(&key(secret), &input, &proof.0[..]).is_ok())
}

/// The secret of an end's next owner: HMAC-SHA-256 under the present one over the label "owner", the
/// end's role, the generation and the owner's device key.
pub(crate) fn owner_secret(
    secret: &Secret,
    role: Role,
    generation: Generation,
    owner: DeviceId,
) -> Secret {
    let mut input = b"cloak 1 owner".to_vec();
    input.push(role_byte(role));
    input.extend_from_slice(&generation.0.to_be_bytes());
    input.extend_from_slice(owner.as_bytes());
    Secret(seal(secret, &input).0)
}

/// The secret of the device that takes an end of which it keeps a copy: like that of the next owner, over
/// the label "escrow" and the copy's number as well.
pub(crate) fn escrow_secret(
    secret: &Secret,
    role: Role,
    generation: Generation,
    holder: DeviceId,
    copy: u64,
) -> Secret {
    let mut input = b"cloak 1 escrow".to_vec();
    input.push(role_byte(role));
    input.extend_from_slice(&generation.0.to_be_bytes());
    input.extend_from_slice(&copy.to_be_bytes());
    input.extend_from_slice(holder.as_bytes());
    Secret(seal(secret, &input).0)
}

/// Whether two secrets are the same; in constant time.
pub(crate) fn same_secret(a: &Secret, b: &Secret) -> bool {
    verify_slices_are_equal(&a.0[..], &b.0[..]).is_ok()
}

fn key(secret: &Secret) -> Key {
    Key::new(HMAC_SHA256, &secret.0[..])
}

fn seal(secret: &Secret, input: &[u8]) -> Proof {
    let tag = sign(&key(secret), input);
    let bytes: [u8; 32] = tag.as_ref().try_into().expect("invariant: HMAC-SHA-256 has 32 bytes");
    Proof(bytes.into())
}

fn resume_input(ends: &LaneEnds, claim: &Claim) -> Vec<u8> {
    input(b"cloak 1 resume", &[&ends.dialler_nonce], [&ends.dialler, &ends.acceptor], claim)
}

fn resumed_input(ends: &LaneEnds, claim: &Claim) -> Option<Vec<u8>> {
    let nonces = [&ends.dialler_nonce, ends.acceptor_nonce.as_ref()?];
    Some(input(b"cloak 1 resumed", &nonces, [&ends.dialler, &ends.acceptor], claim))
}

fn input(label: &[u8], nonces: &[&Nonce], devices: [&DeviceId; 2], claim: &Claim) -> Vec<u8> {
    let mut out = Vec::with_capacity(192);
    out.extend_from_slice(label);
    nonces.iter().for_each(|nonce| out.extend_from_slice(&nonce.0[..]));
    devices.iter().for_each(|device| out.extend_from_slice(device.as_bytes()));
    out.extend_from_slice(claim.session.as_bytes());
    out.push(role_byte(claim.role));
    for number in [claim.epoch.0, claim.received, claim.delivered, claim.credit] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out
}

fn role_byte(role: Role) -> u8 {
    match role {
        Role::Initiator => 1,
        Role::Responder => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> LaneEnds {
        LaneEnds {
            dialler: DeviceId::from_bytes([1; 32]),
            acceptor: DeviceId::from_bytes([2; 32]),
            dialler_nonce: Nonce([3; 32].into()),
            acceptor_nonce: Some(Nonce([4; 32].into())),
        }
    }

    fn claim() -> Claim {
        Claim {
            session: SessionId::from_bytes([5; 16]),
            epoch: Epoch(6),
            role: Role::Initiator,
            received: 7,
            delivered: 6,
            credit: 8,
        }
    }

    /// Each field of the claim and of the connection changes the proof.
    #[test]
    fn resume_is_bound_to_the_device_key_not_the_ip() {
        let secret = Secret([9; 32].into());
        let proof = resume_proof(&secret, &ends(), &claim());
        assert!(verify_resume(&secret, &ends(), &claim(), &proof));
        let connections = [
            LaneEnds { dialler: DeviceId::from_bytes([8; 32]), ..ends() },
            LaneEnds { acceptor: DeviceId::from_bytes([8; 32]), ..ends() },
            LaneEnds { dialler_nonce: Nonce([8; 32].into()), ..ends() },
        ];
        for other in connections {
            assert!(!verify_resume(&secret, &other, &claim(), &proof), "{other:?}");
        }
        for other in other_claims() {
            assert!(!verify_resume(&secret, &ends(), &other, &proof), "{other:?}");
        }
        assert!(!verify_resume(&Secret([1; 32].into()), &ends(), &claim(), &proof));
        assert!(!verify_resumed(&secret, &ends(), &claim(), &proof), "the label is covered");
    }

    #[test]
    fn resumed_needs_both_nonces() {
        let secret = Secret([9; 32].into());
        let proof = resumed_proof(&secret, &ends(), &claim()).unwrap();
        assert!(verify_resumed(&secret, &ends(), &claim(), &proof));
        let other = LaneEnds { acceptor_nonce: Some(Nonce([8; 32].into())), ..ends() };
        assert!(!verify_resumed(&secret, &other, &claim(), &proof));
        let unknown = LaneEnds { acceptor_nonce: None, ..ends() };
        assert!(!verify_resumed(&secret, &unknown, &claim(), &proof));
        assert_eq!(resumed_proof(&secret, &unknown, &claim()), None);
    }

    fn other_claims() -> [Claim; 6] {
        [
            Claim { session: SessionId::from_bytes([1; 16]), ..claim() },
            Claim { epoch: Epoch(5), ..claim() },
            Claim { role: Role::Responder, ..claim() },
            Claim { received: 8, ..claim() },
            Claim { delivered: 7, ..claim() },
            Claim { credit: 9, ..claim() },
        ]
    }
}
