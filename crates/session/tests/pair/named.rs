//! Mistakes seen in real systems, each played out between the two ends.

use std::time::Duration;

use cloak_session::{End, Event, Planted, Session, State, Suspicion};
use cloak_wire::Code;

use crate::plan::{Fault, Plan};
use crate::wire::Bound;
use crate::world::World;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const BOTH: [bool; 2] = [true, true];

/// Two applications that write 1 KiB every 10 ms for a minute.
fn steady() -> Plan {
    let mut plan = Plan::quiet();
    plan.totals = [6_000_000; 2];
    plan.pace = [(10 * MS, 1_000); 2];
    plan
}

fn states(world: &mut World) -> [State; 2] {
    [0, 1].map(|side| world.session(side).snapshot().state)
}

fn finish(plan: Plan) -> World {
    let mut world = World::new(1, plan);
    world.run();
    world
}

fn ended(world: &World, side: usize) -> Option<End> {
    world.sides[side].events.iter().find_map(|event| match event {
        Event::Ended(end) => Some(*end),
        _ => None,
    })
}

#[test]
fn first_eof_must_not_close_both_directions() {
    let mut plan = Plan::quiet();
    plan.totals = [10, 300_000];
    plan.pace[1] = (20 * MS, 3_000);
    let world = finish(plan);
    assert_eq!(world.sides[0].app.read, 300_000);
}

#[test]
fn last_bytes_before_close_are_delivered() {
    for cut in 0..60 {
        let mut plan = Plan::quiet().with(cut * 2 * MS, Fault::Cut { all: true });
        plan.totals = [0, 50_000];
        let world = finish(plan);
        assert_eq!((world.sides[0].app.read, world.sides[0].app.ended), (50_000, true));
    }
}

#[test]
fn counter_does_not_wrap_at_32_bits() {
    let mut plan = Plan::quiet().with(60 * MS, Fault::Cut { all: true });
    plan.base = (1 << 32) - 50_000;
    let world = finish(plan.clone());
    assert_eq!(world.sides[1].app.read, 100_000);
    let wrapped = std::panic::catch_unwind(|| finish(plan.planting(Planted::Offset32Bit)));
    assert!(wrapped.is_err(), "the planted bug is found");
}

#[test]
fn a_cut_at_every_moment_loses_nothing() {
    for at in 0..150 {
        let mut plan = Plan::quiet().with(at * 2 * MS, Fault::Cut { all: true });
        plan.totals = [5_000, 5_000];
        plan.backend_delay = 30 * MS;
        finish(plan);
    }
}

#[test]
fn status_is_never_green_while_dead() {
    for from in [BOTH, [true, false], [false, true]] {
        let mut world =
            World::new(1, steady().with(5 * S, Fault::Silence { from, length: 30 * S }));
        world.run_for(5 * S - MS, |_| false);
        assert_eq!(states(&mut world), [State::Live; 2]);
        world.run_for(5 * S, |_| false);
        // With one direction silent, the other still carries frames: one end hears, and must
        // not complain before its probes stay unanswered.
        let suspended = states(&mut world).map(|state| state == State::Suspended);
        assert!(suspended[0] || from != BOTH, "{from:?}");
        assert!(suspended[1] || from != BOTH, "{from:?}");
        assert!(suspended.contains(&true), "{from:?}");
        world.run_for(26 * S, |_| false);
        assert_eq!(states(&mut world), [State::Live; 2], "{from:?}");
    }
}

/// A lane from the pool carries a `Resume` through a hole of one direction, and no answer comes back.
#[test]
fn half_a_hole_is_told_at_both_ends_whatever_gets_through() {
    for seed in 0..200 {
        for from in [[true, false], [false, true]] {
            let begin = 5 * S + seed as u32 * 7 * MS;
            let mut plan = steady().with(begin, Fault::Silence { from, length: 30 * S });
            plan.warm = [seed % 5, seed / 5 % 5];
            plan.jitter = MS * (seed as u32 % 3) * 20;
            let mut world = World::new(seed, plan);
            world.run_for(begin + 5 * S, |_| false);
            for _ in 0..250 {
                assert_eq!(states(&mut world), [State::Suspended; 2], "seed {seed}, {from:?}");
                world.run_for(100 * MS, |_| false);
            }
            world.run_for(5 * S, |_| false);
            assert_eq!(states(&mut world), [State::Live; 2], "seed {seed}, {from:?}");
        }
    }
}

