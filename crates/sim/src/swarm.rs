//! The swarm: a seed draws a realm, a list of mishaps and their times. Whatever it draws, at no time
//! are there two roots of one term, or honest peers to whom one parent gave one place in one term,
//! and no forged record is believed. Once the mishaps end the peers have to find together again, and
//! every live name has to be found.
//!
//! In a hostile swarm some peers lie, and the mishaps may all be of one kind. Liars can deny, so
//! nothing is expected of their own places, nor that every name is kept and found.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use cloak_overlay::Degree;

use crate::ask::LookupOutcome;
use crate::check::{self, Fault};
use crate::journal::{Journal, Line};
use crate::mishap::{Mishap, restart};
use crate::names;
use crate::peer::PeerId;
use crate::realm::{Name, Realm};
use crate::setup::{Setup, Share};
use crate::signatures::Signatures;
use crate::view::Views;

/// Peers at most.
const PEERS_MAX: u64 = 28;
/// Mishaps at most.
const MISHAPS_MAX: u64 = 24;
/// Once nothing goes wrong any more, everything is right again after this time.
const QUIET_WITHIN: Duration = Duration::from_secs(240);
/// How often it is looked whether all is right.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A neighbour whose acknowledgement was lost is passed by until it answers a probe: who sees that
/// looks again, so often and after this time.
const LOOKS_MAX: usize = 3;
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often it is looked, while things go wrong, whether what must never be is.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// Liars of a hundred peers at most.
const LIARS_MAX: u64 = 25;
/// Records are refreshed this often, so that names whose binders all died are there again.
const TOUCH_EVERY: Duration = Duration::from_secs(30);

/// What a seed draws.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// The realm.
    pub setup: Setup,
    /// Names.
    pub names: usize,
    /// Whether liars are expected.
    pub company: Company,
    /// Mishaps.
    pub mishaps: u64,
    /// All mishaps are this one.
    pub plague: Option<Mishap>,
    /// Longest time between two of them.
    pub pause_max: Duration,
}

/// Among whom a swarm lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Company {
    /// Nobody lies.
    Honest,
    /// Some lie, and mishaps may be of one kind.
    Hostile,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was drawn.
    pub parameters: Parameters,
    /// What was wrong while things happened, though it must never be.
    pub breaches: Vec<Fault>,
    /// What is wrong at the end.
    pub faults: Vec<Fault>,
    /// Live names that were not found at the end.
    pub not_found: Vec<u32>,
    /// Forged records that were believed.
    pub forged: usize,
    /// How long it took until everything was right.
    pub quiet_after: Option<Duration>,
    /// Hash of the event log.
    pub hash: u64,
    /// The log, if it was kept.
    pub log: Vec<Line>,
}

impl Parameters {
    /// Draws them.
    pub fn draw(seed: u64, company: Company) -> Self {
        let mut rng = cloak_base::Rng::from_u64(seed ^ 0x7377_6172_6d00_0000);
        let peers = usize::try_from(3 + rng.below(PEERS_MAX - 2)).unwrap_or(3);
        let mut setup = Setup::new(seed, peers);
        let percent = |rng: &mut cloak_base::Rng, most: u64| {
            let drawn = if rng.chance(1, 2) { 0 } else { rng.below(most + 1) };
            Share::percent(u32::try_from(drawn).unwrap_or(0))
        };
        setup.unreachable = percent(&mut rng, 70);
        setup.sleeping = percent(&mut rng, 30);
        setup.loss = percent(&mut rng, 5);
        setup.doubling = Duration::from_secs(1 + rng.below(8));
        let real = rng.chance(1, 8);
        setup.signatures = if real { Signatures::Real } else { Signatures::Tags };
        let degree = [3, 4, 5, 8, 16, 32][usize::try_from(rng.below(6)).unwrap_or(0)];
        setup.overlay.degree = Degree::new(degree).unwrap_or(Degree::MIN);
        setup.overlay.extra_max = usize::try_from(rng.below(9)).unwrap_or(0);
        setup.overlay.extra_own = setup.overlay.extra_max.div_ceil(2);
        setup.overlay.touch_every = TOUCH_EVERY;
        let names = usize::try_from(1 + rng.below(12)).unwrap_or(1);
        let pause_max = Duration::from_secs(1 + rng.below(15));
        let mishaps = rng.below(MISHAPS_MAX + 1);
        let mut plague = None;
        if company == Company::Hostile {
            let liars = 1 + rng.below(LIARS_MAX);
            setup.adversaries = Share::percent(u32::try_from(liars).unwrap_or(1));
            plague = rng.chance(1, 2).then(|| Mishap::draw_plague(&mut rng));
        }
        Self { setup, names, company, mishaps, plague, pause_max }
    }
}

