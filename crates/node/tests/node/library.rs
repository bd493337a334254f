//! Streams and listeners of the library, and sessions that move between them with their state.

use std::sync::Arc;
use std::time::Duration;

use cloak_node::{
    Arrival, Balance, Code, Home, InitNames, InviteKind, InviteRequest, Listener, Listeners, Node,
    NodeConfig, SessionState, SessionView, Signals, Stream,
};
use cloak_transport::SystemClock;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::realm::{eventually, log};

const COUNTER: u16 = 90;

/// Services that are balanced are looked at often.
fn config() -> NodeConfig {
    let mut config = crate::realm::config();
    config.session.balance_every = Duration::from_millis(200);
    config
}

struct Device {
    node: Node,
    listeners: Arc<Listeners>,
    _dir: TempDir,
}

async fn start(dir: TempDir, home: Home) -> Device {
    let listeners = Arc::new(Listeners::default());
    let node = Node::start(home, config(), listeners.clone(), Arc::new(SystemClock)).await.unwrap();
    Device { node, listeners, _dir: dir }
}

async fn found(name: &str) -> Device {
    log();
    let dir = tempfile::tempdir().unwrap();
    let (name, realm, device) = (name.to_owned(), "test".to_owned(), "one".to_owned());
    let names = InitNames { name, realm, device };
    let home = Home::init(&dir.path().join("home"), names, &SystemClock).unwrap();
    start(dir, home).await
}

async fn join(inviter: &Node, kind: InviteKind, name: Option<&str>, label: &str) -> Device {
    let ttl = Duration::from_secs(60);
    let request = InviteRequest { kind, name: name.map(str::to_owned), ttl };
    let invitation = inviter.invite(request).await.unwrap().invitation;
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let home = Home::join(&home, &invitation, None, label, &SystemClock).await.unwrap();
    start(dir, home).await
}

async fn connect(node: &Node, name: &str, port: u16) -> Stream {
    eventually("the service is found", || async {
        match node.connect(name, port).await {
            Err(Code::UnknownName | Code::PeerUnreachable | Code::NoService) => None,
            opened => Some(opened.unwrap()),
        }
    })
    .await
}

async fn knows(node: &Node, name: &str) {
    eventually(name, || async {
        let steps = node.resolve(name).await;
        steps.iter().all(|step| step.ok).then_some(())
    })
    .await;
}

/// Adds up the numbers it is sent, a byte each, and answers with the sum so far, in eight bytes. Its state
/// is the sum.
async fn count(arrival: Arrival) {
    let Arrival { mut stream, state, .. } = arrival;
    let mut sum = state.map_or(0, |state| u64::from_be_bytes(state.try_into().unwrap()));
    let mut signals = stream.signals();
    let mut number = [0; 1];
    loop {
        tokio::select! {
            biased;
            () = signals.asked_to_leave() => {
                let _ = stream.leave(sum.to_be_bytes().to_vec());
                return;
            }
            read = stream.read_exact(&mut number) => {
                if read.is_err() {
                    return;
                }
                sum += u64::from(number[0]);
                stream.write_all(&sum.to_be_bytes()).await.unwrap();
            }
        }
    }
}

fn serve(mut listener: Listener) {
    tokio::task::spawn(async move {
        while let Some(arrival) = listener.accept().await {
            tokio::task::spawn(count(arrival));
        }
    });
}

/// Whether a session is listed for people only.
fn is_over(row: &SessionView) -> bool {
    [SessionState::Lost, SessionState::Moved].contains(&row.state)
}

