//! Who a peer is and how it fares.
//!
//! The peer's task notes what it learns, from certificates, `Hello`s and channels; sessions and the
//! overlay read it, and people see it as a row of `cloak peers`.

use std::net::SocketAddr;
use std::time::Duration;

use cloak_base::{DeviceId, EntityId, Incarnation, Instant, UnixTime};
use cloak_identity::Credentials;

use super::Peer;
use crate::shared::Shared;
use crate::sync::lock;
use crate::view::PeerView;

/// Who the peer is and how it fares, for people.
pub(super) struct Shown {
    name: String,
    entity_name: String,
    entity: Option<EntityId>,
    incarnation: Option<Incarnation>,
    standing: Option<Standing>,
    state: LinkState,
    since: UnixTime,
    unlinked_since: Option<Instant>,
    link: Option<Link>,
    is_relayed: bool,
    rtt: Option<Duration>,
    last_error: Option<String>,
}

impl Shown {
    pub(super) fn new(shared: &Shared, device: DeviceId) -> Self {
        Self {
            name: format!("{}", device.fmt_short()),
            entity_name: String::new(),
            entity: None,
            incarnation: None,
            standing: None,
            state: LinkState::Dialling,
            since: shared.clock.wall(),
            unlinked_since: Some(shared.clock.now()),
            link: None,
            is_relayed: false,
            rtt: None,
            last_error: None,
        }
    }
}

/// The certificates that a peer showed last, and under which knowledge of the realm they counted.
#[derive(Clone)]
pub(crate) struct Standing {
    pub(crate) credentials: Credentials,
    /// [`Home::version`](crate::home::Home::version) when they were verified.
    pub(crate) version: u64,
    pub(crate) expires: UnixTime,
}

/// The transport of a direct peer channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    /// Where the peer's end is.
    pub(crate) from: SocketAddr,
    /// Where we reached the peer, if we dialled one.
    pub(crate) dialled_at: Option<SocketAddr>,
}

/// State of the link to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// The channel works.
    Linked,
    /// No channel; dials are under way.
    Dialling,
    /// No channel, and the last dial failed.
    Unreachable,
    /// No channel, and nothing that needs one.
    Idle,
}

impl Peer {
    /// The device's name, or a short id while no certificate was seen.
    pub(crate) fn name(&self) -> String {
        lock(&self.shown).name.clone()
    }

    /// The entity's name; empty while no certificate was seen.
    pub(crate) fn entity_name(&self) -> String {
        lock(&self.shown).entity_name.clone()
    }

    /// The entity, once a certificate was seen.
    pub(crate) fn entity(&self) -> Option<EntityId> {
        lock(&self.shown).entity
    }

    /// Takes over what the peer's verified certificates say.
    pub(crate) fn identify(&self, name: String, entity_name: String, entity: EntityId) {
        let mut shown = lock(&self.shown);
        shown.name = name;
        shown.entity_name = entity_name;
        shown.entity = Some(entity);
    }

    /// The peer's present run, once a `Hello` told it.
    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        lock(&self.shown).incarnation
    }

    /// Notes the peer's present run; true when it is another than before.
    pub(crate) fn incarnated(&self, incarnation: Incarnation) -> bool {
        let before = lock(&self.shown).incarnation.replace(incarnation);
        before.is_some_and(|before| before != incarnation)
    }

    /// Takes over certificates that counted just now.
    pub(crate) fn stand(&self, standing: Standing, shared: &Shared) {
        lock(&self.shown).standing = Some(standing);
        let mut dismissed = lock(&self.dismissed);
        if dismissed.is_cancelled() {
            *dismissed = shared.cancel.child_token();
        }
    }

    /// The certificates that the peer showed last.
    pub(crate) fn standing(&self) -> Option<Standing> {
        lock(&self.shown).standing.clone()
    }

    /// The last round trip that was measured.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        lock(&self.shown).rtt
    }

    /// How long there has been no channel.
    pub(crate) fn unlinked_for(&self, now: Instant) -> Duration {
        let since = lock(&self.shown).unlinked_since;
        since.map_or(Duration::ZERO, |since| now.since(since))
    }

    pub(crate) fn is_linked(&self) -> bool {
        lock(&self.shown).state == LinkState::Linked
    }

    /// The other end of the channel, where it is direct.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.direct_link().map(|link| link.from)
    }

    /// The direct channel, if there is one.
    pub(crate) fn direct_link(&self) -> Option<Link> {
        lock(&self.shown).link
    }

    /// Returns once there is a direct link.
    pub(crate) async fn linked_directly(&self) {
        loop {
            let mut news = std::pin::pin!(self.relinked.notified());
            news.as_mut().enable();
            if self.direct_link().is_some() {
                return;
            }
            news.await;
        }
    }

    pub(super) fn set_state(&self, state: LinkState, wall: UnixTime, now: Instant) {
        let mut shown = lock(&self.shown);
        shown.unlinked_since = match state {
            LinkState::Linked => None,
            _ => shown.unlinked_since.or(Some(now)),
        };
        if shown.state != state {
            shown.state = state;
            shown.since = wall;
        }
    }

    /// True when the overlay should look at the link again.
    pub(super) fn set_link(
        &self,
        link: Option<Link>,
        is_relayed: bool,
        rtt: Option<Duration>,
    ) -> bool {
        let mut shown = lock(&self.shown);
        let before = std::mem::replace(&mut shown.link, link);
        shown.is_relayed = is_relayed;
        shown.rtt = rtt.or(shown.rtt);
        if before.is_none() && link.is_some() {
            lock(&self.overlay).generation += 1;
            self.relinked.notify_waiters();
        }
        before != link
    }

    pub(super) fn set_error(&self, error: Option<String>) {
        lock(&self.shown).last_error = error;
    }

    /// The row of `cloak peers`, without what the peer published.
    pub(crate) fn view(&self, sessions: usize) -> PeerView {
        let idle = lock(&self.demand).idle.len();
        let shown = lock(&self.shown);
        PeerView {
            device: self.device.to_string(),
            name: shown.name.clone(),
            state: match shown.state {
                LinkState::Linked => "linked",
                LinkState::Dialling => "dialling",
                LinkState::Unreachable => "unreachable",
                LinkState::Idle => "idle",
            }
            .to_owned(),
            state_since: shown.since.to_string(),
            address: shown.link.map(|link| link.from.to_string()),
            link: match shown.state {
                LinkState::Linked if shown.is_relayed => Some("relay".to_owned()),
                LinkState::Linked => Some("direct".to_owned()),
                LinkState::Dialling | LinkState::Unreachable | LinkState::Idle => None,
            },
            locators: Vec::new(),
            role: None,
            virtual_address: None,
            relays: Vec::new(),
            is_relay: false,
            rtt_ms: shown.rtt.map(|rtt| u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX)),
            lanes: sessions as u64,
            idle_lanes: idle as u64,
            sessions: sessions as u64,
            last_error: shown.last_error.clone(),
        }
    }
}
