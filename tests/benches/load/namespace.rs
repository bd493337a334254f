//! A network namespace of the program's own, in which the congestion control can be chosen.
//!
//! Some machines use bbr, which paces and so halves what loopback carries; with reno it is the
//! programs that are measured. The program runs itself again under `unshare --net`: the namespace
//! ends with it, and nothing of the machine is changed.

use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use cloak_tests::binary;

/// Set for the run inside.
const INSIDE: &str = "CLOAK_LOAD_NAMESPACE";
const CONGESTION: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// Whether the measures are free of the machine's congestion control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Congestion {
    /// Reno, in a private namespace.
    Reno,
    /// What the machine has.
    NotSet,
}

impl fmt::Display for Congestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reno => f.write_str("reno in a private network namespace"),
            Self::NotSet => {
                let name = std::fs::read_to_string(CONGESTION).unwrap_or_default();
                write!(f, "congestion control not set ({})", name.trim())
            }
        }
    }
}

/// Goes on inside a new namespace where that can be had, else here.
pub(crate) fn enter(arguments: &[String]) -> Congestion {
    // Built out here, where cargo has its network.
    let cloak = binary::cloak();
    if std::env::var_os(INSIDE).is_none() {
        if rustix::process::geteuid().is_root() {
            let own = std::env::current_exe().expect("a program knows its own path");
            let mut inside = Command::new("unshare");
            inside.arg("--net").arg(own).args(arguments);
            // It returns only when there is no `unshare`.
            let _ = inside.env(INSIDE, "1").env("CLOAK_BIN", cloak).exec();
        }
        return Congestion::NotSet;
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).stderr(Stdio::null()).status();
    assert!(up.is_ok_and(|status| status.success()), "`ip` sets up loopback in our namespace");
    match std::fs::write(Path::new(CONGESTION), "reno") {
        Ok(()) => Congestion::Reno,
        Err(_) => Congestion::NotSet,
    }
}
