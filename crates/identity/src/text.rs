//! Bytes as one line of text that people copy: a prefix that says what it is, then lower-case
//! base32 with a checksum at the end, so that a line cut short or mistyped is told at once.

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

const CHECKSUM_LEN: usize = 4;

/// A line that is not what it should be. Its author has to copy it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// It is something else.
    #[error("does not start with \"{expected}\"")]
    Prefix {
        /// How such a line starts.
        expected: &'static str,
    },
    /// It holds a character that the form does not have.
    #[error("has a character that does not belong there, or was cut short")]
    Alphabet,
    /// A character is wrong or missing.
    #[error("was mistyped or cut short: the checksum does not match")]
    Checksum,
    /// The checksum holds, but the content is not valid: made by another version.
    #[error("was made by another version of Cloak")]
    Content,
}

/// The line for `body`. It is wiped when dropped, since most bodies are secrets.
pub(crate) fn to_line(prefix: &'static str, body: &[u8]) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(body.len() + CHECKSUM_LEN));
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(&checksum(prefix, body));
    let mut line = Zeroizing::new(String::with_capacity(prefix.len() + bytes.len() * 8 / 5 + 1));
    line.push_str(prefix);
    BASE32_NOPAD.encode_append(&bytes, &mut line);
    line.make_ascii_lowercase();
    line
}

/// The body of a line; letter case and white space around it do not matter.
pub(crate) fn from_line(prefix: &'static str, line: &str) -> Result<Zeroizing<Vec<u8>>, TextError> {
    let upper = Zeroizing::new(line.trim().to_ascii_uppercase());
    let rest = upper
        .strip_prefix(&prefix.to_ascii_uppercase())
        .ok_or(TextError::Prefix { expected: prefix })?;
    let bytes = BASE32_NOPAD.decode(rest.as_bytes()).map_err(|_| TextError::Alphabet)?;
    let bytes = Zeroizing::new(bytes);
    let (body, sum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(TextError::Checksum)?;
    if *sum != checksum(prefix, body) {
        return Err(TextError::Checksum);
    }
    Ok(Zeroizing::new(body.to_vec()))
}

fn checksum(prefix: &str, body: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut hash = Context::new(&SHA256);
    hash.update(prefix.as_bytes());
    hash.update(body);
    *hash.finish().as_ref().first_chunk().expect("invariant: SHA-256 has 32 bytes")
}
