//! The machine: descriptors, disk and clock.

use std::fs;
use std::path::Path;

use cloak_base::UnixTime;
use cloak_transport::{Clock, SystemClock};
use rustix::fs::statvfs;

use super::Finding;
use crate::descriptors;

/// Free space under which suspended sessions may soon not be kept.
const DISK_LOW_BYTES: u64 = 256 << 20;
/// Free space under which nothing can be stored.
const DISK_EMPTY_BYTES: u64 = 8 << 20;

/// How far in the future a file of ours may be dated before the clock must be wrong.
const CLOCK_SLACK_SECONDS: u64 = 300;

pub(super) fn check(home: &Path) -> Vec<Finding> {
    let free = statvfs(home).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)).ok();
    let time_service = fs::exists("/run/systemd/timesync").unwrap_or(false);
    let synchronised = fs::exists("/run/systemd/timesync/synchronized").unwrap_or(false);
    [
        Some(limit(descriptors::hard_limit())),
        free.map(disk),
        Some(clock(SystemClock.wall(), newest(home), !time_service || synchronised)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn limit(hard: Option<u64>) -> Finding {
    match hard {
        Some(hard) if hard < descriptors::COMFORTABLE => Finding::warn(
            "descriptors",
            format!("at most {hard} files may be open, which is about {} sessions", hard / 3),
            "raise it: LimitNOFILE=65536 in the systemd unit, or /etc/security/limits.conf",
        ),
        Some(hard) => Finding::ok("descriptors", format!("up to {hard}")),
        None => Finding::ok("descriptors", "no limit"),
    }
}

fn disk(free: u64) -> Finding {
    let found = format!("{} MiB free", free >> 20);
    match free {
        0..DISK_EMPTY_BYTES => Finding::fail("disk", found, "free some space in the home's disk"),
        DISK_EMPTY_BYTES..DISK_LOW_BYTES => Finding::warn(
            "disk",
            found,
            "sessions suspended for long are kept on disk: free some space, or lower spill_max in \
             [session]",
        ),
        _ => Finding::ok("disk", found),
    }
}

/// Certificates are checked against the clock, so a wrong one locks a device out.
fn clock(now: UnixTime, newest: UnixTime, synchronised: bool) -> Finding {
    let found = format!("it is {now}");
    if newest.since(now).as_secs() > CLOCK_SLACK_SECONDS {
        return Finding::fail(
            "clock",
            format!("{found}, but the home was used at {newest}"),
            "set the clock: `timedatectl set-ntp true`",
        );
    }
    match synchronised {
        true => Finding::ok("clock", found),
        false => Finding::warn(
            "clock",
            format!("{found}, but the time service has not synchronised yet"),
            "check it: `timedatectl status`",
        ),
    }
}

/// When the home was last changed.
fn newest(home: &Path) -> UnixTime {
    let entries = fs::read_dir(home).into_iter().flatten().flatten();
    let seconds = entries
        .filter_map(|entry| entry.metadata().ok()?.modified().ok())
        .filter_map(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map(|since| since.as_secs());
    UnixTime(seconds.max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn limits_are_judged() {
        for (hard, level) in
            [(Some(1024), Level::Warn), (Some(65_536), Level::Ok), (None, Level::Ok)]
        {
            assert_eq!(limit(hard).level, level, "{hard:?}");
        }
        for (free, level) in [(0, Level::Fail), (100 << 20, Level::Warn), (1 << 40, Level::Ok)] {
            assert_eq!(disk(free).level, level, "{free}");
        }
    }

    #[test]
    fn a_clock_that_went_back_is_found() {
        let now = UnixTime(1_795_000_000);
        assert_eq!(clock(now, UnixTime(1_795_000_100), true).level, Level::Ok);
        assert_eq!(clock(now, UnixTime(1_795_001_000), true).level, Level::Fail);
        assert_eq!(clock(now, UnixTime(0), false).level, Level::Warn);
    }
}
