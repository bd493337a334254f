//! One deadline of a state machine on tokio's timer wheel.
//!
//! State machines move their deadline at almost every packet, mostly later. The wheel is touched
//! only when it has to fire earlier: a wake-up before the deadline re-arms and nothing else.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use cloak_base::Instant;
use cloak_transport::{Clock, deadline};
use tokio::time::Sleep;

pub(crate) struct Timer {
    clock: Arc<dyn Clock>,
    at: Option<Instant>,
    armed: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, at: None, armed: None, sleep: None }
    }

    /// Sets the deadline, or takes it away.
    pub(crate) fn set(&mut self, at: Option<Instant>) {
        self.at = at;
    }

    /// Ready once the deadline has passed, until it is set anew.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        loop {
            if self.clock.now() >= at {
                return Poll::Ready(());
            }
            if self.armed.is_none_or(|armed| armed > at) {
                self.arm(at);
            }
            let sleep = self.sleep.as_mut().expect("invariant: armed just above");
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.armed = None;
        }
    }

    fn arm(&mut self, at: Instant) {
        let wake = deadline(&*self.clock, at);
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(wake),
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(wake))),
        }
        self.armed = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use cloak_transport::SystemClock;

    use super::*;

    #[tokio::test]
    async fn a_deadline_that_passed_is_not_forgotten_by_a_look_at_it() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut timer = Timer::new(Arc::clone(&clock));
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(timer.poll(cx).is_pending(), "no deadline");
        timer.set(Some(clock.now()));
        assert!(timer.poll(cx).is_ready());
        assert!(timer.poll(cx).is_ready(), "still due");
        timer.set(Some(clock.now() + Duration::from_secs(3600)));
        assert!(timer.poll(cx).is_pending());
    }
}
