//! The order in which a driver empties an overlay; written once, for drivers and simulations.

use cloak_base::DeviceId;

use crate::event::Event;
use crate::message::Message;
use crate::overlay::Overlay;

/// What an overlay is drained into.
pub trait Outlet {
    /// Puts a message on the link to `to`. A link that is gone loses it.
    fn transmit(&mut self, to: DeviceId, message: Message);

    /// Handles an event. May not call into the overlay; note what is to be done, and do it after
    /// the drain.
    fn handle_event(&mut self, event: Event);
}

/// Empties the overlay: call after every input, before the next. Messages first, so that what was
/// said to a peer is on its way before its link is ended.
pub fn drain(overlay: &mut Overlay, outlet: &mut impl Outlet) {
    while let Some((to, message)) = overlay.poll_transmit() {
        outlet.transmit(to, message);
    }
    while let Some(event) = overlay.poll_event() {
        outlet.handle_event(event);
    }
}
