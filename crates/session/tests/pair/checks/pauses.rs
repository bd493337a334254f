//! One end that is suspended on purpose, or waits for one that is.

use super::*;

const PAUSED: Event = Event::Evict { lane: LaneId(1), code: Code::Paused };

/// A responder whose peer has closed the lane because it is paused.
fn waiting() -> Session {
    let mut session = responder();
    session.lane_down(NOW, LaneId(1), Code::Paused);
    assert_eq!(events(&mut session), [Event::Suspended]);
    session
}

/// The same, with a `Resume` of its own that went out on lane 2.
fn asking() -> Session {
    let mut session = responder();
    session.lane_down(NOW, LaneId(1), Code::Closed);
    assert_eq!(events(&mut session), [Event::Suspended, Event::LaneWanted]);
    session.lane_up(NOW, up(2, true));
    assert!(matches!(frames(&mut session, 2)[..], [SessionFrame::Resume(_)]));
    events(&mut session);
    session
}

#[test]
fn an_end_that_is_suspended_closes_its_lane_and_wants_none() {
    let mut session = initiator();
    assert_eq!(session.suspend(NOW), Ok(()));
    assert_eq!(events(&mut session), [PAUSED, Event::Suspended]);
    let shown = session.snapshot();
    assert_eq!((shown.state, shown.reason), (State::Suspended, Some(Code::Paused)));
    assert!(shown.paused_here && shown.is_dormant());
    // Nothing is due before it is lost.
    assert_eq!(session.poll_timeout(), Some(NOW + Config::default().linger));
    assert_eq!(session.suspend(NOW), Ok(()), "twice is once");
    // A lane that was on its way is given back.
    session.lane_up(NOW, up(2, true));
    assert_eq!(events(&mut session), [Event::LaneFree(LaneId(2))]);

    assert_eq!(session.resume(NOW), Ok(()));
    assert_eq!(events(&mut session), [Event::LaneWanted]);
    let shown = session.snapshot();
    assert_eq!((shown.reason, shown.paused_here), (Some(Code::PeerUnreachable), false));
    assert_eq!(session.resume(NOW), Ok(()));
}

#[test]
fn an_end_that_is_suspended_answers_so_once_all_is_checked() {
    let mut session = responder();
    session.suspend(NOW).unwrap();
    let wrong = Resume { proof: Proof([0; 32].into()), ..resume(5, 60, 40, 1000) };
    assert_eq!(try_resume(&mut session, 2, wrong), Err(LaneError::BadProof));
    assert_eq!(try_resume(&mut session, 3, resume(1, 60, 40, 1000)), Err(LaneError::StaleRank));
    let right = resume(5, 60, 40, 1000);
    assert_eq!(try_resume(&mut session, 4, right.clone()), Err(LaneError::Paused));
    assert_eq!(LaneError::Paused.code(), Code::Paused);
    session.resume(NOW).unwrap();
    assert_eq!(try_resume(&mut session, 5, right), Ok(()), "its rank was not used up");
}

#[test]
fn bytes_of_the_application_wait_while_an_end_is_suspended() {
    let mut session = initiator();
    session.suspend(NOW).unwrap();
    events(&mut session);
    let mut written = 0;
    loop {
        let room = session.space().len();
        session.wrote(NOW, room);
        written += room as u64;
        if room == 0 {
            break; // Back-pressure.
        }
    }
    session.finish(NOW);
    assert_eq!((session.snapshot().held, events(&mut session)), (written, vec![]));
    assert_eq!(written, Config::default().buffer_start);
}

#[test]
fn an_end_that_hears_of_it_waits_quietly() {
    let mut session = waiting();
    let shown = session.snapshot();
    assert_eq!((shown.reason, shown.paused_here), (Some(Code::Paused), false));
    assert!(shown.is_dormant());
    session.lane_up(NOW, up(2, true));
    assert_eq!(events(&mut session), [Event::LaneFree(LaneId(2))]);
    assert_eq!(session.resume(NOW), Err(Code::Paused), "it is not ours to resume");
    assert_eq!(events(&mut session), []);
    // The one that paused comes back.
    assert_eq!(try_resume(&mut session, 3, resume(2, 60, 40, 1000)), Ok(()));
    assert_eq!(session.snapshot().lane, Some(LaneId(3)));
}

#[test]
fn an_end_that_asks_in_vain_waits_until_it_is_asked_or_nudged() {
    let mut session = asking();
    session.lane_down(NOW, LaneId(2), Code::Paused);
    assert_eq!(events(&mut session), []);
    assert_eq!(session.snapshot().reason, Some(Code::Paused));
    session.suspect(NOW, Suspicion::PeerSilent);
    assert_eq!(events(&mut session), []);
    session.suspect(NOW, Suspicion::Nudged);
    assert_eq!(events(&mut session), [Event::LaneWanted]);
    assert_eq!(session.snapshot().reason, Some(Code::PeerUnreachable));
}

