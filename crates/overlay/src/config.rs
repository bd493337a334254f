//! Settings of the overlay. One realm uses one degree; the rest may differ between peers.

use std::time::Duration;

use cloak_geometry::Degree;

/// What a peer goes by. The defaults were chosen by simulation, see docs/ARCHITECTURE.md.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The tree's degree, the same for a whole realm.
    pub degree: Degree,
    /// Extra links, those that others asked for included.
    pub extra_max: usize,
    /// Extra links that we ask for ourselves; the rest is room for others.
    pub extra_own: usize,
    /// Between two beats along a tree edge.
    pub beat_every: Duration,
    /// Silence of a tree neighbour after which it is probed.
    pub silent_after: Duration,
    /// Within this time a hop must be acknowledged; then it is made again elsewhere.
    pub hop_timeout: Duration,
    /// Within this time a probe must be answered; then the link is ended.
    pub probe_timeout: Duration,
    /// Between two keepalives on extra links and to hosts; whoever misses one is probed.
    pub keepalive_every: Duration,
    /// Within this time a dial must succeed.
    pub dial_timeout: Duration,
    /// How long we must have been reachable before we take a place in the tree.
    pub uptime_min: Duration,
    /// Without any tree in reach for this long, we found one.
    pub found_after: Duration,
    /// The same for a peer to which the authority gave a rank.
    pub ranked_found_after: Duration,
    /// An orphan whose claims lead nowhere for this long takes a new place.
    pub rejoin_after: Duration,
    /// A holder that lost its parent, or its majority, for this long acts for its own fragment only.
    pub unrooted_after: Duration,
    /// Between two refreshes of our records at their binders.
    pub touch_every: Duration,
    /// Records and copies that nobody touched for this long are dropped.
    pub untouched_max: Duration,
    /// Life of a record in a cache on a lookup's path. Caches are of use when many ask at once; longer they
    /// would hide what was published during a partition from those who asked before it.
    pub cached_for: Duration,
    /// Between two questions to a random remembered peer, to find other trees.
    pub explore_every: Duration,
    /// Between two looks for a better extra link.
    pub extra_every: Duration,
    /// Within this time a question over several hops must be answered.
    pub answer_timeout: Duration,
    /// Hosts that an attached peer wants.
    pub hosts: usize,
    /// Peers that may attach to us.
    pub guests_max: usize,
    /// Records that we hold for others, copies included.
    pub records_max: usize,
    /// Messages that one neighbour may send us: on average per second, and four times as many at
    /// once.
    pub messages_per_second: u32,
    /// The same for those that pass messages on: parent, children, extra links. Near the root, what
    /// thousands send comes over one of them.
    pub passed_on_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            degree: Degree::new(20).expect("invariant: 20 is a degree"),
            extra_max: 8,
            extra_own: 4,
            beat_every: seconds(2),
            silent_after: Duration::from_millis(3500),
            hop_timeout: Duration::from_millis(600),
            probe_timeout: seconds(1),
            keepalive_every: seconds(10),
            dial_timeout: seconds(2),
            uptime_min: seconds(0),
            found_after: seconds(10),
            ranked_found_after: seconds(2),
            rejoin_after: seconds(15),
            unrooted_after: seconds(10),
            touch_every: seconds(300),
            untouched_max: seconds(1000),
            cached_for: seconds(10),
            explore_every: seconds(60),
            extra_every: seconds(30),
            answer_timeout: Duration::from_millis(2500),
            hosts: 3,
            guests_max: 64,
            records_max: 8192,
            messages_per_second: 500,
            passed_on_per_second: 4000,
        }
    }
}
