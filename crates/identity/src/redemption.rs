//! Redeeming an invitation, at the side that was invited.
//!
//! The exchange is one request and one grant, inside a mutually authenticated transport to the
//! device that made the invitation. The proof covers both nonces and both device keys of that
//! transport, so a request that was overheard, or sent to a wrong device, is worth nothing.

use cloak_base::{DeviceId, EntityId, UnixTime};
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use crate::codec::{self, DecodeError};
use crate::credentials::{CredentialError, Credentials};
use crate::device::{Certifier, DeviceChain};
use crate::grant::Grant;
use crate::invitation::{
    INVITATION_LIFE_MAX, Invitation, InvitationId, InvitationKind, InvitationSecret,
};
use crate::key::SecretKey;
use crate::name::Label;
use crate::realm::{Realm, RealmError};
use crate::revocation::RevocationLists;
use crate::validity::CLOCK_TOLERANCE;

/// One end of the transport on which an invitation is redeemed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct TransportEnd {
    /// The device key that the transport saw.
    #[n(0)]
    pub device: DeviceId,
    /// The nonce of its `Hello`.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub nonce: [u8; 32],
}

/// Both ends of that transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Transcript {
    /// The end that dialled: it redeems.
    #[n(0)]
    pub dialler: TransportEnd,
    /// The end that accepted: it made the invitation.
    #[n(1)]
    pub acceptor: TransportEnd,
}

/// What the one who redeems an invitation asks for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Wish {
    /// To become a member.
    #[n(0)]
    Member {
        /// The new entity's key.
        #[n(0)]
        entity: EntityId,
        /// The name it wants.
        #[n(1)]
        name: Label,
        /// The label of its first device.
        #[n(2)]
        label: Label,
    },
    /// To become a device of the inviter's entity.
    #[n(1)]
    Device {
        /// Its label.
        #[n(0)]
        label: Label,
    },
}

/// The body of `Redeem`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RedeemRequest {
    /// Which invitation.
    #[n(0)]
    pub id: InvitationId,
    /// What is asked for.
    #[n(1)]
    pub wish: Wish,
    #[n(2)]
    proof: ByteArray<32>,
}

/// A redemption under way. It holds what has to be kept until the grant arrives.
#[derive(Debug)]
pub struct Redemption {
    invitation: Invitation,
    device: DeviceId,
    entity: Option<SecretKey>,
    request: RedeemRequest,
}

/// What redeeming an invitation yields, all of it verified.
#[derive(Debug)]
pub struct Joined {
    /// The realm.
    pub realm: Realm,
    /// Of this device.
    pub credentials: Credentials,
    /// The new entity's key; none where the device joined an entity that exists.
    pub entity: Option<SecretKey>,
    /// Known revocations.
    pub revocations: RevocationLists,
    /// Bindings of known devices, as they travel, not yet verified.
    pub bindings: Vec<Vec<u8>>,
}

/// Why an invitation cannot be redeemed as asked. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedemptionError {
    /// It is over, or the clock here is ahead.
    #[error("the invitation expired at {expires}, and here it is {now}")]
    Expired {
        /// When it expired.
        expires: UnixTime,
        /// The time here.
        now: UnixTime,
    },
    /// No invitation lives so long: the clock here is behind, and what comes of it would not count.
    #[error("the invitation ends only at {expires}, and here it is {now}: the clock is behind")]
    ClockBehind {
        /// When it expires.
        expires: UnixTime,
        /// The time here.
        now: UnixTime,
    },
    /// The inviter fixed another name.
    #[error("the invitation fixes the name; leave it out")]
    NameFixed,
    /// The invitation leaves the name open.
    #[error("the invitation leaves the name to you: choose one")]
    NameMissing,
    /// The invitation is for a device, and a name was given.
    #[error("the invitation is for a further device of an entity, which has its name")]
    DeviceHasNoName,
    /// The transport is not to the device that made the invitation.
    #[error("the answering device did not make this invitation")]
    WrongRegistrar,
}

