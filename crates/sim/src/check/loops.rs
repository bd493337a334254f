//! Greedy steps, as the peers' own tables make them, come nearer until they arrive.

use std::collections::BTreeSet;

use cloak_geometry::distance;
use cloak_overlay::{Address, Degree};

use super::Fault;
use crate::view::{View, Views};

/// So many destinations are walked to, each from as many starts.
const WALKS: usize = 24;

/// Walks between peers spread over the list, and says which go round or end elsewhere.
pub fn loops(views: &Views, degree: Degree) -> Vec<Fault> {
    let inner: Vec<&View> = views.all.iter().filter(|view| view.address().is_some()).collect();
    let step = inner.len().div_ceil(WALKS).max(1);
    let picked: Vec<&View> = inner.iter().step_by(step).copied().collect();
    let pairs = picked.iter().flat_map(|from| picked.iter().map(move |to| (*from, *to)));
    pairs
        .filter_map(|(from, to)| to.address().and_then(|to| walk(views, from, to, degree)))
        .collect()
}

fn walk(views: &Views, from: &View, to: &Address, degree: Degree) -> Option<Fault> {
    let mut passed = BTreeSet::new();
    let mut at = from;
    while at.address() != Some(to) {
        if !passed.insert(at.device) {
            return Some(Fault::Loop(from.peer, to.clone()));
        }
        let Some(next) = next(views, at, to, degree) else {
            let end = at.address().cloned().unwrap_or(Address::ROOT);
            return Some(Fault::DeadEnd(from.peer, to.clone(), end));
        };
        at = next;
    }
    None
}

/// The neighbour that the peer believes to be nearest, if nearer than itself.
fn next<'a>(views: &'a Views, at: &View, to: &Address, degree: Degree) -> Option<&'a View> {
    let own = distance(at.address()?, to, degree);
    let neighbours = at.snapshot.neighbours.iter().filter(|neighbour| !neighbour.suspected);
    let near = neighbours.filter_map(|neighbour| {
        let there = distance(neighbour.address.as_ref()?, to, degree);
        (there < own).then_some((there, neighbour.device))
    });
    let (_, device) = near.min()?;
    views.find(&device).map(|found| &views.all[found])
}
