//! The `cloak` binary: built once per test process, in the profile and target directory of the test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::process;

/// A cold build on two busy cores.
const BUILD_WITHIN: Duration = Duration::from_secs(1200);

/// Path of the binary. `CLOAK_BIN` names another one to test, for example a release build.
///
/// # Panics
/// When it cannot be built.
pub fn cloak() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("CLOAK_BIN").map_or_else(build, PathBuf::from))
}

/// The top of the source tree.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// The whole workspace is selected so that features are unified as in `cargo test --workspace`,
/// and no dependency is built twice.
fn build() -> PathBuf {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(workspace());
    command.args(["build", "--workspace", "--bin", "cloak", "--message-format=json"]);
    command.arg("--target-dir").arg(target_directory());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = process::run(command, b"", BUILD_WITHIN).success().text();
    output
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "cloak")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable it built")
}

/// The directory of the running test that cargo marks as its own.
fn target_directory() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    test.ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").is_file())
        .map_or_else(|| workspace().join("target"), Path::to_path_buf)
}
