//! Peers come and go all the time, silently, while names are looked up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use cloak_base::{Instant, Rng};
use cloak_overlay::Rank;

use super::{Options, Report, Scenario, grown, lookups};
use crate::ask::{Lookup, LookupOutcome};
use crate::check;
use crate::measure::{Measure, Target, Unit, ratio};
use crate::peer::PeerId;
use crate::realm::{Name, Realm};
use crate::setup::Share;
use crate::view::Views;

/// How long peers live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetimes {
    /// As atoms do: the future of a peer does not depend on its age.
    Exponential,
    /// Most live shortly, some for long: a Pareto distribution of exponent 3/2.
    HeavyTailed,
}

/// Simulated time.
const SPAN: Duration = Duration::from_secs(1200);
/// Lookups are made in rounds, one after the other.
const ROUND: Duration = Duration::from_secs(20);
/// Lookups of a round.
const LOOKUPS: usize = 100;
/// A name counts once it was published for so long.
const PUBLISHED_FOR: Duration = Duration::from_secs(30);
/// Names at the beginning.
const NAMES: usize = 1000;

/// Peers that come and go.
struct Tide {
    deaths: BinaryHeap<Reverse<(Instant, PeerId)>>,
    mean: Duration,
    lifetimes: Lifetimes,
    /// Newcomers that have yet to publish.
    mute: Vec<PeerId>,
    published: Vec<(Instant, Name)>,
    replaced: usize,
}

pub(super) fn run(options: &Options) -> Report {
    let mut report = Report::new(Scenario::Churn, options);
    let mut realm = grown(options, &mut report);
    realm.publish(NAMES, Duration::from_secs(60));
    let mut seconds = 0.0;
    let (all, replaced) = live_through(&mut realm, options, SPAN, |round| {
        seconds += ROUND.as_secs_f64();
        report.point("churn", "lookups found", seconds, lookups::success(round));
    });
    add(&mut report, &all, replaced, realm.awake().count());
    realm.run_for(Duration::from_secs(120));
    report.faults = check::quiescent(&Views::of(&realm), &options.setup.overlay);
    report.add(Measure::new("faults two minutes later", report.faults.len() as f64, Unit::Number));
    report.close(&realm)
}

/// Lets peers come and go for some time, and looks up names meanwhile; gives `each` a round of lookups.
/// Returns those that count, and how many peers were replaced.
pub(super) fn live_through(
    realm: &mut Realm,
    options: &Options,
    span: Duration,
    mut each: impl FnMut(&[Lookup]),
) -> (Vec<Lookup>, usize) {
    let mut tide = Tide::new(realm, options);
    let begin = realm.world.now();
    let mut all = Vec::new();
    while realm.world.now().since(begin) < span {
        let until = realm.world.now() + ROUND;
        tide.run_until(realm, until);
        let questions = tide.questions(realm);
        let lookups = realm.look_up(&questions, Duration::from_secs(1));
        each(&lookups);
        all.extend(still_owned(realm, lookups));
    }
    (all, tide.replaced)
}

fn add(report: &mut Report, all: &[Lookup], replaced: usize, peers: usize) {
    let success = Measure::new("churn, lookups that succeed", lookups::success(all), Unit::Part);
    report.add(success.with_target(Target::AtLeast(0.999)));
    let count = |outcome| all.iter().filter(|one| one.outcome == outcome).count();
    let missing = ratio(count(LookupOutcome::Missing), all.len());
    report.add(Measure::new("churn, lookups that say there is no such name", missing, Unit::Part));
    let hourly = ratio(replaced, peers) * 3600.0 / SPAN.as_secs_f64();
    report.add(Measure::new("churn, replaced per hour", hourly, Unit::Part));
}

/// Lookups of names whose owners lived until the answer.
fn still_owned(realm: &Realm, lookups: Vec<Lookup>) -> Vec<Lookup> {
    let owned = |lookup: &Lookup| {
        let name = realm.names.iter().find(|name| name.number == lookup.name);
        let alive = |peer: PeerId| realm.world.peer(peer).is_alive();
        name.is_some_and(|name| alive(name.owner)) && alive(lookup.from)
    };
    lookups.into_iter().filter(owned).collect()
}

impl Tide {
    fn new(realm: &mut Realm, options: &Options) -> Self {
        let mut tide = Self {
            deaths: BinaryHeap::new(),
            mean: mean_life(options.churn),
            lifetimes: options.lifetimes,
            mute: Vec::new(),
            published: realm.names.iter().map(|name| (realm.world.now(), *name)).collect(),
            replaced: 0,
        };
        let all: Vec<PeerId> = realm.awake().collect();
        for peer in all {
            let left = tide.lifetimes.draw_rest(tide.mean, realm.world.rng());
            tide.give_life(realm, peer, left);
        }
        tide
    }