#[test]
fn an_answer_that_is_older_than_the_lane_in_use_does_not_count() {
    let mut session = asking();
    session.lane_down(NOW, LaneId(2), Code::Closed);
    session.lane_up(NOW, up(3, true));
    assert!(matches!(frames(&mut session, 3)[..], [SessionFrame::Resume(_)]));
    // The peer resumes below our rank; then that lane breaks, and the answer to what we asked before comes.
    assert_eq!(try_resume(&mut session, 4, resume(2, 60, 40, 1000)), Ok(()));
    session.lane_down(NOW, LaneId(4), Code::Closed);
    events(&mut session);
    session.lane_down(NOW, LaneId(3), Code::Paused);
    assert_eq!(session.snapshot().reason, Some(Code::PeerUnreachable));
    assert!(!session.snapshot().is_dormant());
}

/// Both pause; the one that resumes first has shown that it is awake.
#[test]
fn an_end_that_is_suspended_itself_hears_that_the_other_is_awake() {
    let mut session = waiting();
    session.suspend(NOW).unwrap();
    assert_eq!(try_resume(&mut session, 2, resume(2, 60, 40, 1000)), Err(LaneError::Paused));
    assert_eq!(session.resume(NOW), Ok(()));
    assert!(events(&mut session).contains(&Event::LaneWanted));
}

#[test]
fn a_responder_that_may_not_be_known_to_be_open_waits_with_it() {
    let memory = Ledger::new(1 << 20).account(PEER);
    let mut session = Session::respond(NOW, Config::default(), &open(1), memory, Rng::from_u64(1));
    assert_eq!(session.suspend(NOW), Err(Code::NotMovable), "it is being opened");
    session.lane_up(NOW, up(1, false));
    session.opened(NOW);
    assert_eq!(session.suspend(NOW), Ok(()));
    assert!(matches!(frames(&mut session, 1)[..], [SessionFrame::Opened(_)]));
    assert_eq!(events(&mut session), []);
    let ack = SessionFrame::Ack { delivered: 0, credit: 1000 };
    assert_eq!(session.handle_frame(NOW, LaneId(1), ack), Ok(()));
    assert_eq!(events(&mut session), [PAUSED, Event::Suspended]);
}

#[test]
fn a_hand_over_and_a_reset_resume_what_is_suspended_here() {
    let mut session = initiator();
    session.suspend(NOW).unwrap();
    events(&mut session);
    assert_eq!(session.hand_over(NOW, NEXT), Ok(()));
    assert_eq!(events(&mut session), [Event::LaneWanted]);
    assert_eq!(session.suspend(NOW), Err(Code::Moving));

    let mut session = initiator();
    session.suspend(NOW).unwrap();
    events(&mut session);
    session.reset(NOW, Code::Cancelled);
    assert_eq!(events(&mut session), [Event::LaneWanted], "the other end is to be told");
}

#[test]
fn a_hand_over_whose_other_end_is_paused_is_refused() {
    assert_eq!(waiting().hand_over(NOW, NEXT), Err(Code::Paused));
    let mut session = responder();
    assert_eq!(session.hand_over(NOW, NEXT), Ok(()));
    frames(&mut session, 1);
    session.lane_down(NOW, LaneId(1), Code::Paused);
    assert_eq!(events(&mut session), [Event::Stay(Code::Paused), Event::Suspended]);
}

#[test]
fn an_end_that_waits_for_a_paused_one_hears_that_it_has_restarted() {
    let mut session = waiting();
    session.peer_incarnation(NOW, PEER, Incarnation { counter: 1, random: 1 });
    assert_eq!(events(&mut session), []);
    session.peer_incarnation(NOW, PEER, Incarnation { counter: 2, random: 2 });
    let ended = Event::Ended(End::Lost(Code::PeerRestarted));
    assert!(events(&mut session).contains(&ended));
}

#[test]
fn a_session_that_is_closed_while_the_other_end_is_paused_waits_to_say_so() {
    let mut session = waiting();
    session.reset(NOW, Code::Cancelled);
    assert_eq!(events(&mut session), []);
    assert_eq!(session.snapshot().state, State::Closing);
    assert_eq!(try_resume(&mut session, 2, resume(2, 60, 40, 1000)), Ok(()));
    let said = frames(&mut session, 2);
    assert!(said.contains(&SessionFrame::Reset { code: Code::Cancelled }), "{said:?}");
}

/// The other end takes it for paused and does not ask: it would wait in vain.
#[test]
fn an_end_that_paused_says_that_everything_arrived_for_as_long_as_the_other_waits() {
    let mut session = responder();
    session.finish(NOW);
    frames(&mut session, 1);
    for frame in [SessionFrame::Ack { delivered: 101, credit: 1000 }, SessionFrame::Fin] {
        assert_eq!(session.handle_frame(NOW, LaneId(1), frame), Ok(()));
    }
    session.suspend(NOW).unwrap();
    session.fin_delivered(NOW);
    assert!(events(&mut session).contains(&Event::LaneWanted));
    let until = session.poll_timeout();
    assert_eq!(session.snapshot().state, State::Closing);
    assert_eq!(until, Some(NOW + Config::default().linger));
}
