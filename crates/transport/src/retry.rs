//! Getting back to a peer device after an outage: when to dial, and how often at once.
//!
//! Retries belong to the device, not to its sessions, so a thousand sessions return with one dial.
//! The kernel repeats a lost SYN only after a second, so while an outage is young a new attempt
//! starts every 200-400 ms instead of waiting for the last. See docs/PROTOCOL.md, "Session".

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use cloak_base::{DeviceId, Instant, Rng};
use tokio::sync::Notify;

use crate::clock::{Clock, sleep_until};
use crate::connection::{Connection, DialError};
use crate::dialler::Dialler;
use crate::race::order;

/// Until this age an outage counts as young: the network comes back any moment.
const YOUNG: Duration = Duration::from_secs(5 * 60);
/// Until this age the user may be waiting; beyond it nobody is.
const MIDDLE_AGED: Duration = Duration::from_secs(60 * 60);
/// Jittered intervals between attempts at those three ages.
const INTERVALS: [(Duration, Duration); 3] = [
    (Duration::from_millis(200), Duration::from_millis(400)),
    (Duration::from_millis(1600), Duration::from_millis(2400)),
    (Duration::from_secs(24), Duration::from_secs(36)),
];

/// When to try next. Pure: it neither waits nor reads a clock.
#[derive(Debug, Clone, Default)]
pub struct Retry {
    /// When the outage began, as far as attempts are concerned; none before the first.
    since: Option<Instant>,
}

impl Retry {
    /// When the attempt after the one that starts `now` is due.
    pub fn next(&mut self, now: Instant, rng: &mut Rng) -> Instant {
        let age = now.since(*self.since.get_or_insert(now));
        let (low, high) = INTERVALS[usize::from(age >= YOUNG) + usize::from(age >= MIDDLE_AGED)];
        now + rng.duration(low, high)
    }

    /// The outage counts as new: it ended, or the network changed, or the machine woke.
    pub fn reset(&mut self) {
        self.since = None;
    }
}

/// Dials one peer device until it answers. At most two dials are in flight: a *fast* one, replaced
/// at every tick, which finds a path that has just come back; and a *patient* one, a fast one that
/// was let run on up to [`HANDSHAKE_TIMEOUT`](crate::HANDSHAKE_TIMEOUT), for slow paths.
pub struct Redial {
    dialler: Dialler,
    device: DeviceId,
    schedule: Schedule,
}

/// Makes a [`Redial`] start over at once, from any task.
#[derive(Debug, Clone, Default)]
pub struct Hurry(Arc<Notify>);

impl Hurry {
    /// The network changed, or the machine woke: dials that are under way are dropped, the next
    /// starts now, and the outage counts as new.
    pub fn now(&self) {
        self.0.notify_one();
    }
}

impl Redial {
    /// Prepares to dial `device`.
    pub fn new(dialler: Dialler, device: DeviceId, clock: Arc<dyn Clock>, rng: Rng) -> Self {
        Self { dialler, device, schedule: Schedule::new(clock, rng) }
    }

    /// The handle that makes it start over at once.
    pub fn hurry(&self) -> Hurry {
        self.schedule.hurry.clone()
    }

    /// The path's round-trip time as last measured: on a slow path an attempt gets the time it
    /// needs. A connection that was dialled here has been measured already.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.schedule.rtt = Some(rtt);
    }

    /// Dials until the device answers. `locators` is asked before every attempt and gives those
    /// that [`dialable`](crate::dialable) lets through; while it gives none, nothing is dialled.
    /// A call soon after the last success keeps the interval, so that a peer that accepts and then
    /// hangs up is not dialled in a loop.
    ///
    /// # Cancel safety
    /// Dropping the future closes all attempts; the schedule is kept.
    pub async fn next(&mut self, locators: impl Fn() -> Vec<SocketAddr>) -> Connection {
        let Self { dialler, device, schedule } = self;
        let dial = |addr| dialler.dial(addr, Some(*device));
        let connection = schedule.run(|| order(&locators()), dial).await;
        if let Some(progress) = connection.progress() {
            schedule.rtt = Some(progress.rtt);
        }
        connection
    }
}

