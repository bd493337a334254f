//! Buffers of sessions that stay suspended, on disk instead of in memory.
//!
//! A segment is sealed (AES-256-GCM) under a key that exists only in this process's memory, so what
//! is left after a crash is noise; the next start removes it. When the disk is full or the limit
//! is reached the bytes simply stay in memory: no session is lost over it.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use cloak_base::SessionId;
use cloak_session::Buffers;
use tokio::task::JoinHandle;

use crate::shared::Shared;
use crate::sync::read;

const FOLDER: &str = "spill";

/// A segment could not be written or read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpillError {
    #[error("the disk: {0}")]
    Io(#[from] std::io::Error),
    #[error("[session] spill_max is reached")]
    Full,
    #[error("the segment is damaged")]
    Sealed,
}

/// The buffers of one session, on their way to disk and back.
pub(crate) struct Spill {
    shared: Arc<Shared>,
    session: SessionId,
    state: State,
    /// The session wants its bytes back.
    wanted: bool,
}

enum State {
    Empty,
    Storing(JoinHandle<Stored>),
    Stored(Stored),
    Loading(JoinHandle<Result<Vec<u8>, SpillError>>),
}

/// Where the bytes are.
enum Stored {
    Memory(Buffers),
    Disk(Segment),
}

/// A sealed file. Removed when dropped.
struct Segment {
    shared: Arc<Shared>,
    path: PathBuf,
    len: u64,
    key: RandomizedNonceKey,
    nonce: Nonce,
}

impl Spill {
    pub(crate) fn new(shared: Arc<Shared>, session: SessionId) -> Self {
        Self { shared, session, state: State::Empty, wanted: false }
    }

    /// Begins to write the bytes out.
    pub(crate) fn store(&mut self, buffers: Buffers) {
        let (shared, session) = (Arc::clone(&self.shared), self.session);
        let storing = self.shared.tasks.spawn_blocking(move || {
            let written = write_segment(&shared, session, &buffers);
            shared.storage_result(&written);
            written.map_or_else(|_| Stored::Memory(buffers), Stored::Disk)
        });
        self.state = State::Storing(storing);
        self.wanted = false;
    }

    /// Begins to bring them back.
    pub(crate) fn load(&mut self) {
        self.wanted = true;
    }

    /// Forgets them.
    pub(crate) fn discard(&mut self) {
        self.state = State::Empty;
        self.wanted = false;
    }

    /// Ready with the bytes, once, after [`Spill::load`].
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, SpillError>> {
        if let State::Storing(storing) = &mut self.state {
            let Poll::Ready(stored) = Pin::new(storing).poll(cx) else { return Poll::Pending };
            self.state = stored.map_or(State::Empty, State::Stored);
        }
        if self.wanted {
            match std::mem::replace(&mut self.state, State::Empty) {
                State::Stored(Stored::Memory(buffers)) => {
                    self.wanted = false;
                    return Poll::Ready(Ok(buffers.slices().concat()));
                }
                State::Stored(Stored::Disk(segment)) => {
                    let loading = self.shared.tasks.spawn_blocking(move || segment.open());
                    self.state = State::Loading(loading);
                }
                // Without the bytes the session cannot go on; the lost task said why.
                State::Empty => {
                    self.wanted = false;
                    return Poll::Ready(Err(SpillError::Sealed));
                }
                other => self.state = other,
            }
        }
        let State::Loading(loading) = &mut self.state else { return Poll::Pending };
        let Poll::Ready(loaded) = Pin::new(loading).poll(cx) else { return Poll::Pending };
        self.discard();
        Poll::Ready(loaded.unwrap_or(Err(SpillError::Sealed)))
    }
}

fn write_segment(
    shared: &Arc<Shared>,
    session: SessionId,
    buffers: &Buffers,
) -> Result<Segment, SpillError> {
    let max = read(&shared.config).session.spill_max.0;
    let len = buffers.len();
    let held = shared.spilled.fetch_add(len, Ordering::Relaxed);
    let (key, mut sealed) = (new_key(shared)?, buffers.slices().concat());
    let nonce = key
        .seal_in_place_append_tag(Aad::from(session.as_bytes()), &mut sealed)
        .map_err(|_| SpillError::Sealed)?;
    let path = folder(shared.home.dir()).join(format!("{session}.seg"));
    // From here on dropping the segment gives its share of the limit back.
    let segment = Segment { shared: Arc::clone(shared), path, len, key, nonce };
    if held + len > max {
        return Err(SpillError::Full);
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder(shared.home.dir()))?;
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&segment.path)?
        .write_all(&sealed)?;
    Ok(segment)
}

fn new_key(shared: &Shared) -> Result<RandomizedNonceKey, SpillError> {
    let key = zeroize::Zeroizing::new(shared.random_bytes::<32>());
    RandomizedNonceKey::new(&AES_256_GCM, &*key).map_err(|_| SpillError::Sealed)
}

impl Segment {
    fn open(self) -> Result<Vec<u8>, SpillError> {
        let mut sealed = std::fs::read(&self.path)?;
        let id = self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let session: SessionId = id.parse().map_err(|_| SpillError::Sealed)?;
        let nonce = Nonce::from(self.nonce.as_ref());
        let opened = self
            .key
            .open_in_place(nonce, Aad::from(session.as_bytes()), &mut sealed)
            .map_err(|_| SpillError::Sealed)?
            .len();
        sealed.truncate(opened);
        Ok(sealed)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        self.shared.spilled.fetch_sub(self.len, Ordering::Relaxed);
    }
}

/// Removes what an earlier run left behind; nobody can read it.
pub(crate) fn clean(home: &Path) {
    let _ = std::fs::remove_dir_all(folder(home));
}

fn folder(home: &Path) -> PathBuf {
    home.join(FOLDER)
}
