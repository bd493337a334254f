//! The home: is it there, is it private, can its configuration be read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::args::Up;
use crate::settings::Settings;

/// Entries of a home that are looked at; it has about ten.
const ENTRIES_MAX: usize = 1_000;

pub(super) fn check(home: &Path) -> Vec<Finding> {
    let Ok(directory) = fs::metadata(home) else {
        let found = format!("there is nothing at {}", home.display());
        return vec![Finding::warn("home", found, "create it: `cloak init` or `cloak join -`")];
    };
    let mut findings = vec![permissions(home, directory.permissions().mode(), &open_files(home))];
    let config = home.join("config.toml");
    match Settings::load(&config, &Up::default()) {
        Ok(settings) => {
            findings.push(Finding::ok("config", config.display().to_string()));
            findings.extend(exposure(&settings));
        }
        Err(error) => findings.push(Finding::fail(
            "config",
            format!("{:#}", anyhow::Error::from(error)),
            "correct the file; docs/guide/configuration.md lists every key",
        )),
    }
    findings
}

/// Files in `home` that others may read or write.
fn open_files(home: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(home) else { return Vec::new() };
    let is_open = |path: &PathBuf| {
        let is_config = path.file_name().is_some_and(|name| name == "config.toml");
        fs::symlink_metadata(path)
            .is_ok_and(|file| !is_config && file.permissions().mode() & 0o077 != 0)
    };
    entries.take(ENTRIES_MAX).flatten().map(|entry| entry.path()).filter(is_open).collect()
}

fn permissions(home: &Path, mode: u32, open_files: &[PathBuf]) -> Finding {
    let home = home.display();
    if mode & 0o077 != 0 {
        return Finding::fail(
            "home",
            format!("{home} has mode {:03o}, so other users may look in", mode & 0o777),
            format!("chmod 700 {home}"),
        );
    }
    match open_files {
        [] => Finding::ok("home", format!("{home}, for this user only")),
        [first, ..] => Finding::fail(
            "home",
            format!("{} may be read by other users", first.display()),
            format!("chmod 600 {}", first.display()),
        ),
    }
}

/// What the configuration lets others do on purpose, but maybe not knowingly.
fn exposure(settings: &Settings) -> Option<Finding> {
    (!settings.proxy.same_user && settings.proxy.users.is_empty()).then(|| Finding {
        advice: Some("if that is not wanted, set same_user = true in [proxy]".to_owned()),
        ..Finding::ok("proxy users", "other users of this machine can use the proxy as you")
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn bad_permissions_are_found_with_the_command_that_mends_them() {
        let home = Path::new("/h");
        assert_eq!(permissions(home, 0o40_700, &[]).level, Level::Ok);
        let open = permissions(home, 0o40_755, &[]);
        assert_eq!((open.level, open.advice.as_deref()), (Level::Fail, Some("chmod 700 /h")));
        let key = permissions(home, 0o40_700, &["/h/device.key".into()]);
        assert_eq!(
            (key.level, key.advice.as_deref()),
            (Level::Fail, Some("chmod 600 /h/device.key"))
        );
    }

    #[test]
    fn a_missing_home_is_no_failure() {
        let findings = check(Path::new("/nonexistent/cloak"));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Warn);
    }
}
