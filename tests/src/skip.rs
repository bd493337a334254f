//! What a machine may lack, and what follows from it.
//!
//! A test says first what it needs. Where that is missing it prints the reason and returns; with
//! `CI=true` it fails instead, so that a green run there means that everything was really run.

use std::net::{Ipv6Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Something of the machine that a test may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A program on the search path (`/usr/sbin` and `/sbin` included).
    Program(&'static str),
    /// Permission to make network namespaces and to write nft rules in them.
    NetworkNamespaces,
    /// The loopback address `::1`.
    Ipv6,
    /// Permission to mount a small tmpfs.
    Mounts,
    /// The superuser, to act as several users.
    Root,
    /// So many descriptors for this process; the soft limit is raised to the hard one first.
    Descriptors(u64),
    /// A container engine that answers, and Compose.
    Engine,
    /// `CLOAK_FULL=1`: a long run that a short one stands in for. Never a failure.
    FullRun,
}

impl Need {
    /// Why it cannot be had, or nothing.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Program(name) => {
                program(name).is_none().then(|| format!("`{name}` is not installed"))
            }
            Self::NetworkNamespaces => [Self::Program("ip"), Self::Program("nft")]
                .into_iter()
                .find_map(Self::missing)
                .or_else(|| refused("ip", &["netns", "exec", "cloak-none", "true"], "cannot open"))
                .or_else(not_root),
            Self::Ipv6 => TcpListener::bind((Ipv6Addr::LOCALHOST, 0))
                .err()
                .map(|error| format!("no IPv6: {error}")),
            Self::Mounts => Self::Program("mount").missing().or_else(not_root),
            Self::Root => not_root(),
            Self::Descriptors(count) => few_descriptors(count),
            Self::Engine => [Self::Program("docker"), Self::Program("docker-compose")]
                .into_iter()
                .find_map(Self::missing)
                .or_else(|| refused("docker", &["version"], "nothing is expected")),
            Self::FullRun => (!crate::clock::full()).then(|| "CLOAK_FULL=1 is not set".to_owned()),
        }
    }

    /// Whether the test must return at once. Prints the reason.
    ///
    /// # Panics
    /// Where something is missing and `CI=true`.
    #[must_use]
    pub fn skips(self) -> bool {
        let Some(reason) = self.missing() else { return false };
        let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
        assert!(!ci || self == Self::FullRun, "CI lacks what this test needs: {reason}");
        let thread = std::thread::current();
        eprintln!("skipped {}: {reason}", thread.name().unwrap_or("test"));
        true
    }
}

impl From<&'static str> for Need {
    fn from(program: &'static str) -> Self {
        Self::Program(program)
    }
}

/// Returns from the test unless everything named is there: `need!("curl", Need::Root)`.
#[macro_export]
macro_rules! need {
    ($($what:expr),+ $(,)?) => {
        $(if $crate::skip::Need::from($what).skips() { return; })+
    };
}

/// Where a program is, on the search path or beside it.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/bin", "/usr/lib/git-core"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

fn not_root() -> Option<String> {
    (!rustix::process::geteuid().is_root()).then(|| "not the superuser".to_owned())
}

fn few_descriptors(count: u64) -> Option<String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (limit < count).then(|| format!("only {limit} descriptors, {count} are needed"))
}

/// Runs a harmless command whose failure, other than with `expected`, shows a missing permission.
fn refused(program: &str, arguments: &[&str], expected: &str) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let stderr = String::from_utf8_lossy(&output.stderr).to_lowercase();
    (!output.status.success() && !stderr.contains(expected))
        .then(|| format!("`{program} {}`: {}", arguments.join(" "), stderr.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_present_program_is_found_and_an_absent_one_told() {
        assert_eq!(Need::Program("sh").missing(), None);
        assert_eq!(
            Need::Program("no-such-program-of-ours").missing(),
            Some("`no-such-program-of-ours` is not installed".to_owned())
        );
    }
}
