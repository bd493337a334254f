//! Raw TCP backends, with counters of what happened to their connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use socket2::SockRef;

use crate::pattern::{Pattern, Sha256};

/// Bytes that a handler reads or writes at once.
pub const STREAM_BUFFER: usize = 16 * 1024;
/// Stack of a connection's thread: a thousand of them are cheap.
const STACK: usize = 256 * 1024;
/// Bytes remembered of the order in which connections began to speak.
const FIRST_BYTES_MAX: usize = 64;

/// A listening backend. Dropping it closes the listener and resets its connections.
#[derive(Debug)]
pub struct TcpOrigin {
    address: SocketAddr,
    seen: Arc<Seen>,
    /// Its other handle is the accepting thread's.
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    accepted: AtomicU64,
    open: AtomicU64,
    resets: AtomicU64,
    received: AtomicU64,
    last_peer: Mutex<Option<SocketAddr>>,
    first_bytes: Mutex<Vec<u8>>,
    streams: Mutex<Vec<TcpStream>>,
}

/// What a handler of one connection may use.
#[derive(Debug)]
pub(crate) struct Served<'a> {
    pub(crate) stream: &'a mut TcpStream,
    seen: &'a Seen,
}

impl Served<'_> {
    /// Reads some bytes and counts them.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.seen.received.fetch_add(count as u64, Ordering::SeqCst);
        Ok(count)
    }
}

impl TcpOrigin {
    /// Sends back what comes; an end of one direction ends the other.
    #[must_use]
    pub fn echo() -> Self {
        Self::serve(bind(), |served| {
            let mut buffer = [0; STREAM_BUFFER];
            let mut first = true;
            loop {
                let count = served.read(&mut buffer)?;
                if count == 0 {
                    return served.stream.shutdown(Shutdown::Write);
                }
                if std::mem::take(&mut first) {
                    served.seen.remember_first(buffer[0]);
                }
                served.stream.write_all(&buffer[..count])?;
            }
        })
    }

    /// Reads to the end of its input, then answers with `LENGTH SHA256` and ends: shows that a
    /// half-close travels, and that what follows it comes back.
    #[must_use]
    pub fn sink() -> Self {
        Self::serve(bind(), |served| {
            let mut digest = Sha256::new();
            let (mut buffer, mut total) = ([0; STREAM_BUFFER], 0_u64);
            loop {
                let count = served.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                digest.update(&buffer[..count]);
                total += count as u64;
            }
            served.stream.write_all(format!("{total} {}", digest.finish()).as_bytes())
        })
    }

    /// Sends `length` bytes of a pattern and closes at once, reading nothing.
    #[must_use]
    pub fn source(pattern: Pattern, length: usize) -> Self {
        Self::serve(bind(), move |served| served.stream.write_all(&pattern.bytes(length)))
    }

    /// Ends its own direction at once, then reads on to the end of the other.
    #[must_use]
    pub fn closes_first() -> Self {
        Self::serve(bind(), |served| {
            served.stream.write_all(b"bye")?;
            served.stream.shutdown(Shutdown::Write)?;
            let mut buffer = [0; STREAM_BUFFER];
            while served.read(&mut buffer)? > 0 {}
            Ok(())
        })
    }

    /// Says `ready`, waits for one byte and resets the connection.
    #[must_use]
    pub fn resets_after_one_byte() -> Self {
        Self::serve(bind(), |served| {
            served.stream.write_all(b"ready")?;
            served.read(&mut [0; 1])?;
            socket2::SockRef::from(&*served.stream).set_linger(Some(std::time::Duration::ZERO))
        })
    }

    /// Sends a running number every `period`, eight bytes each, until the other side is gone.
    #[must_use]
    pub fn ticker(period: std::time::Duration) -> Self {
        Self::serve(bind(), move |served| {
            served.stream.set_nodelay(true)?;
            for tick in 0_u64.. {
                served.stream.write_all(&tick.to_be_bytes())?;
                crate::clock::pause(period);
            }
            Ok(())
        })
    }

    /// Accepts, and neither reads nor writes: an application that is stuck.
    #[must_use]
    pub fn stuck() -> Self {
        Self::serve(bind(), |served| {
            while !served.seen.stop.load(Ordering::SeqCst) {
                crate::clock::pause(crate::clock::POLL);
            }
            Ok(())
        })
    }

    /// Runs `handler` on each connection of `listener`, in a thread of its own.
    #[must_use]
    pub(crate) fn serve<F>(listener: TcpListener, handler: F) -> Self
    where
        F: Fn(&mut Served<'_>) -> std::io::Result<()> + Send + Sync + 'static,
    {
        let address = listener.local_addr().expect("a bound listener has an address");
        let ours = listener.try_clone().expect("a listener can be shared");
        let seen = Arc::new(Seen::default());
        let (accepting, handler) = (Arc::clone(&seen), Arc::new(handler));
        let thread = std::thread::spawn(move || {
            while let Ok((stream, peer)) = listener.accept() {
                let (seen, handler) = (Arc::clone(&accepting), Arc::clone(&handler));
                seen.begin(&stream, peer);
                let run = move || seen.run(stream, handler.as_ref());
                Builder::new().stack_size(STACK).spawn(run).expect("a thread can be started");
            }
        });
        Self { address, seen, listener: ours, thread: Some(thread) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.seen.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.seen.open.load(Ordering::SeqCst)
    }

    /// Connections that ended by a reset from the other side.
    #[must_use]
    pub fn resets(&self) -> u64 {
        self.seen.resets.load(Ordering::SeqCst)
    }

    /// Bytes read so far, over all connections.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.seen.received.load(Ordering::SeqCst)
    }

    /// Where the last connection came from.
    #[must_use]
    pub fn last_peer(&self) -> Option<SocketAddr> {
        *self.seen.last_peer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first byte of each connection, in order of arrival (echo only).
    #[must_use]
    pub fn first_bytes(&self) -> Vec<u8> {
        self.seen.first_bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Seen {
    fn begin(&self, stream: &TcpStream, peer: SocketAddr) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        self.open.fetch_add(1, Ordering::SeqCst);
        *self.last_peer.lock().unwrap_or_else(PoisonError::into_inner) = Some(peer);
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.extend(stream.try_clone());
    }

    fn run(&self, mut stream: TcpStream, handler: &dyn Fn(&mut Served<'_>) -> std::io::Result<()>) {
        let peer = stream.peer_addr().ok();
        let ended = handler(&mut Served { stream: &mut stream, seen: self });
        if ended.is_err_and(|error| {
            matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
        }) {
            self.resets.fetch_add(1, Ordering::SeqCst);
        }
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|other| other.peer_addr().ok() != peer);
        drop(stream);
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    fn remember_first(&self, byte: u8) {
        let mut first = self.first_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if first.len() < FIRST_BYTES_MAX {
            first.push(byte);
        }
    }
}

impl Drop for TcpOrigin {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::SeqCst);
        // Ends the accepting thread, in whatever namespace it listens.
        let ended = SockRef::from(&self.listener).shutdown(Shutdown::Both).is_ok();
        if let (true, Some(thread)) = (ended, self.thread.take()) {
            let _ = thread.join();
        }
        let mut streams = self.seen.streams.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A listener on a free loopback port.
pub(crate) fn bind() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port")
}
