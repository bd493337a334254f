//! The invitations that a device made, and their redemption, once each.
//!
//! A value to be persisted: after [`Invitations::redeem`] returns a grant the invitation is marked,
//! and the driver writes [`Invitations::encode`] durably *before* it sends the grant. A crash
//! between the two loses the grant, not the mark; the same keys may then ask again.

use std::collections::BTreeMap;

use cloak_base::{DeviceId, Rng, UnixTime};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::codec::{self, DecodeError};
use crate::device::Certifier;
use crate::grant::Grant;
use crate::invitation::{Invitation, InvitationId, InvitationKind, InvitationSecret};
use crate::membership::MembershipChain;
use crate::name::Label;
use crate::realm::Realm;
use crate::redemption::{RedeemRequest, Transcript, Wish};
use crate::registrar::{Registrar, RegistrarError};
use crate::revocation::RevocationLists;
use crate::roster::{Roster, RosterError};

/// Most invitations that are remembered.
pub const INVITATIONS_MAX: usize = 256;
/// Bytes of the largest entry: id, secret, kind, name, times, device, wish.
const ENTRY_MAX: usize = 400;

/// The invitations made here. `Debug` shows no secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Invitations {
    #[n(0)]
    entries: BTreeMap<InvitationId, Entry>,
}

/// What an invitation to be made is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// A member or a device.
    pub kind: InvitationKind,
    /// The name that a new member gets; none leaves it to the newcomer.
    pub name: Option<Label>,
    /// The last second in which it can be redeemed.
    pub expires: UnixTime,
}

/// What a device needs to grant what its invitations promise.
#[derive(Debug)]
pub struct Issuer<'a> {
    /// The realm.
    pub realm: &'a Realm,
    /// Admits members, where this device is a registrar.
    pub registrar: Option<Registrar<'a>>,
    /// Certifies devices, where this device holds its entity's key or is a steward.
    pub certifier: Option<Certifier<'a>>,
    /// The membership of this device's entity, given to its further devices.
    pub membership: &'a MembershipChain,
    /// Notes who was admitted; to be persisted along with the invitations.
    pub roster: &'a mut Roster,
    /// Given to the newcomer.
    pub revocations: &'a RevocationLists,
}

/// No invitation was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{INVITATIONS_MAX} invitations are open already")]
pub struct TooManyInvitations;

/// Why an invitation is not redeemed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// Not a request at all: from [`RedeemRequest::decode`].
    #[error("the request is unreadable: {0}")]
    Decode(#[from] DecodeError),
    /// This device did not make it, or forgot it long after it expired.
    #[error("this device made no such invitation")]
    Unknown,
    /// The secret is not that of the invitation, or the proof is of another transport.
    #[error("the proof of the invitation's secret is wrong")]
    WrongProof,
    /// Somebody redeemed it before.
    #[error("the invitation was redeemed before")]
    Used,
    /// It is over.
    #[error("the invitation expired at {expires}")]
    Expired {
        /// When it expired.
        expires: UnixTime,
    },
    /// A member invitation for a device, or the other way round.
    #[error("the invitation is for something else")]
    WrongKind,
    /// Another name than the one that the inviter fixed.
    #[error("the invitation fixes another name")]
    NameFixed,
    /// The name or label is in use, or there is no room.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// This device is no registrar, or does not certify devices: a mistake here.
    #[error("this device can no longer grant what the invitation promises")]
    CannotGrant,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Entry {
    #[n(0)]
    secret: InvitationSecret,
    #[n(1)]
    kind: InvitationKind,
    #[n(2)]
    name: Option<Label>,
    #[n(3)]
    expires: UnixTime,
    #[n(4)]
    redeemed: Option<Redeemed>,
}

/// Who redeemed an invitation.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Redeemed {
    #[n(0)]
    device: DeviceId,
    #[n(1)]
    wish: Wish,
}

impl Invitations {
    /// Most bytes of the encoding.
    pub const MAX: usize = 16 + INVITATIONS_MAX * ENTRY_MAX;

    /// No invitations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an invitation. Persist before it is shown, and add locators by
    /// [`Invitation::with_locators`].
    ///
    /// # Errors
    /// [`TooManyInvitations`]; redeemed and expired ones are forgotten first.
    pub fn issue(
        &mut self,
        rng: &mut Rng,
        now: UnixTime,
        realm: &Realm,
        registrar: DeviceId,
        offer: Offer,
    ) -> Result<Invitation, TooManyInvitations> {
        self.make_room(now)?;
        let Offer { kind, name, expires } = offer;
        let secret = InvitationSecret::generate(rng);
        let entry =
            Entry { secret: secret.clone(), kind, name: name.clone(), expires, redeemed: None };
        self.entries.insert(secret.id(), entry);
        let (realm, locators) = (realm.id(), Vec::new());
        Ok(Invitation { realm, registrar, locators, secret, kind, name, expires })
    }

