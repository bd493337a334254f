//! The root dies.

use std::collections::BTreeMap;
use std::time::Duration;

use cloak_overlay::{Address, Place};

use super::{Options, Report, Scenario, grown};
use crate::check;
use crate::measure::{Measure, Target, Unit, ratio};
use crate::peer::PeerId;
use crate::realm::Realm;
use crate::view::Views;

pub(super) fn run(options: &Options) -> Report {
    let mut report = Report::new(Scenario::Root, options);
    let mut realm = grown(options, &mut report);
    let before = addresses(&realm);
    let root = before.iter().find(|(_, address)| address.is_root()).map(|(peer, _)| *peer);
    if let Some(root) = root {
        realm.world.kill(root);
    }
    realm.run_for(Duration::from_secs(60));
    let after = addresses(&realm);
    let moved = before
        .iter()
        .filter(|(peer, address)| Some(**peer) != root && after.get(peer) != Some(address))
        .count();
    let moved = Measure::new(
        "peers whose address changes when the root dies",
        ratio(moved, before.len()),
        Unit::Part,
    );
    report.add(moved.with_target(Target::AtMost(0.001)));
    report.faults = check::quiescent(&Views::of(&realm), &options.setup.overlay);
    report.close(&realm)
}

fn addresses(realm: &Realm) -> BTreeMap<PeerId, Address> {
    let address = |peer: PeerId| match realm.world.peer(peer).place() {
        Place::Inner { address, .. } => Some((peer, address.clone())),
        Place::Attached { .. } | Place::Seeking => None,
    };
    realm.awake().filter_map(address).collect()
}
