//! Several devices of one entity: stewards, and certificates that renew.

use std::sync::Arc;
use std::time::Duration;

use cloak_node::{InviteKind, InviteRequest, Node};
use cloak_transport::SkewedClock;

use crate::realm::{eventually, found, join_device, system};

const DAY: i64 = 86_400;

async fn may_invite(node: &Node) -> bool {
    let ttl = Duration::from_secs(60);
    node.invite(InviteRequest { kind: InviteKind::Device, name: None, ttl }).await.is_ok()
}

async fn linked(node: &Node, peers: u64) {
    eventually("the devices are linked", || async {
        (node.status().await.peers_linked == peers).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_steward_invites_and_revokes_devices() {
    let first = found("alice", system()).await;
    let phone = join_device(&first.node, "phone", system()).await;
    linked(&phone.node, 1).await;
    assert!(!may_invite(&phone.node).await);
    assert!(phone.node.revoke_device("first").await.is_err());
    assert!(phone.node.appoint_steward("first").await.is_err(), "it has not the entity's key");
    assert!(first.node.appoint_steward("nobody").await.is_err());

    first.node.appoint_steward("phone").await.unwrap();
    eventually("the phone has heard of it", || async {
        may_invite(&phone.node).await.then_some(())
    })
    .await;
    let _tablet = join_device(&phone.node, "tablet", system()).await;
    let tablet =
        |node: &Node| node.devices().into_iter().find(|row| row.name == "tablet.alice.cloak");
    eventually("the first device knows the tablet", || async { tablet(&first.node) }).await;
    phone.node.revoke_device("tablet").await.unwrap();
    eventually("the first device has heard of the revocation", || async {
        tablet(&first.node).filter(|row| row.revoked)
    })
    .await;
}

/// Certificates live for a year and memberships for 90 days; the calendar goes on in three leaps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn device_certificates_renew_over_a_link_to_the_entitys_key() {
    let clock = Arc::new(SkewedClock::default());
    let first = found("alice", clock.clone()).await;
    let phone = join_device(&first.node, "phone", clock.clone()).await;
    linked(&phone.node, 1).await;
    let expiries = async |node: &Node| {
        let status = node.status().await;
        (status.membership_expires, status.certificate_expires)
    };
    let (before_first, before_phone) = (expiries(&first.node).await, expiries(&phone.node).await);
    for days in [85, 170] {
        let memberships = [expiries(&first.node).await.0, expiries(&phone.node).await.0];
        clock.set_wall_ahead(days * DAY);
        eventually("both memberships are renewed", || async {
            let now = [expiries(&first.node).await.0, expiries(&phone.node).await.0];
            (now[0] > memberships[0] && now[1] > memberships[1]).then_some(())
        })
        .await;
    }
    assert_eq!(expiries(&phone.node).await.1, before_phone.1, "not due yet");
    clock.set_wall_ahead(190 * DAY);
    eventually("both certificates are renewed", || async {
        let renewed = expiries(&first.node).await.1 > before_first.1
            && expiries(&phone.node).await.1 > before_phone.1;
        renewed.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_entitys_key_is_backed_up_and_restored() {
    let first = found("alice", system()).await;
    let phone = join_device(&first.node, "phone", system()).await;
    assert!(phone.node.entity_backup().is_err());
    let backup = first.node.entity_backup().unwrap();
    let other = found("mallory", system()).await.node.entity_backup().unwrap();
    assert!(phone.node.entity_restore(&other).is_err(), "another entity's");
    assert!(phone.node.entity_restore("entity nonsense").is_err());
    assert!(!may_invite(&phone.node).await);
    phone.node.entity_restore(&backup).unwrap();
    assert!(may_invite(&phone.node).await);
    assert_eq!(phone.node.entity_backup().unwrap(), backup);
}
