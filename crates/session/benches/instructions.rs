//! Instructions that two sessions and their frames take, counted by callgrind: the same on every run
//! of the same build, so that a change of their cost shows as a diff.
//!
//! Sessions and frames only: no TLS, no sockets, no runtime. Both ends are counted together.
#![expect(clippy::unwrap_used, reason = "a benchmark stops where anything fails")]

use std::process::Command;
use std::time::Duration;

use cloak_base::{DeviceId, Instant, Rng, SessionId};
use cloak_session::{Config, Event, LaneId, LaneUp, Ledger, Memory, Session, State, Transmit};
use cloak_wire::{Code, Decoder, Frame, Item, Nonce, Secret, SessionFrame, Target, data_header};

const USAGE: &str = "\
Usage: cargo bench -p cloak-session --bench instructions [-- --write FILE]

Needs valgrind. With --write the table goes to FILE as well, below the top of the source tree.";

/// What a gateway moves at a time.
const PIECE: usize = 256 << 10;

/// What is counted, and the state in which it begins.
struct Case {
    name: &'static str,
    prepare: fn(&mut Pair),
    measured: fn(&mut Pair),
}

const CASES: [Case; 6] = [
    Case { name: "open", prepare: |_| {}, measured: Pair::open },
    Case { name: "64 bytes one way", prepare: Pair::talk, measured: |pair| pair.write(0, 64) },
    Case { name: "64 bytes and an answer of 1 KiB", prepare: Pair::talk, measured: Pair::exchange },
    Case { name: "1 MiB in pieces of 256 KiB", prepare: Pair::warm, measured: Pair::bulk },
    Case { name: "resume on another lane", prepare: Pair::warm, measured: Pair::resume },
    Case { name: "close", prepare: Pair::talk, measured: Pair::close },
];

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--case", name] => {
            let case = CASES.iter().find(|case| case.name == name).unwrap();
            let mut pair = Pair::new();
            (case.prepare)(&mut pair);
            measured(case, &mut pair);
        }
        [] => println!("{}", table()),
        ["--write", file] => {
            let table = table();
            println!("{table}");
            // Cargo runs benchmarks in the directory of their package.
            let top = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
            std::fs::write(std::path::Path::new(top).join(file), table).unwrap();
        }
        _ => println!("{USAGE}"),
    }
}

/// Callgrind counts what happens in here.
#[inline(never)]
fn measured(case: &Case, pair: &mut Pair) {
    (case.measured)(pair);
}

fn table() -> String {
    let mut table = "| both ends together | instructions |\n|---|---|\n".to_owned();
    for case in &CASES {
        table += &format!("| {} | {} |\n", case.name, instructions(case.name));
    }
    table
}

