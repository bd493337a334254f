//! Names: `alice.cloak` (an entity), `laptop.alice.cloak` (a device of it), and `KEY.cloak`, which
//! needs nobody to vouch for it, since it spells the entity's key.
//!
//! A `Name` or [`Label`] is valid by construction and in lower case, so equal names are equal
//! values. Text of people goes through `parse`; names from records go through the same checks.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use cloak_base::EntityId;
use data_encoding::{BASE32_NOPAD, Encoding};
use minicbor::decode::{Decode, Decoder, Error as CborError};
use minicbor::encode::{Encode, Encoder, Error as EncodeError, Write};

/// The last label of every name.
const TLD: &str = "cloak";
/// Most characters of a label, as in DNS.
const LABEL_MAX: usize = 63;
/// Version of the spelling of keys.
const KEY_VERSION: u8 = 1;
/// Characters of a spelled key: 32 bytes of key, 2 of checksum, 1 of version; 5 bits each.
const KEY_LEN: usize = 56;
/// How many characters more or fewer are still taken for a mistyped key.
const KEY_SLACK: usize = 2;

/// One part of a name: 1 to 63 of `a-z`, `0-9` and `-`, with no hyphen at either end. What looks
/// like a spelled key is none, so that a typo in a key never becomes somebody's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Box<str>);

/// A text that is not a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Nothing between two dots.
    #[error("has an empty part")]
    Empty,
    /// Too long.
    #[error("has a part longer than {LABEL_MAX} characters")]
    TooLong,
    /// Another character than letters, digits and hyphens.
    #[error("has the character {0:?}; only a-z, 0-9 and - are allowed")]
    Character(char),
    /// A hyphen where none may be.
    #[error("has a part that starts or ends with a hyphen")]
    Hyphen,
    /// It would be taken for the spelling of a key.
    #[error("looks like the spelling of a key, so it cannot be chosen as a name")]
    LooksLikeKey,
}

/// What an entity is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntityName {
    /// By the name that a registrar certified.
    Label(Label),
    /// By its key.
    Key(EntityId),
}

/// A valid `.cloak` name, without trailing dot and in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    device: Option<Label>,
    entity: EntityName,
}

/// A text that is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It ends otherwise.
    #[error("does not end in .cloak")]
    NotCloak,
    /// Only the ending.
    #[error("nothing stands before .cloak")]
    Empty,
    /// Names have at most two parts before `.cloak`.
    #[error("has more than DEVICE.ENTITY before .cloak")]
    TooManyParts,
    /// A part is not a label.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// Meant to be a key, and mistyped.
    #[error("is a key with a typo: {0}")]
    Key(#[from] KeySpellingError),
}

/// What is wrong with a spelled key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySpellingError {
    /// Characters are missing or doubled.
    #[error("it has {len} characters instead of {KEY_LEN}")]
    Length {
        /// How many it has.
        len: usize,
    },
    /// A digit that the spelling does not use.
    #[error("keys have no 0, 1, 8 or 9")]
    Digit,
    /// Some character is wrong.
    #[error("its checksum does not match")]
    Checksum,
    /// Spelled by another version.
    #[error("it is of version {0}, which is not known here")]
    Version(u8),
}

impl Name {
    /// The name of an entity.
    pub fn entity(entity: EntityName) -> Self {
        Self { device: None, entity }
    }

    /// The name of a device of an entity.
    pub fn device(device: Label, entity: EntityName) -> Self {
        Self { device: Some(device), entity }
    }

    /// Reads a name in any letter case, with or without the trailing dot.
    ///
    /// # Errors
    /// What is wrong with it, in words for the person who typed it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let lower = text.to_ascii_lowercase();
        let rooted = lower.strip_suffix('.').unwrap_or(&lower);
        if rooted == TLD {
            return Err(NameError::Empty);
        }
        let parts = rooted
            .strip_suffix(TLD)
            .and_then(|rest| rest.strip_suffix('.'))
            .ok_or(NameError::NotCloak)?;
        match parts.rsplit_once('.') {
            None => Ok(Self::entity(EntityName::parse(parts)?)),
            Some((device, _)) if device.contains('.') => Err(NameError::TooManyParts),
            Some((device, entity)) => Ok(Self::device(device.parse()?, EntityName::parse(entity)?)),
        }
    }

    /// Whether a host name belongs to Cloak, valid or not, and so must never reach DNS. Any letter
    /// case and trailing dots count.
    pub fn is_cloak(host: &str) -> bool {
        let host = host.trim_end_matches('.');
        let last = host.rsplit('.').next().unwrap_or(host);
        last.eq_ignore_ascii_case(TLD)
    }

    /// The device's label, where this is the name of a device.
    pub fn device_label(&self) -> Option<&Label> {
        self.device.as_ref()
    }

    /// The entity's part.
    pub fn entity_name(&self) -> &EntityName {
        &self.entity
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(device) = &self.device {
            write!(f, "{device}.")?;
        }
        write!(f, "{}.{TLD}", self.entity)
    }
}

