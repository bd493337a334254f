//! A realm: a world that peers join one after the other, and what scenarios ask of all of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use cloak_base::Instant;
use cloak_overlay::{Place, Rank};

use crate::journal::Journal;
use crate::malice::Malice;
use crate::peer::{Nature, PeerId};
use crate::setup::Setup;
use crate::world::World;

/// Peers that a newcomer remembers.
const REMEMBERED: usize = 3;
/// A sleeper is awake, and asleep, for about so long.
const NAP: Duration = Duration::from_secs(300);
/// How often it is looked whether all are settled.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A world with inhabitants.
pub struct Realm {
    /// The world.
    pub world: World,
    /// Names that were published, and by whom.
    pub names: Vec<Name>,
    naps: BinaryHeap<Reverse<(Instant, PeerId)>>,
}

/// A published name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// Its number.
    pub number: u32,
    /// Who publishes it.
    pub owner: PeerId,
}

impl Realm {
    /// A realm without peers.
    pub fn empty(setup: Setup) -> Self {
        Self::with_journal(setup, Journal::hash_only())
    }

    /// A realm without peers, whose events are written to this journal.
    pub fn with_journal(setup: Setup, journal: Journal) -> Self {
        let world = World::with_journal(setup, journal);
        Self { world, names: Vec::new(), naps: BinaryHeap::new() }
    }

    /// Lets all peers of the setup join: their number doubles in a fixed time.
    pub fn join_all(&mut self) {
        let setup = self.world.setup().clone();
        let begin = self.world.now();
        for number in 0..setup.peers {
            self.run_until(begin + start_time(number, setup.doubling));
            let nature = if number == 0 { Nature::HONEST } else { self.draw_nature() };
            let rank = if number == 0 { Rank(0) } else { Rank::NONE };
            self.join(nature, rank);
        }
    }

    /// Adds a peer and starts it, with random peers in its memory.
    pub fn join(&mut self, nature: Nature, rank: Rank) -> PeerId {
        let peer = self.world.add(nature, rank);
        self.start(peer);
        let sleeps = !nature.reachable && self.draws_sleeper();
        if sleeps {
            let first = self.world.now() + self.nap();
            self.naps.push(Reverse((first, peer)));
        }
        peer
    }

    /// Starts a peer with random others in its memory.
    pub fn start(&mut self, peer: PeerId) {
        let remembered = self.acquaintances(REMEMBERED);
        self.world.start(peer, &remembered);
    }

    /// What a newcomer is like.
    pub fn draw_nature(&mut self) -> Nature {
        let setup = self.world.setup();
        let (unreachable, sleeping) = (setup.unreachable, setup.sleeping);
        let closed = unreachable.per_million().max(sleeping.per_million());
        let adversaries = setup.adversaries.per_million();
        let rng = self.world.rng();
        let reachable = !rng.chance(closed, MILLION);
        let kind = usize::try_from(rng.below(Malice::ALL.len() as u64)).unwrap_or(0);
        let malice =
            if rng.chance(adversaries, MILLION) { Malice::ALL[kind] } else { Malice::None };
        Nature { reachable, malice }
    }

    /// Random live peers that can be dialled.
    pub fn acquaintances(&mut self, count: usize) -> Vec<PeerId> {
        let all = self.world.ids().count() as u64;
        let mut found = Vec::new();
        for _ in 0..if all == 0 { 0 } else { 40 * count } {
            let number = self.world.rng().below(all);
            let peer = PeerId(u32::try_from(number).unwrap_or(0));
            let one = self.world.peer(peer);
            if one.is_awake() && one.nature().reachable && !found.contains(&peer) {
                found.push(peer);
            }
            if found.len() == count {
                break;
            }
        }
        found
    }

    /// Lets time pass, with the sleepers' hours.
    pub fn run_until(&mut self, until: Instant) {
        while let Some(Reverse((at, peer))) =
            self.naps.peek().copied().filter(|nap| nap.0.0 <= until)
        {
            self.naps.pop();
            self.world.run_until(at);
            let one = self.world.peer(peer);
            if one.is_awake() {
                self.world.sleep(peer);
            } else if one.is_alive() {
                self.world.wake(peer);
            } else {
                continue;
            }
            let next = at + self.nap();
            self.naps.push(Reverse((next, peer)));
        }
        self.world.run_until(until);
    }

    /// Wakes everybody up.
    pub fn wake_all(&mut self) {
        let all: Vec<PeerId> = self.world.ids().collect();
        all.into_iter().for_each(|peer| self.world.wake(peer));
    }