#[test]
fn receiver_only_and_idle_sessions_notice_a_black_hole() {
    let mut plan = steady().with(5 * S, Fault::Silence { from: BOTH, length: 60 * S });
    plan.totals = [0, 6_000_000];
    let mut world = World::new(1, plan);
    world.run_for(10 * S, |_| false);
    assert_eq!(states(&mut world), [State::Suspended; 2], "receiver and sender alike");

    let mut plan = steady().with(30 * S, Fault::Silence { from: BOTH, length: 60 * S });
    plan.totals = [1_000_000; 2];
    plan.pace = [(500 * MS, 1); 2];
    let mut world = World::new(1, plan);
    for side in 0..2 {
        world.sides[side].app.total = 10;
        world.sides[side].app.finished = true; // It just never finishes.
    }
    world.run_for(35 * S, |_| false);
    assert_eq!(states(&mut world), [State::Live; 2], "idle: nobody asks");
    for side in 0..2 {
        world.strike(Fault::Suspect(side, Suspicion::PeerSilent));
    }
    world.run_for(3 * S + 100 * MS, |_| false);
    assert_eq!(states(&mut world), [State::Suspended; 2], "the peer channel asked");
}

#[test]
fn zombie_lane_never_blocks_resume() {
    let mut world = World::new(1, steady().with(5 * S, Fault::Zombie));
    world.run_for(5 * S, |_| false);
    world.run_for(5 * S, |_| false);
    assert_eq!(states(&mut world), [State::Live; 2]);
    let old = world.wires.values().filter(|wire| wire.bound.contains(&Bound::Session)).count();
    assert_eq!(old, 1, "the half-dead lane is closed at both ends");
}

#[test]
fn a_better_lane_is_taken_while_the_present_one_works() {
    for side in 0..2 {
        let mut world = World::new(1, steady());
        world.run_for(5 * S, |_| false);
        world.with_session(side, Session::improve);
        let better = world.connect(side);
        world.run_for(S, |_| false);
        for side in 0..2 {
            let snapshot = world.session(side).snapshot();
            assert_eq!((snapshot.lane, snapshot.resumes), (Some(better), 1));
            assert!(!world.sides[side].events.contains(&Event::Suspended));
        }
        world.run();

        let mut world = World::new(1, steady());
        world.run_for(5 * S, |_| false);
        world.connect(side);
        world.run_for(S, |_| false);
        assert_eq!(world.session(side).snapshot().resumes, 0, "it was not asked for");
    }
}

#[test]
fn progress_cancels_a_race() {
    let plan = steady().with(5 * S, Fault::Silence { from: BOTH, length: 3200 * MS });
    let mut world = World::new(1, plan);
    world.run_for(12 * S, |_| false);
    assert_eq!(states(&mut world), [State::Live; 2]);
    for side in 0..2 {
        let events = &world.sides[side].events;
        assert!(events.contains(&Event::Suspended) && events.contains(&Event::Resumed));
    }
}

#[test]
fn simultaneous_resume_from_both_ends_settles_on_one_lane() {
    for seed in 0..100 {
        let mut plan = steady().with(2 * S, Fault::Cut { all: true });
        plan.totals = [600_000; 2];
        plan.jitter = Duration::from_millis(seed % 7 * 20);
        let mut world = World::new(seed, plan);
        world.run_for(4 * S, |_| false);
        let lanes = [0, 1].map(|side| world.session(side).snapshot().lane);
        assert!(lanes[0].is_some() && lanes[0] == lanes[1], "seed {seed}: {lanes:?}");
        world.run();
    }
}

#[test]
fn reused_lane_carries_nothing_of_the_old_session() {
    // The world checks at every `LaneFree` that nothing is on its way, and that nothing comes.
    let world = finish(Plan::quiet());
    let wire = world.wires.values().next().unwrap();
    assert_eq!(wire.bound, [Bound::Free; 2], "both ends gave it back");
    for side in 0..2 {
        let mut plan = steady().with(S, Fault::Reset(side));
        plan.jitter = 30 * MS;
        let world = finish(plan);
        let wire = world.wires.values().next().unwrap();
        assert_eq!(wire.bound, [Bound::Free; 2], "after a reset as well");
        assert_eq!(ended(&world, 1 - side), Some(End::Reset(Code::Reset)));
        assert_eq!(world.sides[1 - side].app.reset, Some(Code::Reset));
    }
}