impl EntityName {
    /// Reads the part of a name that stands for the entity; lower case.
    fn parse(lower: &str) -> Result<Self, NameError> {
        if looks_like_key(lower) {
            return Ok(Self::Key(decode_key(lower)?));
        }
        Ok(Self::Label(lower.parse()?))
    }
}

impl fmt::Display for EntityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(label) => label.fmt(f),
            Self::Key(entity) => f.write_str(&encode_key(*entity)),
        }
    }
}

impl Label {
    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The label closest to a text that may be none, such as the host name of a machine: what does
    /// not belong becomes a hyphen. `None` if nothing is left.
    pub fn from_lossy(text: &str) -> Option<Self> {
        let first = text.split('.').next().unwrap_or(text);
        let mapped: String = first
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .take(LABEL_MAX)
            .collect();
        mapped.trim_matches('-').parse().ok()
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let lower = text.to_ascii_lowercase();
        if let Some(other) = lower.chars().find(|c| !is_ldh(*c)) {
            return Err(LabelError::Character(other));
        }
        match lower.len() {
            0 => Err(LabelError::Empty),
            len if len > LABEL_MAX => Err(LabelError::TooLong),
            _ if lower.starts_with('-') || lower.ends_with('-') => Err(LabelError::Hyphen),
            _ if looks_like_key(&lower) => Err(LabelError::LooksLikeKey),
            _ => Ok(Self(lower.into())),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<C> Encode<C> for Label {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Label {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, CborError> {
        d.str()?.parse().map_err(CborError::custom)
    }
}

fn is_ldh(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

/// A run of letters and digits of about the length of a key: nobody chooses that as a name.
fn looks_like_key(lower: &str) -> bool {
    lower.len().abs_diff(KEY_LEN) <= KEY_SLACK && !lower.contains(['-', '.'])
}

fn encode_key(entity: EntityId) -> String {
    let key = entity.as_bytes();
    let bytes = [&key[..], &key_checksum(key), &[KEY_VERSION]].concat();
    lower_base32().encode(&bytes)
}

fn decode_key(lower: &str) -> Result<EntityId, NameError> {
    if let Some(other) = lower.chars().find(|c| !is_ldh(*c)) {
        return Err(LabelError::Character(other).into());
    }
    if lower.len() != KEY_LEN {
        return Err(KeySpellingError::Length { len: lower.len() }.into());
    }
    let bytes = lower_base32().decode(lower.as_bytes()).map_err(|_| KeySpellingError::Digit)?;
    let (key, rest) = bytes.split_first_chunk::<32>().ok_or(KeySpellingError::Checksum)?;
    let [sum @ .., version] = rest else { return Err(KeySpellingError::Checksum.into()) };
    if sum != key_checksum(key) {
        return Err(KeySpellingError::Checksum.into());
    }
    if *version != KEY_VERSION {
        return Err(KeySpellingError::Version(*version).into());
    }
    Ok(EntityId::from_bytes(*key))
}

fn key_checksum(key: &[u8; 32]) -> [u8; 2] {
    let hash = digest(&SHA256, &[b"cloak key name", &key[..], &[KEY_VERSION]].concat());
    *hash.as_ref().first_chunk().expect("invariant: SHA-256 has 32 bytes")
}

/// RFC 4648 base32, lower case and without padding.
fn lower_base32() -> Encoding {
    let mut specification = BASE32_NOPAD.specification();
    specification.symbols = specification.symbols.to_ascii_lowercase();
    specification.encoding().expect("invariant: lower-case base32 is a valid specification")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key_name() -> String {
        Name::entity(EntityName::Key(EntityId::from_bytes([0x5a; 32]))).to_string()
    }

    #[test]
    fn names_of_entities_and_devices_read_in_any_case_with_or_without_the_dot() {
        for (text, shown) in [
            ("alice.cloak", "alice.cloak"),
            ("Alice.CLOAK.", "alice.cloak"),
            ("x.cloak", "x.cloak"),
            ("laptop.alice.cloak", "laptop.alice.cloak"),
            ("LAPTOP.alice.Cloak.", "laptop.alice.cloak"),
            ("cloak.cloak", "cloak.cloak"),
            ("xn--bcher-kva.cloak", "xn--bcher-kva.cloak"),
        ] {
            assert_eq!(Name::parse(text).unwrap().to_string(), shown);
        }
        let name = Name::parse("laptop.alice.cloak").unwrap();
        assert_eq!(name.device_label().unwrap().as_str(), "laptop");
        assert_eq!(name.entity_name(), &EntityName::Label("alice".parse().unwrap()));
    }

    #[test]
    fn what_is_wrong_with_a_name_is_said() {
        for (text, error) in [
            ("", NameError::NotCloak),
            ("alice.example", NameError::NotCloak),
            ("alicecloak", NameError::NotCloak),
            ("alice.cloak..", NameError::NotCloak),
            ("cloak", NameError::Empty),
            ("CLOAK.", NameError::Empty),
            (".cloak", LabelError::Empty.into()),
            (".alice.cloak", LabelError::Empty.into()),
            ("laptop..cloak", LabelError::Empty.into()),
            ("a.laptop.alice.cloak", NameError::TooManyParts),
            ("-alice.cloak", LabelError::Hyphen.into()),
            ("alice-.cloak", LabelError::Hyphen.into()),
            ("al_ice.cloak", LabelError::Character('_').into()),
            ("élise.cloak", LabelError::Character('é').into()),
            ("al ice.cloak", LabelError::Character(' ').into()),
        ] {
            assert_eq!(Name::parse(text), Err(error), "{text}");
        }
        let longest = "a".repeat(63);
        assert!(Name::parse(&format!("{longest}.cloak")).is_ok());
        assert_eq!(Name::parse(&format!("a{longest}.cloak")), Err(LabelError::TooLong.into()));
    }

    #[test]
    fn everything_that_ends_in_cloak_is_kept_from_dns() {
        for ours in
            ["a.cloak", "a.b.c.CLOAK", "a.Cloak.", "cloak", "a.cloak..", "_.cloak", ".cloak"]
        {
            assert!(Name::is_cloak(ours), "{ours}");
        }
        for other in ["", "cloak.example", "acloak", "a.cloak.localhost", "a.cloaks"] {
            assert!(!Name::is_cloak(other), "{other}");
        }
    }

    #[test]
    fn a_key_is_a_name_and_fits_a_label() {
        let entity = EntityId::from_bytes([0x5a; 32]);
        let text = key_name();
        assert_eq!(text.len(), KEY_LEN + ".cloak".len());
        for form in [text.clone(), text.to_uppercase(), format!("{text}.")] {
            assert_eq!(Name::parse(&form), Ok(Name::entity(EntityName::Key(entity))));
        }
        let device = format!("laptop.{text}");
        assert_eq!(Name::parse(&device).unwrap().to_string(), device);
    }

    #[test]
    fn typos_in_a_key_are_caught() {
        let text = key_name();
        let missing = &text[1..];
        assert_eq!(Name::parse(missing), Err(KeySpellingError::Length { len: 55 }.into()));
        assert_eq!(
            Name::parse(&format!("a{text}")),
            Err(KeySpellingError::Length { len: 57 }.into())
        );
        assert_eq!(Name::parse(&format!("1{missing}")), Err(KeySpellingError::Digit.into()));
        assert_eq!(Name::parse(&format!("é{missing}")), Err(LabelError::Character('é').into()));
        let spelled = |version: u8| {
            let key = [9; 32];
            let bytes = [&key[..], &key_checksum(&key), &[version]].concat();
            format!("{}.cloak", lower_base32().encode(&bytes))
        };
        assert_eq!(Name::parse(&spelled(2)), Err(KeySpellingError::Version(2).into()));
        let label = text.strip_suffix(".cloak").unwrap();
        assert_eq!(label.parse::<Label>(), Err(LabelError::LooksLikeKey));
    }

    #[test]
    fn a_host_name_makes_a_label() {
        for (host, label) in
            [("Alices-MacBook.local", Some("alices-macbook")), ("a_b", Some("a-b")), ("_", None)]
        {
            assert_eq!(Label::from_lossy(host).as_ref().map(Label::as_str), label, "{host}");
        }
    }

    proptest! {
        #[test]
        fn names_round_trip(
            device in proptest::option::of("[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?"),
            label in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
            key: Option<[u8; 32]>,
        ) {
            let entity = match key {
                Some(key) => EntityName::Key(EntityId::from_bytes(key)),
                None => EntityName::Label(label.parse().unwrap()),
            };
            let name = Name { device: device.map(|label| label.parse().unwrap()), entity };
            prop_assert_eq!(Name::parse(&name.to_string()), Ok(name));
        }

        #[test]
        fn any_other_character_in_a_key_is_refused(at in 0..KEY_LEN, to in "[a-z2-7]") {
            let mut text = key_name();
            prop_assume!(text[at..=at] != to);
            text.replace_range(at..=at, &to);
            prop_assert!(matches!(Name::parse(&text), Err(NameError::Key(_))));
        }

        #[test]
        fn arbitrary_text_never_panics(text: String) {
            if let Ok(name) = Name::parse(&text) {
                prop_assert!(Name::is_cloak(&text));
                prop_assert_eq!(Name::parse(&name.to_string()), Ok(name));
            }
        }
    }
}
