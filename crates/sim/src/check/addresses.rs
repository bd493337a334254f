//! One holder for each address of a tree.

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