impl Outcome {
    /// Whether everything is as it must be.
    pub fn is_good(&self) -> bool {
        self.breaches.is_empty()
            && self.faults.is_empty()
            && self.not_found.is_empty()
            && self.forged == 0
    }
}

/// Runs what the seed draws.
pub fn run(seed: u64, company: Company, journal: Journal) -> Outcome {
    let parameters = Parameters::draw(seed, company);
    let mut realm = Realm::with_journal(parameters.setup.clone(), journal);
    realm.join_all();
    realm.settle(Duration::from_secs(60));
    realm.publish(parameters.names, Duration::from_secs(10));
    let mut breaches = Vec::new();
    for _ in 0..parameters.mishaps {
        let pause = realm.world.rng().duration(Duration::ZERO, parameters.pause_max);
        watch(&mut realm, pause, &mut breaches);
        let mishap = parameters.plague.unwrap_or_else(|| Mishap::draw(realm.world.rng()));
        mishap.strike(&mut realm);
    }
    end_mishaps(&mut realm, &mut breaches);
    let quiet_after = until_quiet(&mut realm, &parameters);
    realm.run_for(TOUCH_EVERY + TOUCH_EVERY / 2);
    let (not_found, forged) = look_all_up(&mut realm);
    let faults = wrong_for_good(&mut realm, &parameters);
    let not_found = if company == Company::Honest { not_found } else { Vec::new() };
    let hash = realm.world.journal().hash();
    let log = realm.world.journal().lines().to_vec();
    Outcome { parameters, breaches, faults, not_found, forged, quiet_after, hash, log }
}

/// The network is whole, all are awake, and owners whose peers know nobody of the others restart
/// them, with somebody in their memory.
fn end_mishaps(realm: &mut Realm, breaches: &mut Vec<Fault>) {
    realm.world.heal();
    realm.wake_all();
    realm.end_naps();
    watch(realm, Duration::from_secs(30), breaches);
    let groups = acquainted(realm);
    let largest = groups.iter().max_by_key(|group| group.len()).cloned().unwrap_or_default();
    let apart: Vec<PeerId> = realm.awake().filter(|peer| !largest.contains(peer)).collect();
    apart.iter().for_each(|peer| realm.world.kill(*peer));
    apart.iter().for_each(|peer| restart(realm, *peer));
}

/// Groups of live peers of whom each knows another one: by a link, or since its start. (They know
/// more, having met others before; so groups are no larger than in truth.)
fn acquainted(realm: &Realm) -> Vec<BTreeSet<PeerId>> {
    let mut groups: Vec<BTreeSet<PeerId>> = Vec::new();
    for peer in realm.awake() {
        let neighbours = realm.world.snapshot(peer).map(|one| one.neighbours).unwrap_or_default();
        let linked = neighbours.iter().filter_map(|one| realm.world.find(&one.device));
        let known = linked.chain(realm.world.peer(peer).remembered().iter().copied());
        let mut group: BTreeSet<PeerId> =
            known.filter(|other| is_good_company(realm, *other)).collect();
        group.insert(peer);
        let (joined, apart) = groups.into_iter().partition(|other| !other.is_disjoint(&group));
        groups = apart;
        group.extend(Vec::into_iter(joined).flatten());
        groups.push(group);
    }
    groups
}

/// Lets time pass, and looks whether what must never be is.
fn watch(realm: &mut Realm, span: Duration, breaches: &mut Vec<Fault>) {
    let end = realm.world.now() + span;
    while realm.world.now() < end {
        let step = end.since(realm.world.now()).min(WATCH_EVERY);
        realm.run_for(step);
        for fault in check::given_twice(&Views::of(realm).honest()) {
            if !breaches.contains(&fault) {
                breaches.push(fault);
            }
        }
    }
}

