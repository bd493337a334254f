//! A copy that is kept: what waits for its holder, and who may take it.

use cloak_session::{Batch, Kept, News};
use cloak_wire::Mark;

use super::*;

const HOLDER: DeviceId = NEXT;

fn batch(session: &mut Session) -> Batch {
    session.poll_escrow(NOW).expect("there is news")
}

fn write(session: &mut Session, len: usize) {
    let room = session.space();
    room[..len].fill(7);
    session.wrote(NOW, len);
}

/// Bytes and ends of a stream that go out on lane 1.
fn sent(session: &mut Session) -> usize {
    let mut sent = 0;
    while let Some(transmit) = session.poll_transmit(NOW, LaneId(1), 4096) {
        match transmit {
            Transmit::Data(bytes) => sent += bytes.len(),
            Transmit::Frame(SessionFrame::Fin) => sent += 1,
            Transmit::Frame(_) => {}
        }
    }
    sent
}

fn answer(session: &mut Session, lane: u64, code: Option<Code>) -> Result<(), LaneError> {
    let escrowed = SessionFrame::Escrowed { generation: Generation(1), code };
    session.handle_frame(NOW, LaneId(lane), escrowed)
}

fn asked(to: Option<DeviceId>, copy: u64) -> SessionFrame {
    SessionFrame::Escrow { generation: Generation(1), to, copy }
}

/// An initiator whose copy is in force.
fn lodged() -> Session {
    let mut session = initiator();
    session.begin_escrow(NOW, HOLDER).unwrap();
    let copy = batch(&mut session);
    session.kept(NOW, copy.number);
    assert_eq!(frames(&mut session, 1), [asked(Some(HOLDER), 1)]);
    answer(&mut session, 1, None).unwrap();
    assert_eq!(events(&mut session), [Event::Escrowed]);
    assert_eq!(session.escrow_holder(), Some(HOLDER));
    session
}

#[test]
fn nothing_is_sent_that_the_holder_has_not() {
    let mut session = lodged();
    write(&mut session, 100);
    session.finish(NOW);
    assert_eq!(sent(&mut session), 0);
    let one = batch(&mut session);
    let News::Mark(mark) = one.news else { panic!("{one:?}") };
    assert_eq!((mark.bytes, mark.fin, one.bytes.len()), (100, Some(100), 100));
    assert_eq!(session.poll_escrow(NOW), None, "one is under way");
    assert_eq!(sent(&mut session), 0);
    session.kept(NOW, one.number + 1);
    assert_eq!(sent(&mut session), 0, "another one");
    session.kept(NOW, one.number);
    assert_eq!(sent(&mut session), 101, "and the end of the stream");
}

#[test]
fn nothing_is_acknowledged_of_which_the_holder_does_not_know() {
    let mut session = lodged();
    session.handle_data(NOW, LaneId(1), &[7; 9000]).unwrap();
    session.delivered(NOW, 9000);
    let late = NOW + Duration::from_secs(1);
    session.handle_timeout(late, None);
    let acks = |session: &mut Session| {
        let frames = frames(session, 1).into_iter();
        let said = frames.filter_map(|frame| match frame {
            // The first of all, which confirms the session, may be among them.
            SessionFrame::Ack { delivered, credit } if delivered > 0 => Some((delivered, credit)),
            _ => None,
        });
        said.collect::<Vec<_>>()
    };
    assert_eq!(acks(&mut session), []);
    let one = batch(&mut session);
    session.kept(late, one.number);
    session.handle_timeout(late + Duration::from_secs(1), None);
    assert_eq!(acks(&mut session), [(9000, 9000 + (16 << 10))]);
}

