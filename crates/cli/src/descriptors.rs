//! The limit of open files: a gateway needs about three for each session.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Below this a gateway carries fewer than some thousand sessions; `doctor` says so.
pub(crate) const COMFORTABLE: u64 = 8_192;

/// Raises the soft limit to the hard one. A refusal changes nothing that is not reported by
/// `doctor`, so it is no failure.
pub(crate) fn raise() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
    }
}

/// The hard limit; `None` when there is none.
pub(crate) fn hard_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}
