//! Every frame survives any fragmentation; no bytes make the decoder panic or allocate much.

use cloak_base::{DeviceId, Epoch, Generation, Incarnation, RealmId, SessionId, UnixTime};
use proptest::prelude::*;

use super::*;
use crate::*;

fn samples() -> Vec<Frame> {
    let (session, device) = (SessionId::from_bytes([5; 16]), DeviceId::from_bytes([6; 32]));
    let secret = Secret([7; 32].into());
    let proof = Proof([9; 32].into());
    let serials = Serials { realm: 3, entity: 4 };
    let (received, delivered, credit) = (u64::MAX, u64::from(u32::MAX) + 1, 0);
    let bytes = || vec![1, 2, 3].into();
    let mut frames = vec![
        Frame::Hello(Box::new(Hello {
            version: VERSION,
            realm: RealmId::from_bytes([1; 32]),
            credentials: bytes(),
            serials,
            incarnation: Incarnation { counter: 1, random: 2 },
            nonce: Nonce([3; 32].into()),
            purpose: Purpose::Proof { cookie: 8 },
            observed: Some("[2001:db8::1]:7140".parse().unwrap()),
            listening: Some(7140),
        })),
        Frame::Close { code: Code::Busy },
    ];
    let (epoch, target) = (Epoch(6), Target::Service(80));
    frames.extend(moves());
    let early = Early::of(&[8; EARLY_MAX + 1]);
    frames.extend(
        [
            SessionFrame::Open(Open { session, secret, target, credit, epoch, early }),
            SessionFrame::Opened(Opened { credit }),
            SessionFrame::Refused { code: Code::Other(999) },
            SessionFrame::Resume(Resume { session, epoch, received, delivered, credit, proof }),
            SessionFrame::Resumed(Resumed { epoch, received, delivered, credit, proof }),
            SessionFrame::Gone { session, code: Code::Gone, delivered },
            SessionFrame::Ack { delivered, credit },
            SessionFrame::Fin,
            SessionFrame::Reset { code: Code::Reset },
            SessionFrame::Probe { number: 1, unheard: true },
            SessionFrame::Alive { number: 1 },
            SessionFrame::Idle,
        ]
        .map(Frame::Session),
    );
    frames.extend(
        [
            PeerFrame::Binding { record: bytes() },
            PeerFrame::DialBack { cookie: 1, at: Some("127.0.0.1:1".parse().unwrap()) },
            PeerFrame::Nudge { sessions: vec![session; NUDGE_MAX] },
            PeerFrame::Serials(serials),
            PeerFrame::FetchRevocations(serials),
            PeerFrame::Revocations { list: bytes() },
            PeerFrame::Renew { membership: bytes() },
            PeerFrame::Renewed { membership: bytes() },
            PeerFrame::Certify { certificate: bytes() },
            PeerFrame::Certified { certificate: bytes() },
            PeerFrame::Appoint { certificate: bytes() },
            PeerFrame::Redeem { request: bytes() },
            PeerFrame::Redeemed { grant: bytes() },
            PeerFrame::Refused { code: Code::InvitationUsed },
            PeerFrame::Circuit { circuit: 1, to: device, from: None },
            PeerFrame::Circuit { circuit: 1, to: device, from: Some(device) },
            PeerFrame::Hop { circuit: 1, from: Some(device), cookie: Cookie([4; 32].into()) },
            PeerFrame::NoCircuit { circuit: 1, code: Code::Busy },
            PeerFrame::Probe { number: 1 },
            PeerFrame::Alive { number: 1 },
        ]
        .map(Frame::Peer),
    );
    frames
}

/// Those that move a session.
fn moves() -> Vec<Frame> {
    let (session, device) = (SessionId::from_bytes([5; 16]), DeviceId::from_bytes([6; 32]));
    let (secret, generation) = (Secret([7; 32].into()), Generation(u64::MAX));
    let (epoch, target) = (Epoch(6), Target::Service(80));
    let (delivered, credit) = (u64::from(u32::MAX) + 1, 0);
    let bytes = || vec![1, 2, 3].into();
    let asked = [
        SessionFrame::Move { generation, to: device },
        SessionFrame::MayMove { generation },
        SessionFrame::Stay { generation, code: Code::Busy },
    ];
    let mut frames = asked.map(Frame::Session).to_vec();
    let escrows = [
        SessionFrame::Escrow { generation, to: Some(device), copy: 1 },
        SessionFrame::Escrow { generation, to: None, copy: u64::MAX },
        SessionFrame::Escrowed { generation, code: None },
        SessionFrame::Escrowed { generation, code: Some(Code::NotMovable) },
    ];
    frames.extend(escrows.map(Frame::Session));
    frames.push(Frame::HandedOver { generation });
    frames.extend([Frame::AskSessions, Frame::Sessions { rows: vec![bytes(), bytes()] }]);
    frames.extend([Frame::Fetch { session }, Frame::Answer { code: None }]);
    frames.push(Frame::Answer { code: Some(Code::NotMovable) });
    let peer = "bob.cloak".to_owned();
    let offer = Offer { session, initiator: true, target: target.clone(), peer };
    frames.push(Frame::Offer(Box::new(offer)));
    let capsule = Capsule {
        session,
        initiator: true,
        secret,
        generation,
        peer_generation: Generation(0),
        peer_run: Some(Incarnation { counter: 1, random: 2 }),
        target: target.clone(),
        epoch,
        sent: Sent { acked: 1, sent: 2, credit, fin: Some(u64::MAX) },
        received: Received { delivered, credit, fin: None },
        resumes: 3,
    };
    let (peer, record, opened_at) = (device, Some(bytes()), UnixTime(5));
    frames.push(Frame::Deposit(Box::new(Deposit {
        capsule: capsule.clone(),
        bytes: 4,
        peer,
        record: None,
        opened_at,
    })));
    let (fin, peer_fin) = (Some(7), None);
    frames.push(Frame::Mark(Mark { acked: 1, fin, delivered, peer_fin, bytes: u64::MAX }));
    frames.extend([Frame::Kept, Frame::Void]);
    frames.push(Frame::HandOver(Box::new(HandOver {
        capsule,
        bytes: [4, 5, u64::MAX],
        peer,
        record,
        opened_at,
        load: Some(u32::MAX),
        not_read: Some(u64::MAX),
    })));
    let load = |balance| Some(Load { sessions: u32::MAX, balance });
    let balances = [Balance::None, Balance::Preference, Balance::Load];
    let mut services: Vec<_> = balances.map(load).into_iter().chain([None]).collect();
    services.resize(LOADS_MAX, load(Balance::Load));
    frames.push(Frame::AskLoads { ports: vec![u16::MAX; LOADS_MAX] });
    frames.push(Frame::Loads { preference: u16::MAX, services });
    frames
}

