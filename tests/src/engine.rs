//! The container engine as an operator uses it: `docker` and `docker-compose`, each call bounded.

use std::io::Read;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::binary::workspace;
use crate::clock::{self, Pace};
use crate::images::Images;
use crate::origin::STREAM_BUFFER;
use crate::pattern::Sha256;
use crate::process::{self, Finished, Owned};

/// A call that neither builds nor starts anything.
pub const CALL_WITHIN: Duration = Duration::from_secs(60);
/// Everything at once, stopped in order or started.
pub const PROJECT_WITHIN: Duration = Duration::from_secs(240);
/// Lines of the containers' logs shown when a test fails.
const LOG_LINES_SHOWN: &str = "40";

/// Runs `docker ARGUMENTS` to its end. Builds use the engine's own builder, without extensions.
#[track_caller]
pub fn docker(arguments: &[&str], within: Duration) -> Finished {
    let mut command = Command::new("docker");
    command.env("DOCKER_BUILDKIT", "0").args(arguments);
    process::run(command, b"", within)
}

/// The containers of `docker/compose.yaml`, under a name of their own. Dropping it removes them all.
#[derive(Debug)]
pub struct Project {
    name: String,
    environment: Vec<(String, String)>,
}

impl Project {
    /// Nothing is started yet.
    #[must_use]
    pub fn new(images: &Images) -> Self {
        let name = format!("cloak-t{}", std::process::id());
        let mut environment = images.environment().to_vec();
        environment.push(("COMPOSE_PROJECT_NAME".to_owned(), name.clone()));
        Self { name, environment }
    }

    /// A line of the guide as printed, run where the guide says, but for the project's name.
    #[must_use]
    pub fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &line.replace("docker_", &format!("{}_", self.name))]);
        self.at_home(command)
    }

    /// Such a line, run to its end.
    #[track_caller]
    #[must_use]
    pub fn run(&self, line: &str, within: Duration) -> Finished {
        println!("$ {line}");
        process::run(self.shell(line), b"", within)
    }

    /// Runs `docker-compose ARGUMENTS` to its end.
    #[track_caller]
    #[must_use]
    pub fn compose(&self, arguments: &[&str], within: Duration) -> Finished {
        let mut command = Command::new("docker-compose");
        command.args(arguments);
        process::run(self.at_home(command), b"", within)
    }

    fn at_home(&self, mut command: Command) -> Command {
        command.current_dir(workspace().join("docker"));
        command.envs(self.environment.iter().cloned());
        command.env("DOCKER_BUILDKIT", "0");
        command
    }

    /// The id of a service's container, running or not.
    #[track_caller]
    #[must_use]
    pub fn container(&self, service: &str) -> String {
        let id = self.ids("container", &["--all", "--filter", &of_service(service)]);
        assert_eq!(id.len(), 1, "containers of `{service}`: {id:?}");
        id.into_iter().next().unwrap_or_default()
    }

    /// What the engine's health checks say of a service: `starting`, `healthy`, `unhealthy`.
    #[track_caller]
    #[must_use]
    pub fn health(&self, service: &str) -> String {
        let format = "{{.State.Health.Status}}";
        let finished =
            docker(&["inspect", "--format", format, &self.container(service)], CALL_WITHIN);
        finished.success().text().trim().to_owned()
    }

    /// Runs a program in a service's container.
    #[track_caller]
    #[must_use]
    pub fn exec(&self, service: &str, arguments: &[&str]) -> Finished {
        let container = self.container(service);
        docker(&[&["exec", &container], arguments].concat(), CALL_WITHIN)
    }

    /// Runs `cloak ARGUMENTS --json` at a gateway; nothing while it does not answer.
    #[track_caller]
    #[must_use]
    pub fn ask(&self, gateway: &str, arguments: &[&str]) -> Option<Value> {
        let finished = self.exec(gateway, &[&["cloak"], arguments, &["--json"]].concat());
        serde_json::from_slice(&finished.stdout).ok()
    }

    /// A container's address in a network of the project.
    #[track_caller]
    #[must_use]
    pub fn address(&self, service: &str, network: &str) -> String {
        let format = format!(
            "{{{{(index .NetworkSettings.Networks \"{}_{network}\").IPAddress}}}}",
            self.name
        );
        let finished =
            docker(&["inspect", "--format", &format, &self.container(service)], CALL_WITHIN);
        finished.success().text().trim().to_owned()
    }

    /// Ids of the project's objects of a kind: `container`, `network` or `volume`.
    #[track_caller]
    #[must_use]
    pub fn ids(&self, kind: &str, filters: &[&str]) -> Vec<String> {
        let project = format!("label=com.docker.compose.project={}", self.name);
        let list = [&[kind, "ls", "--quiet", "--filter", &project], filters].concat();
        docker(&list, CALL_WITHIN).success().text().lines().map(str::to_owned).collect()
    }
}

