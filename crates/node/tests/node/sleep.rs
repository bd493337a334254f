//! Sleep, by an injected clock.

use std::sync::Arc;
use std::time::Duration;

use cloak_transport::SkewedClock;

use crate::realm::{echo, found, join, open, system};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_hours_of_sleep_end_no_session() {
    let clock = Arc::new(SkewedClock::default());
    let alice = found("alice", system()).await;
    let bob = join(&alice.node, "bob", Arc::clone(&clock) as _).await;
    let mut stream = open(&bob.node, "alice.cloak").await;
    echo(&mut stream, b"good night").await;
    clock.sleep(Duration::from_secs(8 * 3600));
    // What the network does to a sleeper: every transport is gone.
    bob.node.cut_lanes();
    echo(&mut stream, b"good morning").await;
    assert_eq!(bob.node.sessions().len(), 1);
}

/// Everybody slept, so all records are over, and nobody is linked any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_resolve_right_after_wake() {
    let clock = Arc::new(SkewedClock::default());
    let alice = found("alice", Arc::clone(&clock) as _).await;
    let bob = join(&alice.node, "bob", Arc::clone(&clock) as _).await;
    let carol = join(&alice.node, "carol", Arc::clone(&clock) as _).await;
    echo(&mut open(&bob.node, "carol.cloak").await, b"good night").await;
    clock.sleep(Duration::from_secs(8 * 3600));
    [&alice, &bob, &carol].into_iter().for_each(|member| member.node.cut_lanes());
    for name in ["alice.cloak", "carol.cloak"] {
        echo(&mut open(&bob.node, name).await, b"good morning").await;
    }
}