async fn add(stream: &mut Stream, number: u8) -> u64 {
    stream.write_all(&[number]).await.unwrap();
    let mut sum = [0; 8];
    stream.read_exact(&mut sum).await.unwrap();
    u64::from_be_bytes(sum)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_with_state_moves_between_servers_under_requests() {
    let alice = found("alice").await;
    let one = join(&alice.node, InviteKind::Member, Some("bob"), "one").await;
    let two = join(&one.node, InviteKind::Device, None, "two").await;
    for server in [&one, &two] {
        serve(server.listeners.listen_movable(COUNTER, |_| true).unwrap());
        server.node.reload(config());
    }
    knows(&one.node, "two.bob.cloak").await;
    knows(&two.node, "one.bob.cloak").await;
    let mut stream = connect(&alice.node, "one.bob.cloak", COUNTER).await;
    let mut signals = stream.signals();
    let (mut expected, id) = (0, alice.node.sessions()[0].id.clone());
    for round in 0..6 {
        let (from, to) = if round % 2 == 0 { (&one, "two") } else { (&two, "one") };
        // Requests go on while the session moves.
        let moving = from.node.move_session(&id, to);
        let asking = async {
            for number in 0..50 {
                expected += u64::from(number);
                assert_eq!(add(&mut stream, number).await, expected);
            }
        };
        let (moved, ()) = tokio::join!(moving, asking);
        moved.unwrap();
        expected += 1;
        assert_eq!(add(&mut stream, 1).await, expected, "round {round}");
        let device = alice.node.sessions()[0].peer_device.clone();
        assert_eq!(device, format!("{to}.bob.cloak"));
    }
    eventually("the program hears where the other end is", || {
        let condition = signals.condition().unwrap();
        async move { (condition.peer_device == "one.bob.cloak").then_some(()) }
    })
    .await;
    assert!(signals.changed().await.is_some());
}

/// The move fails half-way: the state comes back to where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_whose_successor_refuses_goes_on_with_its_state() {
    let alice = found("alice").await;
    let one = join(&alice.node, InviteKind::Member, Some("bob"), "one").await;
    let two = join(&one.node, InviteKind::Device, None, "two").await;
    serve(one.listeners.listen_movable(COUNTER, |_| true).unwrap());
    one.node.reload(config());
    let mut stream = connect(&alice.node, "one.bob.cloak", COUNTER).await;
    assert_eq!(add(&mut stream, 40).await, 40);
    let id = alice.node.sessions()[0].id.clone();
    knows(&one.node, "two.bob.cloak").await;
    let refused = one.node.move_session(&id, "two").await.unwrap_err().to_string();
    assert!(refused.contains("not-movable"), "no such listener there: {refused}");
    assert_eq!(add(&mut stream, 2).await, 42);
    drop(two);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_stream_moves_with_its_state_and_what_it_has_not_read() {
    let bob = found("bob").await;
    let one = join(&bob.node, InviteKind::Member, Some("alice"), "one").await;
    let two = join(&one.node, InviteKind::Device, None, "two").await;
    let mut listener = bob.listeners.listen(COUNTER, |from| from.peer == "alice.cloak").unwrap();
    bob.node.reload(config());
    let mut stream = connect(&one.node, "bob.cloak", COUNTER).await;
    let Arrival { stream: mut served, state, .. } = listener.accept().await.unwrap();
    assert_eq!(state, None);
    served.write_all(b"read here, and there").await.unwrap();
    let mut here = [0; 9];
    stream.read_exact(&mut here).await.unwrap();
    let id = one.node.sessions()[0].id.clone();
    let leaving = tokio::task::spawn(async move {
        stream.signals().asked_to_leave().await;
        stream.leave(b"was at 9".to_vec()).unwrap();
    });
    let (mut next, state) =
        eventually("the other device has it", || async { two.node.attach(&id).await.ok() }).await;
    leaving.await.unwrap();
    assert_eq!(state, b"was at 9");
    let mut there = [0; 11];
    next.read_exact(&mut there).await.unwrap();
    assert_eq!(&there, b", and there");
    next.write_all(b"thanks").await.unwrap();
    next.shutdown().await.unwrap();
    let mut thanks = String::new();
    served.read_to_string(&mut thanks).await.unwrap();
    assert_eq!(thanks, "thanks");
    drop(served);
    assert_eq!(next.read(&mut [0; 1]).await.unwrap(), 0);
    eventually("no session is left", || async {
        let rows = [&bob, &one, &two].map(|device| device.node.sessions());
        rows.iter().flatten().all(is_over).then_some(())
    })
    .await;
}

/// While bytes flow, and however far the program and its pipe are apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_under_load_moves_without_a_gap() {
    const LENGTH: usize = 8 << 20;
    let byte_at = |offset: usize| (offset.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0];
    let bob = found("bob").await;
    let one = join(&bob.node, InviteKind::Member, Some("alice"), "one").await;
    let two = join(&one.node, InviteKind::Device, None, "two").await;
    let mut listener = bob.listeners.listen(COUNTER, |_| true).unwrap();
    bob.node.reload(config());
    let mut stream = connect(&one.node, "bob.cloak", COUNTER).await;
    let Arrival { stream: mut served, .. } = listener.accept().await.unwrap();
    let writing = tokio::task::spawn(async move {
        let all: Vec<u8> = (0..LENGTH).map(byte_at).collect();
        served.write_all(&all).await.unwrap();
        served.shutdown().await.unwrap();
        served
    });
    let id = one.node.sessions()[0].id.clone();
    let (mut offset, mut on_one) = (0, true);
    let mut piece = vec![0; 10_000];
    for round in 1..=4 {
        while offset < round * LENGTH / 8 {
            let count = stream.read(&mut piece).await.unwrap();
            assert!(piece[..count].iter().zip(offset..).all(|(byte, at)| *byte == byte_at(at)));
            offset += count;
        }
        let leaving = tokio::task::spawn(async move {
            stream.signals().asked_to_leave().await;
            stream.leave(offset.to_be_bytes().to_vec()).unwrap();
        });
        let next = if on_one { &two } else { &one };
        let (attached, state) =
            eventually("the other device has it", || async { next.node.attach(&id).await.ok() })
                .await;
        leaving.await.unwrap();
        assert_eq!(state, offset.to_be_bytes(), "round {round}");
        (stream, on_one) = (attached, !on_one);
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(offset + rest.len(), LENGTH);
    assert!(rest.iter().zip(offset..).all(|(byte, at)| *byte == byte_at(at)));
    drop(writing.await.unwrap());
}

/// Both ends of both streams are seen by whoever has the session when they come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_of_streams_move_too() {
    let bob = found("bob").await;
    let one = join(&bob.node, InviteKind::Member, Some("alice"), "one").await;
    let two = join(&one.node, InviteKind::Device, None, "two").await;
    let mut listener = bob.listeners.listen(COUNTER, |_| true).unwrap();
    bob.node.reload(config());
    let mut stream = connect(&one.node, "bob.cloak", COUNTER).await;
    let Arrival { stream: mut served, .. } = listener.accept().await.unwrap();
    // Bob has finished, and alice knows.
    served.write_all(b"all").await.unwrap();
    served.shutdown().await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    let id = one.node.sessions()[0].id.clone();
    let leaving = tokio::task::spawn(async move {
        stream.signals().asked_to_leave().await;
        stream.leave(Vec::new()).unwrap();
    });
    let (mut next, _) =
        eventually("the other device has it", || async { two.node.attach(&id).await.ok() }).await;
    assert_eq!(next.read(&mut [0; 1]).await.unwrap(), 0, "the end is the end there, too");
    next.write_all(b"more").await.unwrap();
    next.shutdown().await.unwrap();
    let mut more = String::new();
    served.read_to_string(&mut more).await.unwrap();
    assert_eq!(more, "more");
    leaving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_with_state_is_balanced_over_its_devices() {
    let alice = found("alice").await;
    let one = join(&alice.node, InviteKind::Member, Some("bob"), "one").await;
    let listen = |server: &Device| {
        serve(server.listeners.listen_balanced(COUNTER, Balance::Load, |_| true).unwrap());
        server.node.reload(config());
    };
    listen(&one);
    let mut streams = Vec::new();
    for number in 1..=4 {
        streams.push((number, connect(&alice.node, "one.bob.cloak", COUNTER).await));
    }
    for (number, stream) in &mut streams {
        assert_eq!(add(stream, *number).await, u64::from(*number));
    }
    let two = join(&one.node, InviteKind::Device, None, "two").await;
    listen(&two);
    eventually("two of four have gone", || async {
        let here = [&one, &two].map(|server| {
            let rows = server.node.sessions();
            rows.iter().filter(|row| row.state == SessionState::Live).count()
        });
        (here == [2, 2]).then_some(())
    })
    .await;
    for (number, stream) in &mut streams {
        assert_eq!(add(stream, 100).await, u64::from(*number) + 100, "the sum went along");
    }
}

/// A program that does not want to leave keeps its session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_does_not_leave_goes_on() {
    let bob = found("bob").await;
    let one = join(&bob.node, InviteKind::Member, Some("alice"), "one").await;
    let two = join(&one.node, InviteKind::Device, None, "two").await;
    serve(bob.listeners.listen(COUNTER, |_| true).unwrap());
    bob.node.reload(config());
    let mut stream = connect(&one.node, "bob.cloak", COUNTER).await;
    assert_eq!(add(&mut stream, 1).await, 1);
    let id = one.node.sessions()[0].id.clone();
    knows(&one.node, "two.alice.cloak").await;
    let shown = eventually("the move is shown", || async {
        let moving = one.node.sessions()[0].moving.clone()?;
        let why = one.node.why("bob.cloak", None).await;
        Some((moving, why.into_iter().find(|step| step.step == "session")?.detail))
    });
    let (refused, (moving, why)) = tokio::join!(one.node.move_session(&id, "two"), shown);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("not-movable"), "{refused}");
    assert_eq!((&*moving.side, &*moving.to), ("own", "two.alice.cloak"));
    assert!(why.contains("our end is going to two.alice.cloak since"), "{why}");
    assert_eq!(one.node.sessions()[0].moving, None);
    assert_eq!(add(&mut stream, 2).await, 3);
    assert!(two.node.sessions().is_empty());
}

