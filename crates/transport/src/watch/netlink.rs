//! The kernel's announcements about links, addresses and routes (rtnetlink).
//!
//! What they say is not read: that something changed is all that is wanted.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink, recv, socket_with,
};
use tokio::io::unix::AsyncFd;

/// Bits of the multicast groups (`RTMGRP_*` of linux/rtnetlink.h).
const LINK: u32 = 0x1;
const IPV4_IFADDR: u32 = 0x10;
const IPV4_ROUTE: u32 = 0x40;
const IPV6_IFADDR: u32 = 0x100;
const IPV6_ROUTE: u32 = 0x400;
/// Announcements skipped at once, at most; a flurry has a few dozen.
const SKIP_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Netlink(AsyncFd<OwnedFd>);

impl Netlink {
    /// Subscribes to the announcements.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // The protocol NETLINK_ROUTE is number 0, which is also the default.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        let groups = LINK | IPV4_IFADDR | IPV4_ROUTE | IPV6_IFADDR | IPV6_ROUTE;
        // Process id 0 lets the kernel choose the address.
        bind(&socket, &netlink::SocketAddrNetlink::new(0, groups))?;
        #[expect(unsafe_code, reason = "tokio cannot know that the descriptor stays ours")]
        // SAFETY: an `OwnedFd` is open, and stays the same descriptor, until it is dropped, and
        // nothing takes it out of the `AsyncFd`.
        let registered = unsafe { AsyncFd::register(socket) };
        Ok(Self(registered.map_err(io::Error::from)?))
    }

    /// Waits for an announcement.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            match receive(self.0.get_ref()) {
                Err(Errno::AGAIN) => ready.clear_ready(),
                // Announcements were lost: there were many.
                Ok(()) | Err(Errno::NOBUFS) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Drops the announcements that are waiting.
    pub(super) fn skip_pending(&mut self) {
        for _ in 0..SKIP_MAX {
            if matches!(receive(self.0.get_ref()), Err(error) if error != Errno::NOBUFS) {
                return;
            }
        }
    }
}

/// Takes one announcement; longer ones are cut off by the kernel.
fn receive(socket: &OwnedFd) -> Result<(), Errno> {
    let mut message = [0; 64];
    recv(socket, &mut message[..], RecvFlags::DONTWAIT).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_lets_us_subscribe() {
        let mut netlink = Netlink::open().unwrap();
        netlink.skip_pending();
    }
}
