//! `cloak stop` and `cloak drain`: end the gateway of the home, and return when its process has gone.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::anyhow;
use cloak_gateway::control::message::{Drain, Stopping, path};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::ask::Asker;
use crate::exit::Failure;
use crate::show;

/// The contract is 5 s; a little more, so that the gateway's own answer comes first.
const END_TIMEOUT: Timespec = Timespec { tv_sec: 7, tv_nsec: 0 };

/// Stops it and waits.
///
/// # Errors
/// No gateway is running, or it did not end in time.
pub(crate) async fn run(asker: &Asker) -> Result<(), Failure> {
    let pid = asker.status_pid().await?;
    // Opened before it is asked to end, so that the number cannot mean another process by then.
    let process = open(pid);
    asker.client().post(path::STOP, &()).await?.read::<Stopping>()?;
    gone(pid, process).await
}

/// Lets the sessions leave first.
///
/// # Errors
/// No gateway is running, or it did not end in time.
pub(crate) async fn drain(asker: &Asker, deadline: Duration) -> Result<(), Failure> {
    let pid = asker.status_pid().await?;
    let process = open(pid);
    let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    let answer = asker.client().post(path::DRAIN, &Drain { deadline_ms }).await?;
    asker.print(&answer, show::drained)?;
    gone(pid, process).await
}

async fn gone(pid: u32, process: Option<OwnedFd>) -> Result<(), Failure> {
    match tokio::task::spawn_blocking(move || process.map_or(Ok(true), has_ended)).await?? {
        true => Ok(()),
        false => Err(anyhow!("process {pid} did not end within 7 s; its log says why").into()),
    }
}

/// `None` when it has gone already.
fn open(pid: u32) -> Option<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Waits; a process descriptor is readable once the process has ended.
fn has_ended(process: OwnedFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&END_TIMEOUT))? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_is_seen() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = open(child.id()).unwrap();
        assert!(has_ended(process).unwrap());
        child.wait().unwrap();
    }
}
