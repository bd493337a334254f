//! A member of the realm that breaks the protocol: its transport ends, and nothing else does.

use std::net::SocketAddr;

use cloak_base::{Incarnation, Rng, SessionId};
use cloak_identity::{Invitation, Redemption, SecretKey, Transcript, TransportEnd};
use cloak_node::{InviteKind, InviteRequest, Node, SessionState};
use cloak_transport::{Clock, Connection, SocketOptions, SystemClock, Tls};
use cloak_wire::{
    CONTROL_MAX, Code, Frame, Hello, NUDGE_MAX, Nonce, PeerFrame, Purpose, Serials, SessionFrame,
    VERSION,
};

use crate::realm::{PATIENCE, echo, eventually, found, join, open, system};

/// Mallory makes no effort.
fn nonce() -> Nonce {
    Nonce([7; 32].into())
}

/// A member that speaks for itself, frame by frame.
struct Mallory {
    tls: Tls,
    invitation: Invitation,
    credentials: Vec<u8>,
}

impl Mallory {
    async fn join(inviter: &Node) -> Self {
        let ttl = std::time::Duration::from_secs(60);
        let name = Some("mallory".to_owned());
        let request = InviteRequest { kind: InviteKind::Member, name, ttl };
        let invitation = inviter.invite(request).await.unwrap().invitation.parse().unwrap();
        let mut rng = Rng::from_u64(7);
        let key = SecretKey::generate(&mut rng);
        let tls = Tls::new(key.seed()).unwrap();
        let mut mallory = Self { tls, invitation, credentials: Vec::new() };
        let to = inviter.overlay_addresses()[0];
        let (mut connection, theirs) = mallory.dial(to, Purpose::Join).await;
        let end = |device, nonce: Nonce| TransportEnd { device, nonce: *nonce.0 };
        let transcript = Transcript {
            dialler: end(mallory.tls.device(), nonce()),
            acceptor: end(connection.peer(), theirs.nonce),
        };
        let (entity, now) = (SecretKey::generate(&mut rng), SystemClock.wall());
        let label = "device".parse().unwrap();
        let invitation = mallory.invitation.clone();
        let redemption =
            Redemption::new(invitation, &transcript, entity, None, label, now).unwrap();
        let request = redemption.request().encode().into();
        connection.send(&Frame::Peer(PeerFrame::Redeem { request })).await.unwrap();
        let Ok(Frame::Peer(PeerFrame::Redeemed { grant })) = connection.recv().await else {
            panic!("the invitation is redeemed");
        };
        mallory.credentials = redemption.finish(&grant, now).unwrap().credentials.encode();
        mallory
    }

    /// A transport whose `Hello`s were exchanged.
    async fn dial(&self, to: SocketAddr, purpose: Purpose) -> (Connection, Hello) {
        let options = SocketOptions::default();
        let mut connection = Connection::dial(to, &self.tls, None, &options).await.unwrap();
        let hello = Hello {
            version: VERSION,
            realm: self.invitation.realm,
            credentials: self.credentials.clone().into(),
            serials: Serials::default(),
            incarnation: Incarnation { counter: 1, random: 1 },
            nonce: nonce(),
            purpose,
            observed: None,
            listening: None,
        };
        connection.send(&Frame::Hello(Box::new(hello))).await.unwrap();
        match connection.recv().await {
            Ok(Frame::Hello(theirs)) => (connection, *theirs),
            other => panic!("no Hello: {other:?}"),
        }
    }
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
        nonce: nonce(),
        purpose: Purpose::Peer,
        observed: None,
        listening: None,
    }
}

/// Reads to the end of the connection, and gives the code that came before it.
async fn end_of(mut connection: Connection) -> Option<Code> {
    let mut told = None;
    let reading = async {
        while let Ok(frame) = connection.recv().await {
            if let Frame::Close { code } = frame {
                told = Some(code);
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the connection ends");
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_members_violations_end_its_transport_and_nothing_else() {
    let alice = found("alice", system()).await;
    let bob = join(&alice.node, "bob", system()).await;
    let mallory = Mallory::join(&alice.node).await;
    let to = alice.node.overlay_addresses()[0];
    let mut stream = open(&bob.node, "alice.cloak").await;
    for purpose in [Purpose::Peer, Purpose::Lane] {
        for (what, frame, code) in violations() {
            let (mut connection, _) = mallory.dial(to, purpose.clone()).await;
            // It may be cut before everything is written.
            let _ = connection.send(&frame).await;
            let told = end_of(connection).await;
            // A lane carries no messages between peers.
            let codes = if purpose == Purpose::Lane { [code, Code::Violation] } else { [code; 2] };
            assert!(told.is_none_or(|told| codes.contains(&told)), "{what}: {told:?}");
            echo(&mut stream, b"undisturbed").await;
        }
        let (mut connection, _) = mallory.dial(to, purpose).await;
        connection.queue_data(&[7; 100]);
        let _ = connection.send(&Frame::Session(SessionFrame::Fin)).await;
        end_of(connection).await;
    }
    echo(&mut stream, b"undisturbed").await;
    let rows = alice.node.sessions();
    assert_eq!((rows.len(), rows[0].state, rows[0].resumes), (1, SessionState::Live, 0));
    let status = alice.node.status();
    assert_eq!(status.peers_linked, 1, "Bob, and not Mallory");
    assert!(status.warnings.is_empty(), "{:?}", status.warnings);
    bob.node.cut_lanes();
    eventually("new lanes are accepted", || async {
        alice.node.sessions().first().filter(|row| row.resumes == 1).map(drop)
    })
    .await;
}
