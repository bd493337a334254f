//! A realm and its authority.
//!
//! The realm's id is the hash of its [`Genesis`], which names two keys: the authority, which
//! delegates registrars and revokes members, and a recovery key kept offline, whose one use is to
//! put another authority in place when the key of the first is lost or stolen.

use aws_lc_rs::digest::{SHA256, digest};
use cloak_base::{RealmId, UnixTime};
use minicbor::{Decode, Encode};

use crate::codec::{self, DecodeError};
use crate::key::{PublicKey, SecretKey};
use crate::name::Label;
use crate::signed::{Record, Signed};
use crate::validity::CLOCK_TOLERANCE;

/// What a realm is founded on. It never changes, since the realm's id is its hash.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Genesis {
    /// The first authority.
    #[n(0)]
    pub authority: PublicKey,
    /// May replace the authority.
    #[n(1)]
    pub recovery: PublicKey,
    /// What people call the realm; not unique.
    #[n(2)]
    pub label: Label,
}

/// Puts another authority in place. Signed by the recovery key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AuthorityChange {
    /// Of this realm.
    #[n(0)]
    pub realm: RealmId,
    /// The highest counts.
    #[n(1)]
    pub serial: u64,
    /// The authority from now on.
    #[n(2)]
    pub authority: PublicKey,
    /// The authority before.
    #[n(3)]
    pub replaces: PublicKey,
    /// Until when certificates that the authority before signed still count: some weeks for a key
    /// that was lost, so that members can renew; in the past for a key that was stolen.
    #[n(4)]
    pub honoured_until: UnixTime,
}

/// A realm as known here: its genesis, and the last change of its authority, if any.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Realm {
    #[n(0)]
    genesis: Genesis,
    #[n(1)]
    change: Option<Signed<AuthorityChange>>,
}

/// An authority change that does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RealmError {
    /// It is about another realm.
    #[error("the authority change belongs to another realm")]
    WrongRealm,
    /// Its signer is not the recovery key.
    #[error("the authority change is not signed by the realm's recovery key")]
    NotTheRecoveryKey,
    /// Not the encoding of a realm.
    #[error("the realm's record is {0}")]
    Record(#[from] DecodeError),
}

impl Genesis {
    /// The realm's id: SHA-256 of the encoding of this record.
    pub fn id(&self) -> RealmId {
        let hash = digest(&SHA256, &codec::encode(self));
        RealmId::from_slice(hash.as_ref()).expect("invariant: SHA-256 has 32 bytes")
    }
}

impl Record for AuthorityChange {
    const DOMAIN: &'static str = "authority-change";
    const PAYLOAD_MAX: usize = 160;
}

impl Realm {
    /// Most bytes of the encoding.
    pub const MAX: usize = 160 + Signed::<AuthorityChange>::MAX;

    /// A realm whose authority was never replaced, as far as is known here.
    pub fn new(genesis: Genesis) -> Self {
        Self { genesis, change: None }
    }

    /// The realm's id.
    pub fn id(&self) -> RealmId {
        self.genesis.id()
    }

    /// What the realm was founded on.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// What people call the realm.
    pub fn label(&self) -> &Label {
        &self.genesis.label
    }

    /// The last change of the authority.
    pub fn change(&self) -> Option<&Signed<AuthorityChange>> {
        self.change.as_ref()
    }

    /// The authority's present key.
    pub fn authority(&self) -> PublicKey {
        self.change.as_ref().map_or(self.genesis.authority, |change| change.authority)
    }

    /// Whether what `key` signed as the authority counts at `now`: it is the authority, or the one
    /// before it, within the time for which its signatures are still honoured.
    pub fn is_authority(&self, key: PublicKey, now: UnixTime) -> bool {
        key == self.authority()
            || self.change.as_ref().is_some_and(|change| {
                key == change.replaces && now <= change.honoured_until + CLOCK_TOLERANCE
            })
    }

    /// Whether `key` is or was the authority, as far as is known here. For what outlives its signer,
    /// where [`Realm::is_authority`] would end it for the whole realm in one second.
    pub fn was_authority(&self, key: PublicKey) -> bool {
        let replaced = self.change.as_ref().map(|change| change.replaces);
        key == self.authority() || key == self.genesis.authority || Some(key) == replaced
    }

    /// Replaces the authority. `recovery` is the realm's recovery key.
    ///
    /// # Errors
    /// [`RealmError::NotTheRecoveryKey`].
    pub fn replace_authority(
        &mut self,
        recovery: &SecretKey,
        authority: PublicKey,
        honoured_until: UnixTime,
    ) -> Result<(), RealmError> {
        let change = AuthorityChange {
            realm: self.id(),
            serial: self.change.as_ref().map_or(1, |change| change.serial.saturating_add(1)),
            authority,
            replaces: self.authority(),
            honoured_until,
        };
        self.adopt(Signed::sign(change, recovery)).map(|_| ())
    }

    /// Learns of a change of the authority; true when it is newer than what was known.
    ///
    /// # Errors
    /// When it is not a change of this realm by its recovery key.
    pub fn adopt(&mut self, change: Signed<AuthorityChange>) -> Result<bool, RealmError> {
        if change.realm != self.id() {
            return Err(RealmError::WrongRealm);
        }
        if change.signer() != self.genesis.recovery {
            return Err(RealmError::NotTheRecoveryKey);
        }
        let newer = self.change.as_ref().is_none_or(|known| known.serial < change.serial);
        if newer {
            self.change = Some(change);
        }
        Ok(newer)
    }

    /// The realm's record, for the store and for whoever joins.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a realm's record. Whether it is the right realm shows in its id.
    ///
    /// # Errors
    /// [`RealmError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RealmError> {
        let read: Self = codec::decode(bytes, Self::MAX)?;
        let mut realm = Self::new(read.genesis);
        if let Some(change) = read.change {
            realm.adopt(change)?;
        }
        Ok(realm)
    }
}
