//! Defaults that come from the machine: where the home is, and what this device is called.

use std::env;
use std::path::PathBuf;

use anyhow::anyhow;

use crate::exit::{Exit, Failure};

/// Longest label of a name (RFC 1035).
const LABEL_MAX: usize = 63;

/// The home: as asked for, or `cloak` in the platform's data directory.
///
/// # Errors
/// [`Exit::Usage`] when nothing says where it is.
pub(crate) fn home(asked: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    asked
        .or_else(|| absolute("XDG_DATA_HOME").map(|data| data.join("cloak")))
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share/cloak")))
        .ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                anyhow!("cannot tell where the home is: set --home DIR or CLOAK_HOME"),
            )
        })
}

/// The label of this device: as asked for, or made of the host name.
pub(crate) fn device_label(asked: Option<String>) -> String {
    asked.unwrap_or_else(|| label_of(&rustix::system::uname().nodename().to_string_lossy()))
}

/// The nearest lower-case letter-digit-hyphen label to a host name, without its domain.
fn label_of(host: &str) -> String {
    let first = host.split('.').next().unwrap_or_default();
    let ldh: String = first
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(LABEL_MAX)
        .collect();
    match ldh.trim_matches('-') {
        "" => "device".to_owned(),
        label => label.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_become_labels() {
        for (host, label) in [
            ("laptop", "laptop"),
            ("Bob's MacBook.local", "bob-s-macbook"),
            ("web_01.example.org", "web-01"),
            ("---", "device"),
            ("", "device"),
            ("łódź", "d"),
        ] {
            assert_eq!(label_of(host), label, "{host}");
        }
        assert_eq!(label_of(&"a".repeat(80)).len(), LABEL_MAX);
    }
}
