//! Running sessions of balanced services go to other devices of our entity by themselves.
//!
//! While there are such sessions here, the other devices are asked at an interval how they stand with those
//! services; without, nobody is asked anything. What follows from the answers is decided in [`policy`], and
//! done by one move at a time.
//!
//! [`policy`]: super::policy

use std::collections::BTreeMap;
use std::sync::Arc;

use cloak_base::{DeviceId, SessionId};
use cloak_session::{Role, State};
use cloak_transport::sleep_until;
use cloak_wire::{Balance, Code, Frame, LOADS_MAX, Load, Target};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::fetch::LIST_TIMEOUT;
use super::policy::{Candidate, Pauses, choose, is_uneven};
use crate::api::Movable;
use crate::hello::{flush, receive};
use crate::lane::Lane;
use crate::registry::SessionHandle;
use crate::shared::Shared;
use crate::sync::read;

/// Moves of one service in one round.
const MOVES_MAX: u32 = 64;
/// Moves of one service that may fail in one round.
const FAILURES_MAX: u32 = 16;
/// A device to which there is no link is asked once in so many rounds: it may be off.
const UNLINKED_EVERY: u64 = 6;

/// Balances until the node stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let cancel = shared.cancel.clone();
    let mut balancing = Balancing::default();
    let rounds = async {
        loop {
            let every = read(&shared.config).session.balance_every;
            sleep_until(&*shared.clock, shared.clock.now() + every).await;
            balancing.round(&shared).await;
        }
    };
    tokio::select! {
        biased;
        () = cancel.cancelled() => {}
        () = rounds => {}
    }
}

/// What is remembered from round to round.
#[derive(Default)]
struct Balancing {
    round: u64,
    sessions: Pauses<SessionId>,
    devices: Pauses<DeviceId>,
}

/// What another device answered.
struct Answer {
    device: DeviceId,
    preference: u16,
    services: Vec<Option<Load>>,
}

impl Balancing {
    async fn round(&mut self, shared: &Arc<Shared>) {
        self.round += 1;
        let services = shared.balanced();
        let is_here = |id: &SessionId| services.values().flatten().any(|handle| handle.id == *id);
        self.sessions.retain(is_here);
        if services.is_empty() || shared.is_draining() {
            return;
        }
        let ports: Vec<u16> = services.keys().take(LOADS_MAX).copied().collect();
        let answers = shared.ask_others(&ports, self.round.is_multiple_of(UNLINKED_EVERY)).await;
        for (number, (port, sessions)) in services.into_iter().take(LOADS_MAX).enumerate() {
            let candidate = |answer: &Answer| {
                let load = answer.services.get(number).copied().flatten()?;
                Some(Candidate { device: answer.device, preference: answer.preference, load })
            };
            let others = answers.iter().filter_map(candidate).collect();
            self.spread(shared, port, sessions, others).await;
        }
        self.devices.retain(|device| answers.iter().any(|answer| answer.device == *device));
    }

    /// Moves sessions of one service, one after the other, until they are where they belong.
    async fn spread(
        &mut self,
        shared: &Arc<Shared>,
        port: u16,
        mut sessions: Vec<Arc<SessionHandle>>,
        mut others: Vec<Candidate>,
    ) {
        // Another one first each time: one whose client keeps moves from coming about does not hold up the rest.
        let first = self.round % (sessions.len() as u64).max(1);
        sessions.rotate_left(usize::try_from(first).unwrap_or(0));
        let (mut moves, mut failures) = (0, 0);
        others.retain(|other| self.devices.is_due(&other.device, self.round));
        for handle in sessions {
            let is_live = handle.snapshot().is_some_and(|one| one.state == State::Live);
            if !is_live || handle.is_held() || !self.sessions.is_due(&handle.id, self.round) {
                continue;
            }
            // It may be another one since the last move.
            let balance = shared.services.balance(&handle.target);
            let own = Load { sessions: shared.load(port), balance };
            let Some(to) = choose(shared.preference(), own, &others) else { return };
            if moves == MOVES_MAX || failures == FAILURES_MAX || shared.is_draining() {
                return;
            }
            match shared.pass_on(&handle, to, balance).await {
                Ok(()) => {
                    moves += 1;
                    self.devices.succeed(&to);
                    let known = others.iter_mut().find(|other| other.device == to);
                    if let Some(known) = known {
                        known.load.sessions = known.load.sessions.saturating_add(1);
                    }
                }
                Err(code) => {
                    failures += 1;
                    tracing::debug!(session = %handle.id.fmt_short(), %code, "not moved by policy");
                    self.sessions.fail(handle.id, self.round);
                    if !is_of_session(code) {
                        self.devices.fail(to, self.round);
                        others.retain(|other| other.device != to);
                    }
                }
            }
        }
    }
}

