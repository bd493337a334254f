//! One holder for each address of a tree, and one root in a term.

use std::collections::BTreeMap;

use cloak_overlay::Place;

use super::Fault;
use crate::view::Views;

/// Addresses that two live peers hold in the same tree at the same term.
///
/// During a succession the old holder, if it lives, may still believe in its place, at a lower
/// term; once things are quiet it has to have stepped down, see [`super::tree`], where it would have
/// no parent.
pub fn addresses(views: &Views) -> Vec<Fault> {
    let mut holders = BTreeMap::new();
    let mut faults = Vec::new();
    for view in &views.all {
        if let Place::Inner { address, tree, term } = &view.snapshot.place {
            let before = holders.insert((*tree, address.clone(), *term), view.peer);
            let fault = |other| Fault::TwoHolders(other, view.peer, address.clone());
            faults.extend(before.map(fault));
        }
    }
    faults
}

/// Places that one parent gave twice in one term, and roots of one term: what must be at no time.
///
/// Terms follow the clock, so two parents who do not know of each other, in two halves of a network,
/// may give one address in one term. Their own terms then say which of them stays.
pub fn given_twice(views: &Views) -> Vec<Fault> {
    let mut holders = BTreeMap::new();
    let mut faults = Vec::new();
    for view in &views.all {
        let parent = view.snapshot.parent;
        if let Place::Inner { address, tree, term } = &view.snapshot.place
            && (parent.is_some() || address.is_root())
        {
            let before = holders.insert((*tree, address.clone(), *term, parent), view.peer);
            let fault = |other| Fault::TwoHolders(other, view.peer, address.clone());
            faults.extend(before.map(fault));
        }
    }
    faults
}
