//! What records are found under in the overlay: one byte that says of what kind, and its content.

use cloak_base::{DeviceId, EntityId};

use crate::name::{EntityName, Label};

/// Marks a name.
const NAME: u8 = b'n';
/// Marks an entity.
const ENTITY: u8 = b'e';
/// Marks a device.
const DEVICE: u8 = b'd';

/// The key of a record. Entity records are found under [`RecordKey::Name`] and
/// [`RecordKey::Entity`], device records under [`RecordKey::Device`]. A name that spells an
/// entity's key is no name here: it is that entity, see `From<&EntityName>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    /// `alice` of `alice.cloak`.
    Name(Label),
    /// An entity, by its id.
    Entity(EntityId),
    /// A device, by its id.
    Device(DeviceId),
}

/// Bytes that are no key of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the key of a record")]
pub struct NotARecordKey;

impl RecordKey {
    /// Most bytes of a key: a label of 63 characters, and what it is.
    pub const MAX: usize = 64;

    /// The key as it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (tag, content) = match self {
            Self::Name(label) => (NAME, label.as_str().as_bytes()),
            Self::Entity(entity) => (ENTITY, &entity.as_bytes()[..]),
            Self::Device(device) => (DEVICE, &device.as_bytes()[..]),
        };
        [&[tag], content].concat()
    }

    /// Reads a key: exactly what [`RecordKey::to_bytes`] gives.
    ///
    /// # Errors
    /// [`NotARecordKey`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotARecordKey> {
        let key = match bytes.split_first() {
            Some((&NAME, label)) => name(label).map(Self::Name),
            Some((&ENTITY, id)) => id.try_into().ok().map(EntityId::from_bytes).map(Self::Entity),
            Some((&DEVICE, id)) => id.try_into().ok().map(DeviceId::from_bytes).map(Self::Device),
            _ => None,
        };
        key.ok_or(NotARecordKey)
    }
}

impl From<&EntityName> for RecordKey {
    fn from(name: &EntityName) -> Self {
        match name {
            EntityName::Label(label) => Self::Name(label.clone()),
            EntityName::Key(entity) => Self::Entity(*entity),
        }
    }
}

/// A label in its one form: what people type has capitals too.
fn name(bytes: &[u8]) -> Option<Label> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.parse().ok().filter(|label: &Label| label.as_str() == text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_bytes_are_no_keys() {
        let long = [b"n".to_vec(), vec![b'a'; 64]].concat();
        let others: [&[u8]; 8] = [b"", b"n", b"nAlice", b"n-alice", b"xalice", b"e", b"d12", &long];
        for bytes in others {
            assert_eq!(RecordKey::from_bytes(bytes), Err(NotARecordKey), "{bytes:?}");
        }
        for id in [31, 33] {
            assert!(RecordKey::from_bytes(&[vec![ENTITY], vec![7; id]].concat()).is_err());
        }
    }

    #[test]
    fn a_name_that_spells_a_key_is_that_entity() {
        let entity = EntityId::from_bytes([7; 32]);
        assert_eq!(RecordKey::from(&EntityName::Key(entity)), RecordKey::Entity(entity));
        let label: Label = "alice".parse().unwrap();
        let key = RecordKey::from(&EntityName::Label(label));
        assert_eq!(key.to_bytes(), b"nalice");
    }

    #[test]
    fn the_longest_name_is_the_longest_key() {
        let key = RecordKey::Name("a".repeat(63).parse().unwrap());
        assert_eq!(key.to_bytes().len(), RecordKey::MAX);
    }

    proptest! {
        #[test]
        fn keys_round_trip(label in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", id: [u8; 32]) {
            let mut keys = vec![
                RecordKey::Entity(EntityId::from_bytes(id)),
                RecordKey::Device(DeviceId::from_bytes(id)),
            ];
            keys.extend(label.parse().ok().map(RecordKey::Name));
            for key in keys {
                prop_assert!(key.to_bytes().len() <= RecordKey::MAX);
                prop_assert_eq!(RecordKey::from_bytes(&key.to_bytes()), Ok(key));
            }
        }

        #[test]
        fn what_is_read_is_written_the_same(
            tag in prop::sample::select(vec![NAME, ENTITY, DEVICE, 0]),
            content in prop::collection::vec(0x2du8..0x7b, 0..70),
        ) {
            let bytes = [vec![tag], content].concat();
            if let Ok(key) = RecordKey::from_bytes(&bytes) {
                prop_assert_eq!(key.to_bytes(), bytes);
            }
        }
    }
}
