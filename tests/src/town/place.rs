//! Where gateways are in the overlay, as `status` and `resolve` show it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::gateway::Gateway;

/// The `place` of `cloak status --json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `inner`, `attached` or `seeking`.
    pub kind: String,
    /// Child indices joined by dots, or `root`; nothing outside of a tree.
    pub address: String,
    /// The tree.
    pub tree: String,
    /// Device id of the parent; the root has none.
    pub parent: Option<String>,
    /// Children.
    pub children: u64,
    /// Records that it binds.
    pub bindings: u64,
}

impl Place {
    /// The place of a gateway.
    ///
    /// # Panics
    /// When `status` shows none.
    #[must_use]
    pub fn of(gateway: &Gateway) -> Self {
        let status = gateway.json(&["status"]);
        let shown = &status["place"];
        let text = |key: &str| shown[key].as_str().map(str::to_owned);
        let count = |key: &str| shown[key].as_u64().expect("a count");
        Self {
            kind: text("kind").expect("`status` shows a place in the overlay"),
            address: text("address").unwrap_or_default(),
            tree: text("tree").unwrap_or_default(),
            parent: text("parent"),
            children: count("children"),
            bindings: count("bindings"),
        }
    }

    /// Whether it has a place in a tree, its own or at a host.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        matches!(self.kind.as_str(), "inner" | "attached")
    }

    /// Whether it is the root of its tree.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.address == "root"
    }
}

/// Whether gateways are one overlay: each has a place, and all that are in a tree are in the same,
/// with one root.
#[must_use]
pub fn is_one_overlay(gateways: &[&Gateway]) -> bool {
    let places: Vec<Place> = gateways.iter().map(|gateway| Place::of(gateway)).collect();
    let inner = places.iter().filter(|place| place.kind == "inner");
    let trees: BTreeSet<&String> = inner.map(|place| &place.tree).collect();
    let roots = places.iter().filter(|place| place.is_root()).count();
    trees.len() == 1 && roots <= 1 && places.iter().all(Place::is_settled)
}

/// Which of the gateways is the root.
///
/// # Panics
/// When there is not exactly one.
#[track_caller]
#[must_use]
pub fn root(gateways: &[&Gateway]) -> usize {
    let places: Vec<Place> = gateways.iter().map(|gateway| Place::of(gateway)).collect();
    let roots: Vec<usize> = (0..places.len()).filter(|index| places[*index].is_root()).collect();
    assert_eq!(roots.len(), 1, "one root: {places:?}");
    roots[0]
}

/// The device that answered for a name, as `cloak resolve` shows it.
#[must_use]
pub fn binder(gateway: &Gateway, name: &str) -> Option<String> {
    named(&gateway.json(&["resolve", name]), "binder_name")
}

/// The first text under `key`, however deep.
fn named(value: &Value, key: &str) -> Option<String> {
    match value {
        Value::Object(fields) => {
            let here = fields.get(key).and_then(Value::as_str).map(str::to_owned);
            here.or_else(|| fields.values().find_map(|value| named(value, key)))
        }
        Value::Array(items) => items.iter().find_map(|value| named(value, key)),
        _ => None,
    }
}