/// Whether a move failed for its session only: others may go to that device.
fn is_of_session(code: Code) -> bool {
    use Code::{Cancelled, Gone, Moved, Moving, NotMovable, Paused};
    matches!(code, NotMovable | Moving | Moved | Gone | Cancelled | Paused)
}

impl Shared {
    /// The sessions of balanced services that are served here, by port, in an order of their own.
    fn balanced(&self) -> BTreeMap<u16, Vec<Arc<SessionHandle>>> {
        let mut services = BTreeMap::<u16, Vec<_>>::new();
        for handle in self.sessions.all() {
            let Target::Service(port) = handle.target else { continue };
            let moves = self.services.movable(&handle.target) != Movable::No
                && self.services.balance(&handle.target) != Balance::None;
            if handle.role == Role::Responder && moves {
                services.entry(port).or_default().push(handle);
            }
        }
        services.values_mut().for_each(|sessions| sessions.sort_by_key(|handle| handle.id));
        services
    }

    /// How many sessions of a service are served here: those that are on their way, in either direction, do
    /// not count.
    pub(super) fn load(&self, port: u16) -> u32 {
        let is_served = |handle: &Arc<SessionHandle>| {
            handle.role == Role::Responder
                && handle.target == Target::Service(port)
                && handle.snapshot().is_none_or(|one| {
                    matches!(one.state, State::Opening | State::Live | State::Suspended)
                })
        };
        let count = self.sessions.all().iter().filter(|handle| is_served(handle)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Whether a device with `theirs` sessions of a service still has noticeably more than we, once the others
    /// that are on their way to us have come. The one it is about is among them.
    pub(super) fn evens_out(&self, theirs: u32, port: u16) -> bool {
        let underway = self.adopted.underway().saturating_sub(1);
        let coming = u32::try_from(underway).unwrap_or(u32::MAX);
        is_uneven(theirs, self.load(port).saturating_add(coming))
    }

    /// A move by policy. It belongs to the node: once begun, it comes to its end.
    async fn pass_on(
        self: &Arc<Self>,
        handle: &Arc<SessionHandle>,
        to: DeviceId,
        by: Balance,
    ) -> Result<(), Code> {
        let (shared, moving) = (Arc::clone(self), Arc::clone(handle));
        let moved = self.tasks.spawn(async move { shared.hand_over(&moving, to, by).await });
        moved.await.unwrap_or(Err(Code::ShuttingDown))?;
        let by = if by == Balance::Load { "load" } else { "preference" };
        let (session, to) = (handle.id.fmt_short(), self.peer(to).name());
        tracing::info!(%session, %to, by, "moved by policy");
        Ok(())
    }

    /// Asks the other devices that expose some of these ports how they stand with them; those that answer.
    async fn ask_others(self: &Arc<Self>, ports: &[u16], unlinked_too: bool) -> Vec<Answer> {
        let mut asking = JoinSet::new();
        for other in self.other_devices().await.unwrap_or_default() {
            let is_asked = unlinked_too || self.is_reachable(&other);
            if is_asked && other.ports.iter().any(|port| ports.contains(port)) {
                let (shared, ports) = (Arc::clone(self), ports.to_vec());
                asking.spawn(async move {
                    let asked = timeout(LIST_TIMEOUT, shared.ask_loads(other.device, ports)).await;
                    asked.unwrap_or(Err(Code::Timeout)).ok()
                });
            }
        }
        asking.join_all().await.into_iter().flatten().collect()
    }

    async fn ask_loads(
        self: &Arc<Self>,
        device: DeviceId,
        ports: Vec<u16>,
    ) -> Result<Answer, Code> {
        let mut lane = self.courier(&self.peer(device)).await?;
        lane.connection.queue(&Frame::AskLoads { ports });
        match receive(&mut lane.connection).await.map_err(|_| Code::PeerUnreachable)? {
            Frame::Loads { preference, services } => {
                self.release(lane);
                Ok(Answer { device, preference, services })
            }
            Frame::Close { code } => Err(code),
            _ => Err(Code::Violation),
        }
    }

    /// Answers a device that asks how we stand with some services; the lane is free again then. Nothing but
    /// devices of our entity hears anything.
    pub(crate) async fn tell_loads(&self, mut lane: Lane, ports: &[u16]) -> Option<Lane> {
        let is_ours = lane.peer.entity() == Some(self.home.entity());
        let may_come = is_ours
            && self.standing(&lane.peer).is_ok()
            && !self.is_draining()
            && self.ledger.admits_new_session();
        let load = |port: &u16| {
            let target = Target::Service(*port);
            let takes = may_come && self.services.movable(&target) != Movable::No;
            let balance = self.services.balance(&target);
            takes.then(|| Load { sessions: self.load(*port), balance })
        };
        let services = ports.iter().map(load).collect();
        lane.connection.queue(&Frame::Loads { preference: self.preference(), services });
        timeout(LIST_TIMEOUT, flush(&mut lane.connection)).await.ok()?.ok()?;
        Some(lane)
    }
}