#[test]
fn the_other_end_is_asked_once_the_holder_has_caught_up() {
    let mut session = initiator();
    session.begin_escrow(NOW, HOLDER).unwrap();
    let copy = batch(&mut session);
    write(&mut session, 100);
    assert_eq!(sent(&mut session), 100, "the session does not wait for the copy");
    session.kept(NOW, copy.number);
    assert_eq!(frames(&mut session, 1), [], "the holder is behind");
    let one = batch(&mut session);
    session.kept(NOW, one.number);
    assert_eq!(frames(&mut session, 1), [asked(Some(HOLDER), copy.number)]);
    let wrong = SessionFrame::Escrowed { generation: Generation(2), code: None };
    let refused = session.handle_frame(NOW, LaneId(1), wrong);
    assert_eq!(refused, Err(LaneError::Unexpected));
}

#[test]
fn the_gate_stays_on_until_the_other_end_has_forgotten_the_holder() {
    let mut session = lodged();
    write(&mut session, 100);
    session.end_escrow(NOW);
    assert_eq!(session.poll_escrow(NOW), None);
    assert_eq!(frames(&mut session, 1), [asked(None, 1)]);
    assert_eq!(sent(&mut session), 0);
    assert_eq!(session.begin_escrow(NOW, HOLDER), Err(Code::Moving));
    answer(&mut session, 1, None).unwrap();
    assert_eq!(events(&mut session), [Event::EscrowEnded(Code::Cancelled)]);
    assert_eq!(sent(&mut session), 100);
    assert_eq!(answer(&mut session, 1, None), Err(LaneError::Unexpected));
}

#[test]
fn a_holder_that_the_other_end_declines_is_none() {
    let mut session = initiator();
    assert_eq!(session.begin_escrow(NOW, PEER), Err(Code::NotMovable), "the other end itself");
    assert_eq!(responder().begin_escrow(NOW, HOLDER), Err(Code::NotMovable));
    session.begin_escrow(NOW, HOLDER).unwrap();
    let copy = batch(&mut session);
    session.kept(NOW, copy.number);
    write(&mut session, 100);
    assert_eq!(frames(&mut session, 1), [asked(Some(HOLDER), 1)]);
    answer(&mut session, 1, Some(Code::NotMovable)).unwrap();
    assert_eq!(events(&mut session), [Event::EscrowEnded(Code::NotMovable)]);
    assert_eq!(sent(&mut session), 100);
}

/// The secrets of two copies at the holder, in order.
fn copies() -> [Secret; 2] {
    let mut session = initiator();
    [(); 2].map(|()| {
        session.begin_escrow(NOW, HOLDER).unwrap();
        let News::Copy(capsule) = batch(&mut session).news else { panic!("no copy") };
        session.end_escrow(NOW);
        assert!(capsule.epoch >= Epoch(1 << 32), "above what the owner tries meanwhile");
        capsule.secret
    })
}

/// A device resumes the initiator's end.
fn comes(
    session: &mut Session,
    lane: u64,
    device: DeviceId,
    secret: &Secret,
) -> Result<(), LaneError> {
    let (dialler_nonce, acceptor_nonce) = (nonce(2), None);
    let ends = LaneEnds { dialler: device, acceptor: LOCAL, dialler_nonce, acceptor_nonce };
    let (epoch, role) = (Epoch(1 << 32), Role::Initiator);
    let (received, delivered, credit) = (40, 40, 1000);
    let claim = Claim { session: ID, epoch, role, received, delivered, credit };
    let proof = resume_proof(secret, &ends, &claim);
    session.lane_up(NOW, LaneUp { peer: device, ..up(lane, false) });
    let resume = Resume { session: ID, epoch, received, delivered, credit, proof };
    session.handle_frame(NOW, LaneId(lane), SessionFrame::Resume(resume))
}