impl std::fmt::Debug for Redial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redial").field("device", &self.device).finish_non_exhaustive()
    }
}

struct Schedule {
    clock: Arc<dyn Clock>,
    rng: Rng,
    retry: Retry,
    hurry: Hurry,
    rtt: Option<Duration>,
    /// When the next tick is due.
    due: Instant,
    /// Counts attempts, so that locators take turns.
    turn: usize,
}

struct Attempt<F> {
    addr: SocketAddr,
    dial: Pin<Box<F>>,
}

struct Slots<F> {
    fast: Option<Attempt<F>>,
    patient: Option<Attempt<F>>,
    /// What the patient slot held last: another locator has the next turn.
    last_patient: Option<SocketAddr>,
    /// Attempts started since the last tick.
    tried: usize,
}

impl Schedule {
    fn new(clock: Arc<dyn Clock>, rng: Rng) -> Self {
        Self {
            clock,
            rng,
            retry: Retry::default(),
            hurry: Hurry::default(),
            rtt: None,
            due: Instant::ZERO,
            turn: 0,
        }
    }

    async fn run<T, F>(
        &mut self,
        locators: impl Fn() -> Vec<SocketAddr>,
        dial: impl Fn(SocketAddr) -> F,
    ) -> T
    where
        F: Future<Output = Result<T, DialError>>,
    {
        let hurry = self.hurry.clone();
        let mut slots = Slots { fast: None, patient: None, last_patient: None, tried: 0 };
        loop {
            tokio::select! {
                biased;
                () = hurry.0.notified() => {
                    (slots.fast, slots.patient) = (None, None);
                    self.retry.reset();
                    self.due = self.clock.now();
                }
                ended = slots.next_end() => match ended {
                    Ended::Success(connection) => {
                        self.retry.reset();
                        return connection;
                    }
                    // What failed at once makes room for the other locators, once each.
                    Ended::Fast => self.start(&mut slots, &locators, &dial),
                    Ended::Patient => {}
                },
                () = sleep_until(&*self.clock, self.due) => {
                    slots.promote();
                    self.start(&mut slots, &locators, &dial);
                    self.due = self.next_due();
                }
            }
        }
    }

    /// Starts a fast attempt at the locator whose turn it is, unless each had one since the tick.
    fn start<F>(
        &mut self,
        slots: &mut Slots<F>,
        locators: &impl Fn() -> Vec<SocketAddr>,
        dial: &impl Fn(SocketAddr) -> F,
    ) {
        let locators = locators();
        if slots.tried < locators.len() {
            let addr = locators[self.turn % locators.len()];
            self.turn = self.turn.wrapping_add(1);
            slots.tried += 1;
            slots.fast = Some(Attempt { addr, dial: Box::pin(dial(addr)) });
        }
    }

    fn next_due(&mut self) -> Instant {
        let now = self.clock.now();
        let due = self.retry.next(now, &mut self.rng);
        // TCP and TLS take two round trips.
        self.rtt.map_or(due, |rtt| due.max(now + 3 * rtt + Duration::from_millis(100)))
    }
}

enum Ended<T> {
    Success(T),
    Fast,
    Patient,
}

impl<F> Slots<F> {
    /// At a tick: the fast attempt becomes the patient one, or is given up.
    fn promote(&mut self) {
        self.tried = 0;
        let fast = self.fast.take();
        if self.patient.is_none() {
            self.patient = fast.filter(|fast| Some(fast.addr) != self.last_patient);
            // After a turn without a patient attempt, the same locator may have it again.
            self.last_patient = self.patient.as_ref().map(|patient| patient.addr);
        }
    }

    /// Waits until an attempt ends, and clears its slot if it failed.
    async fn next_end<T>(&mut self) -> Ended<T>
    where
        F: Future<Output = Result<T, DialError>>,
    {
        poll_fn(|cx| {
            for (slot, failed) in
                [(&mut self.fast, Ended::Fast), (&mut self.patient, Ended::Patient)]
            {
                let Some(attempt) = slot else { continue };
                if let Poll::Ready(outcome) = attempt.dial.as_mut().poll(cx) {
                    *slot = None;
                    return Poll::Ready(outcome.map_or(failed, Ended::Success));
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests;