/// Feeds `bytes` in pieces; gives the control frames and the concatenated data.
fn read(bytes: &[u8], piece: usize) -> Result<(Vec<Frame>, Vec<u8>), WireError> {
    let (mut decoder, mut frames, mut data) = (Decoder::default(), Vec::new(), Vec::new());
    for mut piece in bytes.chunks(piece) {
        while let Some(item) = decoder.next(&mut piece)? {
            match item {
                Item::Frame(frame) => frames.push(frame),
                Item::Data(bytes) => data.extend_from_slice(bytes),
            }
        }
        assert!(piece.is_empty());
    }
    assert!(decoder.is_between_frames() || !bytes.is_empty());
    Ok((frames, data))
}

#[test]
fn every_frame_survives_every_fragmentation() {
    let (mut bytes, mut data) = (Vec::new(), Vec::new());
    for (index, frame) in samples().iter().enumerate() {
        frame.encode(&mut bytes);
        let body = vec![u8::try_from(index).unwrap(); index * 7];
        bytes.extend_from_slice(&data_header(body.len()));
        bytes.extend_from_slice(&body);
        data.extend(body);
    }
    for piece in [1, 2, 3, 5, 64, 1000, bytes.len()] {
        assert_eq!(read(&bytes, piece), Ok((samples(), data.clone())), "pieces of {piece}");
    }
}

#[test]
fn errors_are_exact() {
    assert_eq!(read(&[0xff, 0, 0, 0], 4), Err(WireError::UnknownType { kind: 0xff }));
    assert_eq!(read(&[0x10, 1, 0, 0], 4), Err(WireError::TooLong { kind: 0x10, len: 65536 }));
    assert_eq!(read(&[0x16, 0, 0, 1, 0x80], 4), Err(WireError::Body { kind: 0x16 }));
    let mut fin = Vec::new();
    Frame::Session(SessionFrame::Fin).encode(&mut fin);
    fin[3] += 1;
    fin.push(0);
    assert_eq!(read(&fin, 9), Err(WireError::Trailing { kind: 0x17 }));
}

#[test]
fn a_nudge_names_at_most_its_limit() {
    let mut bytes = Vec::new();
    let sessions = vec![SessionId::from_bytes([0; 16]); NUDGE_MAX + 1];
    Frame::Peer(PeerFrame::Nudge { sessions }).encode(&mut bytes);
    assert_eq!(read(&bytes, 4096), Err(WireError::Body { kind: 0x32 }));
}

#[test]
fn loads_are_asked_and_told_up_to_their_limit() {
    let ports = vec![1; LOADS_MAX + 1];
    let services = vec![None; LOADS_MAX + 1];
    for (frame, kind) in
        [(Frame::AskLoads { ports }, 0x27), (Frame::Loads { preference: 0, services }, 0x28)]
    {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        assert_eq!(read(&bytes, 4096), Err(WireError::Body { kind }));
    }
    // A balance that nobody knows.
    let body = [0x82, 0, 0x81, 0x82, 1, 3];
    let frame = [&[0x28, 0, 0, 6][..], &body].concat();
    assert_eq!(read(&frame, 4096), Err(WireError::Body { kind: 0x28 }));
}

#[test]
fn hello_and_every_control_frame_fit_the_limit() {
    for frame in samples() {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        assert!(bytes.len() <= CONTROL_MAX + HEADER_LEN, "{frame:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), piece in 1usize..50) {
        let _ = read(&bytes, piece);
    }

    #[test]
    fn perturbed_frames_never_panic(which in 0usize..35, at in 0usize..500, bit in 0u8..8, piece in 1usize..50) {
        let mut bytes = Vec::new();
        samples()[which].encode(&mut bytes);
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let _ = read(&bytes, piece);
    }
}

#[test]
fn nobody_leaves_more_unread_than_there_was() {
    let hand_over = moves().into_iter().find_map(|frame| match frame {
        Frame::HandOver(hand_over) => Some(*hand_over),
        _ => None,
    });
    let mut hand_over = hand_over.unwrap();
    hand_over.capsule.received = Received { delivered: 11, credit: 20, fin: Some(10) };
    for (unread, not_read, is_possible) in [
        (0, Some(0), true),
        (10, None, true),
        (10, Some(12), true),
        (10, Some(9), false),
        (11, None, false),
        (u64::MAX, None, false),
    ] {
        (hand_over.bytes[1], hand_over.not_read) = (unread, not_read);
        assert_eq!(hand_over.is_unread_possible(), is_possible, "{unread} {not_read:?}");
    }
    hand_over.capsule.received.fin = None;
    (hand_over.bytes[1], hand_over.not_read) = (11, None);
    assert!(hand_over.is_unread_possible());
}
