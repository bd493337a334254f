//! One end alone against frames made by hand: which check comes first, and the exact error.

mod pauses;

use std::time::Duration;

use cloak_base::{DeviceId, Epoch, Generation, Incarnation, Instant, Rng, SessionId};
use cloak_session::{
    CapsuleError, Claim, Config, End, Event, FirstBytes, LaneEnds, LaneError, LaneId, LaneUp,
    Ledger, Role, Session, State, Suspicion, Transmit, Violation, resume_proof, resumed_proof,
};
use cloak_wire::{
    Capsule, Code, Early, Nonce, Open, Opened, Proof, Received, Resume, Resumed, Secret, Sent,
    SessionFrame, Target,
};

mod escrow;

const NOW: Instant = Instant::from_micros(1_000_000);
const ID: SessionId = SessionId::from_bytes([1; 16]);
const LOCAL: DeviceId = DeviceId::from_bytes([1; 32]);
const PEER: DeviceId = DeviceId::from_bytes([2; 32]);

fn secret() -> Secret {
    Secret([3; 32].into())
}

fn nonce(byte: u8) -> Nonce {
    Nonce([byte; 32].into())
}

fn up(lane: u64, we_dialled: bool) -> LaneUp {
    LaneUp {
        lane: LaneId(lane),
        we_dialled,
        local_nonce: nonce(1),
        peer_nonce: Some(nonce(2)),
        local: LOCAL,
        peer: PEER,
    }
}

fn open(epoch: u64) -> Open {
    let target = Target::Service(80);
    Open {
        session: ID,
        secret: secret(),
        target,
        credit: 1000,
        epoch: Epoch(epoch),
        early: Early::default(),
    }
}

/// A responder that is open on lane 1 and has sent 100 bytes of which 40 are acknowledged.
fn responder() -> Session {
    let memory = Ledger::new(1 << 20).account(PEER);
    let mut session = Session::respond(NOW, Config::default(), &open(1), memory, Rng::from_u64(1));
    session.lane_up(NOW, up(1, false));
    session.opened(NOW);
    session.space();
    session.wrote(NOW, 100);
    frames(&mut session, 1);
    let ack = SessionFrame::Ack { delivered: 40, credit: 1000 };
    assert_eq!(session.handle_frame(NOW, LaneId(1), ack), Ok(()));
    events(&mut session);
    session
}

/// An initiator that is open on lane 1.
fn initiator() -> Session {
    let memory = Ledger::new(1 << 20).account(PEER);
    let (config, target) = (Config::default(), Target::Service(80));
    let rng = Rng::from_u64(1);
    let mut session = Session::initiate(NOW, config, ID, secret(), target, memory, rng);
    session.lane_up(NOW, up(1, true));
    assert!(matches!(frames(&mut session, 1)[..], [SessionFrame::Open(_)]));
    let opened = SessionFrame::Opened(Opened { credit: 1000 });
    assert_eq!(session.handle_frame(NOW, LaneId(1), opened), Ok(()));
    frames(&mut session, 1);
    events(&mut session);
    session
}

/// Everything that waits for a lane; data is not shown.
fn frames(session: &mut Session, lane: u64) -> Vec<SessionFrame> {
    let mut frames = Vec::new();
    while let Some(transmit) = session.poll_transmit(NOW, LaneId(lane), 4096) {
        if let Transmit::Frame(frame) = transmit {
            frames.push(frame);
        }
    }
    frames
}

fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

fn resume(epoch: u64, received: u64, delivered: u64, credit: u64) -> Resume {
    let ends =
        LaneEnds { dialler: PEER, acceptor: LOCAL, dialler_nonce: nonce(2), acceptor_nonce: None };
    let (epoch, role) = (Epoch(epoch), Role::Initiator);
    let claim = Claim { session: ID, epoch, role, received, delivered, credit };
    let proof = resume_proof(&secret(), &ends, &claim);
    Resume { session: ID, epoch, received, delivered, credit, proof }
}

fn try_resume(session: &mut Session, lane: u64, resume: Resume) -> Result<(), LaneError> {
    session.lane_up(NOW, up(lane, false));
    session.handle_frame(NOW, LaneId(lane), SessionFrame::Resume(resume))
}

