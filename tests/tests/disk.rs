//! What a gateway remembers again once its disk has room.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use cloak_tests::clock::wait_until;
use cloak_tests::gateway::Up;
use cloak_tests::mount::Mount;
use cloak_tests::need;
use cloak_tests::realm::Realm;
use cloak_tests::skip::Need;

#[test]
fn a_disk_with_room_again_is_used_again() {
    need!(Need::Mounts);
    let realm = Realm::new();
    let mount = Mount::new(&realm.directory().join("alice"), "24m");
    let mut alice = realm.found("alice").up(&Up::default());
    mount.fill();
    wait_until("nothing more can be written", Duration::from_secs(60), || {
        alice.run(&["invite"]).code == Some(1)
    });
    mount.drain();
    wait_until("invitations are remembered again", Duration::from_secs(10), || {
        alice.run(&["invite"]).code == Some(0)
    });
    let warnings = alice.json(&["status"])["warnings"].clone();
    assert_eq!(warnings, serde_json::json!([]), "the warning is taken back");
    alice.stop();
    drop((alice, mount));
}
