//! The channels with one peer: what is said first on each, what comes over them, and their end.
//!
//! There may be several, one that each side dialled and their successors. A new one goes to the front,
//! and what we say goes over the first; what the peer says may come over any. The end of the last one
//! is an outage until a dial shows otherwise.

use std::task::{Context, Poll};
use std::time::Duration;

use cloak_transport::{Clock, Connection};
use cloak_wire::{Code, Frame, Hello, PeerFrame};

use super::Task;
use crate::directory::signer_of;
use crate::peer::allowance::is_passed_on;
use crate::peer::channel::Channel;
use crate::peer::shown::Link;
use crate::registry::Command;

/// Channels with one peer: one that each side dialled, and their successors.
const CHANNELS_MAX: usize = 4;
/// A channel that nothing needed for this long is closed.
const UNNEEDED_FOR: Duration = Duration::from_secs(20);

impl Task {
    pub(super) fn linked(&mut self, connection: Connection, hello: &Hello) {
        // Each side may ask for a circuit while the other dials.
        if connection.via().is_some() && self.link().is_some() {
            return;
        }
        let now = self.now();
        match self.peer.may_log(now) {
            true => tracing::info!(peer = %self.peer.name(), "linked"),
            false => tracing::debug!(peer = %self.peer.name(), "linked"),
        }
        let mut channel = Channel::new(connection, now);
        if let Some(record) = self.shared.directory.own_record() {
            channel.send(PeerFrame::Binding { record: record.into() });
        }
        for list in self.shared.revocation_lists() {
            channel.send(PeerFrame::Revocations { list: list.into() });
        }
        channel.send(PeerFrame::Serials(self.shared.serials()));
        if channel.connection.via().is_none() {
            self.linked_directly();
        }
        self.channels.insert(0, channel);
        self.channels.truncate(CHANNELS_MAX);
        // Others may ask for this link as soon as they hear of it.
        self.show();
        self.shared.linked(&self.peer, hello);
    }

    pub(super) fn channel_lost(&mut self, index: usize, code: Code) {
        let channel = self.channels.swap_remove(index);
        tracing::debug!(peer = %self.peer.device().fmt_short(), %code, "channel lost");
        if code != Code::Closed {
            let mut connection = channel.connection;
            connection.queue(&Frame::Close { code });
            let _ = connection.poll_flush(&mut Context::from_waker(std::task::Waker::noop()));
        }
        if !self.channels.is_empty() {
            return;
        }
        // Whether the path still works is for the next dial to show, two attempts at a time.
        self.doubt();
        self.peer.sweep(self.now(), true);
        self.show();
        self.shared.check_relays();
        for session in self.shared.sessions.of(self.peer.device()) {
            let _ = session.tell(Command::Suspect(cloak_session::Suspicion::PeerSilent));
        }
    }

    /// False when the channel is gone.
    pub(super) fn message(&mut self, index: usize, message: PeerFrame) -> bool {
        if is_passed_on(&message) && !self.allowance.take(self.now()) {
            tracing::debug!(peer = %self.peer.device().fmt_short(), "too much gossip");
            return true;
        }
        if let PeerFrame::Binding { record } = &message {
            self.echo(index, record);
        }
        match self.shared.peer_message(&self.peer, message) {
            Ok(None) => {}
            Ok(Some(reply)) => {
                if let Some(channel) = self.channels.get_mut(index) {
                    channel.send(reply);
                }
            }
            Err(code) => {
                self.channel_lost(index, code);
                return false;
            }
        }
        true
    }

    /// Shows a record of the peer's that came over one channel on the others: where a copy of its home
    /// runs elsewhere, they lead to two devices, and each hears of the other. What comes back so is our
    /// own, and goes no further.
    fn echo(&mut self, index: usize, record: &[u8]) {
        if self.channels.len() < 2 || signer_of(record) != Some(self.peer.device()) {
            return;
        }
        let others = self.channels.iter_mut().enumerate().filter(|(other, _)| *other != index);
        for (_, channel) in others {
            channel.send(PeerFrame::Binding { record: record.to_vec().into() });
        }
    }

    /// The direct channels: where the peer dialled one from, and where we dialled one to.
    pub(super) fn link(&self) -> Option<Link> {
        let direct = || {
            let connections = self.channels.iter().map(|channel| &channel.connection);
            connections.filter(|connection| connection.via().is_none())
        };
        let dialled = direct().find(|connection| connection.is_dialler());
        let accepted = direct().find(|connection| !connection.is_dialler());
        let from = accepted.or(dialled)?.peer_addr();
        Some(Link { from, dialled_at: dialled.map(Connection::peer_addr) })
    }

    /// Closes channels that nothing needed for a while.
    pub(super) fn close_unneeded(&mut self) {
        let now = self.now();
        if self.is_needed() || self.peer.may_need_channel(now) {
            self.needed_at = now;
        } else if now.since(self.needed_at) >= UNNEEDED_FOR && !self.channels.is_empty() {
            self.farewell(Code::Closed);
        }
    }

    /// Closes every channel with a word.
    pub(super) fn farewell(&mut self, code: Code) {
        self.doubt();
        self.peer.sweep(self.now(), true);
        for mut channel in self.channels.drain(..) {
            channel.connection.queue(&Frame::Close { code });
            let cx = &mut Context::from_waker(std::task::Waker::noop());
            let _ = channel.connection.poll_flush(cx);
        }
    }
}

/// The next thing that happens on any channel.
pub(super) async fn next_on_channels(
    channels: &mut [Channel],
    clock: &dyn Clock,
) -> (usize, Result<Vec<PeerFrame>, Code>) {
    std::future::poll_fn(|cx| {
        let now = clock.now();
        for (index, channel) in channels.iter_mut().enumerate() {
            if let Poll::Ready(result) = channel.poll(cx, now) {
                return Poll::Ready((index, result));
            }
        }
        Poll::Pending
    })
    .await
}