fn instructions(name: &str) -> u64 {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg("--toggle-collect=instructions::measured");
    // Nothing of the environment moves the stack.
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.arg(std::env::current_exe().unwrap()).args(["--case", name]);
    let output = command.output().expect("valgrind is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    let collected =
        text.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    collected.unwrap_or_else(|| panic!("callgrind counted nothing:\n{text}"))
}

/// Two ends and the bytes between them.
struct Pair {
    now: Instant,
    ends: [End; 2],
    lane: LaneId,
    /// The lane at the second end, until something comes on it.
    accepted: Option<LaneUp>,
    rng: Rng,
}

struct End {
    memory: Memory,
    session: Option<Session>,
    decoder: Decoder,
    wants_lane: bool,
}

fn device(end: usize) -> DeviceId {
    DeviceId::from_bytes([u8::try_from(end).unwrap() + 1; 32])
}

impl Pair {
    fn new() -> Self {
        let mut rng = Rng::from_u64(1);
        let now = Instant::from_micros(1_000_000);
        let end = |at: usize| End {
            memory: Ledger::new(64 << 20).account(device(1 - at)),
            session: None,
            decoder: Decoder::default(),
            wants_lane: false,
        };
        let mut ends = [end(0), end(1)];
        ends[0].session = Some(Session::initiate(
            now,
            Config::default(),
            SessionId::from_bytes(rng.bytes()),
            Secret(rng.bytes().into()),
            Target::Service(80),
            ends[0].memory.clone(),
            rng.split(),
        ));
        Self { now, ends, lane: LaneId(0), accepted: None, rng }
    }

    fn session(&mut self, end: usize) -> &mut Session {
        self.ends[end].session.as_mut().unwrap()
    }

    fn open(&mut self) {
        self.connect();
        self.run();
        assert_eq!(self.session(1).snapshot().state, State::Live);
    }

    fn exchange(&mut self) {
        self.write(0, 64);
        self.write(1, 1024);
    }

    /// Open, and the pool has memory for small messages.
    fn talk(&mut self) {
        self.open();
        self.exchange();
    }

    /// Open, and the windows have grown.
    fn warm(&mut self) {
        self.open();
        (0..8).for_each(|_| self.bulk());
    }

    fn bulk(&mut self) {
        (0..4).for_each(|_| self.write(0, PIECE));
    }

    fn resume(&mut self) {
        let (now, lane) = (self.now, self.lane);
        for end in [0, 1] {
            self.session(end).lane_down(now, lane, Code::Closed);
            self.ends[end].decoder = Decoder::default();
        }
        self.run();
        assert!(self.ends[0].wants_lane);
        self.connect();
        self.run();
        assert_eq!(self.session(1).snapshot().resumes, 1);
    }

    fn close(&mut self) {
        let now = self.now;
        (0..2).for_each(|end| self.session(end).finish(now));
        self.run();
        assert!(self.session(0).is_ended() && self.session(1).is_ended());
    }

    /// The first end has dialled a lane.
    fn connect(&mut self) {
        self.lane = LaneId(self.lane.0 + 1);
        let nonces = [(); 2].map(|()| Nonce(self.rng.bytes().into()));
        let up = |end: usize| LaneUp {
            lane: self.lane,
            we_dialled: end == 0,
            local_nonce: nonces[end],
            peer_nonce: Some(nonces[1 - end]),
            local: device(end),
            peer: device(1 - end),
        };
        (self.accepted, self.ends[0].wants_lane) = (Some(up(1)), false);
        let (now, up) = (self.now, up(0));
        self.session(0).lane_up(now, up);
    }

    /// Writes `len` bytes at one end, and lets both go on until nothing moves.
    fn write(&mut self, end: usize, mut len: usize) {
        while len > 0 {
            let now = self.now;
            let session = self.session(end);
            let written = session.space().len().min(len);
            session.wrote(now, written);
            len -= written;
            self.run();
        }
    }

    fn run(&mut self) {
        while self.carry(0) | self.carry(1) {
            self.now = self.now + Duration::from_micros(50);
        }
    }

    /// Takes what one end has to say to the other; whether there was anything.
    fn carry(&mut self, from: usize) -> bool {
        let (now, lane) = (self.now, self.lane);
        let Some(mut session) = self.ends[from].session.take() else { return false };
        let mut moved = false;
        loop {
            while let Some(event) = session.poll_event() {
                moved = true;
                match event {
                    Event::LaneWanted => self.ends[from].wants_lane = true,
                    Event::Finish => session.fin_delivered(now),
                    _ => {}
                }
            }
            match session.poll_transmit(now, lane, PIECE) {
                Some(Transmit::Frame(frame)) => {
                    let mut bytes = Vec::new();
                    Frame::Session(frame).encode(&mut bytes);
                    self.pass(1 - from, &bytes);
                }
                Some(Transmit::Data(data)) => {
                    self.pass(1 - from, &data_header(data.len()));
                    self.pass(1 - from, data);
                }
                None => break,
            }
            moved = true;
        }
        self.ends[from].session = Some(session);
        moved
    }

    fn pass(&mut self, to: usize, mut bytes: &[u8]) {
        let mut decoder = std::mem::take(&mut self.ends[to].decoder);
        while let Some(item) = decoder.next(&mut bytes).unwrap() {
            self.take(to, item);
        }
        self.ends[to].decoder = decoder;
    }

    fn take(&mut self, end: usize, item: Item<'_>) {
        let (now, lane) = (self.now, self.lane);
        if let (1, Some(up)) = (end, self.accepted.take()) {
            self.accept(up, &item);
        }
        let session = self.session(end);
        match item {
            Item::Frame(Frame::Session(frame)) => {
                let is_open = matches!(frame, SessionFrame::Open(_));
                session.handle_frame(now, lane, frame).unwrap();
                if is_open {
                    session.opened(now);
                }
            }
            Item::Data(data) => {
                let taken = session.handle_data(now, lane, data).unwrap().len();
                session.delivered(now, taken);
            }
            Item::Frame(_) => unreachable!("the two say nothing else"),
        }
    }

    /// The second end has a lane, and learns of the session by its first frame.
    fn accept(&mut self, up: LaneUp, item: &Item<'_>) {
        let now = self.now;
        if let Item::Frame(Frame::Session(SessionFrame::Open(open))) = item {
            let (memory, rng) = (self.ends[1].memory.clone(), self.rng.split());
            let session = Session::respond(now, Config::default(), open, memory, rng);
            self.ends[1].session = Some(session);
        }
        self.session(1).lane_up(now, up);
    }
}
