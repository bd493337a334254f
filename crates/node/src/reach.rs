//! Where we are in the overlay, and the ways through it: `status`, `ping`, `trace`.

use std::collections::BTreeMap;
use std::time::Duration;

use cloak_base::DeviceId;
use cloak_identity::Name;
use cloak_overlay::{Address, Destination, Neighbour, Place, Role, Snapshot};
use cloak_transport::HANDSHAKE_TIMEOUT;
use cloak_wire::Code;

use crate::directory::Candidate;
use crate::node::{ControlError, Node};
use crate::view::{HopView, PingView, PlaceView, TraceView};

/// Time for an answer through the overlay.
const OVERLAY_TIMEOUT: Duration = Duration::from_secs(5);

/// A neighbour's role, as people see it.
pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Parent => "parent",
        Role::Child => "child",
        Role::Extra => "extra",
        Role::Host => "host",
        Role::Guest => "guest",
        Role::Passing => "passing",
    }
}

impl Node {
    pub(crate) async fn neighbours(&self) -> BTreeMap<DeviceId, Neighbour> {
        let snapshot = self.0.overlay.snapshot().await;
        let neighbours = snapshot.map(|snapshot| snapshot.neighbours).unwrap_or_default();
        neighbours.into_iter().map(|neighbour| (neighbour.device, neighbour)).collect()
    }

    pub(crate) async fn place(&self) -> PlaceView {
        self.0.overlay.snapshot().await.as_ref().map_or_else(PlaceView::default, place)
    }

    /// `cloak ping`: how far the first device of a name is, through the overlay and directly.
    ///
    /// # Errors
    /// The name is not known, or nothing is known of where its device is.
    pub async fn ping(&self, name: &str) -> Result<PingView, ControlError> {
        let target = self.first_of(name).await?;
        let overlay = self.answer_from(&target, |to| async {
            let begun = self.0.clock.now();
            let hops = self.0.overlay.ping(to).await?;
            Some((hops, self.0.clock.now().since(begun)))
        });
        let (overlay, direct) = tokio::join!(overlay, self.direct_round_trip(target.device));
        Ok(PingView {
            device: target.device.to_string(),
            name: target.name,
            overlay_ms: overlay.map(|(_, took)| millis(took)),
            hops: overlay.map(|(hops, _)| hops),
            direct_ms: direct.map(millis),
        })
    }

    /// `cloak trace`: the greedy route to the first device of a name.
    ///
    /// # Errors
    /// The name is not known, nothing is known of where its device is, or no answer came.
    pub async fn trace(&self, name: &str) -> Result<TraceView, ControlError> {
        let target = self.first_of(name).await?;
        if target.address.is_none() {
            let text = format!("{} published no place in the overlay", target.name);
            return Err(ControlError::Failed(text));
        }
        let traced = self.answer_from(&target, |to| self.0.overlay.trace(to)).await;
        let traced = traced.ok_or_else(|| {
            ControlError::Failed(format!(
                "no answer from {} through the overlay; `cloak status` shows our place in it, \
                 `cloak why {name}` whether it can be reached",
                target.name
            ))
        })?;
        let hop = |device: DeviceId, address: &Address| HopView {
            device: device.to_string(),
            name: self.0.directory.device(device).map(|known| known.device_name),
            address: address.to_string(),
        };
        let hops = traced.passed.iter().map(|passed| hop(passed.device, &passed.address)).collect();
        Ok(TraceView { to: target.name, arrived: traced.arrived, hops })
    }

    /// Asks a device at the place that it published. Where nobody answers there, it may have moved
    /// since: once more at the place that its record in the overlay names now.
    async fn answer_from<T, F: Future<Output = Option<T>>>(
        &self,
        target: &Candidate,
        ask: impl Fn(Destination) -> F,
    ) -> Option<T> {
        let to = |address| Destination { address, device: Some(target.device) };
        let known = target.address.clone()?;
        if let Some(answer) = in_time(ask(to(known.clone()))).await {
            return Some(answer);
        }
        let asked = in_time(async { self.0.ask_for_device(target.device).await.ok() }).await;
        let _learned = asked?;
        let now = self.0.directory.address_of(target.device).filter(|now| *now != known)?;
        in_time(ask(to(now))).await
    }

    async fn first_of(&self, text: &str) -> Result<Candidate, ControlError> {
        let name =
            Name::parse(text).map_err(|error| ControlError::NotFound(format!("{text} {error}")))?;
        let resolution = self.0.resolve(&name).await.map_err(|code| match code {
            Code::UnknownName => ControlError::NotFound(format!(
                "{name} is not known; `cloak resolve {name}` shows which step fails"
            )),
            code => ControlError::Failed(format!(
                "{name} could not be looked up ({code}); `cloak status` shows whether the overlay \
                 is in reach"
            )),
        })?;
        resolution
            .devices
            .into_iter()
            .next()
            .ok_or_else(|| ControlError::NotFound(format!("{name} has no device")))
    }

    /// The round trip of the peer channel, or of a connection that is opened to measure it.
    async fn direct_round_trip(&self, device: DeviceId) -> Option<Duration> {
        if device == self.0.tls.device() {
            return Some(Duration::ZERO);
        }
        let peer = self.0.known_peer(device);
        if let Some(rtt) =
            peer.filter(|peer| peer.direct_link().is_some()).and_then(|peer| peer.rtt())
        {
            return Some(rtt);
        }
        let dialled = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.0.race(device)).await;
        let connection = dialled.ok()?.ok()?;
        connection.progress().map(|progress| progress.rtt)
    }
}

fn place(snapshot: &Snapshot) -> PlaceView {
    let with = |role| snapshot.neighbours.iter().filter(move |held| held.role == role);
    let count = |role| with(role).count() as u64;
    let copies = snapshot.held.iter().filter(|held| held.copy).count() as u64;
    let (kind, address, tree, term) = match &snapshot.place {
        Place::Inner { address, tree, term } => ("inner", Some(address), Some(tree), Some(term.0)),
        Place::Attached { .. } => ("attached", None, None, None),
        Place::Seeking => ("seeking", None, None, None),
    };
    PlaceView {
        kind: kind.to_owned(),
        address: address.map(ToString::to_string),
        tree: tree.map(|tree| format!("{}@{}", tree.founder.fmt_short(), tree.founded.0)),
        term,
        parent: snapshot.parent.map(|parent| parent.to_string()),
        hosts: with(Role::Host).map(|host| host.device.to_string()).collect(),
        children: count(Role::Child),
        guests: count(Role::Guest),
        bindings: snapshot.held.len() as u64 - copies,
        copies,
    }
}

/// What comes through the overlay in time.
async fn in_time<T>(answer: impl Future<Output = Option<T>>) -> Option<T> {
    tokio::time::timeout(OVERLAY_TIMEOUT, answer).await.ok().flatten()
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