#[test]
fn reset_while_suspended_is_told_after_the_resume() {
    for side in 0..2 {
        let silence = Fault::Silence { from: BOTH, length: 20 * S };
        let world = finish(steady().with(2 * S, silence).with(15 * S, Fault::Reset(side)));
        assert_eq!(world.sides[1 - side].app.reset, Some(Code::Reset));
    }
}

#[test]
fn server_rebooted_is_told() {
    let mut world = World::new(1, steady().with(5 * S, Fault::Restart(1)));
    world.run_for(8 * S, |_| false);
    let end = ended(&world, 0);
    assert!(matches!(end, Some(End::Lost(Code::PeerRestarted | Code::Gone))), "{end:?}");
    assert!(world.sides[0].app.reset.is_some());
}

#[test]
fn open_is_at_most_once() {
    // Cut at every moment from dialling to the first bytes; a second responder session would
    // read the first one's bytes again, which the applications check.
    for at in 0..100 {
        let mut plan = Plan::quiet().with(at * MS, Fault::Cut { all: true });
        plan.totals = [1_000, 10];
        plan.backend_delay = 25 * MS;
        let world = finish(plan);
        assert_eq!(world.sides[1].app.read, 1_000);
    }
    for at in 0..100 {
        let mut plan = Plan::quiet().with(at * MS, Fault::Restart(1));
        plan.totals = [1_000, 10];
        plan.backend_delay = 25 * MS;
        let world = finish(plan);
        let opened = world.sides[0].events.contains(&Event::Opened);
        let clean = ended(&world, 0) == Some(End::Closed);
        assert!(opened || !clean);
    }
}

/// The same where the first bytes go with `Open`, on a lane from the pool.
#[test]
fn first_bytes_are_said_at_most_once() {
    let plan = |at| {
        let mut plan = Plan::quiet().with(at * MS, Fault::Cut { all: true });
        (plan.totals, plan.early) = ([1_000, 10], 100);
        (plan.acquainted, plan.backend_delay) = (true, MS);
        plan
    };
    for at in 0..60 {
        let world = finish(plan(at));
        assert_eq!(world.sides[1].app.read, 1_000);
    }
    // Some restarts come when the service has the bytes and the initiator has no answer.
    let mut served = 0;
    for at in 0..60 {
        let world = finish(plan(at).with(at * MS, Fault::Restart(1)));
        let opened = world.sides[0].events.contains(&Event::Opened);
        served += u32::from(world.sides[1].served && !opened);
    }
    assert!(served > 0);
}

#[test]
fn clock_jump_8h_forward_and_back() {
    for side in 0..2 {
        let mut world = World::new(1, steady().with(5 * S, Fault::ClockJump(side)));
        world.run_for(20 * S, |_| false);
        assert_eq!(states(&mut world), [State::Live; 2]);
        let events = &world.sides[side].events;
        assert!(!events.contains(&Event::Suspended), "the lane was asked and answered");
    }
}

#[test]
fn dead_sessions_use_no_cpu() {
    let mut world =
        World::new(1, steady().with(2 * S, Fault::Silence { from: BOTH, length: 9000 * S }));
    world.run_for(300 * S, |_| false);
    assert_eq!(states(&mut world), [State::Suspended; 2]);
    for side in 0..2 {
        let now = world.local(side);
        let next = world.session(side).poll_timeout().unwrap();
        assert!(next.since(now) > 3600 * S, "side {side} wakes up in {:?}", next.since(now));
    }
}

#[test]
fn lingering_too_long_is_a_loss_at_both_ends() {
    let mut plan = steady().with(2 * S, Fault::Silence { from: BOTH, length: 100 * S });
    plan.config.linger = 60 * S;
    let mut world = World::new(1, plan);
    world.run_for(80 * S, |_| false);
    for side in 0..2 {
        assert_eq!(ended(&world, side), Some(End::Lost(Code::LingerExceeded)));
        assert_eq!(world.sides[side].app.reset, Some(Code::LingerExceeded));
    }
}

#[test]
fn buffers_of_long_suspended_sessions_are_spilled_and_come_back() {
    let mut plan = steady().with(2 * S, Fault::Silence { from: BOTH, length: 300 * S });
    plan.totals = [200_000; 2];
    let mut world = World::new(1, plan);
    world.run_for(200 * S, |_| false);
    for side in 0..2 {
        assert_eq!(world.sides[side].spills, 1);
        assert_eq!(world.sides[side].memory.held(), 0, "nothing is left in memory");
    }
    world.run();
    assert_eq!(world.sides[0].app.read, 200_000);
}

