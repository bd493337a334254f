//! Settings and measurements of the TCP socket under a connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

/// Settings of a transport's TCP socket. The defaults suit any use but tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketOptions {
    /// Most bytes that the kernel keeps unsent before it stops taking more
    /// (`TCP_NOTSENT_LOWAT`). Small, so that a probe or an acknowledgement is never far behind our
    /// own data; half a write of full size, so that the wire does not run dry between two of them.
    pub unsent_max: u32,
    /// Silence after which the kernel asks whether the peer is still there. An idle lane costs us
    /// no timer and no wake-up: the kernel finds it dead after
    /// `keepalive_idle` + `keepalive_interval` x `keepalive_probes`, 16 s by default.
    pub keepalive_idle: Duration,
    /// Time between two such questions.
    pub keepalive_interval: Duration,
    /// Unanswered questions after which the connection is dead.
    pub keepalive_probes: u32,
    /// Send buffer in bytes; none lets the kernel tune it to the path.
    pub send_buffer: Option<u32>,
    /// Receive buffer in bytes; none lets the kernel tune it to the path.
    pub receive_buffer: Option<u32>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            unsent_max: 128 * 1024,
            keepalive_idle: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(2),
            keepalive_probes: 3,
            send_buffer: None,
            receive_buffer: None,
        }
    }
}

impl SocketOptions {
    /// Dials with these settings.
    pub(crate) async fn connect(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        let socket = if addr.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
        self.apply(SockRef::from(&socket))?;
        socket.connect(addr).await
    }

    /// Applies the settings to a socket.
    pub(crate) fn apply(&self, socket: SockRef<'_>) -> io::Result<()> {
        // Frames are gathered by us; the kernel must not wait for more.
        socket.set_tcp_nodelay(true)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_notsent_lowat(self.unsent_max)?;
        let keepalive = TcpKeepalive::new()
            .with_time(self.keepalive_idle)
            .with_interval(self.keepalive_interval)
            .with_retries(self.keepalive_probes);
        socket.set_tcp_keepalive(&keepalive)?;
        if let Some(size) = self.send_buffer {
            socket.set_send_buffer_size(usize::try_from(size).unwrap_or(usize::MAX))?;
        }
        if let Some(size) = self.receive_buffer {
            socket.set_recv_buffer_size(usize::try_from(size).unwrap_or(usize::MAX))?;
        }
        Ok(())
    }
}

/// What the kernel knows about a connection's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that the peer's kernel acknowledged so far; it grows while anything gets through.
    pub acked: u64,
    /// Bytes that arrived from the peer so far.
    pub received: u64,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Segments that are on the way and not acknowledged; zero when nothing is expected.
    pub unacked: u32,
}

/// Reads `TCP_INFO`; none where the system does not have it.
#[cfg(target_os = "linux")]
pub(crate) fn progress(tcp: &TcpStream) -> Option<Progress> {
    use std::os::fd::AsRawFd;

    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut len = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    #[expect(unsafe_code, reason = "no library wraps TCP_INFO")]
    // SAFETY: the pointer and the length describe `info`, the kernel writes at most `len` bytes of
    // it, and every bit pattern, zeros included, is a valid `tcp_info`.
    let (status, info) = unsafe {
        let status = libc::getsockopt(
            tcp.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        );
        (status, info.assume_init())
    };
    (status == 0).then(|| Progress {
        acked: info.tcpi_bytes_acked,
        received: info.tcpi_bytes_received,
        rtt: Duration::from_micros(info.tcpi_rtt.into()),
        unacked: info.tcpi_unacked,
    })
}

/// Reads `TCP_INFO`; none where the system does not have it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn progress(_tcp: &TcpStream) -> Option<Progress> {
    None
}
