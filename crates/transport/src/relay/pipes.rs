//! Kernel pipes for `splice`: taken while they contain bytes, and lent to the next circuit then.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// Bytes of a pipe: four times the ordinary, for a quarter of the system calls and wake-ups.
pub(super) const SIZE: usize = 256 * 1024;
/// Empty pipes that are kept.
const SPARE_MAX: usize = 16;

static SPARE: Mutex<Vec<Pipe>> = Mutex::new(Vec::new());

/// A pipe, empty whenever it is made or [kept](Pipe::keep).
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
}

impl Pipe {
    /// One that was used before, or a new one.
    pub(super) fn take() -> std::io::Result<Self> {
        if let Some(pipe) = spare().pop() {
            return Ok(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // The kernel bounds what the pipes of one user hold; beyond that this one stays ordinary.
        let _ = fcntl_setpipe_size(&write, SIZE);
        Ok(Self { read, write })
    }

    /// Keeps it for the next user. It must be empty.
    pub(super) fn keep(self) {
        let mut spare = spare();
        if spare.len() < SPARE_MAX {
            spare.push(self);
        }
    }
}

fn spare() -> MutexGuard<'static, Vec<Pipe>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}