    /// Redeems an invitation: once, but for the same keys asking for the same again. On success it
    /// is marked; on an error nothing changed.
    ///
    /// # Errors
    /// [`InvitationError`].
    pub fn redeem(
        &mut self,
        now: UnixTime,
        request: &RedeemRequest,
        transcript: &Transcript,
        issuer: &mut Issuer<'_>,
    ) -> Result<Grant, InvitationError> {
        let entry = self.entries.get_mut(&request.id).ok_or(InvitationError::Unknown)?;
        let by = Redeemed { device: transcript.dialler.device, wish: request.wish.clone() };
        entry.check(now, request, transcript, &by)?;
        let grant = match &request.wish {
            Wish::Member { entity, name, .. } => {
                let registrar = issuer.registrar.ok_or(InvitationError::CannotGrant)?;
                let chain = registrar
                    .admit(now, *entity, name.clone(), issuer.roster, issuer.revocations)
                    .map_err(cannot_admit)?;
                Grant::new(issuer.realm, chain, None, issuer.revocations)
            }
            Wish::Device { label } => issuer.grant_device(now, by.device, label)?,
        };
        entry.redeemed = Some(by);
        Ok(grant)
    }

    /// The invitations, for the store. It holds their secrets: wiped when dropped.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(codec::encode(self))
    }

    /// Reads the invitations.
    ///
    /// # Errors
    /// Anything but the encoding of invitations.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, Self::MAX)
    }

    fn make_room(&mut self, now: UnixTime) -> Result<(), TooManyInvitations> {
        if self.entries.len() < INVITATIONS_MAX {
            return Ok(());
        }
        let is_over = |entry: &Entry| entry.redeemed.is_some() || entry.is_expired(now);
        let oldest = self.entries.iter().filter(|(_, entry)| is_over(entry));
        let oldest = oldest.min_by_key(|(_, entry)| entry.expires).map(|(id, _)| *id);
        let oldest = oldest.ok_or(TooManyInvitations)?;
        self.entries.remove(&oldest);
        Ok(())
    }
}

impl Entry {
    fn is_expired(&self, now: UnixTime) -> bool {
        // Made and judged by the same clock: no tolerance is due.
        now > self.expires
    }

    /// The proof comes first: who has no secret learns nothing about the invitation.
    fn check(
        &self,
        now: UnixTime,
        request: &RedeemRequest,
        transcript: &Transcript,
        by: &Redeemed,
    ) -> Result<(), InvitationError> {
        if !request.is_proved(&self.secret, transcript) {
            return Err(InvitationError::WrongProof);
        }
        if self.redeemed.as_ref().is_some_and(|redeemed| redeemed != by) {
            return Err(InvitationError::Used);
        }
        if self.is_expired(now) {
            return Err(InvitationError::Expired { expires: self.expires });
        }
        match (self.kind, &request.wish) {
            (InvitationKind::Member, Wish::Member { name, .. }) => match &self.name {
                Some(fixed) if fixed != name => Err(InvitationError::NameFixed),
                _ => Ok(()),
            },
            (InvitationKind::Device, Wish::Device { .. }) => Ok(()),
            _ => Err(InvitationError::WrongKind),
        }
    }
}

impl Issuer<'_> {
    fn grant_device(
        &mut self,
        now: UnixTime,
        device: DeviceId,
        label: &Label,
    ) -> Result<Grant, InvitationError> {
        let certifier = self.certifier.ok_or(InvitationError::CannotGrant)?;
        let entity = certifier.entity_id();
        self.roster.check_device(now, label, device, entity, self.revocations)?;
        let chain = certifier.certify(now, device, label.clone());
        self.roster.note_device(now, &chain.certificate, self.revocations);
        Ok(Grant::new(self.realm, self.membership.clone(), Some(chain), self.revocations))
    }
}

fn cannot_admit(error: RegistrarError) -> InvitationError {
    match error {
        RegistrarError::Roster(error) => InvitationError::Roster(error),
        RegistrarError::OtherDevice
        | RegistrarError::Credential(_)
        | RegistrarError::NameNotDelegated => InvitationError::CannotGrant,
    }
}
