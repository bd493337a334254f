//! Where a running session of a balanced service goes next, if anywhere.
//!
//! By load: a device passes a session on only where the other one has noticeably fewer, as the other one
//! itself finds when it comes. Each such move makes the sum of the squares of all loads smaller, in whatever
//! order devices decide and however old what they know is: sessions cannot go round in circles, and come to
//! rest. By preference: to a lower number only, which ends as well. A device takes sessions from others by
//! the policy that it has itself, or if it has none, so that two policies never send a session to and fro.

use std::collections::BTreeMap;

use cloak_base::DeviceId;
use cloak_wire::{Balance, Load};

/// Loads that differ by less are even: moving one session would only turn the difference round.
const UNEVEN_MIN: u32 = 2;
/// Nor is it worth a move where the difference is less than this part of the load.
const UNEVEN_PART: u32 = 8;
/// Longest pause, in rounds.
const PAUSE_MAX: u64 = 16;

/// Another device of the entity, as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) device: DeviceId,
    /// Among the devices of its entity: the lower, the sooner.
    pub(super) preference: u16,
    /// How it stands with the service.
    pub(super) load: Load,
}

/// Whether a device with `here` sessions passes one on to a device with `there`.
pub(super) fn is_uneven(here: u32, there: u32) -> bool {
    here.saturating_sub(there) >= UNEVEN_MIN.max(here / UNEVEN_PART)
}

/// To which of the others a session goes from a device that has `preference` and `own`.
pub(super) fn choose(preference: u16, own: Load, others: &[Candidate]) -> Option<DeviceId> {
    let takes = |other: &&Candidate| [Balance::None, own.balance].contains(&other.load.balance);
    let others = others.iter().filter(takes);
    let best = match own.balance {
        Balance::None => None,
        Balance::Preference => others
            .filter(|other| other.preference < preference)
            .min_by_key(|other| (other.preference, other.device)),
        Balance::Load => others
            .filter(|other| is_uneven(own.sessions, other.load.sessions))
            .min_by_key(|other| (other.load.sessions, other.preference, other.device)),
    };
    best.map(|other| other.device)
}

/// Whom a move has failed with: left alone for a round, then for two, four and so on.
#[derive(Debug)]
pub(super) struct Pauses<K>(BTreeMap<K, Pause>);

#[derive(Debug)]
struct Pause {
    /// The round in which it is over.
    until: u64,
    rounds: u64,
}

impl<K> Default for Pauses<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Pauses<K> {
    /// Whether nothing has to be waited for in this round.
    pub(super) fn is_due(&self, key: &K, round: u64) -> bool {
        self.0.get(key).is_none_or(|pause| pause.until <= round)
    }

    pub(super) fn fail(&mut self, key: K, round: u64) {
        let pause = self.0.entry(key).or_insert(Pause { until: 0, rounds: 0 });
        pause.rounds = (pause.rounds * 2).clamp(1, PAUSE_MAX);
        pause.until = round + 1 + pause.rounds;
    }

    pub(super) fn succeed(&mut self, key: &K) {
        self.0.remove(key);
    }

