//! One peer channel: a connection with `Purpose::Peer`, and what its silence means.

use std::task::{Context, Poll};
use std::time::Duration;

use cloak_base::Instant;
use cloak_transport::{Connection, RecvError};
use cloak_wire::{Code, Frame, Item, PeerFrame};

/// Silence after which the peer is probed. With [`PROBE_TIMEOUT`] and a session's own probe (3 s),
/// an idle session whose path is gone shows `suspended` within 17 s.
const PROBE_AFTER: Duration = Duration::from_secs(12);
/// A probe unanswered for this long means that the channel is dead.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The same after a hint (network change, wake, a session that suspects its lane).
const PROBE_TIMEOUT_SUSPECT: Duration = Duration::from_secs(1);
/// Messages taken from one read, at most; a peer that sends more in one record is cut off.
const BATCH_MAX: usize = 1024;

/// See the module.
pub(crate) struct Channel {
    pub(crate) connection: Connection,
    last_heard: Instant,
    probe: Option<Probe>,
    probes_sent: u64,
    rtt: Option<Duration>,
}

struct Probe {
    number: u64,
    sent_at: Instant,
    deadline: Instant,
}

impl Channel {
    pub(crate) fn new(connection: Connection, now: Instant) -> Self {
        Self { connection, last_heard: now, probe: None, probes_sent: 0, rtt: None }
    }

    /// The last round trip that was measured: by a probe, or else by the kernel.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt.or_else(|| Some(self.connection.progress()?.rtt))
    }

    /// Queues a message; the next poll writes it.
    pub(crate) fn send(&mut self, frame: PeerFrame) {
        self.connection.queue(&Frame::Peer(frame));
    }

    /// Probes at once, with a short deadline.
    pub(crate) fn suspect(&mut self, now: Instant) {
        let deadline = now + PROBE_TIMEOUT_SUSPECT;
        match &mut self.probe {
            Some(probe) => probe.deadline = probe.deadline.min(deadline),
            None => self.send_probe(now, deadline),
        }
    }

    fn send_probe(&mut self, now: Instant, deadline: Instant) {
        self.probes_sent += 1;
        let number = self.probes_sent;
        self.probe = Some(Probe { number, sent_at: now, deadline });
        self.send(PeerFrame::Probe { number });
    }

    /// When [`Channel::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Instant {
        self.probe.as_ref().map_or(self.last_heard + PROBE_AFTER, |probe| probe.deadline)
    }

    /// Probes after silence.
    ///
    /// # Errors
    /// The probe was not answered: the channel is dead.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Code> {
        if now < self.poll_timeout() {
            return Ok(());
        }
        if self.probe.is_some() {
            return Err(Code::Timeout);
        }
        self.send_probe(now, now + PROBE_TIMEOUT);
        Ok(())
    }

    /// Writes what is queued and reads what came. Probes are answered here.
    ///
    /// # Errors
    /// The channel is broken, or the peer broke the protocol.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Vec<PeerFrame>, Code>> {
        let mut messages = Vec::new();
        let mut handler = |item: Item<'_>| match item {
            Item::Frame(Frame::Peer(frame)) if messages.len() < BATCH_MAX => {
                messages.push(frame);
                Ok(())
            }
            Item::Frame(Frame::Close { code }) => Err(code),
            _ => Err(Code::Violation),
        };
        let received = match self.connection.poll_recv(cx, &mut handler) {
            Poll::Pending => false,
            Poll::Ready(Ok(_)) => true,
            Poll::Ready(Err(RecvError::Handler(code))) => return Poll::Ready(Err(code)),
            Poll::Ready(Err(RecvError::Wire(error))) => return Poll::Ready(Err(error.code())),
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Code::Closed)),
        };
        if received {
            self.heard(now, &mut messages);
        }
        if let Poll::Ready(Err(_)) = self.connection.poll_flush(cx) {
            return Poll::Ready(Err(Code::Closed));
        }
        if received { Poll::Ready(Ok(messages)) } else { Poll::Pending }
    }

    fn heard(&mut self, now: Instant, messages: &mut Vec<PeerFrame>) {
        self.last_heard = now;
        messages.retain(|message| match *message {
            PeerFrame::Probe { number } => {
                self.connection.queue(&Frame::Peer(PeerFrame::Alive { number }));
                false
            }
            PeerFrame::Alive { number } => {
                let probe = self.probe.as_ref().filter(|probe| probe.number == number);
                self.rtt = probe.map(|probe| now.since(probe.sent_at)).or(self.rtt);
                false
            }
            _ => true,
        });
        // Anything heard shows that the peer is alive; only the answer measures.
        self.probe = None;
    }
}
