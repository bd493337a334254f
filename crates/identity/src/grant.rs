//! What an invitation yields, as it travels: all that a newcomer needs to be known to the realm
//! and to know it.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::codec::{self, DecodeError};
use crate::device::DeviceChain;
use crate::membership::MembershipChain;
use crate::realm::{AuthorityChange, Genesis, Realm};
use crate::revocation::{RevocationList, RevocationLists};
use crate::signed::Signed;

/// Most bytes of a grant: it travels in one control frame (8 KiB), with a few bytes of framing.
pub const GRANT_MAX: usize = 8 * 1024 - 16;
/// Most bindings in a grant. The others arrive over the first peer channel.
pub const GRANT_BINDINGS_MAX: usize = 16;
/// Most revocation lists in a grant; the realm's is the first.
const GRANT_REVOCATIONS_MAX: usize = 16;

/// The body of `Redeemed`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Grant {
    #[n(0)]
    pub(crate) genesis: Genesis,
    #[n(1)]
    pub(crate) change: Option<Signed<AuthorityChange>>,
    #[n(2)]
    pub(crate) membership: MembershipChain,
    #[n(3)]
    pub(crate) device: Option<DeviceChain>,
    #[n(4)]
    #[cbor(decode_with = "codec::at_most::<_, _, GRANT_REVOCATIONS_MAX>")]
    pub(crate) revocations: Vec<RevocationList>,
    #[n(5)]
    #[cbor(decode_with = "codec::at_most::<_, _, GRANT_BINDINGS_MAX>")]
    pub(crate) bindings: Vec<ByteVec>,
}

impl Grant {
    pub(crate) fn new(
        realm: &Realm,
        membership: MembershipChain,
        device: Option<DeviceChain>,
        revocations: &RevocationLists,
    ) -> Self {
        let mut grant = Self {
            genesis: realm.genesis().clone(),
            change: realm.change().cloned(),
            membership,
            device,
            revocations: Vec::new(),
            bindings: Vec::new(),
        };
        for list in revocations.iter().take(GRANT_REVOCATIONS_MAX) {
            grant.revocations.push(list);
            if !grant.fits() {
                grant.revocations.pop();
            }
        }
        grant
    }

    /// Who becomes, or is, a member by this grant.
    pub fn membership(&self) -> &MembershipChain {
        &self.membership
    }

    /// The certificate of the device, where the grant is for a further device.
    pub fn device(&self) -> Option<&DeviceChain> {
        self.device.as_ref()
    }

    /// Adds the binding of a known device, as it travels; false when the grant is full.
    pub fn add_binding(&mut self, binding: &[u8]) -> bool {
        self.bindings.push(binding.to_vec().into());
        let fits = self.fits();
        if !fits {
            self.bindings.pop();
        }
        fits
    }

    /// The grant as it travels; at most [`GRANT_MAX`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a grant. What it says is for [`Redemption::finish`](crate::Redemption::finish).
    ///
    /// # Errors
    /// Anything but the one encoding of a grant with valid signatures.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, GRANT_MAX)
    }

    fn fits(&self) -> bool {
        self.bindings.len() <= GRANT_BINDINGS_MAX && codec::encode(self).len() <= GRANT_MAX
    }
}