    fn give_life(&mut self, realm: &mut Realm, peer: PeerId, life: Duration) {
        self.deaths.push(Reverse((realm.world.now() + life, peer)));
    }

    /// Each death is followed by a newcomer, who publishes a name once it has its place.
    fn run_until(&mut self, realm: &mut Realm, until: Instant) {
        while let Some(Reverse((at, peer))) =
            self.deaths.peek().copied().filter(|one| one.0.0 <= until)
        {
            self.deaths.pop();
            realm.run_until(at);
            realm.world.kill(peer);
            let nature = realm.draw_nature();
            let newcomer = realm.join(nature, Rank::NONE);
            let life = self.lifetimes.draw(self.mean, realm.world.rng());
            self.give_life(realm, newcomer, life);
            self.mute.push(newcomer);
            self.replaced += 1;
            self.publish(realm);
        }
        realm.run_until(until);
    }

    fn publish(&mut self, realm: &mut Realm) {
        let ready = |peer: &PeerId| realm.world.peer(*peer).is_settled();
        let (ready, mute) = self.mute.iter().partition::<Vec<PeerId>, _>(|peer| ready(peer));
        self.mute = mute;
        for peer in ready {
            let name = realm.publish_one(peer);
            self.published.push((realm.world.now(), name));
        }
    }

    fn questions(&mut self, realm: &mut Realm) -> Vec<(PeerId, Name)> {
        let now = realm.world.now();
        let alive = |name: &Name| realm.world.peer(name.owner).is_awake();
        self.published.retain(|(_, name)| realm.world.peer(name.owner).is_alive());
        let old = self
            .published
            .iter()
            .filter(|(at, name)| now.since(*at) >= PUBLISHED_FOR && alive(name));
        let names: Vec<Name> = old.map(|(_, name)| *name).collect();
        let askers = realm.honest();
        let pairs = realm.sample(&names, LOOKUPS);
        pairs.into_iter().map(|name| (askers[realm.pick(askers.len())], name)).collect()
    }
}

/// The mean life at which this share of the peers that are there dies within an hour.
fn mean_life(replaced: Share) -> Duration {
    let rate = -(1.0 - replaced.get().min(0.99)).ln();
    Duration::from_secs_f64(3600.0 / rate.max(1e-6))
}

impl Lifetimes {
    /// The life of a newcomer.
    fn draw(self, mean: Duration, rng: &mut Rng) -> Duration {
        let uniform = uniform(rng);
        let factor = match self {
            Self::Exponential => -uniform.ln(),
            Self::HeavyTailed => uniform.powf(-2.0 / 3.0) / 3.0,
        };
        mean.mul_f64(factor.min(FACTOR_MAX))
    }

    /// What is left of the life of one that is there at a random moment, in a realm that is as old as
    /// you like: of its density, the part that lives longer, over the mean. So as many die in the first
    /// minute as in any other.
    fn draw_rest(self, mean: Duration, rng: &mut Rng) -> Duration {
        let uniform = uniform(rng);
        let factor = match self {
            Self::Exponential => -uniform.ln(),
            // Nobody's whole life is shorter than a third of the mean.
            Self::HeavyTailed if uniform > 2.0 / 3.0 => 1.0 - uniform,
            Self::HeavyTailed => 4.0 / 27.0 / (uniform * uniform),
        };
        mean.mul_f64(factor.min(FACTOR_MAX))
    }
}

/// The longest life, in means.
const FACTOR_MAX: f64 = 1000.0;

/// A number above 0 and up to 1.
fn uniform(rng: &mut Rng) -> f64 {
    (rng.below(1 << 53) as f64 + 1.0) / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_have_their_mean() {
        let mut rng = Rng::from_u64(5);
        for (lifetimes, tolerance) in
            [(Lifetimes::Exponential, 0.02), (Lifetimes::HeavyTailed, 0.2)]
        {
            let draw = |_| lifetimes.draw(Duration::from_secs(1), &mut rng).as_secs_f64();
            let mean = (0..100_000).map(draw).sum::<f64>() / 100_000.0;
            assert!((mean - 1.0).abs() < tolerance, "{lifetimes:?}: {mean}");
        }
        for lifetimes in [Lifetimes::Exponential, Lifetimes::HeavyTailed] {
            let rest = |_| lifetimes.draw_rest(Duration::from_secs(1), &mut rng).as_secs_f64();
            let soon = (0..100_000).map(rest).filter(|rest| *rest < 0.2).count();
            // Of those that have been there for long, the fifth of a mean's worth dies in it.
            assert!((17_000..21_000).contains(&soon), "{lifetimes:?}: {soon}");
        }
        let half = mean_life(Share::percent(50)).as_secs_f64();
        assert!((half - 3600.0 / 2f64.ln()).abs() < 1.0, "{half}");
    }
}
