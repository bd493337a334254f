//! Every live binding is somewhere, and where it is looked for.

use std::collections::BTreeMap;

use cloak_base::Epoch;
use cloak_geometry::VirtualPoint;
use cloak_overlay::{Address, Degree, Key};

use super::Fault;
use crate::view::{View, Views};

/// Bindings that no live peer holds, as binder or as copy.
pub fn lost(views: &Views, expected: &[(Key, Epoch)]) -> Vec<Fault> {
    let mut highest: BTreeMap<&Key, Epoch> = BTreeMap::new();
    for holding in views.all.iter().flat_map(|view| &view.snapshot.held) {
        let epoch = highest.entry(&holding.key).or_default();
        *epoch = (*epoch).max(holding.record.epoch);
    }
    let is_lost = |(key, epoch): &&(Key, Epoch)| highest.get(key).is_none_or(|held| held < epoch);
    expected.iter().filter(is_lost).map(|(key, _)| Fault::Lost(key.clone())).collect()
}

/// Points whose true binder, the deepest peer on the way to them, does not have the binding.
pub fn unbound(views: &Views, expected: &[(Key, Epoch)], degree: Degree) -> Vec<Fault> {
    let inner = |view: &'_ View| view.address().cloned();
    let by_address: BTreeMap<Address, usize> = views
        .all
        .iter()
        .enumerate()
        .filter_map(|(at, view)| inner(view).map(|address| (address, at)))
        .collect();
    let mut faults = Vec::new();
    for (key, epoch) in expected {
        for point in VirtualPoint::of_name(key.as_bytes(), degree) {
            let Some(binder) = binder(&by_address, point.path()) else { continue };
            let view = &views.all[binder];
            let has = view.snapshot.held.iter().any(|held| {
                held.key == *key
                    && point.path().as_bytes().starts_with(held.point.as_bytes())
                    && held.record.epoch >= *epoch
            });
            if !has {
                faults.push(Fault::Unbound(view.peer, key.clone()));
            }
        }
    }
    faults
}

/// The deepest peer on the path.
fn binder(by_address: &BTreeMap<Address, usize>, path: &Address) -> Option<usize> {
    let mut found = None;
    for depth in 0..=path.depth() {
        match by_address.get(&path.ancestor_at(depth)) {
            Some(at) => found = Some(*at),
            None => break,
        }
    }
    found
}
