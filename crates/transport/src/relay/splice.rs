//! Copies between the two hops of a circuit, within its limits.
//!
//! Two plain hops are spliced in the kernel; a wrapped one is copied. Half-closes travel; where one
//! hop breaks, the other is reset.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use cloak_base::Instant;
#[cfg(target_os = "linux")]
use rustix::pipe::{SpliceFlags, splice as splice_fd};
#[cfg(target_os = "linux")]
use tokio::io::Interest;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
#[cfg(target_os = "linux")]
use tokio::net::TcpStream;

use super::limits::Place;
#[cfg(target_os = "linux")]
use super::pipes::{self, Pipe};
use crate::connection::Carrier;

/// Bytes copied at a time, where a hop is wrapped.
const CHUNK: u64 = 64 * 1024;

/// Why a circuit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpliceEnd {
    /// Both ends closed in order.
    Closed,
    /// A hop broke.
    Broken(io::ErrorKind),
    /// It carried as many bytes as it may.
    TooMuch,
    /// It carried nothing for too long.
    Idle,
}

/// What the two directions share.
struct Tally<'a> {
    place: &'a Place,
    moved: AtomicU64,
    /// When bytes were moved last, in microseconds.
    moved_at: AtomicU64,
}

/// Copies until both ends have closed, or a limit ends it; gives the number of bytes too.
///
/// # Cancel safety
/// Dropping the future closes both hops.
pub async fn splice(mut one: Carrier, mut other: Carrier, place: &Place) -> (SpliceEnd, u64) {
    let tally = Tally {
        place,
        moved: AtomicU64::new(0),
        moved_at: AtomicU64::new(place.now().as_micros()),
    };
    let end = match (&mut one, &mut other) {
        #[cfg(target_os = "linux")]
        (Carrier::Tcp(one), Carrier::Tcp(other)) => {
            let (one, other) = (&*one, &*other);
            let both =
                async { tokio::try_join!(pump(one, other, &tally), pump(other, one, &tally)) };
            tally.watch(async { both.await.map(drop) }).await
        }
        (one, other) => {
            let (one_read, one_write) = tokio::io::split(one);
            let (other_read, other_write) = tokio::io::split(other);
            let both = async {
                tokio::try_join!(
                    copy(one_read, other_write, &tally),
                    copy(other_read, one_write, &tally)
                )
            };
            tally.watch(async { both.await.map(drop) }).await
        }
    };
    if end != SpliceEnd::Closed {
        one.abort();
        other.abort();
    }
    (end, tally.moved.into_inner())
}

impl Tally<'_> {
    /// Runs the two directions, until the circuit was idle for too long.
    async fn watch(&self, both: impl Future<Output = Result<(), SpliceEnd>>) -> SpliceEnd {
        tokio::select! {
            biased;
            ended = both => ended.err().unwrap_or(SpliceEnd::Closed),
            () = self.idle() => SpliceEnd::Idle,
        }
    }

    async fn idle(&self) {
        let most = self.place.limits().idle;
        loop {
            let last = Instant::from_micros(self.moved_at.load(Ordering::Relaxed));
            let quiet = self.place.now().since(last);
            if quiet >= most {
                return;
            }
            tokio::time::sleep((most - quiet).max(Duration::from_millis(1))).await;
        }
    }

    /// Counts bytes that were taken in, out of `granted`.
    fn count(&self, moved: u64, granted: u64) -> Result<(), SpliceEnd> {
        self.place.give_back(granted - moved);
        self.moved_at.store(self.place.now().as_micros(), Ordering::Relaxed);
        let before = self.moved.fetch_add(moved, Ordering::Relaxed);
        let is_over = before.saturating_add(moved) > self.place.limits().bytes;
        if is_over { Err(SpliceEnd::TooMuch) } else { Ok(()) }
    }
}

fn broken(error: io::Error) -> SpliceEnd {
    SpliceEnd::Broken(error.kind())
}

/// One direction of two plain hops. A pipe is held only while there are bytes in it.
#[cfg(target_os = "linux")]
async fn pump(from: &TcpStream, to: &TcpStream, tally: &Tally<'_>) -> Result<(), SpliceEnd> {
    loop {
        from.readable().await.map_err(broken)?;
        let granted = tally.place.grant(pipes::SIZE as u64).await;
        let pipe = Pipe::take().map_err(broken)?;
        let len = usize::try_from(granted).unwrap_or(usize::MAX);
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let taken = from.try_io(Interest::READABLE, || {
            Ok(splice_fd(from, None, &pipe.write, None, len, flags)?)
        });
        match taken {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tally.place.give_back(granted);
                pipe.keep();
            }
            Err(error) => return Err(broken(error)),
            Ok(0) => {
                tally.place.give_back(granted);
                pipe.keep();
                return shut_down(to);
            }
            Ok(taken) => {
                tally.count(taken as u64, granted)?;
                empty(&pipe, to, taken).await.map_err(broken)?;
                pipe.keep();
            }
        }
    }
}

/// Writes the `left` bytes of a pipe.
#[cfg(target_os = "linux")]
async fn empty(pipe: &Pipe, to: &TcpStream, mut left: usize) -> io::Result<()> {
    while left > 0 {
        to.writable().await?;
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let written = to
            .try_io(Interest::WRITABLE, || Ok(splice_fd(&pipe.read, None, to, None, left, flags)?));
        match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => left -= written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn shut_down(to: &TcpStream) -> Result<(), SpliceEnd> {
    match socket2::SockRef::from(to).shutdown(std::net::Shutdown::Write) {
        // It is gone already: the other direction says how.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        result => result.map_err(broken),
    }
}

/// One direction, where a hop is wrapped.
async fn copy(
    mut from: ReadHalf<&mut Carrier>,
    mut to: WriteHalf<&mut Carrier>,
    tally: &Tally<'_>,
) -> Result<(), SpliceEnd> {
    loop {
        let granted = tally.place.grant(CHUNK).await;
        // The buffer is held only once there is something to put into it.
        let chunk = std::future::poll_fn(|cx| {
            let len = usize::try_from(granted).unwrap_or(usize::MAX);
            let mut chunk = vec![0; len];
            let mut space = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut from).poll_read(cx, &mut space))?;
            let read = space.filled().len();
            chunk.truncate(read);
            Poll::Ready(io::Result::Ok(chunk))
        })
        .await
        .map_err(broken)?;
        if chunk.is_empty() {
            tally.place.give_back(granted);
            return to.shutdown().await.map_err(broken);
        }
        tally.count(chunk.len() as u64, granted)?;
        to.write_all(&chunk).await.map_err(broken)?;
        to.flush().await.map_err(broken)?;
    }
}
