//! What the commands show of the overlay.

use std::collections::BTreeMap;

use cloak_tests::clock::wait_until;
use cloak_tests::realm::Realm;
use cloak_tests::town::{Place, Town};
use serde_json::Value;

use super::SOON;

const GATEWAYS: usize = 8;

/// The address above, of one that has one.
fn above(address: &str) -> &str {
    address.rsplit_once('.').map_or("root", |(above, _)| above)
}

fn places(town: &Town) -> Vec<Place> {
    town.gateways().into_iter().map(Place::of).collect()
}

/// All of them are reachable, so all have a place of their own.
fn wait_inner(town: &Town) -> Vec<Place> {
    wait_until("every gateway is in the tree", 2 * SOON, || {
        places(town).iter().all(|place| place.kind == "inner")
    });
    places(town)
}

#[test]
fn status_and_peers_show_one_tree() {
    let town = Town::on_loopback(Realm::new(), GATEWAYS);
    let places = wait_inner(&town);
    let by_address: BTreeMap<&str, usize> =
        places.iter().enumerate().map(|(index, place)| (place.address.as_str(), index)).collect();
    assert_eq!(by_address.len(), GATEWAYS, "no address twice: {places:?}");
    assert!(places.iter().all(|place| place.tree == places[0].tree), "{places:?}");
    assert_eq!(places.iter().filter(|place| place.parent.is_none()).count(), 1, "{places:?}");
    assert_eq!(places.iter().map(|place| place.children).sum::<u64>(), GATEWAYS as u64 - 1);
    assert!(places.iter().map(|place| place.bindings).sum::<u64>() >= GATEWAYS as u64);

    for (index, place) in places.iter().enumerate().filter(|(_, place)| !place.is_root()) {
        let parent = by_address[above(&place.address)];
        let device = town.gateway(parent).json(&["status"])["device"].clone();
        assert_eq!(place.parent.as_deref(), device.as_str(), "{}", town.name(index));
        let role = |at: usize, of: usize| -> Value {
            let rows = town.gateway(at).json(&["peers"]);
            let row = rows.as_array().unwrap().iter().find(|row| row["name"] == town.name(of));
            row.map_or(Value::Null, |row| row["role"].clone())
        };
        wait_until("both show the edge", SOON, || {
            role(index, parent) == "parent" && role(parent, index) == "child"
        });
    }
}

#[test]
fn resolve_trace_and_ping_show_the_way() {
    let town = Town::on_loopback(Realm::new(), GATEWAYS);
    let places = wait_inner(&town);
    let devices: Vec<Value> = (0..GATEWAYS)
        .map(|index| town.gateway(index).json(&["status"])["device"].clone())
        .collect();
    let (from, to) = (GATEWAYS - 1, 1);
    let name = town.name(to);
    wait_until("the name is there", SOON, || town.gateway(from).resolves(&name));

    let shown = town.gateway(from).json(&["resolve", &name]);
    let steps = shown.as_array().expect("`resolve` shows its steps");
    let step = steps.iter().find(|step| step["step"] == "entity").expect("the entity's record");
    assert!(devices.contains(&step["binder"]), "{shown}");
    assert!(step["hops"].is_u64() && step["age_ms"].is_u64() && step["cached"].is_boolean());

    let trace = town.gateway(from).json(&["trace", &name]);
    let hops = trace["hops"].as_array().expect("`trace` shows hops").clone();
    let last = hops.last().expect("one hop at least");
    assert_eq!((&last["device"], &last["name"]), (&devices[to], &Value::from(name.as_str())));
    assert_eq!(last["address"], places[to].address.as_str(), "{trace}");
    assert!(hops.len() < GATEWAYS, "no peer twice: {trace}");

    let ping = town.gateway(from).json(&["ping", &name]);
    assert!(ping["overlay_ms"].is_number() && ping["hops"].as_u64() >= Some(1), "{ping}");
    let _ = town.gateway(from).run(&["trace", "nobody.cloak"]).exits(4);
    let _ = town.gateway(from).run(&["ping", "nobody.cloak"]).exits(4);
    let _ = town.gateway(from).run(&["why", &name]).success();
}
