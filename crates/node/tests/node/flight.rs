//! How many round trips it takes to come back.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::realm::{config, echo, eventually, found_with, join_with, open, system};

/// Passes connections on. Of those that come while `holding`, the acceptor's part of the TLS
/// handshake passes; what it says after the dialler's next word waits until nothing is held.
async fn pass_on(listener: TcpListener, to: SocketAddr, holding: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((dialler, _)) = listener.accept().await {
        let acceptor = TcpStream::connect(to).await.unwrap();
        // Those of before are as they were.
        let holding = if *holding.borrow() { Some(holding.clone()) } else { None };
        let (from_dialler, to_dialler) = dialler.into_split();
        let (from_acceptor, to_acceptor) = acceptor.into_split();
        let (said, heard) = watch::channel(0);
        connections.spawn(forth(from_dialler, to_acceptor, said));
        connections.spawn(back(from_acceptor, to_dialler, heard, holding));
    }
}

/// Counts the dialler's reads in `said` before it passes them on: one is its `ClientHello`.
async fn forth(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, said: watch::Sender<u32>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        said.send_modify(|count| *count += 1);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

async fn back(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    said: watch::Receiver<u32>,
    mut holding: Option<watch::Receiver<bool>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if *said.borrow() > 1
            && let Some(holding) = &mut holding
        {
            let _ = holding.wait_for(|held| !*held).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hello_and_resume_share_a_flight() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut reached = config();
    reached.overlay.advertise = vec![listener.local_addr().unwrap()];
    let alice = found_with("alice", system(), reached).await;
    // Alice cannot dial Bob, so it is his `Resume` that brings the session back.
    let mut hidden = config();
    hidden.overlay.advertise = vec!["127.0.0.1:1".parse().unwrap()];
    let (hold, holding) = watch::channel(false);
    let passing = tokio::task::spawn(pass_on(listener, alice.node.overlay_addresses()[0], holding));
    let bob = join_with(&alice.node, "bob", system(), hidden).await;
    let mut stream = open(&bob.node, "alice.cloak").await;
    echo(&mut stream, b"before").await;

    hold.send_replace(true);
    bob.node.cut_lanes();
    eventually("Alice has the Resume, and Bob not even her Hello", || async {
        alice.node.sessions().first().filter(|row| row.resumes == 1).map(drop)
    })
    .await;
    assert_eq!(bob.node.sessions().first().map(|row| row.resumes), Some(0));

    hold.send_replace(false);
    echo(&mut stream, b"after").await;
    passing.abort();
}
