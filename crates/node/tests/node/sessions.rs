//! Sessions between nodes, undisturbed and cut.

use cloak_node::{Code, EARLY_MAX, Early, OpenRequest, Opener, SessionState, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::realm::{
    FORBIDDEN, config, echo, eventually, found, join, join_with, open, open_saying, system,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_carries_bytes_both_ways_and_ends_cleanly() {
    let alice = found("alice", system()).await;
    let bob = join(&alice.node, "bob", system()).await;
    let mut stream = open(&bob.node, "alice.cloak").await;
    echo(&mut stream, b"hello").await;
    echo(&mut stream, &vec![7; 1_000_000][..30_000]).await;
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    eventually("both ends forget the session", || async {
        (bob.node.sessions().is_empty() && alice.node.sessions().is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_survive_cut_lanes_exactly_once_and_in_order() {
    let alice = found("alice", system()).await;
    let bob = join(&alice.node, "bob", system()).await;
    let stream = open(&bob.node, "alice.cloak").await;
    let (mut read, mut write) = tokio::io::split(stream);
    let sent: Vec<u8> =
        (0..8_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let expected = sent.clone();
    let writer = tokio::task::spawn(async move {
        for piece in sent.chunks(100_000) {
            write.write_all(piece).await.unwrap();
        }
        write.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    for cut in 1..=20 {
        let most = (expected.len() / 20 * cut - received.len()) as u64;
        (&mut read).take(most).read_to_end(&mut received).await.unwrap();
        bob.node.cut_lanes();
    }
    read.read_to_end(&mut received).await.unwrap();
    writer.await.unwrap();
    assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
}

/// Whether the peer's run is known by then or not, and at a service of one's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_early_comes_first_and_once() {
    let alice = found("alice", system()).await;
    let bob = join(&alice.node, "bob", system()).await;
    let early = [b'e'; EARLY_MAX];
    for (round, name) in ["alice.cloak", "alice.cloak", "bob.cloak"].into_iter().enumerate() {
        let mut stream = open_saying(&bob.node, name, &early).await;
        stream.write_all(b"and then").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        assert!(back == [&early[..], b"and then"].concat(), "{round}: {} bytes", back.len());
    }
    let request = |port| OpenRequest {
        name: "alice.cloak".to_owned(),
        target: Target::Service(port),
        application: String::new(),
        early: Early::of(b"not for you"),
    };
    assert_eq!(bob.node.open(request(FORBIDDEN)).await.err(), Some(Code::NotAllowed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_their_codes() {
    let alice = found("alice", system()).await;
    let bob = join(&alice.node, "bob", system()).await;
    open(&bob.node, "alice.cloak").await;
    let code = async |name: &str, port| {
        let request = OpenRequest {
            name: name.to_owned(),
            target: Target::Service(port),
            application: String::new(),
            early: Early::default(),
        };
        bob.node.open(request).await.err()
    };
    assert_eq!(code("alice.cloak", FORBIDDEN).await, Some(Code::NotAllowed));
    assert_eq!(code("alice.cloak", 99).await, Some(Code::NoService));
    assert_eq!(code("nobody.cloak", 80).await, Some(Code::UnknownName));
    assert_eq!(code("no body.cloak", 80).await, Some(Code::BadName));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_were_invited_by_a_third_find_each_other() {
    let alice = found("alice", system()).await;
    let bob = join(&alice.node, "bob", system()).await;
    let carol = join(&alice.node, "carol", system()).await;
    let mut stream = open(&carol.node, "bob.cloak").await;
    alice.node.shutdown().await;
    echo(&mut stream, b"without the third").await;
    drop(stream);
    assert_eq!(bob.node.peers().await.len(), 2);
}

/// The third was the overlay's root, and held every record. Both ends know where the other is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_sessions_need_no_dht() {
    let alice = found("alice", system()).await;
    let bob = join(&alice.node, "bob", system()).await;
    let carol = join(&alice.node, "carol", system()).await;
    let mut stream = open(&carol.node, "bob.cloak").await;
    echo(&mut stream, b"with an overlay").await;
    alice.node.shutdown().await;
    for _ in 0..10 {
        bob.node.cut_lanes();
        carol.node.cut_lanes();
        echo(&mut stream, b"on another lane").await;
    }
    let rows = carol.node.sessions();
    assert!(rows[0].resumes >= 5, "{rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_node_tells_its_peers_and_is_found_again() {
    let alice = found("alice", system()).await;
    let bob = join(&alice.node, "bob", system()).await;
    let mut stream = open(&bob.node, "alice.cloak").await;
    echo(&mut stream, b"before").await;
    // A node on port 0 comes back at another address: it has to know where its peers are.
    eventually("both have each other's record", || async {
        let knows =
            |node: &cloak_node::Node, name: &str| node.names().iter().any(|row| row.name == name);
        (knows(&alice.node, "bob.cloak") && knows(&bob.node, "alice.cloak")).then_some(())
    })
    .await;
    let dir = alice.dir.path().join("home");
    alice.node.shutdown().await;
    drop(alice.node);
    let home = eventually("the home is free", || async { cloak_node::Home::open(&dir).ok() }).await;
    let again = crate::realm::start(alice.dir, home, system()).await;
    let mut rest = Vec::new();
    let read =
        tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_end(&mut rest));
    let _ = read.await.expect("the application is told");
    let lost = eventually("the session is shown as lost", || async {
        bob.node.sessions().into_iter().find(|row| row.state == SessionState::Lost)
    })
    .await;
    assert_eq!(lost.reason.as_deref(), Some("shutting-down"));
    drop(again);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_side_that_cannot_be_dialled_dials_back() {
    let alice = found("alice", system()).await;
    // Nobody listens where Bob says he is, as behind a firewall.
    let mut behind = config();
    behind.overlay.advertise = vec!["127.0.0.1:1".parse().unwrap()];
    let bob = join_with(&alice.node, "bob", system(), behind).await;
    eventually("Bob has linked", || async {
        (alice.node.status().await.peers_linked == 1).then_some(())
    })
    .await;
    let mut stream = open(&alice.node, "bob.cloak").await;
    echo(&mut stream, b"dialled back").await;
    for _ in 0..3 {
        alice.node.cut_lanes();
        echo(&mut stream, b"and again after a cut").await;
    }
    let mut other = open(&bob.node, "alice.cloak").await;
    echo(&mut other, b"the ordinary way round").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_sessions_return_after_a_cut() {
    let alice = found("alice", system()).await;
    let bob = join(&alice.node, "bob", system()).await;
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(open(&bob.node, "alice.cloak").await);
    }
    bob.node.cut_lanes();
    for stream in &mut streams {
        echo(stream, b"back").await;
    }
    assert!(bob.node.sessions().iter().all(|row| row.resumes >= 1));
}
