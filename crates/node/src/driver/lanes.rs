//! Lanes come to the session, and go from it.

use std::task::{Context, Poll};

use cloak_base::Instant;
use cloak_session::{LaneId, Suspicion};
use cloak_wire::{Code, Frame, SessionFrame};

use super::Driver;
use crate::lane::Lane;
use crate::peer::Greeting;

impl Driver {
    /// A lane for the session, with the frame that came first on it when the peer chose it.
    pub(super) fn ride(&mut self, lane: Lane, first: Option<SessionFrame>, now: Instant) {
        if self.ended.is_some() {
            return self.shared.release(lane);
        }
        let peer = self.handle.peer();
        if let Some(incarnation) = peer.incarnation() {
            self.session.peer_incarnation(now, peer.device(), incarnation);
        }
        let id = lane.id;
        self.session.lane_up(now, lane.up());
        self.lanes.push(lane);
        self.has_ridden = true;
        let unread = self.lanes.last_mut().map(|lane| std::mem::take(&mut lane.unread));
        let first = first.map(Frame::Session);
        for frame in first.into_iter().chain(unread.into_iter().flatten()) {
            let Frame::Session(frame) = frame else {
                return self.drop_lane(id, Code::Violation);
            };
            if let Err(error) = self.session.handle_frame(now, id, frame) {
                return self.drop_lane(id, error.code());
            }
        }
    }

    /// Goes over to a direct lane, while a relayed one is in use.
    pub(super) fn improve(&mut self, lane: Lane, now: Instant) {
        if !self.handle.is_relayed() {
            return self.shared.release(lane);
        }
        self.session.improve(now);
        self.ride(lane, None, now);
    }

    /// Addresses or routes changed: a lane that no longer leaves from its own address is suspect.
    pub(super) fn network_changed(&mut self, now: Instant) {
        if !self.lanes.iter().all(|lane| self.shared.is_route_unchanged(&lane.connection)) {
            self.session.suspect(now, Suspicion::NetworkChanged);
        }
    }

    /// Drops all lanes as a fault would.
    pub(super) fn cut(&mut self, now: Instant) {
        for lane in std::mem::take(&mut self.lanes) {
            let id = lane.id;
            lane.connection.abort();
            self.session.lane_down(now, id, Code::Closed);
        }
    }

    /// A lane broke, or what came on it was wrong.
    pub(super) fn lane_failed(&mut self, id: LaneId, code: Code, now: Instant) {
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == id) {
            let why = if code == Code::Closed { Code::PeerUnreachable } else { code };
            lane.greeted(Greeting::Failed(why));
        }
        self.drop_lane(id, code);
        self.session.lane_down(now, id, code);
    }

    /// Closes one lane, telling the other end why; the session goes on without it.
    pub(super) fn drop_lane(&mut self, id: LaneId, code: Code) {
        let Some(index) = self.lanes.iter().position(|lane| lane.id == id) else { return };
        let mut lane = self.lanes.swap_remove(index);
        tracing::debug!(session = %self.handle.id.fmt_short(), %code, "lane closed");
        if code == Code::Paused {
            return self.close_in_order(lane);
        }
        if code != Code::Closed {
            lane.connection.queue(&Frame::Close { code });
            let _ = lane.connection.poll_flush(&mut Context::from_waker(std::task::Waker::noop()));
        }
    }

    /// Gives free lanes back once their last frame is written.
    pub(super) fn part(&mut self, cx: &mut Context<'_>) {
        for index in (0..self.parting.len()).rev() {
            match self.parting[index].connection.poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.shared.release(self.parting.swap_remove(index)),
                Poll::Ready(Err(_)) => drop(self.parting.swap_remove(index)),
            }
        }
    }
}