    /// Forgets all others: no more are remembered than there are.
    pub(super) fn retain(&mut self, is_there: impl Fn(&K) -> bool) {
        self.0.retain(|key, _| is_there(key));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn device(number: usize) -> DeviceId {
        DeviceId::from_bytes([u8::try_from(number).unwrap(); 32])
    }

    fn candidates(preferences: &[u16], loads: &[Load]) -> Vec<Candidate> {
        let rows = preferences.iter().zip(loads).enumerate();
        rows.map(|(number, (&preference, &load))| Candidate {
            device: device(number),
            preference,
            load,
        })
        .collect()
    }

    fn others_of(number: usize, all: &[Candidate]) -> Vec<Candidate> {
        all.iter().filter(|one| one.device != device(number)).copied().collect()
    }

    fn load(sessions: u32, balance: Balance) -> Load {
        Load { sessions, balance }
    }

    #[test]
    fn a_difference_counts_from_two_and_from_an_eighth_on() {
        for (here, there, uneven) in
            [(0, 0, false), (1, 0, false), (2, 0, true), (6, 4, true), (5, 5, false), (4, 6, false)]
        {
            assert_eq!(is_uneven(here, there), uneven, "{here} and {there}");
        }
        assert!(is_uneven(80, 70) && !is_uneven(80, 71));
        assert!(!is_uneven(0, u32::MAX) && is_uneven(u32::MAX, 0));
    }

    #[test]
    fn a_policy_sends_only_where_nothing_sends_back() {
        let to = |own: Balance, theirs: Balance, preference| {
            let other = Candidate { device: device(2), preference, load: load(0, theirs) };
            choose(5, load(9, own), &[other]).is_some()
        };
        assert!(to(Balance::Load, Balance::Load, 9) && to(Balance::Load, Balance::None, 9));
        assert!(!to(Balance::Load, Balance::Preference, 9), "it would come back");
        assert!(to(Balance::Preference, Balance::Preference, 4));
        assert!(to(Balance::Preference, Balance::None, 4));
        assert!(!to(Balance::Preference, Balance::Load, 4));
        assert!(!to(Balance::Preference, Balance::Preference, 5), "no better");
        assert!(!to(Balance::None, Balance::None, 0));
    }

    #[test]
    fn whoever_failed_is_left_alone_for_longer_and_longer() {
        let mut pauses = Pauses::default();
        assert!(pauses.is_due(&1, 0));
        let mut round = 0;
        let mut waited = Vec::new();
        for _ in 0..6 {
            pauses.fail(1, round);
            let failed = round;
            while !pauses.is_due(&1, round) {
                round += 1;
            }
            waited.push(round - failed - 1);
        }
        assert_eq!(waited, [1, 2, 4, 8, 16, 16]);
        pauses.fail(2, round);
        pauses.retain(|key| *key == 1);
        assert!(pauses.is_due(&2, round), "forgotten");
        pauses.fail(1, round);
        pauses.succeed(&1);
        assert!(pauses.is_due(&1, round));
    }

    /// What a device saw of the others a while ago, and the move that follows from it.
    #[derive(Debug, Clone)]
    struct Underway {
        from: usize,
        to: usize,
    }

    /// Devices that look, decide and arrive in any order; gives the number of moves. The receiver judges what
    /// comes by its own load, as it does in earnest.
    fn run_until_quiet(loads: &mut [u32], order: &[usize]) -> usize {
        let devices = loads.len();
        let preferences = vec![0; devices];
        let shown = |loads: &[u32]| {
            let rows: Vec<_> = loads.iter().map(|&one| load(one, Balance::Load)).collect();
            candidates(&preferences, &rows)
        };
        // Each device knows only how things stood when it last looked.
        let mut known = vec![shown(loads); devices];
        let mut underway: Vec<Option<Underway>> = vec![None; devices];
        let (mut moves, mut quiet) = (0, 0);
        for step in 0.. {
            let actor = order[step % order.len()] % devices;
            match underway[actor].take() {
                // The session arrives, or is refused and stays.
                Some(Underway { from, to }) => {
                    if is_uneven(loads[from], loads[to]) {
                        let before = squares(loads);
                        loads[from] -= 1;
                        loads[to] += 1;
                        assert!(squares(loads) < before, "every move evens out");
                        (moves, quiet) = (moves + 1, 0);
                    }
                    known[actor] = shown(loads);
                }
                None => {
                    let own = load(loads[actor], Balance::Load);
                    let chosen = choose(0, own, &others_of(actor, &known[actor]));
                    let to = chosen.map(|to| usize::from(to.as_bytes()[0]));
                    underway[actor] = to.map(|to| Underway { from: actor, to });
                    if to.is_none() {
                        known[actor] = shown(loads);
                    }
                }
            }
            quiet += 1;
            if quiet > 4 * order.len() * devices {
                return moves;
            }
        }
        moves
    }

    fn squares(loads: &[u32]) -> u64 {
        loads.iter().map(|&one| u64::from(one) * u64::from(one)).sum()
    }

    proptest! {
        #[test]
        fn loads_even_out_and_rest_however_old_what_devices_know_is(
            mut loads in prop::collection::vec(0u32..200, 2..12),
            order in prop::collection::vec(0usize..12, 1..60),
        ) {
            let devices = loads.len();
            // Everybody gets a turn, in whatever order besides.
            let order: Vec<_> = order.into_iter().chain(0..devices).collect();
            let (before, total) = (squares(&loads), loads.iter().sum::<u32>());
            let moves = run_until_quiet(&mut loads, &order);
            prop_assert_eq!(loads.iter().sum::<u32>(), total);
            prop_assert!(moves as u64 * 2 <= before, "each move takes two off the sum of squares");
            let (most, least) = (*loads.iter().max().unwrap(), *loads.iter().min().unwrap());
            prop_assert!(!is_uneven(most, least), "{:?}", loads);
            prop_assert_eq!(run_until_quiet(&mut loads, &order), 0, "and they stay put");
        }

        #[test]
        fn devices_with_different_policies_come_to_rest(
            devices in prop::collection::vec((0u16..4, 0u32..30, 0u8..3), 2..8),
            order in prop::collection::vec(0usize..8, 1..200),
        ) {
            let balance = |number| match number {
                0 => Balance::None,
                1 => Balance::Preference,
                _ => Balance::Load,
            };
            let preferences: Vec<_> = devices.iter().map(|one| one.0).collect();
            let mut loads: Vec<_> =
                devices.iter().map(|&(_, sessions, by)| load(sessions, balance(by))).collect();
            let all: u32 = loads.iter().map(|one| one.sessions).sum();
            let most = (all as usize).pow(2) + 4 * all as usize;
            let mut moves = 0;
            let mut last = usize::MAX;
            // Rounds until one goes by without a move.
            while last != moves {
                last = moves;
                for actor in order.iter().copied().chain(0..8).map(|one| one % devices.len()) {
                    let rows = candidates(&preferences, &loads);
                    let others = others_of(actor, &rows);
                    if loads[actor].sessions > 0
                        && let Some(to) = choose(preferences[actor], loads[actor], &others)
                    {
                        loads[actor].sessions -= 1;
                        loads[usize::from(to.as_bytes()[0])].sessions += 1;
                        moves += 1;
                    }
                    prop_assert!(moves <= most, "{:?}", loads);
                }
            }
        }
    }
}
