//! A running gateway: `cloak up` as a child process.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use rustix::process::Signal;

use crate::process::Owned;
use crate::realm::Home;

/// From the start of the process to its `ready` line, on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// From a request to stop to the end of the process (the contract).
pub const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Lines of a gateway's log that a failed test shows.
const LOG_LINES_SHOWN: usize = 120;

/// Arguments of `cloak up`. The default listens on free loopback ports and exposes nothing.
#[derive(Debug, Clone)]
pub struct Up {
    /// `--proxy`.
    pub proxy: Vec<String>,
    /// `--listen`.
    pub listen: Vec<String>,
    /// `--advertise`: what others dial instead.
    pub advertise: Vec<String>,
    /// `--expose`: port and target.
    pub expose: Vec<(u16, String)>,
    /// Anything else.
    pub arguments: Vec<String>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
}

impl Default for Up {
    fn default() -> Self {
        Self {
            proxy: vec!["127.0.0.1:0".to_owned()],
            listen: vec!["127.0.0.1:0".to_owned()],
            advertise: Vec::new(),
            expose: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }
}

impl Up {
    /// Adds a service.
    #[must_use]
    pub fn expose(mut self, port: u16, target: impl ToString) -> Self {
        self.expose.push((port, target.to_string()));
        self
    }

    /// Adds an address that others dial instead of the listener's own.
    #[must_use]
    pub fn advertise(mut self, address: SocketAddr) -> Self {
        self.advertise.push(address.to_string());
        self
    }

    /// Listens for peers at `address`.
    #[must_use]
    pub fn listen(mut self, address: impl ToString) -> Self {
        self.listen = vec![address.to_string()];
        self
    }

    /// The command line after `cloak`.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut all = vec!["up".to_owned()];
        let mut add = |flag: &str, value: String| all.extend([flag.to_owned(), value]);
        self.proxy.iter().for_each(|value| add("--proxy", value.clone()));
        self.listen.iter().for_each(|value| add("--listen", value.clone()));
        self.advertise.iter().for_each(|value| add("--advertise", value.clone()));
        self.expose.iter().for_each(|(port, to)| add("--expose", format!("{port}={to}")));
        all.extend(self.arguments.iter().cloned());
        all
    }
}

/// A gateway that printed its `ready` line. Dropping it kills it; a failed test shows its log.
#[derive(Debug)]
pub struct Gateway {
    home: Home,
    up: Up,
    process: Owned,
    ready: Ready,
    log: PathBuf,
}

/// The `ready` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The application side.
    pub proxy: SocketAddr,
    /// The overlay side.
    pub overlay: SocketAddr,
    /// The device's name.
    pub name: String,
}

impl Ready {
    /// Reads `ready proxy=ADDR overlay=ADDR name=NAME`; the first of several addresses counts.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let words = line.strip_prefix("ready ")?;
        let word = |key: &str| words.split(' ').find_map(|word| word.strip_prefix(key));
        let address =
            |key| word(key)?.split(',').find_map(|address| address.parse::<SocketAddr>().ok());
        Some(Self {
            proxy: address("proxy=")?,
            overlay: address("overlay=")?,
            name: word("name=")?.to_owned(),
        })
    }
}

impl Gateway {
    /// Starts one; [`Home::up`] reads better.
    ///
    /// # Panics
    /// When it does not become ready in time.
    #[track_caller]
    #[must_use]
    pub fn start(home: &Home, up: &Up) -> Self {
        let log = home.directory().with_extension("log");
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        let arguments = up.arguments();
        let mut command = home.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        command.envs(up.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
        let mut child = command.spawn().expect("the binary starts");
        let stdout = child.stdout.take().expect("piped above");
        let mut process = Owned::new(child);
        match ready_line(stdout) {
            Ok(ready) => Self { home: home.clone(), up: up.clone(), process, ready, log },
            Err(why) => {
                process.kill();
                panic!("`cloak {}` is not ready: {why}\n{}", arguments.join(" "), tail(&log));
            }
        }
    }

    /// Its home, to run other subcommands on.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The application side.
    #[must_use]
    pub fn proxy(&self) -> SocketAddr {
        self.ready.proxy
    }

    /// The overlay side, as bound.
    #[must_use]
    pub fn overlay(&self) -> SocketAddr {
        self.ready.overlay
    }

    /// The device's name as printed when ready.
    #[must_use]
    pub fn device_name(&self) -> &str {
        &self.ready.name
    }

    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Everything it logged so far, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map_or_else(
            |error| format!("no log: {error}"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        self.process.wait(within)
    }

    /// `kill -9`, as a crash or a power cut would.
    pub fn crash(&mut self) {
        self.process.kill();
    }

    /// `cloak stop`, and asserts that the gateway ends in order and in time.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn stop(&mut self) {
        let _ = self.home.run(&["stop"]).success();
        let status = self.process.wait(STOP_WITHIN).expect("a stopped gateway ends within 5 s");
        assert!(status.success(), "a stopped gateway exits 0: {status}");
    }

    /// Starts it again after [`Gateway::stop`] or [`Gateway::crash`], with new ports.
    #[track_caller]
    pub fn restart(&mut self) {
        self.process.kill();
        let again = Self::start(&self.home, &self.up);
        *self = again;
    }

    /// Seconds of processor time used so far, user and system, from `/proc/PID/stat`.
    ///
    /// # Panics
    /// When the process is gone.
    #[must_use]
    pub fn processor_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()))
            .expect("a running process");
        let fields: Vec<&str> =
            stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
        let ticks: f64 = fields[11..13].iter().filter_map(|field| field.parse::<f64>().ok()).sum();
        // The kernel's user-visible tick is 100 Hz on every platform that we test on.
        ticks / 100.0
    }

    /// Resident memory in KiB, from `/proc/PID/status`.
    ///
    /// # Panics
    /// When the process is gone.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))
            .expect("a running process");
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
            .expect("the kernel tells the resident size")
    }

    /// Open descriptors.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).map_or(0, Iterator::count)
    }
}

impl Deref for Gateway {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.process.kill();
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}\n---", self.home.name(), tail(&self.log));
        }
    }
}

/// Waits for the `ready` line, and keeps reading after it so that the gateway never blocks.
fn ready_line(stdout: ChildStdout) -> Result<Ready, String> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(ready) = Ready::parse(&line) {
                let _ = sender.try_send(ready);
            }
        }
    });
    receiver.recv_timeout(READY_WITHIN).map_err(|error| match error {
        RecvTimeoutError::Timeout => format!("no `ready` line within {READY_WITHIN:?}"),
        RecvTimeoutError::Disconnected => "it ended".to_owned(),
    })
}

fn tail(log: &std::path::Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_read() {
        let line = "ready proxy=127.0.0.1:1080,unix:/x overlay=[::]:7140 name=one.alice.cloak";
        let ready = Ready::parse(line).unwrap();
        assert_eq!(ready.proxy, "127.0.0.1:1080".parse().unwrap());
        assert_eq!(ready.overlay, "[::]:7140".parse().unwrap());
        assert_eq!(ready.name, "one.alice.cloak");
        assert_eq!(Ready::parse("already proxy=127.0.0.1:1"), None);
    }

    #[test]
    fn arguments_are_those_of_the_contract() {
        let up = Up::default().expose(80, "127.0.0.1:8080").listen("[::1]:0");
        let expected =
            "up --proxy 127.0.0.1:0 --listen [::1]:0 --expose 80=127.0.0.1:8080".split(' ');
        assert_eq!(up.arguments(), expected.collect::<Vec<_>>());
    }
}