    /// From here on nobody falls asleep by itself.
    pub fn end_naps(&mut self) {
        self.naps.clear();
    }

    /// Lets this much time pass.
    pub fn run_for(&mut self, span: Duration) {
        self.run_until(self.world.now() + span);
    }

    /// Lets time pass until every peer that is awake has its place. Says how long it took.
    pub fn settle(&mut self, within: Duration) -> Option<Duration> {
        let begin = self.world.now();
        loop {
            if self.unsettled() == 0 {
                return Some(self.world.now().since(begin));
            }
            if self.world.now().since(begin) >= within {
                return None;
            }
            self.run_for(LOOK_EVERY);
        }
    }

    /// Peers that are awake and have no place, or not the one of their nature.
    pub fn unsettled(&self) -> usize {
        self.awake().filter(|peer| !self.world.peer(*peer).is_settled()).count()
    }

    /// Peers that take part.
    pub fn awake(&self) -> impl Iterator<Item = PeerId> {
        self.world.ids().filter(|peer| self.world.peer(*peer).is_awake())
    }

    /// Peers in a tree.
    pub fn inner(&self) -> Vec<PeerId> {
        let inner = |peer: &PeerId| matches!(self.world.peer(*peer).place(), Place::Inner { .. });
        self.awake().filter(inner).collect()
    }

    /// Honest peers that have a place.
    pub fn honest(&self) -> Vec<PeerId> {
        let honest = |peer: &PeerId| {
            let one = self.world.peer(*peer);
            one.nature().malice.is_honest() && *one.place() != Place::Seeking
        };
        self.awake().filter(honest).collect()
    }

    /// Lets random honest peers publish so many new names within `spread`.
    pub fn publish(&mut self, count: usize, spread: Duration) {
        let owners = self.honest();
        let begin = self.world.now();
        for at in 0..count {
            self.run_until(begin + part_of(spread, at, count));
            let pick = self.pick(owners.len());
            if let Some(owner) = owners.get(pick).copied() {
                self.publish_one(owner);
            }
        }
        self.run_until(begin + spread);
    }

    /// Lets a peer publish a new name.
    pub fn publish_one(&mut self, owner: PeerId) -> Name {
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        let name = Name { number, owner };
        self.names.push(name);
        self.world.publish(owner, number);
        name
    }

    /// Names whose publishers are alive and awake.
    pub fn live_names(&self) -> Vec<Name> {
        let live = |name: &&Name| self.world.peer(name.owner).is_awake();
        self.names.iter().filter(live).copied().collect()
    }

    /// A number in `0..count`, and zero of none.
    pub fn pick(&mut self, count: usize) -> usize {
        let number = if count == 0 { 0 } else { self.world.rng().below(count as u64) };
        usize::try_from(number).unwrap_or(0)
    }

    /// Different random ones of these.
    pub fn sample<T: Copy>(&mut self, from: &[T], count: usize) -> Vec<T> {
        let mut all = from.to_vec();
        let count = count.min(all.len());
        for at in 0..count {
            let other = at + self.pick(all.len() - at);
            all.swap(at, other);
        }
        all.truncate(count);
        all
    }

    fn draws_sleeper(&mut self) -> bool {
        let setup = self.world.setup();
        let closed = setup.unreachable.max(setup.sleeping).per_million().max(1);
        let sleeping = setup.sleeping.per_million();
        self.world.rng().chance(sleeping, closed)
    }

    fn nap(&mut self) -> Duration {
        self.world.rng().duration(NAP / 2, NAP * 3 / 2)
    }
}

/// When peer number `number` starts: within each doubling time as many as there were before.
fn start_time(number: usize, doubling: Duration) -> Duration {
    let nth = number as u64 + 1;
    let doublings = nth.ilog2();
    let before = 1u64 << doublings;
    let micros = u64::try_from(doubling.as_micros()).unwrap_or(u64::MAX);
    doubling * doublings + Duration::from_micros(micros * (nth - before) / before)
}

/// `spread * at / count`.
pub(crate) fn part_of(spread: Duration, at: usize, count: usize) -> Duration {
    let micros = spread.as_micros() * at as u128 / count.max(1) as u128;
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

const MILLION: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_double_in_the_doubling_time() {
        let start = |number| start_time(number, Duration::from_secs(8));
        assert_eq!(start(0), Duration::ZERO);
        assert_eq!(start(1), Duration::from_secs(8));
        assert_eq!(start(2), Duration::from_secs(12));
        assert_eq!(start(3), Duration::from_secs(16));
        assert_eq!(start(1023), Duration::from_secs(80));
        assert!((1..5000).all(|number| start(number) > start(number - 1)));
    }
}
