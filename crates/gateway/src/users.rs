//! Who may use the proxy: names and passwords, read once, compared in constant time.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use cloak_base::Redacted;
use data_encoding::BASE64;
use subtle::{Choice, ConstantTimeEq};

use crate::config::UserConfig;

/// The users of the proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Users(Vec<User>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    name: Padded,
    password: Redacted<Padded>,
}

/// Why the users could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// A name that SOCKS or HTTP could not carry.
    #[error("user name {0:?} must have 1 to 255 bytes and no colon")]
    Name(String),
    /// Two users with one name.
    #[error("user {0:?} is listed twice")]
    Twice(String),
    /// The password file cannot be read.
    #[error("cannot read the password file {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::ErrorKind,
    },
    /// Others than its owner may read the password file.
    #[error("others may read the password file {0}: run chmod 600 on it")]
    Exposed(PathBuf),
    /// The file's first line is not a password.
    #[error("the first line of {0} must be a password of 1 to 255 bytes")]
    Password(PathBuf),
}

impl Users {
    /// Reads the password file of each user.
    ///
    /// # Errors
    /// The first user that cannot be used.
    pub(crate) fn load(configs: &[UserConfig]) -> Result<Self, UsersError> {
        let mut users = Vec::with_capacity(configs.len());
        for (index, config) in configs.iter().enumerate() {
            if configs[..index].iter().any(|earlier| earlier.name == config.name) {
                return Err(UsersError::Twice(config.name.clone()));
            }
            users.push(User::load(config)?);
        }
        Ok(Self(users))
    }

    /// Whether nobody is configured, so that anybody may use the proxy.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `password` is that of `name`. Takes the same time whether or not the name exists.
    pub(crate) fn admit(&self, name: &[u8], password: &[u8]) -> bool {
        let (Some(name), Some(password)) = (Padded::new(name), Padded::new(password)) else {
            return false;
        };
        let matches = |user: &User| user.name.ct_eq(&name) & user.password.0.ct_eq(&password);
        self.0.iter().fold(Choice::from(0), |found, user| found | matches(user)).into()
    }

    /// Whether the value of a `Proxy-Authorization` field is that of a user.
    pub(crate) fn admit_basic(&self, value: &[u8]) -> bool {
        let Some((scheme, token)) = split_once(value, b' ') else { return false };
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return false;
        }
        let Ok(pair) = BASE64.decode(token.trim_ascii()) else { return false };
        split_once(&pair, b':').is_some_and(|(name, password)| self.admit(name, password))
    }
}

impl User {
    fn load(config: &UserConfig) -> Result<Self, UsersError> {
        let path = &config.password_file;
        let name = Some(&config.name).filter(|name| !name.contains(':'));
        let name = name.and_then(|name| Padded::new(name.as_bytes()));
        let name = name.ok_or_else(|| UsersError::Name(config.name.clone()))?;
        let unreadable =
            |error: io::Error| UsersError::Unreadable { path: path.clone(), reason: error.kind() };
        let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(UsersError::Exposed(path.clone()));
        }
        let text = std::fs::read(path).map_err(unreadable)?;
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let password = Padded::new(line).ok_or_else(|| UsersError::Password(path.clone()))?;
        Ok(Self { name, password: Redacted(password) })
    }
}

/// A text of 1 to 255 bytes with its length, padded so that comparing two takes constant time.
#[derive(Clone, PartialEq, Eq)]
struct Padded([u8; PADDED_LEN]);

impl Padded {
    fn new(text: &[u8]) -> Option<Self> {
        let mut padded = [0; PADDED_LEN];
        padded[0] = u8::try_from(text.len()).ok().filter(|len| *len > 0)?;
        padded[1..=text.len()].copy_from_slice(text);
        Some(Self(padded))
    }

    fn ct_eq(&self, other: &Self) -> Choice {
        self.0[..].ct_eq(&other.0[..])
    }
}

impl std::fmt::Debug for Padded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0[1..=usize::from(self.0[0])].escape_ascii().fmt(f)
    }
}

fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == separator)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

const PADDED_LEN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        let user = |name: &[u8], password: &[u8]| User {
            name: Padded::new(name).unwrap(),
            password: Redacted(Padded::new(password).unwrap()),
        };
        Users(vec![user(b"ann", b"open:sesame"), user(b"bob", &[b'x'; 255])])
    }

    #[test]
    fn only_a_users_own_password_is_admitted() {
        let users = users();
        assert!(users.admit(b"ann", b"open:sesame") && users.admit(b"bob", &[b'x'; 255]));
        for (name, password) in [
            (&b"ann"[..], &b"open:sesam"[..]),
            (b"ann", b"open:sesame\0"),
            (b"bob", b"open:sesame"),
            (b"", b""),
            (b"ann", &[b'x'; 256]),
        ] {
            assert!(!users.admit(name, password));
        }
    }

    #[test]
    fn basic_authentication_splits_at_the_first_colon() {
        let users = users();
        let token = BASE64.encode(b"ann:open:sesame");
        assert!(users.admit_basic(format!("Basic {token}").as_bytes()));
        assert!(users.admit_basic(format!("bAsIc  {token}").as_bytes()));
        for bad in ["Basic", "Basic !!!", "Bearer x", ""] {
            assert!(!users.admit_basic(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn passwords_are_never_printed() {
        assert!(!format!("{:?}", users()).contains("sesame"));
    }
}
