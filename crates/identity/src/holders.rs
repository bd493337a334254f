//! Who holds which name, as far as memberships that were verified here tell.
//!
//! A name may go on to another entity: its holder was revoked, its membership ran out, or the
//! authority gave the name away. The former holder's certificate may count for weeks more, and a
//! device that has not heard of the revocation cannot see that from it. So the newest membership of
//! each name is remembered, and an older one of another entity no longer counts for that name.

use std::collections::BTreeMap;

use cloak_base::{EntityId, UnixTime};
use minicbor::{Decode, Encode};

use crate::codec::{self, DecodeError};
use crate::membership::MembershipChain;
use crate::name::Label;
use crate::validity::CLOCK_TOLERANCE;

/// Most names that are remembered: several times the largest realm.
const HOLDERS_MAX: usize = 1024;
/// Bytes of the largest entry: label, id, flag, two times.
const ENTRY_MAX: usize = 2 + 63 + 34 + 1 + 9 + 9 + 1;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct NameHolders {
    #[n(0)]
    holders: BTreeMap<Label, Holder>,
}

/// The entity with the newest membership of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct Holder {
    #[n(0)]
    entity: EntityId,
    /// The authority itself gave it the name. Then no registrar takes it back.
    #[n(1)]
    by_authority: bool,
    /// When its newest membership was made.
    #[n(2)]
    issued: UnixTime,
    #[n(3)]
    expires: UnixTime,
}

impl NameHolders {
    /// Most bytes of the encoding.
    pub const MAX: usize = 16 + HOLDERS_MAX * ENTRY_MAX;

    /// Whether another entity has a newer membership of the same name.
    pub fn supersede(&self, chain: &MembershipChain, now: UnixTime) -> bool {
        let (shown, held) = (Holder::of(chain), self.holders.get(&chain.membership.name));
        held.is_some_and(|held| held.entity != shown.entity && held.rank(now) > shown.rank(now))
    }

    /// Remembers a membership that was verified just now; true when that changed anything. When
    /// there is no room, names whose memberships are over are forgotten, and else this one.
    pub fn note(&mut self, chain: &MembershipChain, now: UnixTime) -> bool {
        let Some(next) = self.next(chain, now) else { return false };
        let name = &chain.membership.name;
        if !self.holders.contains_key(name) && self.holders.len() >= HOLDERS_MAX {
            self.holders.retain(|_, held| held.is_live(now));
            if self.holders.len() >= HOLDERS_MAX {
                return false;
            }
        }
        self.holders.insert(name.clone(), next);
        true
    }

    /// Whether [`NameHolders::note`] would change anything, given room.
    pub fn is_news(&self, chain: &MembershipChain, now: UnixTime) -> bool {
        self.next(chain, now).is_some()
    }

    /// The names, for the store.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads the names.
    ///
    /// # Errors
    /// Anything but the encoding of some.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes, Self::MAX)
    }

    /// What is to be remembered of the name after this membership, where that is something else.
    fn next(&self, chain: &MembershipChain, now: UnixTime) -> Option<Holder> {
        let (held, shown) = (self.holders.get(&chain.membership.name), Holder::of(chain));
        match held {
            Some(held) if held.entity == shown.entity => {
                Some(held.renewed(shown)).filter(|next| next != held)
            }
            Some(held) if held.rank(now) >= shown.rank(now) => None,
            _ => Some(shown),
        }
    }
}

impl Holder {
    fn of(chain: &MembershipChain) -> Self {
        Self {
            entity: chain.membership.entity,
            by_authority: chain.is_by_authority(),
            issued: chain.membership.validity.issued,
            expires: chain.expires(),
        }
    }

    fn is_live(&self, now: UnixTime) -> bool {
        now <= self.expires + CLOCK_TOLERANCE
    }

    /// What the authority gave goes before what registrars gave, for as long as it lasts.
    fn rank(&self, now: UnixTime) -> (bool, UnixTime) {
        (self.by_authority && self.is_live(now), self.issued)
    }

    /// The same entity under a membership that may be another.
    fn renewed(self, shown: Self) -> Self {
        Self {
            entity: self.entity,
            by_authority: self.by_authority || shown.by_authority,
            issued: self.issued.max(shown.issued),
            expires: self.expires.max(shown.expires),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cloak_base::RealmId;

    use super::*;
    use crate::key::SecretKey;
    use crate::membership::{Membership, Rights};
    use crate::signed::Signed;
    use crate::validity::Validity;

    fn chain(name: &str, issued: u64) -> MembershipChain {
        let key = SecretKey::from_seed([1; 32]);
        let membership = Membership {
            realm: RealmId::from_bytes([0; 32]),
            entity: key.entity_id(),
            name: name.parse().unwrap(),
            rights: Rights::ORDINARY,
            positions: 4,
            validity: Validity::starting(UnixTime(issued), Duration::from_secs(1000)),
        };
        MembershipChain { membership: Signed::sign(membership, &key), delegation: None }
    }

    #[test]
    fn names_are_bounded_and_those_that_are_over_make_room() {
        let mut holders = NameHolders::default();
        for n in 0..HOLDERS_MAX {
            assert!(holders.note(&chain(&format!("n{n}"), 10_000), UnixTime(10_000)));
        }
        assert!(!holders.note(&chain("n0", 10_000), UnixTime(10_000)), "nothing new");
        assert!(!holders.note(&chain("more", 10_000), UnixTime(10_000)));
        let later = UnixTime(20_000);
        assert!(holders.note(&chain("more", later.0), later));
        assert_eq!(holders.holders.len(), 1);
        assert!(holders.encode().len() <= NameHolders::MAX);
        assert_eq!(NameHolders::decode(&holders.encode()), Ok(holders));
    }
}