/// Why a grant does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Not a grant at all.
    #[error("the grant is unreadable: {0}")]
    Decode(#[from] DecodeError),
    /// The grant is of another realm than the invitation, or its record is wrong.
    #[error("the grant is of another realm than the invitation")]
    WrongRealm,
    /// The authority change in it is not the realm's.
    #[error(transparent)]
    Realm(#[from] RealmError),
    /// It lacks the device certificate, or makes somebody else a member.
    #[error("the grant is not what was asked for")]
    NotAsAsked,
    /// The certificates in it do not count.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

impl RedeemRequest {
    /// Most bytes of the encoding.
    pub const MAX: usize = 256;

    pub(crate) fn new(secret: &InvitationSecret, transcript: &Transcript, wish: Wish) -> Self {
        let proof = secret.prove(&statement(transcript, &wish)).into();
        Self { id: secret.id(), wish, proof }
    }

    pub(crate) fn is_proved(&self, secret: &InvitationSecret, transcript: &Transcript) -> bool {
        secret.is_proved(&statement(transcript, &self.wish), &self.proof)
    }

    /// The request as `Redeem` carries it.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a request.
    ///
    /// # Errors
    /// Anything but the one encoding of a request.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, Self::MAX)
    }
}

impl Redemption {
    /// Begins to redeem an invitation of either kind. `entity` is the key of the entity that a
    /// member invitation makes; keep it before the request is sent, since the same keys may ask
    /// again if the answer is lost. `name` is for invitations that fix none.
    ///
    /// # Errors
    /// [`RedemptionError`].
    pub fn new(
        invitation: Invitation,
        transcript: &Transcript,
        entity: SecretKey,
        name: Option<Label>,
        label: Label,
        now: UnixTime,
    ) -> Result<Self, RedemptionError> {
        check_name(&invitation, name.as_ref())?;
        if now > invitation.expires + CLOCK_TOLERANCE {
            return Err(RedemptionError::Expired { expires: invitation.expires, now });
        }
        if invitation.expires > now + INVITATION_LIFE_MAX + CLOCK_TOLERANCE {
            return Err(RedemptionError::ClockBehind { expires: invitation.expires, now });
        }
        if transcript.acceptor.device != invitation.registrar {
            return Err(RedemptionError::WrongRegistrar);
        }
        let (wish, entity) = match invitation.kind {
            InvitationKind::Device => (Wish::Device { label }, None),
            InvitationKind::Member => {
                let name = name.or_else(|| invitation.name.clone());
                let name = name.ok_or(RedemptionError::NameMissing)?;
                (Wish::Member { entity: entity.entity_id(), name, label }, Some(entity))
            }
        };
        let request = RedeemRequest::new(&invitation.secret, transcript, wish);
        Ok(Self { invitation, device: transcript.dialler.device, entity, request })
    }

    /// What to send.
    pub fn request(&self) -> &RedeemRequest {
        &self.request
    }

    /// Verifies the grant.
    ///
    /// # Errors
    /// When it is not what was asked for, or does not count.
    pub fn finish(self, grant: &[u8], now: UnixTime) -> Result<Joined, GrantError> {
        let grant = Grant::decode(grant)?;
        let realm = self.realm(&grant)?;
        let device = self.device_chain(&grant, now)?;
        let credentials = Credentials::new(&realm, grant.membership, device);
        let mut revocations = RevocationLists::new();
        for list in grant.revocations {
            // A list that does not count is the same as one that was not sent.
            let _ = revocations.merge(list, &realm, now);
        }
        credentials.verify(&realm, self.device, &revocations, now)?;
        let bindings = grant.bindings.into_iter().map(Vec::from).collect();
        Ok(Joined { realm, credentials, entity: self.entity, revocations, bindings })
    }

    fn realm(&self, grant: &Grant) -> Result<Realm, GrantError> {
        let mut realm = Realm::new(grant.genesis.clone());
        if realm.id() != self.invitation.realm {
            return Err(GrantError::WrongRealm);
        }
        if let Some(change) = &grant.change {
            realm.adopt(change.clone())?;
        }
        Ok(realm)
    }

    /// A new member certifies its own device; a further device is certified in the grant.
    fn device_chain(&self, grant: &Grant, now: UnixTime) -> Result<DeviceChain, GrantError> {
        let membership = &grant.membership.membership;
        match (&self.request.wish, &self.entity) {
            (Wish::Member { entity, name, label }, Some(key)) => {
                if membership.entity != *entity || membership.name != *name {
                    return Err(GrantError::NotAsAsked);
                }
                let certifier = Certifier::entity(self.invitation.realm, key);
                Ok(certifier.certify(now, self.device, label.clone()))
            }
            (Wish::Device { label }, _) => grant
                .device
                .clone()
                .filter(|device| device.certificate.label == *label)
                .ok_or(GrantError::NotAsAsked),
            (Wish::Member { .. }, None) => Err(GrantError::NotAsAsked),
        }
    }
}

fn check_name(invitation: &Invitation, name: Option<&Label>) -> Result<(), RedemptionError> {
    match (invitation.kind, name) {
        (InvitationKind::Device, Some(_)) => Err(RedemptionError::DeviceHasNoName),
        (InvitationKind::Member, Some(name))
            if invitation.name.as_ref().is_some_and(|n| n != name) =>
        {
            Err(RedemptionError::NameFixed)
        }
        _ => Ok(()),
    }
}

/// What the proof is over.
fn statement(transcript: &Transcript, wish: &Wish) -> Vec<u8> {
    codec::encode(&("cloak/1 redeem", transcript, wish))
}