/// What is wrong with a realm in which nothing happened for a while. Liars may keep
/// themselves out, and who lies about its address is dropped by all. Who drops what it should pass on
/// hears no acknowledgements, and suspects its neighbours.
fn wrong(realm: &Realm, parameters: &Parameters) -> Vec<Fault> {
    let views = Views::of(realm).accepted();
    let mut faults = check::quiescent(&views, &parameters.setup.overlay);
    if parameters.company == Company::Hostile {
        faults.retain(|fault| match fault {
            Fault::NoPlace(peer) | Fault::NoParent(peer, _) => views.is_honest(*peer),
            Fault::DeadEnd(_, _, end) => views.has_honest(end),
            _ => true,
        });
    }
    faults
}

/// What is wrong at the end, and stays so.
fn wrong_for_good(realm: &mut Realm, parameters: &Parameters) -> Vec<Fault> {
    for _ in 1..LOOKS_MAX {
        if wrong_at_end(realm, parameters).is_empty() {
            break;
        }
        realm.run_for(LOOK_AGAIN);
    }
    wrong_at_end(realm, parameters)
}

/// The same, and bindings that are gone; liars may let them vanish.
fn wrong_at_end(realm: &Realm, parameters: &Parameters) -> Vec<Fault> {
    let mut faults = wrong(realm, parameters);
    if parameters.company == Company::Honest {
        faults.extend(check::lost(&Views::of(realm), &expected(realm)));
    }
    faults
}

fn is_good_company(realm: &Realm, peer: PeerId) -> bool {
    let one = realm.world.peer(peer);
    one.is_awake() && one.nature().malice.is_honest()
}

fn until_quiet(realm: &mut Realm, parameters: &Parameters) -> Option<Duration> {
    let begin = realm.world.now();
    while realm.world.now().since(begin) <= QUIET_WITHIN {
        if wrong(realm, parameters).is_empty() {
            return Some(realm.world.now().since(begin));
        }
        realm.run_for(LOOK_EVERY);
    }
    None
}

/// Every live name, from one peer each. Gives those that were not found, and how many were forged.
fn look_all_up(realm: &mut Realm) -> (Vec<u32>, usize) {
    let askers = realm.honest();
    let mut questions: Vec<(PeerId, Name)> = Vec::new();
    for name in realm.live_names() {
        if let Some(asker) = askers.get(realm.pick(askers.len())) {
            questions.push((*asker, name));
        }
    }
    let answers = realm.look_up(&questions, Duration::from_secs(2));
    let missing = answers.iter().filter(|one| !one.is_found()).map(|one| one.name).collect();
    (missing, answers.iter().filter(|one| one.outcome == LookupOutcome::Forged).count())
}

fn expected(realm: &Realm) -> Vec<(cloak_overlay::Key, cloak_base::Epoch)> {
    let names = realm.live_names();
    names.iter().map(|name| (names::key(name.number), cloak_base::Epoch(1))).collect()
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup { peers, unreachable, sleeping, loss, doubling, signatures, overlay, .. } =
            &self.setup;
        write!(
            f,
            "{peers} peers, degree {}, {} extra links, {:.0} % unreachable, {:.0} % sleeping, \
             {:.0} % loss, doubling in {doubling:?}, {signatures:?} signatures, {} names, {} \
             mishaps up to {:?} apart",
            overlay.degree,
            overlay.extra_max,
            unreachable.get() * 100.0,
            sleeping.get() * 100.0,
            loss.get() * 100.0,
            self.names,
            self.mishaps,
            self.pause_max,
        )?;
        if self.company == Company::Hostile {
            write!(f, ", {:.0} % liars", self.setup.adversaries.get() * 100.0)?;
        }
        match self.plague {
            Some(plague) => write!(f, ", {plague:?} alone"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.quiet_after {
            Some(after) => write!(f, "quiet after {after:?}")?,
            None => write!(f, "never quiet")?,
        }
        write!(f, ", log {:016x}", self.hash)?;
        self.breaches.iter().take(8).try_for_each(|fault| write!(f, "\n  BREACH: {fault}"))?;
        self.faults.iter().take(8).try_for_each(|fault| write!(f, "\n  FAULT: {fault}"))?;
        if !self.not_found.is_empty() {
            write!(f, "\n  NOT FOUND: names {:?}", self.not_found)?;
        }
        Ok(())
    }
}
