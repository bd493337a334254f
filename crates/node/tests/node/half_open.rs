//! Strangers that prove a device key and say nothing.

use std::net::SocketAddr;

use cloak_transport::{Connection, DialError, SocketOptions, Tls};

use crate::realm::{eventually, found, join, system};

async fn dial(to: SocketAddr, seed: u8) -> Result<Connection, DialError> {
    let tls = Tls::new(&[seed; 32]).unwrap();
    Connection::dial(to, &tls, None, &SocketOptions::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_of_silent_transports_is_refused_until_they_end() {
    let alice = found("alice", system()).await;
    let to = alice.node.overlay_addresses()[0];
    let mut silent = Vec::new();
    for seed in 0..64 {
        silent.push(dial(to, seed).await.unwrap());
    }
    assert!(dial(to, 64).await.is_err(), "the source has its 64");
    silent.clear();
    eventually("there is room again", || async { dial(to, 64).await.ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transports_that_were_greeted_do_not_count() {
    let alice = found("alice", system()).await;
    let to = alice.node.overlay_addresses()[0];
    let _bob = join(&alice.node, "bob", system()).await;
    eventually("Bob has linked", || async {
        (alice.node.status().await.peers_linked == 1).then_some(())
    })
    .await;
    // All 64, though Bob has an open channel and perhaps a warm lane.
    eventually("no place is taken", || async {
        let mut silent = Vec::new();
        for seed in 0..64 {
            silent.push(dial(to, seed).await.ok()?);
        }
        Some(silent)
    })
    .await;
}
