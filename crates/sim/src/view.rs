//! What is seen of all live peers at one moment, from outside; what checkers work on.

use std::collections::{BTreeMap, BTreeSet};

use cloak_base::DeviceId;
use cloak_overlay::{Address, Place, Role, Snapshot};

use crate::malice::Malice;
use crate::peer::PeerId;
use crate::realm::Realm;

/// One live peer.
#[derive(Debug, Clone)]
pub struct View {
    /// Its number.
    pub peer: PeerId,
    /// Its device.
    pub device: DeviceId,
    /// Whether others can dial it.
    pub reachable: bool,
    /// How it lies.
    pub malice: Malice,
    /// What it shows.
    pub snapshot: Snapshot,
}

/// All live peers that are awake.
#[derive(Debug, Clone, Default)]
pub struct Views {
    /// By number.
    pub all: Vec<View>,
    by_device: BTreeMap<DeviceId, usize>,
}

impl View {
    /// Its address, when it is in a tree.
    pub fn address(&self) -> Option<&Address> {
        match &self.snapshot.place {
            Place::Inner { address, .. } => Some(address),
            Place::Attached { .. } | Place::Seeking => None,
        }
    }
}

impl Views {
    /// These peers.
    pub fn new(all: Vec<View>) -> Self {
        let by_device = all.iter().enumerate().map(|(at, view)| (view.device, at)).collect();
        Self { all, by_device }
    }

    /// The peers of a realm.
    pub fn of(realm: &Realm) -> Self {
        let view = |peer: PeerId| {
            let one = realm.world.peer(peer);
            Some(View {
                peer,
                device: realm.world.device(peer),
                reachable: one.nature().reachable,
                malice: one.nature().malice,
                snapshot: realm.world.snapshot(peer)?,
            })
        };
        Self::new(realm.awake().filter_map(view).collect())
    }

    /// Those that do not lie.
    pub fn honest(self) -> Self {
        Self::new(self.all.into_iter().filter(|view| view.malice.is_honest()).collect())
    }

    /// Without those that lie about their address, and were dropped for it. A root among them has no
    /// other address to claim.
    pub fn accepted(self) -> Self {
        let parents: BTreeSet<_> = self.all.iter().filter_map(|one| one.snapshot.parent).collect();
        let accepted =
            |view: &View| view.malice != Malice::FalseAddress || parents.contains(&view.device);
        Self::new(self.all.into_iter().filter(accepted).collect())
    }

    /// Whether a peer is among them and does not lie.
    pub fn is_honest(&self, peer: PeerId) -> bool {
        self.all.iter().any(|view| view.peer == peer && view.malice.is_honest())
    }

    /// Whether a peer with this address is among them and does not lie.
    pub fn has_honest(&self, address: &Address) -> bool {
        self.all.iter().any(|view| view.address() == Some(address) && view.malice.is_honest())
    }

    /// Where a device is in the list.
    pub fn find(&self, device: &DeviceId) -> Option<usize> {
        self.by_device.get(device).copied()
    }

    /// Links between them that messages travel on, as lists of neighbours.
    pub fn graph(&self) -> Graph {
        let mut edges = vec![Vec::new(); self.all.len()];
        for (at, view) in self.all.iter().enumerate() {
            for neighbour in &view.snapshot.neighbours {
                let other =
                    self.find(&neighbour.device).filter(|_| neighbour.role != Role::Passing);
                if let Some(other) = other {
                    edges[at].push(narrow(other));
                    edges[other].push(narrow(at));
                }
            }
        }
        for list in &mut edges {
            list.sort_unstable();
            list.dedup();
        }
        let at_peer = self.all.iter().enumerate().map(|(at, view)| (view.peer, at)).collect();
        Graph { edges, at_peer }
    }
}

/// Who is linked with whom.
#[derive(Debug, Clone)]
pub struct Graph {
    edges: Vec<Vec<u32>>,
    at_peer: BTreeMap<PeerId, usize>,
}

impl Graph {
    /// Hops on the shortest paths from a peer to all; `None` where there is no path.
    pub fn distances(&self, from: PeerId) -> Distances<'_> {
        let mut hops = vec![u16::MAX; self.edges.len()];
        let start = self.at_peer.get(&from).copied();
        let mut layer: Vec<usize> = start.into_iter().collect();
        let mut reached = 0;
        while !layer.is_empty() {
            for at in &layer {
                hops[*at] = reached;
            }
            let mut next: Vec<usize> = layer
                .iter()
                .flat_map(|at| &self.edges[*at])
                .map(|other| *other as usize)
                .filter(|other| hops[*other] == u16::MAX)
                .collect();
            next.sort_unstable();
            next.dedup();
            layer = next;
            reached += 1;
        }
        Distances { graph: self, hops }
    }

    /// The number of links.
    pub fn links(&self) -> usize {
        self.edges.iter().map(Vec::len).sum::<usize>() / 2
    }

    /// The graph without these peers.
    pub fn without(&self, gone: &dyn Fn(PeerId) -> bool) -> Self {
        let mut without = self.clone();
        let dead: Vec<bool> = {
            let mut dead = vec![false; self.edges.len()];
            for (peer, at) in &self.at_peer {
                dead[*at] = gone(*peer);
            }
            dead
        };
        for (at, list) in without.edges.iter_mut().enumerate() {
            list.retain(|other| !dead[at] && !dead[*other as usize]);
        }
        without.at_peer.retain(|_, at| !dead[*at]);
        without
    }
}

/// Hops from one peer.
pub struct Distances<'a> {
    graph: &'a Graph,
    hops: Vec<u16>,
}

impl Distances<'_> {
    /// To this one.
    pub fn to(&self, peer: PeerId) -> Option<u16> {
        let at = self.graph.at_peer.get(&peer)?;
        Some(self.hops[*at]).filter(|hops| *hops != u16::MAX)
    }
}

fn narrow(at: usize) -> u32 {
    u32::try_from(at).expect("invariant: fewer peers than 2^32")
}
