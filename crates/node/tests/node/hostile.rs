//! A member of the realm that breaks the protocol: its transport ends, and nothing else does.

use std::time::Duration;

use cloak_base::{DeviceId, Epoch, Generation, Incarnation, SessionId, UnixTime};
use cloak_node::{InviteKind, InviteRequest, Node, SessionState};
use cloak_tests::hostile::{Channel, Mallory};
use cloak_wire::{
    CONTROL_MAX, Capsule, Code, Frame, HandOver, Hello, NUDGE_MAX, Nonce, Offer, PeerFrame,
    Purpose, Received, Secret, Sent, Serials, SessionFrame, Target, VERSION, data_header,
};
use tokio::task::block_in_place;

use crate::realm::{echo, eventually, found, join, open, system};

async fn mallory(inviter: &Node) -> Mallory {
    invited(inviter, InviteKind::Member, Some("mallory".to_owned())).await
}

async fn invited(inviter: &Node, kind: InviteKind, name: Option<String>) -> Mallory {
    let request = InviteRequest { kind, name, ttl: Duration::from_secs(60) };
    let invitation = inviter.invite(request).await.unwrap().invitation;
    block_in_place(|| Mallory::join(&invitation, 7))
}

/// A session that nobody has, from a device that serves so many of its service.
fn hand_over(session: SessionId, bytes: [u64; 3], load: Option<u32>) -> Frame {
    let capsule = Capsule {
        session,
        initiator: true,
        secret: Secret([7; 32].into()),
        generation: Generation(1),
        peer_generation: Generation(0),
        peer_run: None,
        target: Target::Service(80),
        epoch: Epoch(1),
        sent: Sent { acked: 0, sent: 0, credit: 0, fin: None },
        received: Received { delivered: 0, credit: 0, fin: None },
        resumes: 0,
    };
    Frame::HandOver(Box::new(HandOver {
        capsule,
        bytes,
        peer: DeviceId::from_bytes([9; 32]),
        record: None,
        opened_at: UnixTime::default(),
        load,
        not_read: None,
    }))
}