/// The gateway of the program is another run, and the session the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exported_session_survives_the_programs_restart() {
    let bob = found("bob").await;
    let alice = join(&bob.node, InviteKind::Member, Some("alice"), "one").await;
    serve(bob.listeners.listen(COUNTER, |_| true).unwrap());
    bob.node.reload(config());
    let mut stream = connect(&alice.node, "bob.cloak", COUNTER).await;
    assert_eq!(add(&mut stream, 40).await, 40);
    stream.write_all(&[1]).await.unwrap();
    let id = alice.node.sessions()[0].id.clone();
    let leaving = tokio::task::spawn(async move {
        stream.signals().asked_to_leave().await;
        stream.leave(b"one answer is due".to_vec()).unwrap();
    });
    let exported = alice.node.export_session(&id).await.unwrap();
    leaving.await.unwrap();
    let Device { node, _dir: dir, .. } = alice;
    node.shutdown().await;
    drop(node);

    let home = Home::open(&dir.path().join("home")).unwrap();
    let alice = start(dir, home).await;
    eventually("the session waits", || async {
        let row = bob.node.sessions().into_iter().next()?;
        (row.reason.as_deref() == Some("moving")).then_some(())
    })
    .await;
    let no = alice.node.import_session(b"nothing of the kind").await.unwrap_err().to_string();
    assert!(no.contains("no exported session"), "{no}");
    assert_eq!(alice.node.import_session(&exported).await.unwrap(), id);
    let again = alice.node.import_session(&exported).await.unwrap_err().to_string();
    assert!(again.contains("not-movable"), "it counts once: {again}");
    let (mut stream, state) = alice.node.attach(&id).await.unwrap();
    assert_eq!(state, b"one answer is due");
    let mut sum = [0; 8];
    stream.read_exact(&mut sum).await.unwrap();
    assert_eq!(u64::from_be_bytes(sum), 41);
    assert_eq!(add(&mut stream, 1).await, 42);
}

