//! The key file of a home: one secret key a line, by what it is for.

use cloak_identity::SecretKey;
use zeroize::Zeroizing;

/// The secret keys that a device holds. Only the device's own is always there.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// This device's; its public part is the device id and the TLS identity.
    pub(crate) device: SecretKey,
    /// The entity's, on its first device.
    pub(crate) entity: Option<SecretKey>,
    /// The realm authority's, on the founder's device.
    pub(crate) authority: Option<SecretKey>,
    /// The realm's recovery key, until it was taken offline.
    pub(crate) recovery: Option<SecretKey>,
}

/// The key file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// A line that is not `WHAT KEY`.
    #[error("line {line} of the key file is damaged; restore the home from a copy")]
    Damaged {
        /// Counted from 1.
        line: usize,
    },
    /// The one key that must be there is not.
    #[error("the key file holds no device key; restore the home from a copy")]
    NoDevice,
}

impl Keys {
    pub(crate) fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        let rows = [
            ("device", Some(&self.device)),
            ("entity", self.entity.as_ref()),
            ("authority", self.authority.as_ref()),
            ("recovery", self.recovery.as_ref()),
        ];
        for (what, key) in rows {
            if let Some(key) = key {
                text.push_str(what);
                text.push(' ');
                text.push_str(&key.to_text());
                text.push('\n');
            }
        }
        text
    }

    pub(crate) fn parse(text: &str) -> Result<Self, KeysError> {
        let (mut device, mut entity, mut authority, mut recovery) = (None, None, None, None);
        for (index, row) in text.lines().enumerate() {
            let damaged = KeysError::Damaged { line: index + 1 };
            if row.is_empty() || row.starts_with('#') {
                continue;
            }
            let (what, key) = row.split_once(' ').ok_or(damaged.clone())?;
            let slot = match what {
                "device" => &mut device,
                "entity" => &mut entity,
                "authority" => &mut authority,
                "recovery" => &mut recovery,
                _ => return Err(damaged),
            };
            *slot = Some(key.parse::<SecretKey>().map_err(|_| damaged)?);
        }
        Ok(Self { device: device.ok_or(KeysError::NoDevice)?, entity, authority, recovery })
    }
}

#[cfg(test)]
mod tests {
    use cloak_base::Rng;

    use super::*;

    #[test]
    fn key_files_round_trip_and_damage_is_named() {
        let mut rng = Rng::from_u64(1);
        let keys = Keys {
            device: SecretKey::generate(&mut rng),
            entity: None,
            authority: Some(SecretKey::generate(&mut rng)),
            recovery: None,
        };
        let text = keys.to_text();
        let read = Keys::parse(&text).unwrap();
        assert_eq!(read.device.public(), keys.device.public());
        assert_eq!(
            read.authority.map(|key| key.public()),
            keys.authority.as_ref().map(SecretKey::public)
        );
        assert!(read.entity.is_none() && read.recovery.is_none());
        let damaged = text.replacen("authority c", "authority d", 1);
        assert_eq!(Keys::parse(&damaged).unwrap_err(), KeysError::Damaged { line: 2 });
        assert_eq!(Keys::parse("").unwrap_err(), KeysError::NoDevice);
    }

    #[test]
    fn secrets_are_never_printed() {
        let keys = Keys {
            device: SecretKey::from_seed([7; 32]),
            entity: None,
            authority: None,
            recovery: None,
        };
        let printed = format!("{keys:?}");
        assert!(!printed.contains("secret-key") && !printed.contains("7, 7"), "{printed}");
    }
}