#[test]
fn only_the_copy_that_is_noted_is_taken_and_only_once() {
    let [old, copy] = copies();
    let mut session = responder();
    assert_eq!(comes(&mut session, 2, HOLDER, &copy), Err(LaneError::BadProof), "nobody asked");
    session.handle_frame(NOW, LaneId(1), asked(Some(HOLDER), 2)).unwrap();
    assert_eq!(events(&mut session), [Event::PeerEscrow(Some(HOLDER))]);
    let escrowed = SessionFrame::Escrowed { generation: Generation(1), code: None };
    assert_eq!(frames(&mut session, 1), [escrowed]);
    assert_eq!(comes(&mut session, 3, HOLDER, &old), Err(LaneError::BadProof), "another copy");
    let other = DeviceId::from_bytes([4; 32]);
    assert_eq!(comes(&mut session, 4, other, &copy), Err(LaneError::BadProof), "another device");
    assert_eq!(comes(&mut session, 5, HOLDER, &copy), Ok(()));
    assert!(events(&mut session).contains(&Event::PeerMoved(HOLDER)));
    assert_eq!(session.peer(), Some(HOLDER));
    assert_eq!(comes(&mut session, 6, PEER, &secret()), Err(LaneError::BadProof), "of the past");
    // Nobody else may come, should this one restart.
    let run = |counter| Incarnation { counter, random: counter };
    session.peer_incarnation(NOW, HOLDER, run(1));
    session.peer_incarnation(NOW, HOLDER, run(2));
    assert!(events(&mut session).contains(&Event::Ended(End::Lost(Code::PeerRestarted))));
}

#[test]
fn a_holder_that_is_forgotten_takes_nothing() {
    let [copy, _] = copies();
    let mut session = responder();
    session.handle_frame(NOW, LaneId(1), asked(Some(HOLDER), 1)).unwrap();
    session.handle_frame(NOW, LaneId(1), asked(None, 1)).unwrap();
    assert_eq!(comes(&mut session, 2, HOLDER, &copy), Err(LaneError::BadProof));
    // Nor does one while this end is away.
    session.handle_frame(NOW, LaneId(1), asked(Some(HOLDER), 1)).unwrap();
    session.hand_over(NOW, DeviceId::from_bytes([4; 32])).unwrap();
    frames(&mut session, 1);
    let may = SessionFrame::MayMove { generation: Generation(1) };
    session.handle_frame(NOW, LaneId(1), may).unwrap();
    assert_eq!(comes(&mut session, 3, HOLDER, &copy), Err(LaneError::Moving));
}

/// An end that is over says so at once: to say less of what it had than it has would be a violation.
#[test]
fn what_the_holder_confirms_late_does_not_hold_up_the_end() {
    let mut session = lodged();
    session.finish(NOW);
    let ours = batch(&mut session);
    session.kept(NOW, ours.number);
    assert_eq!(sent(&mut session), 1);
    session.handle_frame(NOW, LaneId(1), SessionFrame::Ack { delivered: 1, credit: 1 }).unwrap();
    session.handle_data(NOW, LaneId(1), &[7; 200]).unwrap();
    session.delivered(NOW, 100);
    session.hold(&[7; 100]);
    session.handle_frame(NOW, LaneId(1), SessionFrame::Fin).unwrap();
    let late = batch(&mut session);
    session.delivered(NOW, 100);
    session.fin_delivered(NOW);
    session.kept(NOW, late.number);
    let said = frames(&mut session, 1);
    let has_all = |frame: &_| matches!(frame, SessionFrame::Ack { delivered: 201, .. });
    assert!(said.iter().any(has_all), "{said:?}");
}

#[test]
fn a_copy_waits_for_an_end_that_is_suspended_on_purpose() {
    let mut owner = initiator();
    owner.begin_escrow(NOW, HOLDER).unwrap();
    let Batch { news: News::Copy(capsule), bytes, .. } = batch(&mut owner) else { panic!() };
    let memory = Ledger::new(64 << 20).account(PEER);
    let (config, rng) = (Config::default(), Rng::from_u64(1));
    let mut session = Session::adopt(NOW, config, &capsule, &bytes, memory, rng).unwrap();
    for code in [Code::Paused, Code::Busy] {
        events(&mut session);
        let now = NOW + Duration::from_secs(if code == Code::Busy { 60 } else { 0 });
        session.handle_timeout(now, None);
        let lane = if code == Code::Busy { 3 } else { 2 };
        session.lane_up(now, up(lane, true));
        frames(&mut session, lane);
        if code == Code::Busy {
            let gone = SessionFrame::Gone { session: ID, code, delivered: 0 };
            assert_eq!(
                session.handle_frame(now, LaneId(lane), gone),
                Err(LaneError::StaleRank),
                "no verdict"
            );
        }
        session.lane_down(now, LaneId(lane), code);
        let said = events(&mut session);
        assert!(!said.contains(&Event::LaneWanted), "{code}: {said:?}");
        session.handle_timeout(now + Duration::from_secs(10), None);
        assert!(events(&mut session).contains(&Event::LaneWanted), "{code}");
    }
}