/// The end of our own direction goes along, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_has_finished_moves() {
    let bob = found("bob").await;
    let one = join(&bob.node, InviteKind::Member, Some("alice"), "one").await;
    let two = join(&one.node, InviteKind::Device, None, "two").await;
    let mut listener = bob.listeners.listen(COUNTER, |_| true).unwrap();
    bob.node.reload(config());
    let mut stream = connect(&one.node, "bob.cloak", COUNTER).await;
    let Arrival { stream: mut served, .. } = listener.accept().await.unwrap();
    stream.write_all(b"a question").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut question = String::new();
    served.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "a question");
    let id = one.node.sessions()[0].id.clone();
    let leaving = tokio::task::spawn(async move {
        stream.signals().asked_to_leave().await;
        stream.leave(Vec::new()).unwrap();
    });
    let (mut next, _) =
        eventually("the other device has it", || async { two.node.attach(&id).await.ok() }).await;
    leaving.await.unwrap();
    served.write_all(b"an answer").await.unwrap();
    served.shutdown().await.unwrap();
    let mut answer = String::new();
    next.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "an answer");
    eventually("no session is left", || async {
        let rows = [&bob, &one, &two].map(|device| device.node.sessions());
        rows.iter().flatten().all(is_over).then_some(())
    })
    .await;
}

