//! Dials several locators of one device and takes the first that answers (RFC 8305).

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use cloak_base::DeviceId;
use tokio::time::{Sleep, sleep};

use crate::connection::{Connection, DialError};
use crate::dialler::Dialler;
use crate::locator::canonical;

/// Time between the starts of two dials, as RFC 8305 recommends.
pub const RACE_STAGGER: Duration = Duration::from_millis(250);
/// Most locators that are tried in one race: a binding's eight and as many found on the LAN.
pub const RACE_MAX: usize = 16;

/// Why no locator gave a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RaceError {
    /// There was nothing to dial.
    #[error("no locator to dial")]
    NoCandidates,
    /// Every dial failed, in this order.
    #[error("every locator failed")]
    AllFailed(Vec<(SocketAddr, DialError)>),
}

/// Dials the candidates (which [`dialable`](crate::dialable) has let through) until one gives an
/// authenticated connection to `expected`: families alternating, IPv6 first, one more every
/// `stagger`, or at once when a dial failed. The others are dropped.
///
/// # Errors
/// See [`RaceError`].
///
/// # Cancel safety
/// Dropping the future closes all attempts.
pub async fn race(
    candidates: &[SocketAddr],
    dialler: &Dialler,
    expected: Option<DeviceId>,
    stagger: Duration,
) -> Result<Connection, RaceError> {
    let dial = |addr| dialler.dial(addr, expected);
    run(order(candidates), dial, stagger).await
}

/// Without doubles, families alternating, IPv6 first, otherwise as given; at most [`RACE_MAX`].
pub(crate) fn order(candidates: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut unique: Vec<SocketAddr> = Vec::new();
    for addr in candidates.iter().copied().map(canonical) {
        if !unique.contains(&addr) {
            unique.push(addr);
        }
    }
    let (v6, v4): (Vec<_>, Vec<_>) = unique.into_iter().partition(SocketAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut ordered = Vec::new();
    while ordered.len() < RACE_MAX {
        let before = ordered.len();
        ordered.extend(v6.next());
        ordered.extend(v4.next());
        if ordered.len() == before {
            break;
        }
    }
    ordered.truncate(RACE_MAX);
    ordered
}

type Attempt<F> = (SocketAddr, Pin<Box<F>>);

async fn run<T, F>(
    candidates: Vec<SocketAddr>,
    dial: impl Fn(SocketAddr) -> F,
    stagger: Duration,
) -> Result<T, RaceError>
where
    F: Future<Output = Result<T, DialError>>,
{
    if candidates.is_empty() {
        return Err(RaceError::NoCandidates);
    }
    let mut waiting = candidates.into_iter();
    let mut running: Vec<Attempt<F>> = Vec::new();
    let mut failed = Vec::new();
    loop {
        if let Some(addr) = waiting.next() {
            running.push((addr, Box::pin(dial(addr))));
        } else if running.is_empty() {
            return Err(RaceError::AllFailed(failed));
        }
        let more = waiting.len() > 0;
        let mut timer = std::pin::pin!(sleep(stagger));
        if let Some((addr, outcome)) = first(&mut running, more.then_some(timer.as_mut())).await {
            match outcome {
                Ok(connection) => return Ok(connection),
                Err(error) => failed.push((addr, error)),
            }
        }
    }
}

/// The next attempt to end, removed from `running`; none when the timer comes first.
async fn first<T, F>(
    running: &mut Vec<Attempt<F>>,
    mut timer: Option<Pin<&mut Sleep>>,
) -> Option<(SocketAddr, Result<T, DialError>)>
where
    F: Future<Output = Result<T, DialError>>,
{
    poll_fn(|cx| {
        for index in 0..running.len() {
            if let Poll::Ready(outcome) = running[index].1.as_mut().poll(cx) {
                return Poll::Ready(Some((running.remove(index).0, outcome)));
            }
        }
        match &mut timer {
            Some(timer) => timer.as_mut().poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::io::ErrorKind;

    use super::*;
    use crate::clock::{Clock, PausedClock};

    fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_alternate_and_doubles_are_dropped() {
        let given = addrs(&[
            "192.0.2.1:1",
            "192.0.2.2:1",
            "[::ffff:192.0.2.1]:1",
            "[2001:db8::1]:1",
            "192.0.2.3:1",
            "[2001:db8::1]:1",
        ]);
        let expected = addrs(&["[2001:db8::1]:1", "192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"]);
        assert_eq!(order(&given), expected);
        let many: Vec<_> = (1..100).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect();
        assert_eq!(order(&many).len(), RACE_MAX);
    }

    /// What dialling an address does: its port is the milliseconds it takes; IPv6 never works.
    async fn fake(addr: SocketAddr) -> Result<SocketAddr, DialError> {
        tokio::time::sleep(Duration::from_millis(addr.port().into())).await;
        if addr.is_ipv6() { Err(DialError::Io(ErrorKind::ConnectionRefused)) } else { Ok(addr) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_success_wins_and_the_losers_are_dropped() {
        let candidates = addrs(&["192.0.2.1:900", "192.0.2.2:300", "192.0.2.3:200"]);
        let clock = PausedClock::start();
        let live = Cell::new(0);
        struct Count<'a>(&'a Cell<i32>);
        impl Drop for Count<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        let dial = |addr| {
            live.set(live.get() + 1);
            let counted = Count(&live);
            async move {
                let _counted = counted;
                fake(addr).await
            }
        };
        // They start at 0, 250 and 500 ms: the second is done at 550.
        let won = run(candidates.clone(), dial, RACE_STAGGER).await;
        assert_eq!(won, Ok(candidates[1]));
        assert_eq!(live.get(), 0);
        let took = clock.now().as_micros() / 1000;
        assert!((550..560).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_starts_the_next_at_once() {
        let candidates = addrs(&["[2001:db8::1]:10", "[2001:db8::2]:10", "192.0.2.1:10"]);
        let clock = PausedClock::start();
        let started = RefCell::new(Vec::new());
        let dial = |addr| {
            started.borrow_mut().push(addr);
            fake(addr)
        };
        assert_eq!(run(candidates.clone(), dial, RACE_STAGGER).await, Ok(candidates[2]));
        assert_eq!(*started.borrow(), candidates);
        assert!(clock.now().as_micros() < 50_000);
    }

    #[tokio::test(start_paused = true)]
    async fn all_failures_are_told() {
        let candidates = addrs(&["[2001:db8::1]:10", "[2001:db8::2]:20"]);
        let error = DialError::Io(ErrorKind::ConnectionRefused);
        let all = candidates.iter().map(|addr| (*addr, error)).collect();
        let lost = run(candidates, fake, RACE_STAGGER).await;
        assert_eq!(lost, Err(RaceError::AllFailed(all)));
        assert_eq!(run(vec![], fake, RACE_STAGGER).await, Err(RaceError::NoCandidates));
    }
}