/// What ends a connection that was greeted, by a name for people, and the code if one is told.
fn violations() -> [(&'static str, Frame, Code); 6] {
    let binding = |length| Frame::Peer(PeerFrame::Binding { record: vec![7; length].into() });
    let sessions = vec![SessionId::from_bytes([7; 16]); NUDGE_MAX + 1];
    let grant = vec![7; 100].into();
    [
        ("a control frame over the limit", binding(CONTROL_MAX + 1), Code::Malformed),
        ("a malformed body", Frame::Peer(PeerFrame::Nudge { sessions }), Code::Malformed),
        ("a record that is none", binding(100), Code::Malformed),
        ("an answer to nothing", Frame::Peer(PeerFrame::Redeemed { grant }), Code::Violation),
        ("an end of nothing", Frame::Session(SessionFrame::Fin), Code::Violation),
        ("a second Hello", Frame::Hello(Box::new(hello_again())), Code::Violation),
    ]
}

fn hello_again() -> Hello {
    Hello {
        version: VERSION,
        realm: cloak_base::RealmId::from_bytes([7; 32]),
        credentials: Vec::new().into(),
        serials: Serials::default(),
        incarnation: Incarnation { counter: 1, random: 1 },
        nonce: Nonce([7; 32].into()),
        purpose: Purpose::Peer,
        observed: None,
        listening: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_members_violations_end_its_transport_and_nothing_else() {
    let alice = found("alice", system()).await;
    let bob = join(&alice.node, "bob", system()).await;
    let mallory = mallory(&alice.node).await;
    let to = alice.node.overlay_addresses()[0];
    let mut stream = open(&bob.node, "alice.cloak").await;
    for purpose in [Purpose::Peer, Purpose::Lane] {
        for (what, frame, code) in violations() {
            let told = block_in_place(|| {
                let mut channel = mallory.open(to, purpose.clone());
                // It may be cut before everything is written.
                let _ = channel.send_frame(&frame);
                channel.end()
            });
            // A lane carries no messages between peers.
            let codes = if purpose == Purpose::Lane { [code, Code::Violation] } else { [code; 2] };
            assert!(told.is_none_or(|told| codes.contains(&told)), "{what}: {told:?}");
            echo(&mut stream, b"undisturbed").await;
        }
        block_in_place(|| {
            let mut channel = mallory.open(to, purpose);
            let _ = channel.send(&[&data_header(100)[..], &[7; 100]].concat());
            let _ = channel.send_frame(&Frame::Session(SessionFrame::Fin));
            channel.end()
        });
    }
    echo(&mut stream, b"undisturbed").await;
    let rows = alice.node.sessions();
    assert_eq!((rows.len(), rows[0].state, rows[0].resumes), (1, SessionState::Live, 0));
    let status = alice.node.status().await;
    assert_eq!(status.peers_linked, 1, "Bob, and not Mallory");
    assert!(status.warnings.is_empty(), "{:?}", status.warnings);
    bob.node.cut_lanes();
    eventually("new lanes are accepted", || async {
        alice.node.sessions().first().filter(|row| row.resumes >= 1).map(drop)
    })
    .await;
}

/// Whoever receives a session that moves by load judges by its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_moves_by_load_is_taken_only_where_that_evens_out() {
    let alice = found("alice", system()).await;
    let sibling = invited(&alice.node, InviteKind::Device, None).await;
    let to = alice.node.overlay_addresses()[0];
    for (load, code) in [(0, Some(Code::Busy)), (1, Some(Code::Busy)), (2, None)] {
        let session = SessionId::from_bytes([u8::try_from(load).unwrap(); 16]);
        let asked = hand_over(session, [0; 3], Some(load));
        let answer = Frame::Answer { code };
        block_in_place(|| assert_answer(&mut sibling.open(to, Purpose::Lane), &asked, &answer));
    }
}

/// What devices of one entity do for one another they do for nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_can_neither_see_nor_fetch_nor_push_sessions() {
    let alice = found("alice", system()).await;
    let bob = join(&alice.node, "bob", system()).await;
    let mallory = mallory(&alice.node).await;
    let to = bob.node.overlay_addresses()[0];
    let mut stream = open(&bob.node, "alice.cloak").await;
    let session: SessionId = bob.node.sessions()[0].id.parse().unwrap();
    let no = Frame::Answer { code: Some(Code::NotAllowed) };
    for (asked, expected) in [
        (Frame::AskSessions, Frame::Sessions { rows: Vec::new() }),
        (Frame::AskLoads { ports: vec![80] }, Frame::Loads { preference: 0, services: vec![None] }),
        (Frame::Fetch { session }, no.clone()),
        (hand_over(session, [u64::MAX; 3], None), no),
    ] {
        block_in_place(|| assert_answer(&mut mallory.open(to, Purpose::Lane), &asked, &expected));
    }
    // Offers are for people to decide; what they see of one is checked.
    let offer = |peer: &str| Offer {
        session,
        initiator: true,
        target: Target::Service(22),
        peer: peer.to_owned(),
    };
    let odd = Frame::Offer(Box::new(offer("\u{1b}[2J\nbob.cloak")));
    let answer = Frame::Answer { code: Some(Code::BadName) };
    block_in_place(|| assert_answer(&mut mallory.open(to, Purpose::Lane), &odd, &answer));
    let lane = block_in_place(|| {
        let mut lane = mallory.open(to, Purpose::Lane);
        lane.send_frame(&Frame::Offer(Box::new(offer("carol.cloak")))).unwrap();
        lane
    });
    eventually("the offer stands", || async { (bob.node.offers().len() == 1).then_some(()) }).await;
    drop(lane);
    eventually("it goes with its lane", || async { bob.node.offers().is_empty().then_some(()) })
        .await;
    echo(&mut stream, b"undisturbed").await;
    assert_eq!(bob.node.sessions()[0].resumes, 0);
}

fn assert_answer(lane: &mut Channel, asked: &Frame, expected: &Frame) {
    let mut bytes = Vec::new();
    expected.encode(&mut bytes);
    lane.send_frame(asked).unwrap();
    let answer = lane.receive().unwrap();
    assert_eq!((answer.kind, &answer.body[..]), (bytes[0], &bytes[4..]), "{asked:?}");
}
