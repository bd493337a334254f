//! An invitation: one line of text that lets its reader join a realm once, or add a device to an
//! entity. It holds a secret, so it is redacted in `Debug`, and travels from person to person;
//! what goes over the network is only a proof of the secret.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use cloak_base::{DeviceId, RealmId, Rng, UnixTime};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::codec;
use crate::name::Label;
use crate::text::{self, TextError};

/// Longest life of an invitation.
pub const INVITATION_LIFE_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Most locators in an invitation.
pub const INVITATION_LOCATORS_MAX: usize = 4;
/// How an invitation starts.
const PREFIX: &str = "cloak-invite-1";
/// Most bytes behind the text.
const BODY_MAX: usize = 320;

/// What an invitation makes of the one who redeems it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum InvitationKind {
    /// A new member of the realm.
    #[n(0)]
    Member,
    /// A further device of the entity whose device made the invitation.
    #[n(1)]
    Device,
}

/// An invitation. `Debug` does not show the secret; [`Invitation::to_text`] does.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Invitation {
    /// The realm to join.
    #[n(0)]
    pub realm: RealmId,
    /// The device that made it, the only one that redeems it.
    #[n(1)]
    pub registrar: DeviceId,
    /// Where that device may be reached.
    #[n(2)]
    #[cbor(decode_with = "codec::at_most::<_, _, INVITATION_LOCATORS_MAX>")]
    pub locators: Vec<SocketAddr>,
    /// Proves that the invitation was given to whoever redeems it.
    #[n(3)]
    pub secret: InvitationSecret,
    /// What it is for.
    #[n(4)]
    pub kind: InvitationKind,
    /// The name that a new member gets, where the inviter fixed it.
    #[n(5)]
    pub name: Option<Label>,
    /// The last second in which it can be redeemed.
    #[n(6)]
    pub expires: UnixTime,
}

/// 16 random bytes: nobody guesses them, online or offline.
#[derive(Clone, PartialEq, Eq)]
pub struct InvitationSecret(Zeroizing<[u8; 16]>);

/// Names an invitation without giving its secret away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct InvitationId(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    [u8; 16],
);

impl Invitation {
    /// The id under which its maker knows it.
    pub fn id(&self) -> InvitationId {
        self.secret.id()
    }

    /// The same invitation with locators, best first; at most [`INVITATION_LOCATORS_MAX`] are taken.
    #[must_use]
    pub fn with_locators(self, locators: impl IntoIterator<Item = SocketAddr>) -> Self {
        let locators = locators.into_iter().take(INVITATION_LOCATORS_MAX).collect();
        Self { locators, ..self }
    }

    /// The invitation as one line. Whoever reads it can redeem it. Wiped when dropped.
    pub fn to_text(&self) -> Zeroizing<String> {
        text::to_line(PREFIX, &Zeroizing::new(codec::encode(self)))
    }
}

impl FromStr for Invitation {
    type Err = TextError;

    fn from_str(line: &str) -> Result<Self, TextError> {
        let body = text::from_line(PREFIX, line)?;
        codec::decode(&body, BODY_MAX).map_err(|_| TextError::Content)
    }
}

impl InvitationSecret {
    /// A new secret.
    pub fn generate(rng: &mut Rng) -> Self {
        Self(Zeroizing::new(rng.bytes()))
    }

    pub(crate) fn id(&self) -> InvitationId {
        let tag = hmac::sign(&self.key(), b"cloak/1 invitation id");
        InvitationId(*tag.as_ref().first_chunk().expect("invariant: the tag has 32 bytes"))
    }

    pub(crate) fn prove(&self, statement: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.key(), statement);
        tag.as_ref().try_into().expect("invariant: the tag has 32 bytes")
    }

    /// In constant time.
    pub(crate) fn is_proved(&self, statement: &[u8], proof: &[u8; 32]) -> bool {
        hmac::verify(&self.key(), statement, proof).is_ok()
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(HMAC_SHA256, &*self.0)
    }
}

impl fmt::Debug for InvitationSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<C> Encode<C> for InvitationSecret {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&*self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for InvitationSecret {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = minicbor::bytes::ByteArray::<16>::decode(d, ctx)?;
        Ok(Self(Zeroizing::new(*bytes)))
    }
}