#[test]
fn order_of_checks_is_proof_rank_offsets() {
    let wrong = Proof([0; 32].into());
    let mut session = responder();
    let before = session.snapshot();
    let all_wrong = Resume { proof: wrong, ..resume(1, 5000, 6000, 0) };
    assert_eq!(try_resume(&mut session, 2, all_wrong), Err(LaneError::BadProof));
    let stale_and_beyond = resume(1, 5000, 6000, 0);
    assert_eq!(try_resume(&mut session, 3, stale_and_beyond), Err(LaneError::StaleRank));
    assert_eq!(session.snapshot(), before, "only the lanes ended");
    assert_eq!(events(&mut session), []);
    let beyond = try_resume(&mut session, 4, resume(2, 101, 40, 1000));
    assert_eq!(beyond, Err(Violation::Offset.into()));
}

#[test]
fn hostile_resume_offset_ends_only_its_session() {
    let offset = Err(Violation::Offset.into());
    for (received, delivered, credit, result) in [
        (101, 40, 1000, offset),
        (u64::MAX, u64::MAX, u64::MAX, offset),
        (1 << 32, 40, 1 << 33, offset),
        (60, 61, 1000, offset),
        (60, 50, 59, Err(Violation::Credit.into())),
        (39, 39, 1000, Err(LaneError::StaleRank)),
        (40, 0, 1000, Ok(())),
        (100, 100, 100, Ok(())),
    ] {
        let mut session = responder();
        assert_eq!(try_resume(&mut session, 2, resume(2, received, delivered, credit)), result);
        let seen = events(&mut session);
        if let Err(LaneError::Violation(_)) = result {
            let evict = Event::Evict { lane: LaneId(1), code: Code::Violation };
            let reset = Event::ResetApplication(Code::Violation);
            let ended = Event::Ended(End::Lost(Code::Violation));
            assert_eq!(seen, [evict, reset, ended]);
            assert_eq!(session.tombstone().code, Code::Violation, "which tells the other end");
        } else {
            assert!(!session.is_ended());
        }
    }
}

/// That a `Resume` came shows one direction of a path.
#[test]
fn a_resume_shows_nothing_until_something_follows_its_answer() {
    let probe = SessionFrame::Probe { number: 1, unheard: false };
    let ack = SessionFrame::Ack { delivered: 60, credit: 1000 };
    let mut session = responder();
    session.lane_down(NOW, LaneId(1), Code::Closed);
    assert_eq!(events(&mut session), [Event::Suspended, Event::LaneWanted]);
    assert_eq!(try_resume(&mut session, 2, resume(2, 60, 60, 1000)), Ok(()));
    assert!(matches!(frames(&mut session, 2)[..], [SessionFrame::Resumed(_)]));
    // Its sender probes while it waits.
    session.handle_frame(NOW, LaneId(2), probe).unwrap();
    assert_eq!(session.snapshot().state, State::Suspended);
    assert_eq!(events(&mut session), [Event::LaneUnwanted], "it is in use, and no other is needed");
    session.handle_frame(NOW, LaneId(2), ack.clone()).unwrap();
    assert_eq!(session.snapshot().state, State::Live);
    assert_eq!(events(&mut session), [Event::Resumed]);

    // The peer gave up a lane that looked alive here.
    let mut session = responder();
    assert_eq!(try_resume(&mut session, 2, resume(2, 60, 60, 1000)), Ok(()));
    assert_eq!(session.snapshot().state, State::Live, "most likely it is for a better one");
    let brief = NOW + Duration::from_secs(1);
    while let Some(at) = session.poll_timeout().filter(|at| *at <= brief) {
        session.handle_timeout(at, None);
        frames(&mut session, 2);
    }
    assert_eq!(session.snapshot().state, State::Suspended);
    session.handle_frame(brief, LaneId(2), ack).unwrap();
    assert_eq!(session.snapshot().state, State::Live);
}