#[test]
fn bounded_memory_per_session_and_in_all() {
    // Side 1 takes nothing; side 0 writes as fast as it may.
    let mut plan = Plan::quiet();
    plan.totals = [100 << 20, 0];
    plan.pace = [(MS, 1 << 20), (MS, 0)];
    let mut world = World::new(1, plan);
    world.run_for(5 * S, |_| false);
    let held = world.session(1).snapshot().held;
    assert!(held <= 16 << 10, "{held} bytes: a window that nobody empties does not grow");
    let held = world.session(0).snapshot().held;
    assert!(held <= 128 << 10, "{held} bytes: a buffer that nobody empties does not grow");
}

/// Acknowledgements travel with what is sent anyway, and nothing is measured that nobody needs.
#[test]
fn a_request_and_its_answer_cost_no_frames_of_their_own() {
    let mut plan = Plan::quiet();
    plan.totals = [100, 1_000];
    let world = finish(plan);
    // `Open`, `Fin`, `Ack`, `Idle`; `Opened`, `Ack` and `Fin` at once, `Idle`.
    assert_eq!(world.frames, [4, 4]);
}

#[test]
fn windows_grow_with_the_bandwidth_delay_product() {
    let mut plan = Plan::quiet();
    plan.totals = [0, 20 << 20];
    plan.pace = [(MS, 1 << 20); 2];
    plan.latency = 50 * MS;
    plan.capacity = 8 << 20;
    let mut world = World::new(1, plan);
    assert!(world.run_for(10 * S, |world| world.sides[0].app.read == 20 << 20), "over 2 MiB/s");
}

#[test]
fn shed_bytes_come_again() {
    let mut plan = Plan::quiet().with(300 * MS, Fault::Shed(1)).with(2 * S, Fault::Shed(1));
    plan.totals = [200_000, 0];
    plan.pace[1] = (50 * MS, 2_000);
    let world = finish(plan);
    assert_eq!(world.sides[1].app.read, 200_000);
    assert!(world.sides[1].events.contains(&Event::Suspended));
}

/// Where the code gets lost the end that waits asks once more; then nobody dials.
#[test]
fn nobody_dials_while_an_end_is_suspended_on_purpose() {
    for seed in 0..50 {
        for side in 0..2 {
            let begin = 2 * S + (seed as u32) * 7 * MS;
            let mut plan = steady().with(begin, Fault::Suspend(side, 60 * S));
            plan.totals = [300_000; 2];
            let mut world = World::new(seed, plan);
            world.run_for(begin + 2 * S, |_| false);
            assert_eq!(states(&mut world), [State::Suspended; 2], "seed {seed}");
            let lanes = world.wires.len();
            assert!(lanes <= 6, "seed {seed}: {lanes} lanes");
            for silence in [Fault::Cut { all: true }, Fault::Silence { from: BOTH, length: S }] {
                world.strike(silence);
            }
            world.run_for(50 * S, |_| false);
            assert_eq!(world.wires.len(), lanes, "seed {seed}: a lane was dialled");
            world.run();
            assert_eq!(world.sides[side].app.read, 300_000);
        }
    }
}

/// Whoever is resumed first: each of them owes the other a dial, and the last one pays.
#[test]
fn both_ends_suspended_come_back_in_any_order() {
    for seed in 0..100u64 {
        let ms = |factor, most| Duration::from_millis(seed * factor % most);
        let mut plan = steady()
            .with(2 * S + ms(7, 300), Fault::Suspend(0, 5 * S + ms(13, 4_000)))
            .with(2 * S + ms(11, 300), Fault::Suspend(1, 5 * S + ms(17, 4_000)));
        (plan.jitter, plan.totals) = (MS * (seed as u32 % 3) * 20, [1_500_000; 2]);
        let mut world = World::new(seed, plan);
        world.run_for(13 * S, |_| false);
        assert_eq!(states(&mut world), [State::Live; 2], "seed {seed}");
        world.run();
    }
}

#[test]
fn a_session_that_stays_suspended_on_purpose_is_lost_at_both_ends() {
    let mut plan = steady().with(2 * S, Fault::Suspend(1, 300 * S));
    plan.config.linger = 60 * S;
    let mut world = World::new(1, plan);
    world.run_for(80 * S, |_| false);
    for side in 0..2 {
        assert_eq!(ended(&world, side), Some(End::Lost(Code::LingerExceeded)));
        assert_eq!(world.sides[side].app.reset, Some(Code::LingerExceeded));
    }
}
