//! Delegations: who may certify members in the authority's stead, and under which names.

use std::time::Duration;

use cloak_base::{DeviceId, RealmId};
use minicbor::{Decode, Encode};

use crate::codec;
use crate::membership::Rights;
use crate::name::Label;
use crate::signed::Record;
use crate::validity::Validity;

/// How long a delegation counts, unless its maker chooses otherwise.
pub const DELEGATION_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// Most names that one delegation may list.
pub const LISTED_NAMES_MAX: usize = 16;

/// Makes a device a registrar. Signed by the realm's authority.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Delegation {
    /// Of this realm.
    #[n(0)]
    pub realm: RealmId,
    /// The registrar.
    #[n(1)]
    pub device: DeviceId,
    /// The names that it may give.
    #[n(2)]
    pub names: NameLimits,
    /// The most that it may give of rights beyond the ordinary.
    #[n(3)]
    pub rights: Rights,
    /// When it counts.
    #[n(4)]
    pub validity: Validity,
}

/// The names that a registrar may give.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum NameLimits {
    /// Any name.
    #[n(0)]
    Any,
    /// `lab`, `lab-1`, `lab-anything`, where the label is `lab`.
    #[n(1)]
    Prefix(#[n(0)] Label),
    /// Exactly these, at most [`LISTED_NAMES_MAX`].
    #[n(2)]
    Listed(
        #[n(0)]
        #[cbor(decode_with = "codec::at_most::<_, _, LISTED_NAMES_MAX>")]
        Vec<Label>,
    ),
}

impl Record for Delegation {
    const DOMAIN: &'static str = "delegation";
    const PAYLOAD_MAX: usize = 136 + LISTED_NAMES_MAX * 65;
}

impl NameLimits {
    pub(crate) fn is_bounded(&self) -> bool {
        !matches!(self, Self::Listed(names) if names.len() > LISTED_NAMES_MAX)
    }

    /// Whether `name` may be given.
    pub fn admit(&self, name: &Label) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => name
                .as_str()
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-')),
            Self::Listed(names) => names.contains(name),
        }
    }
}
