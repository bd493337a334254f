//! What goes wrong in a swarm, or a little right.

use cloak_base::Rng;
use cloak_overlay::Rank;

use crate::peer::PeerId;
use crate::realm::Realm;

/// One thing that happens to a realm from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mishap {
    /// A peer dies.
    Death,
    /// A newcomer starts.
    Newcomer,
    /// A peer dies and starts anew, and has forgotten everything but its keys.
    Restart,
    /// A peer falls asleep.
    Sleep,
    /// All sleepers wake up.
    Wake,
    /// The network falls into two halves.
    Partition,
    /// It is whole again.
    Heal,
    /// A peer publishes a name.
    Publish,
}

impl Mishap {
    /// Draws one; deaths are the most frequent.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        match rng.below(12) {
            0..4 => Self::Death,
            4..6 => Self::Newcomer,
            6 => Self::Restart,
            7 => Self::Sleep,
            8 => Self::Wake,
            9 => Self::Partition,
            10 => Self::Heal,
            _ => Self::Publish,
        }
    }

    /// Draws one that a realm can suffer many times in a row.
    pub(crate) fn draw_plague(rng: &mut Rng) -> Self {
        match rng.below(4) {
            0 => Self::Death,
            1 => Self::Restart,
            2 => Self::Sleep,
            _ => Self::Partition,
        }
    }

    /// Lets it happen; the victim is drawn.
    pub(crate) fn strike(self, realm: &mut Realm) {
        let awake: Vec<PeerId> = realm.awake().collect();
        let victim = awake.get(realm.pick(awake.len())).copied();
        match (self, victim) {
            (Self::Death, Some(peer)) => kill(realm, peer),
            (Self::Newcomer, _) => {
                let nature = realm.draw_nature();
                realm.join(nature, Rank::NONE);
            }
            (Self::Restart, Some(peer)) => restart(realm, peer),
            (Self::Sleep, Some(peer)) => realm.world.sleep(peer),
            (Self::Wake, _) => realm.wake_all(),
            (Self::Partition, _) => {
                let mask = realm.world.rng().below(256);
                realm
                    .world
                    .partition(|peer| u8::from((u64::from(peer.0) ^ mask).count_ones() % 2 == 1));
            }
            (Self::Heal, _) => realm.world.heal(),
            (Self::Publish, Some(peer)) if realm.world.peer(peer).is_settled() => {
                realm.publish_one(peer);
            }
            _ => {}
        }
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
pub(crate) fn restart(realm: &mut Realm, peer: PeerId) {
    realm.world.kill(peer);
    realm.names.retain(|name| name.owner != peer);
    realm.start(peer);
}
