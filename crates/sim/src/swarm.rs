//! The swarm: a seed draws a realm, a list of mishaps and their times. Whatever it draws, once the
//! mishaps end the peers have to find together again, and every live name has to be found.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use cloak_overlay::{Degree, Rank};

use crate::ask::LookupOutcome;
use crate::check::{self, Fault};
use crate::journal::{Journal, Line};
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
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Records are refreshed this often, so that names whose binders all died are there again.
const TOUCH_EVERY: Duration = Duration::from_secs(30);

/// What a seed draws.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// The realm.
    pub setup: Setup,
    /// Names.
    pub names: usize,
    /// Mishaps.
    pub mishaps: u64,
    /// Longest time between two of them.
    pub pause_max: Duration,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was drawn.
    pub parameters: Parameters,
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
    pub fn draw(seed: u64) -> Self {
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
        Self { setup, names, mishaps: rng.below(MISHAPS_MAX + 1), pause_max }
    }
}

impl Outcome {
    /// Whether everything is as it must be.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty() && self.not_found.is_empty() && self.forged == 0
    }
}

/// Runs what the seed draws.
pub fn run(seed: u64, journal: Journal) -> Outcome {
    let parameters = Parameters::draw(seed);
    let mut realm = Realm::with_journal(parameters.setup.clone(), journal);
    realm.join_all();
    realm.settle(Duration::from_secs(60));
    realm.publish(parameters.names, Duration::from_secs(10));
    for _ in 0..parameters.mishaps {
        let pause = realm.world.rng().duration(Duration::ZERO, parameters.pause_max);
        realm.run_for(pause);
        mishap(&mut realm);
    }
    end_mishaps(&mut realm);
    let quiet_after = until_quiet(&mut realm, &parameters);
    realm.run_for(TOUCH_EVERY + TOUCH_EVERY / 2);
    let (not_found, forged) = look_all_up(&mut realm);
    let views = Views::of(&realm);
    let mut faults = check::quiescent(&views, &parameters.setup.overlay);
    faults.extend(check::lost(&views, &expected(&realm)));
    let hash = realm.world.journal().hash();
    let log = realm.world.journal().lines().to_vec();
    Outcome { parameters, faults, not_found, forged, quiet_after, hash, log }
}

/// One thing goes wrong, or a little right.
fn mishap(realm: &mut Realm) {
    let kind = realm.world.rng().below(12);
    let awake: Vec<PeerId> = realm.awake().collect();
    let victim = awake.get(realm.pick(awake.len())).copied();
    match (kind, victim) {
        (0..4, Some(peer)) => kill(realm, peer),
        (4..6, _) => {
            let nature = realm.draw_nature();
            realm.join(nature, Rank::NONE);
        }
        (6, Some(peer)) => {
            restart(realm, peer);
        }
        (7, Some(peer)) => realm.world.sleep(peer),
        (8, _) => realm.wake_all(),
        (9, _) => {
            let mask = realm.world.rng().below(256);
            realm
                .world
                .partition(|peer| u8::from((u64::from(peer.0) ^ mask).count_ones() % 2 == 1));
        }
        (10, _) => realm.world.heal(),
        (_, Some(peer)) if realm.world.peer(peer).is_settled() => {
            realm.publish_one(peer);
        }
        _ => {}
    }
}

/// A realm needs peers that can be dialled: the last three of them live for ever.
fn kill(realm: &mut Realm, peer: PeerId) {
    let reachable = realm.awake().filter(|peer| realm.world.peer(*peer).nature().reachable);
    if reachable.count() > 3 || !realm.world.peer(peer).nature().reachable {
        realm.world.kill(peer);
    }
}

/// The new life of a device knows nothing of the names of the old one.
fn restart(realm: &mut Realm, peer: PeerId) {
    realm.world.kill(peer);
    realm.names.retain(|name| name.owner != peer);
    realm.start(peer);
}

/// The network is whole, all are awake, and owners whose peers know nobody of the others restart
/// them, with somebody in their memory.
fn end_mishaps(realm: &mut Realm) {
    realm.world.heal();
    realm.wake_all();
    realm.end_naps();
    realm.run_for(Duration::from_secs(30));
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
            known.filter(|other| realm.world.peer(*other).is_awake()).collect();
        group.insert(peer);
        let (joined, apart) = groups.into_iter().partition(|other| !other.is_disjoint(&group));
        groups = apart;
        group.extend(Vec::into_iter(joined).flatten());
        groups.push(group);
    }
    groups
}

fn until_quiet(realm: &mut Realm, parameters: &Parameters) -> Option<Duration> {
    let begin = realm.world.now();
    while realm.world.now().since(begin) <= QUIET_WITHIN {
        if check::quiescent(&Views::of(realm), &parameters.setup.overlay).is_empty() {
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
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.quiet_after {
            Some(after) => write!(f, "quiet after {after:?}")?,
            None => write!(f, "never quiet")?,
        }
        write!(f, ", log {:016x}", self.hash)?;
        self.faults.iter().take(8).try_for_each(|fault| write!(f, "\n  FAULT: {fault}"))?;
        if !self.not_found.is_empty() {
            write!(f, "\n  NOT FOUND: names {:?}", self.not_found)?;
        }
        Ok(())
    }
}
