//! Tables stay within their maxima.

use std::collections::BTreeMap;

use cloak_overlay::{Config, Role};

use super::Fault;
use crate::view::{View, Views};

/// Peers with more neighbours or records than they may have.
pub fn bounds(views: &Views, config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    for view in &views.all {
        let mut counts: BTreeMap<Role, usize> = BTreeMap::new();
        for neighbour in &view.snapshot.neighbours {
            *counts.entry(neighbour.role).or_default() += 1;
        }
        let over = counts.into_iter().filter(|(role, count)| *count > most(view, *role, config));
        faults.extend(over.map(|(role, count)| Fault::Neighbours(view.peer, role, count)));
        if view.snapshot.held.len() > config.records_max {
            faults.push(Fault::Records(view.peer, view.snapshot.held.len()));
        }
    }
    faults
}

fn most(view: &View, role: Role, config: &Config) -> usize {
    match role {
        Role::Parent => 1,
        Role::Child => {
            let depth = view.address().map_or(0, cloak_overlay::Address::depth);
            usize::from(config.degree.children_at(depth))
        }
        Role::Extra => config.extra_max,
        Role::Host => config.hosts,
        Role::Guest => config.guests_max,
        Role::Passing => PASSING_MAX,
    }
}

/// Links that are nothing for long: what the overlay allows of links altogether.
const PASSING_MAX: usize = 192;
