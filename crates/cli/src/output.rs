//! Writing to stdout. Only this crate prints.

use std::io::{self, Write};

use serde::Serialize;

/// Writes all of `text`. A reader that went away (`cloak peers | head -1`) is no failure.
///
/// # Errors
/// What the system says, for example that a disk is full.
pub(crate) fn print(text: impl AsRef<[u8]>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes `value` as indented JSON, the form in which the control socket answers.
///
/// # Errors
/// As [`print`].
pub(crate) fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut json = serde_json::to_vec_pretty(value).map_err(io::Error::from)?;
    json.push(b'\n');
    print(json)
}