#[test]
fn an_owner_that_restarted_may_be_followed_by_the_holder() {
    let run = |counter| Incarnation { counter, random: counter };
    let mut session = responder();
    session.peer_incarnation(NOW, PEER, run(1));
    session.handle_frame(NOW, LaneId(1), asked(Some(HOLDER), 1)).unwrap();
    session.peer_incarnation(NOW, PEER, run(2));
    session.lane_down(NOW, LaneId(1), Code::Closed);
    session.lane_up(NOW, up(2, true));
    assert!(matches!(frames(&mut session, 2)[..], [SessionFrame::Resume(_)]));
    let gone = |code| SessionFrame::Gone { session: ID, code, delivered: 0 };
    let result = session.handle_frame(NOW, LaneId(2), gone(Code::Gone));
    assert_eq!((result, session.is_ended()), (Err(LaneError::StaleRank), false));
    session.handle_timeout(NOW + Duration::from_secs(3600), None);
    assert_eq!(comes(&mut session, 3, HOLDER, &copies()[0]), Ok(()));
}

/// The owner that was cut off learns it from the other end, and from nobody else.
#[test]
fn who_is_superseded_ends_as_moved() {
    let gone = SessionFrame::Gone { session: ID, code: Code::Superseded, delivered: 0 };
    let mut session = lodged();
    session.lane_down(NOW, LaneId(1), Code::Closed);
    session.lane_up(NOW, up(2, true));
    frames(&mut session, 2);
    session.handle_frame(NOW, LaneId(2), gone).unwrap();
    frames(&mut session, 2);
    session.handle_frame(NOW, LaneId(2), SessionFrame::Idle).unwrap();
    assert!(events(&mut session).contains(&Event::Ended(End::Moved)));
}

#[test]
fn hostile_marks_are_refused() {
    let config = Config::default();
    let mut session = lodged();
    write(&mut session, 100);
    let first = batch(&mut session);
    let News::Mark(good) = first.news else { panic!("{first:?}") };
    let mut fresh = initiator();
    fresh.begin_escrow(NOW, HOLDER).unwrap();
    let News::Copy(capsule) = batch(&mut fresh).news else { panic!("no copy") };
    let memory = Ledger::new(64 << 20).account(PEER);
    let kept = || Kept::new(&config, (*capsule).clone(), &[], memory.clone()).unwrap();
    assert_eq!(kept().update(&good, &first.bytes), Ok(()));
    let offsets = Err(CapsuleError::Offsets);
    for wrong in [
        Mark { acked: u64::MAX, ..good },
        Mark { fin: Some(99), ..good },
        Mark { fin: Some(u64::MAX), ..good },
        Mark { delivered: u64::MAX, ..good },
        Mark { peer_fin: Some(1), ..good },
    ] {
        assert_eq!(kept().update(&wrong, &first.bytes), offsets, "{wrong:?}");
    }
    let mut ended = kept();
    ended.update(&Mark { fin: Some(100), ..good }, &first.bytes).unwrap();
    assert_eq!(ended.update(&good, &[]), offsets, "an end that is none");
    let more = vec![0; usize::try_from(config.buffer_max).unwrap() + 1];
    assert_eq!(kept().update(&good, &more), Err(CapsuleError::TooLarge));
    let mut capsule = (*capsule).clone();
    capsule.received.fin = Some(7);
    assert!(Kept::new(&config, capsule, &[], memory).is_err());
}
