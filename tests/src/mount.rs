//! Small file systems of a test's own, to be filled.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process;

/// Mounting and unmounting are system calls.
const MOUNT_WITHIN: Duration = Duration::from_secs(10);

/// A tmpfs, unmounted when dropped.
#[derive(Debug)]
pub struct Mount(PathBuf);

impl Mount {
    /// Mounts one of `size`, as `mount` takes it, at `directory`; only its owner may enter.
    ///
    /// # Panics
    /// When it cannot be mounted; [`crate::skip::Need::Mounts`] tells beforehand.
    #[must_use]
    pub fn new(directory: &Path, size: &str) -> Self {
        std::fs::create_dir_all(directory).expect("the directory above is ours");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "cloak-test"]);
        command.arg(directory);
        let _ = process::run(command, b"", MOUNT_WITHIN).success();
        Self(directory.to_path_buf())
    }

    /// Takes every byte that is left.
    ///
    /// # Panics
    /// When there is no room for a file's name.
    pub fn fill(&self) {
        let mut file = File::create(self.0.join(FILLER)).expect("room for a name");
        while file.write_all(&[0; 4096]).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
    }

    /// Gives it back.
    ///
    /// # Panics
    /// When [`Mount::fill`] was not called before.
    pub fn drain(&self) {
        std::fs::remove_file(self.0.join(FILLER)).expect("it was filled");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let mut command = Command::new("umount");
        command.arg("--lazy").arg(&self.0);
        // Nobody could do anything about a failure; the directory then stays, empty or not.
        let _ = command.status();
    }
}

/// The file that takes all room.
const FILLER: &str = "filler";
