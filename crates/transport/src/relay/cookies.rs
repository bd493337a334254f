//! One-time cookies of hops that others are to open.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloak_base::{DeviceId, Instant};
use cloak_wire::Cookie;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::connection::Carrier;
use crate::locator::host;

/// How long a cookie counts.
pub const COOKIE_LIFE: Duration = Duration::from_secs(10);
/// Cookies that are outstanding, at most: two for each circuit that is being opened.
const COOKIES_MAX: usize = 2048;

/// The cookies that this device made and nobody has shown yet. Clones are the same ones.
#[derive(Clone)]
pub struct Cookies {
    clock: Arc<dyn Clock>,
    entries: Arc<Mutex<HashMap<Cookie, Entry>>>,
}

#[derive(Debug)]
struct Entry {
    neighbour: DeviceId,
    /// Where the neighbour's link comes from: its hop does too.
    source: IpAddr,
    expires: Instant,
    hop: oneshot::Sender<Carrier>,
}

/// A hop that is expected. Dropping it takes its cookie back.
pub struct Waiting {
    cookies: Cookies,
    cookie: Cookie,
    hop: oneshot::Receiver<Carrier>,
}

impl Cookies {
    /// None yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, entries: Arc::default() }
    }

    /// Makes `cookie`, fresh random bytes, count for `neighbour`, whose link comes from `source`;
    /// none when too many are outstanding.
    pub fn issue(&self, cookie: Cookie, neighbour: DeviceId, source: IpAddr) -> Option<Waiting> {
        let (sender, hop) = oneshot::channel();
        let expires = self.clock.now() + COOKIE_LIFE;
        let entry = Entry { neighbour, source: host(source), expires, hop: sender };
        let mut entries = self.entries();
        if entries.len() >= COOKIES_MAX {
            return None;
        }
        entries.insert(cookie, entry);
        drop(entries);
        Some(Waiting { cookies: self.clone(), cookie, hop })
    }

    /// Takes a cookie that was shown on a plain hop from `source`; gives whom the hop is for.
    pub fn redeem(&self, cookie: &Cookie, source: IpAddr) -> Option<oneshot::Sender<Carrier>> {
        self.take(cookie, |entry| entry.source == host(source))
    }

    /// Takes a cookie that an authenticated device showed.
    pub fn redeem_by(
        &self,
        cookie: &Cookie,
        neighbour: DeviceId,
    ) -> Option<oneshot::Sender<Carrier>> {
        self.take(cookie, |entry| entry.neighbour == neighbour)
    }

    /// Whoever shows another's cookie does not use it up.
    fn take(
        &self,
        cookie: &Cookie,
        is_its: impl Fn(&Entry) -> bool,
    ) -> Option<oneshot::Sender<Carrier>> {
        let mut entries = self.entries();
        let entry = entries.get(cookie)?;
        if !is_its(entry) {
            return None;
        }
        let entry = entries.remove(cookie)?;
        (self.clock.now() < entry.expires).then_some(entry.hop)
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Cookie, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Cookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cookies")
            .field("outstanding", &self.entries().len())
            .finish_non_exhaustive()
    }
}

impl Waiting {
    /// The cookie, for the neighbour.
    pub fn cookie(&self) -> Cookie {
        self.cookie
    }

    /// Waits for the hop, as long as the cookie counts.
    ///
    /// # Cancel safety
    /// Cancel safe, unless dropped: then the cookie no longer counts.
    pub async fn hop(&mut self) -> Option<Carrier> {
        tokio::time::timeout(COOKIE_LIFE, &mut self.hop).await.ok()?.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.cookies.entries().remove(&self.cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::PausedClock;

    fn cookie(first: u8) -> Cookie {
        let mut bytes = [0; 32];
        bytes[0] = first;
        Cookie(bytes.into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_cookie_counts_once_for_its_neighbour_and_not_for_long() {
        let cookies = Cookies::new(Arc::new(PausedClock::start()));
        let (a, b) = (DeviceId::from_bytes([1; 32]), DeviceId::from_bytes([2; 32]));
        let (here, there) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let waiting = cookies.issue(cookie(1), a, here).unwrap();
        assert!(cookies.redeem(&cookie(2), here).is_none(), "unknown");
        assert!(cookies.redeem(&cookie(1), there).is_none(), "another neighbour");
        assert!(cookies.redeem_by(&cookie(1), b).is_none(), "another neighbour");
        assert!(cookies.redeem(&cookie(1), here).is_some());
        assert!(cookies.redeem(&cookie(1), here).is_none(), "used");
        drop(waiting);

        let _waiting = cookies.issue(cookie(3), a, here).unwrap();
        tokio::time::advance(COOKIE_LIFE).await;
        assert!(cookies.redeem_by(&cookie(3), a).is_none(), "late");
        drop(cookies.issue(cookie(4), a, here).unwrap());
        assert!(cookies.redeem(&cookie(4), here).is_none(), "taken back");
    }

    #[tokio::test]
    async fn cookies_are_bounded() {
        let cookies = Cookies::new(Arc::new(PausedClock::start()));
        let (a, here) = (DeviceId::from_bytes([1; 32]), "192.0.2.1".parse().unwrap());
        let issue = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            cookies.issue(Cookie(bytes.into()), a, here)
        };
        let mut held: Vec<_> = (0..COOKIES_MAX).map(|n| issue(n).unwrap()).collect();
        assert!(issue(COOKIES_MAX).is_none());
        held.pop();
        assert!(issue(COOKIES_MAX).is_some());
    }
}
