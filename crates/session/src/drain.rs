//! The order in which a driver empties a session; written once, for drivers and simulations.

use cloak_base::Instant;

use crate::{Event, LANES_MAX, LaneId, Session, Transmit};

/// What a session is drained into.
pub trait Outlet {
    /// Bytes that may be put into this lane's output buffer now; zero keeps the lane waiting, and
    /// its session is drained again when there is room.
    fn room(&mut self, lane: LaneId) -> usize;

    /// Puts something on a lane.
    fn transmit(&mut self, lane: LaneId, transmit: Transmit<'_>);

    /// Handles an event. May not call into the session; note what is to be done, and do it after
    /// the drain.
    fn handle_event(&mut self, event: Event);
}

/// Empties the session: call after every mutation, before the next. Frames of each lane, then
/// events; again, for as long as there are any. Ends because each round puts a frame or bytes into
/// bounded room, or takes an event that no event caused.
pub fn drain(session: &mut Session, now: Instant, outlet: &mut impl Outlet) {
    loop {
        let mut quiet = true;
        let (mut lanes, mut count) = ([LaneId(0); LANES_MAX], 0);
        for lane in session.lanes().take(LANES_MAX) {
            lanes[count] = lane;
            count += 1;
        }
        for lane in &lanes[..count] {
            quiet &= !drain_lane(session, now, *lane, outlet);
        }
        while let Some(event) = session.poll_event() {
            quiet = false;
            outlet.handle_event(event);
        }
        if quiet {
            return;
        }
    }
}

/// True when there was something to send.
fn drain_lane(session: &mut Session, now: Instant, lane: LaneId, outlet: &mut impl Outlet) -> bool {
    let mut any = false;
    loop {
        let room = outlet.room(lane);
        if room == 0 {
            return any;
        }
        let Some(transmit) = session.poll_transmit(now, lane, room) else { return any };
        outlet.transmit(lane, transmit);
        any = true;
    }
}
