//! The home: is it there, is it private, can its configuration be read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Finding;
use crate::args::Up;
use crate::settings::Settings;

pub(super) fn check(home: &Path) -> Vec<Finding> {
    let mode = |path: &Path| fs::metadata(path).map(|found| found.permissions().mode());
    let (Ok(directory), Ok(keys)) = (mode(home), mode(&home.join("keys"))) else {
        let found = format!("there is no identity in {}", home.display());
        let advice = "make one: `cloak init --name NAME`, or `cloak join -` with an invitation";
        return vec![Finding::warn("home", found, advice)];
    };
    let mut findings = vec![permissions(home, directory, keys)];
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

/// The directory keeps others from everything in it; the keys must not depend on that alone.
fn permissions(home: &Path, directory: u32, keys: u32) -> Finding {
    let home = home.display();
    if directory & 0o077 != 0 {
        let found =
            format!("{home} has mode {:03o}, so other users may look in", directory & 0o777);
        return Finding::fail("home", found, format!("chmod 700 {home}"));
    }
    if keys & 0o077 != 0 {
        let found = format!("{home}/keys has mode {:03o}", keys & 0o777);
        return Finding::fail("home", found, format!("chmod 600 {home}/keys"));
    }
    Finding::ok("home", format!("{home}, for this user only"))
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
        assert_eq!(permissions(home, 0o40_700, 0o600).level, Level::Ok);
        for (directory, keys, advice) in
            [(0o40_755, 0o600, "chmod 700 /h"), (0o40_700, 0o640, "chmod 600 /h/keys")]
        {
            let found = permissions(home, directory, keys);
            assert_eq!((found.level, found.advice.as_deref()), (Level::Fail, Some(advice)));
        }
    }

    #[test]
    fn a_missing_home_is_no_failure() {
        let findings = check(Path::new("/nonexistent/cloak"));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Warn);
    }
}