/// An idle session asks, too, whether its answer has arrived.
#[test]
fn an_answer_that_nothing_follows_leads_to_another_lane() {
    let mut session = responder();
    let ack = SessionFrame::Ack { delivered: 100, credit: 1000 };
    session.handle_frame(NOW, LaneId(1), ack).unwrap();
    let idle = NOW + Duration::from_secs(3600);
    session.lane_down(idle, LaneId(1), Code::Closed);
    session.lane_up(idle, up(2, false));
    let resume = SessionFrame::Resume(resume(2, 100, 100, 1000));
    session.handle_frame(idle, LaneId(2), resume).unwrap();
    events(&mut session);
    while let Some(at) = session.poll_timeout().filter(|at| at.since(idle).as_secs() < 5) {
        session.handle_timeout(at, None);
        while session.poll_transmit(at, LaneId(2), 4096).is_some() {}
    }
    assert_eq!(events(&mut session), [Event::LaneWanted]);
}

#[test]
fn replayed_resume_is_a_no_op() {
    let mut session = responder();
    let first = resume(2, 60, 60, 1000);
    assert_eq!(try_resume(&mut session, 2, first.clone()), Ok(()));
    frames(&mut session, 2);
    let before = session.snapshot();
    assert_eq!(try_resume(&mut session, 3, first), Err(LaneError::StaleRank));
    assert_eq!(session.snapshot(), before);
    assert_eq!(before.lane, Some(LaneId(2)));
}