/// A filter for a service's own container, not for those that `run` made.
fn of_service(service: &str) -> String {
    format!("label=com.docker.compose.service={service}")
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs =
                self.compose(&["logs", "--no-color", "--tail", LOG_LINES_SHOWN], CALL_WITHIN);
            eprintln!("--- logs\n{}{}---", logs.text(), logs.stderr);
        }
        for (kind, force) in [("container", "--force"), ("network", ""), ("volume", "--force")] {
            let every = if kind == "container" { &["--all"][..] } else { &[] };
            for id in self.ids(kind, every) {
                let remove: Vec<&str> =
                    [kind, "rm", force, &id].into_iter().filter(|word| !word.is_empty()).collect();
                let _ = docker(&remove, CALL_WITHIN);
            }
        }
    }
}

/// A download whose bytes are counted and summed as they come: slowly, so that faults fall into it,
/// and at the end as fast as they do come.
#[derive(Debug)]
pub struct Download {
    process: Owned,
    received: Arc<AtomicU64>,
    is_hurried: Arc<AtomicBool>,
    digest: JoinHandle<String>,
}

impl Download {
    /// Runs a program that writes what it downloads to its standard output, which is read at `rate`
    /// bytes a second.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    #[must_use]
    pub fn start(mut command: Command, rate: u64) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child: Child = command.spawn().expect("the program starts");
        let output = child.stdout.take().expect("piped above");
        let received = Arc::new(AtomicU64::new(0));
        let is_hurried = Arc::new(AtomicBool::new(false));
        let (counter, hurry) = (Arc::clone(&received), Arc::clone(&is_hurried));
        let digest = std::thread::spawn(move || sum(output, rate, &hurry, &counter));
        Self { process: Owned::new(child), received, is_hurried, digest }
    }

    /// Bytes so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::SeqCst)
    }

    /// Waits until `more` bytes have come from now on.
    ///
    /// # Panics
    /// When the download ended before, or they do not come in time.
    #[track_caller]
    pub fn goes_on(&self, what: &str, more: u64, within: Duration) {
        let before = self.received();
        let took = clock::wait_until(what, within, || {
            assert!(!self.digest.is_finished(), "{what}: it ended after {} bytes", self.received());
            self.received() >= before + more
        });
        println!("{what}: {more} bytes more after {took:?}");
    }

    /// Reads the rest at once, waits for its end and returns how many bytes came, and their SHA-256 in hexadecimal.
    ///
    /// # Panics
    /// When it fails or takes too long.
    #[track_caller]
    #[must_use]
    pub fn finish(mut self, within: Duration) -> (u64, String) {
        self.is_hurried.store(true, Ordering::SeqCst);
        let status = self.process.wait(within).expect("the download ends in time");
        assert!(status.success(), "after {} bytes: {status}", self.received());
        let digest = self.digest.join().expect("the sum is not interrupted");
        (self.received.load(Ordering::SeqCst), digest)
    }
}

fn sum(mut output: ChildStdout, rate: u64, is_hurried: &AtomicBool, counter: &AtomicU64) -> String {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; STREAM_BUFFER];
    let mut pace = Pace::new(rate);
    while let Ok(count @ 1..) = output.read(&mut buffer) {
        digest.update(&buffer[..count]);
        counter.fetch_add(count as u64, Ordering::SeqCst);
        if !is_hurried.load(Ordering::SeqCst) {
            pace.spend(count as u64);
        }
    }
    digest.finish()
}
