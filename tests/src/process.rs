//! Child processes with an owner: bounded in time, killed by their own id when dropped.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::clock;

/// How a program ended, and what it said.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code; nothing after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, as text.
    pub stderr: String,
}

impl Finished {
    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Asserts that the program succeeded.
    ///
    /// # Panics
    /// With both outputs, when it did not.
    #[track_caller]
    #[must_use]
    pub fn success(self) -> Self {
        self.exits(0)
    }

    /// Asserts the exit code.
    ///
    /// # Panics
    /// With both outputs, when it is another.
    #[track_caller]
    #[must_use]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "exit code\n--- stdout\n{}\n--- stderr\n{}",
            self.text(),
            self.stderr
        );
        self
    }
}

/// Runs a program to its end, with `input` on its standard input.
///
/// # Panics
/// When it cannot be started, or does not end `within` the time allowed (it is killed).
#[track_caller]
pub fn run(mut command: Command, input: &[u8], within: Duration) -> Finished {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let shown = format!("{command:?}");
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
    let mut stdin = child.stdin.take().expect("piped above");
    let input = input.to_vec();
    // A program may end without reading its input.
    std::thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = drain(child.stdout.take().expect("piped above"));
    let stderr = drain(child.stderr.take().expect("piped above"));
    let mut owned = Owned::new(child);
    let status = owned.wait(within);
    if status.is_none() {
        owned.kill();
    }
    let finished = Finished {
        code: status.and_then(|status| status.code()),
        stdout: stdout.join().unwrap_or_default(),
        stderr: String::from_utf8_lossy(&stderr.join().unwrap_or_default()).into_owned(),
    };
    assert!(
        status.is_some(),
        "{shown} did not end within {within:?}\n{}\n{}",
        finished.text(),
        finished.stderr
    );
    finished
}

fn drain(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is worth showing.
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// A running child. Dropping it kills it, or its process group where it leads one.
#[derive(Debug)]
pub struct Owned {
    child: Child,
    status: Option<ExitStatus>,
    leads_group: bool,
}

impl Owned {
    /// Takes over a child.
    #[must_use]
    pub fn new(child: Child) -> Self {
        Self { child, status: None, leads_group: false }
    }

    /// Starts a program that leads its own process group, with both outputs in `log`: for programs
    /// that start others, as a browser does.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    #[must_use]
    pub fn start_group(mut command: Command, log: &Path) -> Self {
        use std::os::unix::process::CommandExt;
        let file = File::create(log).expect("the log's directory is ours");
        command.stdin(Stdio::null()).stderr(file.try_clone().expect("a second handle"));
        command.stdout(file).process_group(0);
        let shown = format!("{command:?}");
        let child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
        Self { child, status: None, leads_group: true }
    }

    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.poll().is_none()
    }

    /// Waits for its end; nothing when it did not come in time.
    pub fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let start = clock::now();
        let mut ended = self.poll();
        while ended.is_none() && start.elapsed() < within {
            clock::pause(clock::POLL / 4);
            ended = self.poll();
        }
        ended
    }

    /// Sends a signal to the process itself, if it still runs.
    pub fn signal(&mut self, signal: Signal) {
        if let (true, Some(pid)) = (self.is_running(), self.pid()) {
            // Between the look and the signal it may have ended; it is not reaped, so the id is its own.
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills and reaps it.
    pub fn kill(&mut self) {
        if let (true, Some(pid)) = (self.leads_group, self.pid()) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        if self.is_running() {
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
        }
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_outputs_and_code_are_carried() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat; echo oops >&2; exit 3"]);
        let finished = run(command, b"hello", Duration::from_secs(10)).exits(3);
        assert_eq!((finished.text().as_str(), finished.stderr.as_str()), ("hello", "oops\n"));
    }

    #[test]
    #[should_panic(expected = "did not end within")]
    fn a_program_that_hangs_is_killed() {
        let mut command = Command::new("sleep");
        command.arg("60");
        run(command, b"", Duration::from_millis(100));
    }

    #[test]
    fn dropping_kills_the_whole_group() {
        let log = std::env::temp_dir().join(format!("cloak-group-{}", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & echo $!; wait"]);
        let group = Owned::start_group(command, &log);
        let inner: i32 = clock::wait_for("the inner id", Duration::from_secs(5), || {
            std::fs::read_to_string(&log).ok()?.trim().parse().ok()
        });
        drop(group);
        clock::wait_until("the inner one is gone", Duration::from_secs(5), || {
            // A killed orphan may wait as a zombie for init to reap it.
            std::fs::read_to_string(format!("/proc/{inner}/stat"))
                .map_or(true, |stat| stat.contains(") Z "))
        });
        let _ = std::fs::remove_file(log);
    }
}
