//! What the gate and the service tell each other about one connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use crate::errors::Failure;

/// Shared by the gate of a connection and the service that answers its requests.
#[derive(Default)]
pub(super) struct Passage(Mutex<State>);

#[derive(Default)]
struct State {
    /// Requests whose answers are complete.
    answered: u64,
    /// Why the request that was let through last is a stand-in for one that was refused.
    refusal: Option<Failure>,
    /// An answer broke off.
    broken: bool,
    gate: Option<Waker>,
}

impl Passage {
    /// Whether `count` requests were answered; if not, the gate is woken after the next.
    pub(super) fn has_answered(&self, count: u64, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        if state.answered < count {
            state.gate = Some(cx.waker().clone());
        }
        state.answered >= count
    }

    /// Called by the gate: the request it lets through next is a stand-in.
    pub(super) fn refuse(&self, failure: Failure) {
        self.lock().refusal = Some(failure);
    }

    /// Called by the service: why the request at hand is a stand-in, if it is.
    pub(super) fn take_refusal(&self) -> Option<Failure> {
        self.lock().refusal.take()
    }

    /// An answer broke off, so the connection must not end like a complete one.
    pub(super) fn break_off(&self) {
        self.lock().broken = true;
    }

    pub(super) fn is_broken(&self) -> bool {
        self.lock().broken
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lives as long as a request is being answered.
pub(super) struct Answering {
    passage: Arc<Passage>,
    becomes_tunnel: bool,
}

impl Answering {
    pub(super) fn new(passage: &Arc<Passage>) -> Self {
        Self { passage: Arc::clone(passage), becomes_tunnel: false }
    }

    /// The answer starts a tunnel: the gate must not take what follows for a request.
    pub(super) fn into_tunnel(mut self) {
        self.becomes_tunnel = true;
    }

    pub(super) fn passage(&self) -> &Passage {
        &self.passage
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if self.becomes_tunnel {
            return;
        }
        let waker = {
            let mut state = self.passage.lock();
            state.answered += 1;
            state.gate.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
