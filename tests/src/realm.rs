//! Homes: the directories of devices, and `cloak` run on them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::binary;
use crate::gateway::{Gateway, Up};
use crate::netns::Host;
use crate::process::{self, Finished};
use crate::slots::Slot;

/// A subcommand that takes longer hangs.
pub const COMMAND_WITHIN: Duration = Duration::from_secs(30);

/// A temporary directory with the homes of one realm, removed when dropped; holds a [`Slot`].
#[derive(Debug)]
pub struct Realm {
    directory: PathBuf,
    _slot: Slot,
}

impl Realm {
    /// A new one, beside others.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Slot::take())
    }

    /// A new one that runs alone: for tests that measure time.
    #[must_use]
    pub fn alone() -> Self {
        Self::with(Slot::take_all())
    }

    fn with(slot: Slot) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Short, for control sockets have 107 bytes.
        let name = format!("cloak-t{}-{count}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("a temporary directory can be made");
        Self { directory, _slot: slot }
    }

    /// Where it is; tests put their own files here too.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// An empty home for the entity `name`: nothing was run on it.
    #[must_use]
    pub fn empty(&self, name: &str) -> Home {
        Home { directory: self.directory.join(name), entity: name.to_owned(), host: None }
    }

    /// A home whose entity founds a new realm.
    ///
    /// # Panics
    /// When `init` fails.
    #[must_use]
    pub fn found(&self, name: &str) -> Home {
        let home = self.empty(name);
        home.init();
        home
    }

    /// A home that joins by an invitation of a running gateway.
    ///
    /// # Panics
    /// When `invite` or `join` fails.
    #[must_use]
    pub fn join(&self, inviter: &Home, name: &str) -> Home {
        let home = self.empty(name);
        home.join(&inviter.invite(name));
        home
    }
}

impl Default for Realm {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Realm {
    fn drop(&mut self) {
        // Left for inspection after a failure.
        if std::thread::panicking() {
            eprintln!("homes are kept in {}", self.directory.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

/// One device's home.
#[derive(Debug, Clone)]
pub struct Home {
    directory: PathBuf,
    entity: String,
    host: Option<Host>,
}

impl Home {
    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The name that applications use, for example `bob.cloak`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.cloak", self.entity)
    }

    /// The same home, with everything run inside a network namespace.
    #[must_use]
    pub fn on(mut self, host: &Host) -> Self {
        self.host = Some(host.clone());
        self
    }

    /// `cloak init`.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn init(&self) {
        let _ = self.run(&["init", "--name", &self.entity, "--device", "one"]).success();
    }

    /// `cloak invite`: an invitation in which the name is fixed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    #[must_use]
    pub fn invite(&self, name: &str) -> String {
        last_line(&self.run(&["invite", "--name", name]).success())
    }

    /// `cloak join -`, the invitation on standard input.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn join(&self, invitation: &str) {
        let line = format!("{invitation}\n");
        let _ = self.run_with(&["join", "-", "--device", "one"], line.as_bytes()).success();
    }

    /// Writes `config.toml`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.directory.join("config.toml"), text).expect("the home is writable");
    }

    /// Starts a gateway with the defaults of [`Up`].
    ///
    /// # Panics
    /// When it does not become ready.
    #[track_caller]
    #[must_use]
    pub fn up(&self, up: &Up) -> Gateway {
        Gateway::start(self, up)
    }

    /// Runs `cloak` to its end.
    #[track_caller]
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with(arguments, b"")
    }

    /// Runs `cloak` to its end with something on its standard input.
    #[track_caller]
    #[must_use]
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Finished {
        process::run(self.command(arguments), input, COMMAND_WITHIN)
    }

    /// Runs `cloak ARGUMENTS --json` and reads its answer.
    ///
    /// # Panics
    /// When it fails, or its output is not one JSON value.
    #[track_caller]
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        let text = self.run(&arguments).success().text();
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("`cloak {arguments:?}`: {error}: {text}"))
    }

    /// The sessions as `cloak sessions --json` lists them.
    #[track_caller]
    #[must_use]
    pub fn sessions(&self) -> Vec<Value> {
        match self.json(&["sessions"]) {
            Value::Array(rows) => rows,
            other => panic!("`sessions --json` is no array: {other}"),
        }
    }

    /// Whether `name` resolves from here at the moment.
    #[must_use]
    pub fn resolves(&self, name: &str) -> bool {
        self.run(&["resolve", name]).code == Some(0)
    }

    /// A `cloak` command on this home, not started yet.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.host {
            Some(host) => host.command(binary::cloak()),
            None => Command::new(binary::cloak()),
        };
        command.args(arguments).env("CLOAK_HOME", &self.directory).env_remove("RUST_LOG");
        command.env_remove("NOTIFY_SOCKET").env_remove("CLOAK_FULL");
        command
    }
}

/// The last line of a program's standard output that is not empty.
///
/// # Panics
/// When there is none.
#[track_caller]
#[must_use]
pub fn last_line(finished: &Finished) -> String {
    let text = finished.text();
    text.lines().rev().find(|line| !line.trim().is_empty()).expect("a line of output").to_owned()
}