/// They are at the service as soon as it is there. Said twice they would be only to a peer that forgot
/// them, which is noticed only where its run was known before.
#[test]
fn first_bytes_go_with_open_to_a_peer_whose_run_is_known() {
    let memory = || Ledger::new(1 << 20).account(PEER);
    for run in [None, Some(Incarnation { counter: 1, random: 1 })] {
        let (config, target) = (Config::default(), Target::Service(80));
        let rng = Rng::from_u64(1);
        let mut here = Session::initiate(NOW, config, ID, secret(), target, memory(), rng)
            .saying(&Early::of(b"hello"), FirstBytes::WithOpen);
        run.into_iter().for_each(|run| here.peer_incarnation(NOW, PEER, run));
        here.lane_up(NOW, up(1, true));
        let sent = frames(&mut here, 1);
        let [SessionFrame::Open(open)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(&open.early[..], if run.is_some() { &b"hello"[..] } else { b"" });

        let rng = Rng::from_u64(2);
        let mut there = Session::respond(NOW, Config::default(), open, memory(), rng);
        there.lane_up(NOW, up(1, false));
        assert_eq!(there.held(), &open.early[..]);
        let again = SessionFrame::Open(Open { epoch: Epoch(2), ..open.clone() });
        there.lane_up(NOW, up(2, false));
        assert_eq!(there.handle_frame(NOW, LaneId(2), again), Ok(()));
        assert_eq!(there.held(), &open.early[..], "said again, had once");
        there.opened(NOW);
        there.delivered(NOW, open.early.len());
        let opened = frames(&mut there, 2);
        let [SessionFrame::Opened(opened), ..] = opened[..] else { panic!("{opened:?}") };

        assert_eq!(here.handle_frame(NOW, LaneId(1), SessionFrame::Opened(opened)), Ok(()));
        let data = here.poll_transmit(NOW, LaneId(1), 4096);
        assert_eq!(matches!(data, Some(Transmit::Data(b"hello"))), run.is_none(), "{data:?}");
        there.handle_timeout(NOW + Duration::from_millis(200), None);
        let acks = frames(&mut there, 2);
        let delivered = open.early.len() as u64;
        let is_told =
            matches!(acks[..], [SessionFrame::Ack { delivered: said, .. }] if said == delivered);
        assert!(is_told || delivered == 0, "`Opened` does not say it: {acks:?}");
    }
}

#[test]
fn zombie_lane_never_blocks_resume() {
    let mut session = responder();
    assert_eq!(try_resume(&mut session, 2, resume(2, 60, 60, 1000)), Ok(()));
    let evict = Event::Evict { lane: LaneId(1), code: Code::StaleRank };
    assert_eq!(events(&mut session), [evict], "at once, though it looked alive");
    let late = session.handle_data(NOW, LaneId(1), b"late");
    assert_eq!(late, Err(LaneError::UnknownLane));
}

#[test]
fn a_resumed_below_the_committed_rank_closes_only_its_lane() {
    let mut session = initiator();
    session.lane_down(NOW, LaneId(1), Code::Closed);
    session.lane_up(NOW, up(2, true));
    let sent = frames(&mut session, 2);
    let [SessionFrame::Resume(Resume { epoch, .. })] = sent[..] else { panic!("{sent:?}") };
    let ends = LaneEnds {
        dialler: LOCAL,
        acceptor: PEER,
        dialler_nonce: nonce(1),
        acceptor_nonce: Some(nonce(2)),
    };
    let role = Role::Responder;
    let (received, delivered, credit) = (0, 0, 1000);
    let claim = Claim { session: ID, epoch, role, received, delivered, credit };
    let proof = resumed_proof(&secret(), &ends, &claim).unwrap();
    let resumed = Resumed { epoch, received, delivered, credit, proof };

    let bad = SessionFrame::Resumed(Resumed { credit: 1001, ..resumed });
    assert_eq!(session.handle_frame(NOW, LaneId(2), bad), Err(LaneError::BadProof));
    let late = session.handle_frame(NOW, LaneId(2), SessionFrame::Resumed(resumed));
    assert_eq!(late, Err(LaneError::UnknownLane), "the attempt is over");

    session.lane_up(NOW, up(3, true));
    let sent = frames(&mut session, 3);
    let [SessionFrame::Resume(Resume { epoch, .. })] = sent[..] else { panic!("{sent:?}") };
    assert!(epoch > resumed.epoch, "no epoch is used twice");
    let stale = session.handle_frame(NOW, LaneId(3), SessionFrame::Resumed(resumed));
    assert_eq!(stale, Err(LaneError::StaleRank));
    assert!(!session.is_ended());
}

#[test]
fn resumed_before_hello_is_a_bug_of_the_driver() {
    let mut session = initiator();
    session.lane_down(NOW, LaneId(1), Code::Closed);
    session.lane_up(NOW, LaneUp { peer_nonce: None, ..up(2, true) });
    frames(&mut session, 2);
    let (epoch, proof) = (Epoch(2), Proof([0; 32].into()));
    let resumed = Resumed { epoch, received: 0, delivered: 0, credit: 0, proof };
    let early = session.handle_frame(NOW, LaneId(2), SessionFrame::Resumed(resumed));
    assert!(matches!(early, Err(LaneError::Bug(_))), "{early:?}");
}

#[test]
fn a_lane_without_the_peers_hello_makes_way_for_the_next() {
    let mut session = initiator();
    session.lane_down(NOW, LaneId(1), Code::Closed);
    session.lane_up(NOW, LaneUp { peer_nonce: None, ..up(2, true) });
    let [SessionFrame::Resume(first)] = &frames(&mut session, 2)[..] else { panic!("no resume") };
    session.lane_up(NOW, LaneUp { peer_nonce: None, ..up(3, true) });
    let [SessionFrame::Resume(second)] = &frames(&mut session, 3)[..] else { panic!("no resume") };
    assert!(second.epoch > first.epoch);
    assert_eq!(session.lanes().collect::<Vec<_>>(), [LaneId(3)]);

    session.lane_nonce(LaneId(3), nonce(2));
    session.lane_up(NOW, up(4, true));
    assert_eq!(frames(&mut session, 4), [], "who said Hello gets the time to answer");
}

#[test]
fn open_is_at_most_once() {
    let mut session = responder();
    let again = |session: &mut Session, lane, open| {
        session.lane_up(NOW, up(lane, false));
        session.handle_frame(NOW, LaneId(lane), SessionFrame::Open(open))
    };
    assert_eq!(again(&mut session, 2, open(1)), Err(LaneError::StaleRank));
    let other = Open { secret: Secret([9; 32].into()), ..open(2) };
    assert_eq!(again(&mut session, 3, other), Err(LaneError::BadProof));
    // The initiator acknowledged bytes, so it has our `Opened` and sends no `Open` any more.
    assert_eq!(again(&mut session, 4, open(2)), Err(LaneError::StaleRank));
    assert_eq!(session.snapshot().lane, Some(LaneId(1)));

    let memory = Ledger::new(1 << 20).account(PEER);
    let mut opening = Session::respond(NOW, Config::default(), &open(1), memory, Rng::from_u64(1));
    opening.lane_up(NOW, up(1, false));
    opening.opened(NOW);
    assert!(matches!(frames(&mut opening, 1)[..], [SessionFrame::Opened(_)]));
    assert_eq!(again(&mut opening, 2, open(2)), Ok(()));
    assert!(matches!(frames(&mut opening, 2)[..], [SessionFrame::Opened(_)]), "the same answer");
}

#[test]
fn frames_that_may_not_come_close_only_their_lane() {
    let opened = SessionFrame::Opened(Opened { credit: 5 });
    let ack = SessionFrame::Ack { delivered: 0, credit: 0 };
    for frame in [opened, ack, SessionFrame::Fin, SessionFrame::Idle] {
        let mut session = responder();
        session.lane_up(NOW, up(2, false));
        let result = session.handle_frame(NOW, LaneId(2), frame.clone());
        assert_eq!(result, Err(LaneError::Unexpected), "{frame:?}");
        assert_eq!(session.lanes().collect::<Vec<_>>(), [LaneId(1)]);
    }
    let mut session = responder();
    session.lane_up(NOW, up(2, false));
    assert_eq!(session.handle_data(NOW, LaneId(2), b"x"), Err(LaneError::Unexpected));
}

#[test]
fn violations_on_the_lane_in_use_end_the_session() {
    let overrun = vec![0; 17 << 10];
    let mut session = responder();
    let result = session.handle_data(NOW, LaneId(1), &overrun);
    assert_eq!(result, Err(Violation::Overrun.into()));
    assert!(session.is_ended());
    for (frame, violation) in [
        (SessionFrame::Ack { delivered: 101, credit: 1000 }, Violation::Offset),
        (SessionFrame::Idle, Violation::IdleEarly),
    ] {
        let mut session = responder();
        let result = session.handle_frame(NOW, LaneId(1), frame);
        assert_eq!(result, Err(violation.into()));
        assert!(session.is_ended());
    }
}

#[test]
fn clean_end_with_lost_last_ack_is_not_a_loss() {
    for (code, delivered, end) in [
        (Code::Closed, 101, End::Closed),
        (Code::Closed, 100, End::Lost(Code::Gone)),
        (Code::Gone, 101, End::Lost(Code::Gone)),
        (Code::Reset, 101, End::Reset(Code::Reset)),
        (Code::LingerExceeded, 0, End::Lost(Code::LingerExceeded)),
    ] {
        let mut session = responder();
        session.finish(NOW);
        frames(&mut session, 1);
        session.handle_frame(NOW, LaneId(1), SessionFrame::Fin).unwrap();
        session.fin_delivered(NOW);
        session.lane_down(NOW, LaneId(1), Code::Closed);
        session.lane_up(NOW, up(2, true));
        frames(&mut session, 2);
        let gone = SessionFrame::Gone { session: ID, code, delivered };
        assert_eq!(session.handle_frame(NOW, LaneId(2), gone), Ok(()));
        assert_eq!(frames(&mut session, 2), [SessionFrame::Idle]);
        session.handle_frame(NOW, LaneId(2), SessionFrame::Idle).unwrap();
        let seen = events(&mut session);
        let freed = seen.contains(&Event::LaneFree(LaneId(2)));
        assert_eq!((seen.last(), freed), (Some(&Event::Ended(end)), true), "{code}");
    }
}

#[test]
fn slow_link_is_not_suspected() {
    let mut session = responder();
    // Nothing comes for 4 s, but the kernel sees its bytes acknowledged all the time.
    let (mut now, mut acked) = (NOW, 0);
    while now.since(NOW) < Duration::from_secs(4) {
        now = session.poll_timeout().unwrap();
        acked += 100_000;
        session.handle_timeout(now, Some(acked));
        while session.poll_transmit(now, LaneId(1), 4096).is_some() {}
        if now.since(NOW) < Duration::from_millis(4400) {
            assert!(!events(&mut session).contains(&Event::Suspended), "{now:?}");
        }
    }
    let ack = SessionFrame::Ack { delivered: 41, credit: 1000 };
    session.handle_frame(now, LaneId(1), ack).unwrap();
    assert_eq!(session.snapshot().state, State::Live);
}

#[test]
fn an_idle_session_is_small() {
    let size = size_of::<Session>();
    assert!(size < 2048, "{size} bytes");
    let ledger = Ledger::new(1 << 20);
    let rng = Rng::from_u64(1);
    let mut session = Session::respond(NOW, Config::default(), &open(1), ledger.account(PEER), rng);
    session.lane_up(NOW, up(1, false));
    session.opened(NOW);
    session.space();
    session.wrote(NOW, 100);
    frames(&mut session, 1);
    assert_eq!(ledger.held(), 4096, "a keystroke costs a page");
    let ack = SessionFrame::Ack { delivered: 100, credit: 1000 };
    session.handle_frame(NOW, LaneId(1), ack).unwrap();
    assert_eq!(ledger.held(), 0, "and nothing once it is acknowledged");
    session.space();
    session.wrote(NOW, 0);
    assert_eq!(ledger.held(), 0, "room that is given back costs nothing");
}

const NEXT: DeviceId = DeviceId::from_bytes([3; 32]);

fn move_to(session: &mut Session, generation: u64, to: DeviceId) -> Result<(), LaneError> {
    let generation = Generation(generation);
    session.handle_frame(NOW, LaneId(1), SessionFrame::Move { generation, to })
}

/// Whoever asks for the same again may not have heard the answer; whoever asks for something else breaks
/// the protocol, and would have a place kept for each.
#[test]
fn a_generation_goes_to_one_device() {
    let mut session = responder();
    assert_eq!(move_to(&mut session, 1, NEXT), Ok(()));
    assert_eq!(move_to(&mut session, 1, NEXT), Ok(()));
    assert_eq!(events(&mut session), [Event::PeerMoving(NEXT)], "told once");
    let generation = Generation(1);
    assert_eq!(frames(&mut session, 1), [SessionFrame::MayMove { generation }]);
    let another = DeviceId::from_bytes([4; 32]);
    let wrong = LaneError::from(Violation::Generation);
    assert_eq!(move_to(&mut session, 1, another), Err(wrong));
    assert_eq!(move_to(&mut responder(), 2, NEXT), Err(wrong), "not the next one");
    assert_eq!(move_to(&mut responder(), 0, NEXT), Err(wrong));
}

/// While the other end may go, ours stays; and it does not go where it was not asked to.
#[test]
fn only_one_end_goes_at_a_time() {
    let mut session = initiator();
    assert_eq!(move_to(&mut session, 1, NEXT), Ok(()));
    assert_eq!(session.hand_over(NOW, NEXT), Err(Code::Moving));
    let mut session = initiator();
    session.hand_over(NOW, NEXT).unwrap();
    assert_eq!(session.hand_over(NOW, NEXT), Err(Code::Moving));
    assert_eq!(move_to(&mut session, 1, NEXT), Ok(()));
    let generation = Generation(1);
    let asked = [
        SessionFrame::Stay { generation, code: Code::Moving },
        SessionFrame::Move { generation, to: NEXT },
    ];
    assert_eq!(frames(&mut session, 1), asked, "the initiator goes first");
    let mut session = responder();
    let unasked = SessionFrame::MayMove { generation };
    let result = session.handle_frame(NOW, LaneId(1), unasked);
    assert_eq!(result, Err(LaneError::Unexpected));
    assert!(session.capsule().is_none());
}

/// Whoever asks for the session with the old secret, or as the next owner before anybody may go, gets
/// nothing; whoever has it away touches nothing.
#[test]
fn an_end_that_is_away_has_neither_lane_nor_room() {
    let mut session = responder();
    session
        .handle_frame(NOW, LaneId(1), SessionFrame::Ack { delivered: 40, credit: 1000 })
        .unwrap();
    session.hand_over(NOW, NEXT).unwrap();
    frames(&mut session, 1);
    let generation = Generation(1);
    let may = SessionFrame::MayMove { generation };
    session.handle_frame(NOW, LaneId(1), may).unwrap();
    let moving = Event::Evict { lane: LaneId(1), code: Code::Moving };
    assert_eq!(events(&mut session), [moving, Event::MayMove]);
    assert!(session.is_away() && session.space().is_empty());
    assert_eq!(session.snapshot().state, State::Held);
    assert_eq!(try_resume(&mut session, 2, resume(2, 40, 40, 1000)), Err(LaneError::Moving));
    session.let_go(NOW, Generation(2));
    assert!(session.is_away(), "another generation's word does not count");
    session.let_go(NOW, generation);
    assert_eq!(events(&mut session).last(), Some(&Event::Ended(End::Moved)));
}

fn away(to: DeviceId) -> (Capsule, Vec<u8>) {
    let mut session = responder();
    session.hand_over(NOW, to).unwrap();
    frames(&mut session, 1);
    let may = SessionFrame::MayMove { generation: Generation(1) };
    session.handle_frame(NOW, LaneId(1), may).unwrap();
    session.capsule().unwrap()
}

/// A device resumes as the responder's next owner.
fn take(
    session: &mut Session,
    lane: u64,
    device: DeviceId,
    secret: &Secret,
) -> Result<(), LaneError> {
    let ends = LaneEnds {
        dialler: device,
        acceptor: LOCAL,
        dialler_nonce: nonce(2),
        acceptor_nonce: None,
    };
    let (epoch, role) = (Epoch(2), Role::Responder);
    let claim = Claim { session: ID, epoch, role, received: 0, delivered: 0, credit: 1000 };
    let proof = resume_proof(secret, &ends, &claim);
    let resume = Resume { session: ID, epoch, received: 0, delivered: 0, credit: 1000, proof };
    session.lane_up(NOW, LaneUp { peer: device, ..up(lane, false) });
    session.handle_frame(NOW, LaneId(lane), SessionFrame::Resume(resume))
}

#[test]
fn only_the_device_that_was_named_takes_an_end() {
    let third = DeviceId::from_bytes([4; 32]);
    let [named, unnamed] = [NEXT, third].map(|to| away(to).0.secret);
    let mut session = initiator();
    assert_eq!(take(&mut session, 2, NEXT, &named), Err(LaneError::BadProof), "not yet");
    move_to(&mut session, 1, NEXT).unwrap();
    for (device, secret) in [(third, unnamed), (third, named), (NEXT, unnamed), (NEXT, secret())] {
        assert_eq!(take(&mut session, 3, device, &secret), Err(LaneError::BadProof));
    }
    assert_eq!(take(&mut session, 4, NEXT, &named), Ok(()));
    let moved = events(&mut session);
    assert!(moved.contains(&Event::PeerMoved(NEXT)), "{moved:?}");
    // Of the one before neither the lane nor the secret is worth anything, nor is its run.
    assert_eq!(session.lanes().collect::<Vec<_>>(), [LaneId(4)]);
    assert_eq!(take(&mut session, 5, PEER, &secret()), Err(LaneError::BadProof));
    let run = |counter| Incarnation { counter, random: counter };
    session.peer_incarnation(NOW, NEXT, run(1));
    session.peer_incarnation(NOW, PEER, run(9));
    assert!(!session.is_ended());
    session.peer_incarnation(NOW, NEXT, run(2));
    assert!(session.is_ended(), "this one counts");
}

#[test]
fn a_question_that_was_lost_is_asked_again() {
    let mut session = responder();
    session.hand_over(NOW, NEXT).unwrap();
    let generation = Generation(1);
    let question = SessionFrame::Move { generation, to: NEXT };
    assert_eq!(frames(&mut session, 1), std::slice::from_ref(&question));
    session.lane_down(NOW, LaneId(1), Code::Closed);
    try_resume(&mut session, 2, resume(2, 40, 40, 1000)).unwrap();
    assert!(frames(&mut session, 2).contains(&question));
    // Nobody wants it any more: it is answered, and then taken back.
    session.withdraw(NOW);
    let may = SessionFrame::MayMove { generation };
    session.handle_frame(NOW, LaneId(2), may).unwrap();
    assert!(!events(&mut session).contains(&Event::MayMove));
    assert!(session.is_away() && session.capsule().is_none(), "it asks for itself");
}

#[test]
fn nobody_leaves_before_the_initiator_knows_of_the_session() {
    let memory = Ledger::new(1 << 20).account(PEER);
    let mut session = Session::respond(NOW, Config::default(), &open(1), memory, Rng::from_u64(1));
    session.lane_up(NOW, up(1, false));
    assert_eq!(session.hand_over(NOW, NEXT), Err(Code::NotMovable), "not open");
    session.opened(NOW);
    session.hand_over(NOW, NEXT).unwrap();
    assert!(matches!(frames(&mut session, 1)[..], [SessionFrame::Opened(_)]));
    let ack = SessionFrame::Ack { delivered: 0, credit: 1000 };
    session.handle_frame(NOW, LaneId(1), ack).unwrap();
    let asked = SessionFrame::Move { generation: Generation(1), to: NEXT };
    assert_eq!(frames(&mut session, 1), [asked]);
}

/// Whoever was to leave has restarted: the next owner may have what it has lost, but has to come.
#[test]
fn a_restart_does_not_end_a_session_that_was_handed_over() {
    let run = |counter| Incarnation { counter, random: counter };
    let restarted = |to| {
        let mut session = initiator();
        session.peer_incarnation(NOW, PEER, run(1));
        move_to(&mut session, 1, to).unwrap();
        session.peer_incarnation(NOW, PEER, run(2));
        assert!(!session.is_ended());
        session
    };
    let mut session = restarted(NEXT);
    assert_eq!(take(&mut session, 2, NEXT, &away(NEXT).0.secret), Ok(()));
    let late = NOW + Duration::from_secs(121);
    let mut session = restarted(NEXT);
    session.handle_timeout(late, None);
    assert!(events(&mut session).contains(&Event::Ended(End::Lost(Code::PeerRestarted))));
    // What it handed over to itself it may still have.
    let mut session = restarted(PEER);
    session.handle_timeout(late, None);
    assert!(!session.is_ended());
}

/// An owner of the past says so; the session has another one.
#[test]
fn that_a_session_moved_does_not_end_it() {
    let mut session = initiator();
    session.lane_down(NOW, LaneId(1), Code::Closed);
    session.lane_up(NOW, up(2, true));
    assert!(matches!(frames(&mut session, 2)[..], [SessionFrame::Resume(_)]));
    let gone = |code| SessionFrame::Gone { session: ID, code, delivered: 0 };
    let result = session.handle_frame(NOW, LaneId(2), gone(Code::Moved));
    assert_eq!((result, session.is_ended()), (Err(LaneError::StaleRank), false));
}

#[test]
fn hostile_capsules_are_refused() {
    let (capsule, bytes) = away(NEXT);
    assert_eq!(bytes.len(), 60, "what is not acknowledged");
    let adopt = |capsule: &Capsule, bytes: &[u8]| {
        let memory = Ledger::new(1 << 20).account(PEER);
        let rng = Rng::from_u64(2);
        Session::adopt(NOW, Config::default(), capsule, bytes, memory, rng).map(drop)
    };
    assert_eq!(adopt(&capsule, &bytes), Ok(()));
    let offsets = Err(CapsuleError::Offsets);
    assert_eq!(adopt(&capsule, &bytes[1..]), offsets, "a byte is missing");
    let (sent, received) = (capsule.sent, capsule.received);
    let end = u64::MAX - 60;
    for wrong in [
        Sent { acked: end, sent: end + 1, ..sent },
        Sent { acked: u64::MAX, sent: u64::MAX, ..sent },
        Sent { credit: u64::MAX, ..sent },
        Sent { sent: sent.acked - 1, ..sent },
        Sent { sent: sent.acked + 61, ..sent },
        Sent { fin: Some(7), ..sent },
        Sent { fin: Some(u64::MAX), ..sent },
    ] {
        assert_eq!(
            adopt(&Capsule { sent: wrong, ..capsule.clone() }, &bytes),
            offsets,
            "{wrong:?}"
        );
    }
    let large = Err(CapsuleError::TooLarge);
    let most = Config::default().buffer_max;
    for (wrong, refused) in [
        (Received { credit: received.delivered + most + 1, ..received }, large),
        (Received { credit: u64::MAX, ..received }, large),
        (Received { delivered: u64::MAX, credit: u64::MAX, ..received }, offsets),
        (Received { fin: Some(received.delivered + 1), ..received }, offsets),
    ] {
        let capsule = Capsule { received: wrong, ..capsule.clone() };
        assert_eq!(adopt(&capsule, &bytes), refused, "{wrong:?}");
    }
    let more = vec![0; usize::try_from(most).unwrap() + 1];
    assert_eq!(adopt(&capsule, &more), large);
}