async fn condition_is(signals: &mut Signals, state: SessionState, reason: Option<Code>) {
    let heard = async {
        while signals.condition().is_none_or(|now| (now.state, now.reason) != (state, reason)) {
            assert!(signals.changed().await.is_some(), "it is over");
        }
    };
    tokio::time::timeout(Duration::from_secs(20), heard).await.expect("it is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_suspend_their_session_at_either_end_and_are_told() {
    let alice = found("alice").await;
    let bob = join(&alice.node, InviteKind::Member, Some("bob"), "one").await;
    let mut listener = bob.listeners.listen(COUNTER, |_| true).unwrap();
    bob.node.reload(config());
    let here = connect(&alice.node, "bob.cloak", COUNTER).await;
    let there = listener.accept().await.unwrap().stream;
    let mut streams = [here, there];
    let mut signals = [0, 1].map(|end| streams[end].signals());
    // The service's end is first: it waits until the client is known to have its session.
    for round in 0..4 {
        let (this, that) = (1 - round % 2, round % 2);
        streams[this].suspend().await.unwrap();
        for signals in &mut signals {
            condition_is(signals, SessionState::Suspended, Some(Code::Paused)).await;
        }
        assert_eq!(streams[that].resume().await, Err(Code::Paused));
        for end in [this, that] {
            streams[end].write_all(b"meanwhile").await.unwrap();
        }
        for node in [&alice.node, &bob.node] {
            eventually("what is written is kept", || async {
                let row = node.sessions().remove(0);
                assert_eq!(row.lane, None);
                // And what was said in the round before, where its acknowledgement was not on its way yet.
                [9, 18].contains(&row.bytes_held).then_some(())
            })
            .await;
        }
        streams[this].resume().await.unwrap();
        for signals in &mut signals {
            condition_is(signals, SessionState::Live, None).await;
        }
        for end in [this, that] {
            let mut read = [0; 9];
            streams[end].read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"meanwhile");
        }
    }
    let [here, there] = streams;
    drop((here, listener));
    let mut there = there;
    assert_eq!(there.read(&mut [0; 1]).await.unwrap(), 0, "the end");
    there.shutdown().await.unwrap();
    eventually("the session is over", || async { bob.node.sessions().is_empty().then_some(()) })
        .await;
    assert_eq!(there.suspend().await, Err(Code::Gone));
}

/// A service of the same device has no session to suspend.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_to_this_very_device_is_not_suspended() {
    let alice = found("alice").await;
    let mut listener = alice.listeners.listen(COUNTER, |_| true).unwrap();
    alice.node.reload(config());
    let mut here = alice.node.connect("alice.cloak", COUNTER).await.unwrap();
    let mut there = listener.accept().await.unwrap().stream;
    assert_eq!(here.suspend().await, Err(Code::NotMovable));
    assert_eq!(there.resume().await, Err(Code::NotMovable));
    here.write_all(b"!").await.unwrap();
    assert_eq!(there.read_u8().await.unwrap(), b'!');
}
