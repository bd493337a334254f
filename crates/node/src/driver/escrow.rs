//! A copy of our end is kept by another device of our entity, where the settings say so.

use std::sync::Arc;
use std::time::Duration;

use cloak_base::Instant;
use cloak_session::{Batch, Role, Snapshot};
use cloak_wire::Code;
use tokio::sync::mpsc;

use super::Driver;
use crate::handover::Lodging;
use crate::registry::Lodged;
use crate::sync::read;

/// How long a session goes on without a holder before it looks for one again; doubled with each attempt that was
/// in vain, up to the most.
const RETRY: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(160);
/// What an operator is told of.
const WARNING: &str = "escrow";

/// Where our end's copy is.
#[derive(Default)]
pub(super) struct Escrow {
    /// Label of the device that is to have it, once the settings were looked at.
    wanted: Option<Arc<str>>,
    is_looked_at: bool,
    /// The last attempt to have it kept.
    attempt: u64,
    under_way: Option<UnderWay>,
    retry_at: Option<Instant>,
    /// Attempts in vain since it was in force last.
    failures: u32,
}

struct UnderWay {
    label: Arc<str>,
    /// Whatever follows the one under way waits in the session.
    batches: mpsc::Sender<Batch>,
    /// The session knows of it: it says when it is over.
    has_begun: bool,
}

impl Driver {
    /// Sees to it that our end is kept, if it is to be, and gives its holder what is new.
    pub(super) fn lodge(&mut self, now: Instant) {
        if self.handle.role != Role::Initiator || !self.was_open || self.ended.is_some() {
            return;
        }
        if !self.escrow.is_looked_at {
            self.look_at_settings(now);
        }
        let Some(under_way) = &self.escrow.under_way else { return self.begin_lodging(now) };
        if let Some(batch) = self.session.poll_escrow(now)
            && under_way.batches.try_send(batch).is_err()
        {
            self.session.end_escrow(now);
        }
    }

    fn begin_lodging(&mut self, now: Instant) {
        let is_due = self.escrow.retry_at.is_none_or(|at| at <= now);
        let Some(label) = self.escrow.wanted.clone().filter(|_| is_due) else { return };
        if self.session.is_away() {
            return;
        }
        let (sender, batches) = mpsc::channel(1);
        self.escrow.attempt += 1;
        self.escrow.retry_at = None;
        let handle = Arc::clone(&self.handle);
        let attempt = self.escrow.attempt;
        let lodging = Lodging { handle, attempt, label: Arc::clone(&label), batches };
        self.shared.tasks.spawn(Arc::clone(&self.shared).lodge(lodging));
        self.escrow.under_way = Some(UnderWay { label, batches: sender, has_begun: false });
    }

    /// The settings may name another holder, or none.
    pub(super) fn look_at_settings(&mut self, now: Instant) {
        let label = read(&self.shared.config).session.escrow.clone();
        self.escrow.is_looked_at = true;
        self.escrow.wanted = (!label.is_empty()).then(|| label.into());
        (self.escrow.retry_at, self.escrow.failures) = (None, 0);
        if self.escrow.wanted.is_none() {
            self.shared.warn(WARNING, None);
        }
        let is_other = |under_way: &UnderWay| Some(&under_way.label) != self.escrow.wanted.as_ref();
        if self.escrow.under_way.as_ref().is_some_and(is_other) {
            self.stop_lodging(now);
        }
    }

    /// What the task that has the lane to the holder says.
    pub(super) fn lodged(&mut self, now: Instant, attempt: u64, lodged: Lodged) {
        let Some(under_way) = &mut self.escrow.under_way else { return };
        if attempt != self.escrow.attempt {
            return;
        }
        match lodged {
            Lodged::Found(holder) => match self.session.begin_escrow(now, holder) {
                Ok(()) => under_way.has_begun = true,
                Err(_) => self.stop_lodging(now),
            },
            Lodged::Kept(number) => self.session.kept(now, number),
            Lodged::Lost(code) => {
                // One that took the session for itself has not failed to keep it.
                if code != Code::Moved {
                    let label = &under_way.label;
                    let warning =
                        format!("device {label} does not keep sessions of this one: {code}");
                    self.shared.warn(WARNING, Some(warning));
                }
                self.stop_lodging(now);
            }
        }
    }

    fn stop_lodging(&mut self, now: Instant) {
        if self.escrow.under_way.as_ref().is_some_and(|under_way| under_way.has_begun) {
            self.session.end_escrow(now);
        } else {
            self.escrow.stop(now);
        }
    }

    /// Another device may take our end from now on.
    pub(super) fn escrowed(&mut self) {
        self.escrow.failures = 0;
        self.shared.warn(WARNING, None);
    }

    /// It may not any more, and is told.
    pub(super) fn escrow_ended(&mut self, now: Instant, code: Code) {
        tracing::debug!(session = %self.handle.id.fmt_short(), %code, "the copy is void");
        self.escrow.stop(now);
        if code == Code::Moved {
            // The other end's new owner is to know of it as well.
            self.escrow.retry_at = None;
        }
    }
}

impl Escrow {
    /// The holder is told by the end of its queue.
    fn stop(&mut self, now: Instant) {
        self.under_way = None;
        let pause = RETRY.saturating_mul(1 << self.failures.min(8)).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = self.wanted.as_ref().map(|_| now + pause);
    }

    /// The session is over.
    pub(super) fn end(&mut self) {
        *self = Self { is_looked_at: true, ..Self::default() };
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.retry_at.filter(|_| self.under_way.is_none())
    }

    /// Label of the holder, where it may take our end.
    pub(super) fn shown(&self, snapshot: &Snapshot) -> Option<Arc<str>> {
        snapshot.escrow?;
        self.under_way.as_ref().map(|under_way| Arc::clone(&under_way.label))
    }
}
