//! The log of a run: every event in order, as a running hash, as lines to keep, or checked against
//! the lines of an earlier run.

use std::fmt;

use cloak_base::Instant;

use crate::peer::PeerId;

/// What is done with the log.
pub struct Journal {
    hash: u64,
    events: u64,
    mode: Mode,
}

enum Mode {
    HashOnly,
    Keep(Vec<Line>),
    Compare { lines: Vec<Line>, difference: Option<Difference> },
}

/// One event: when, at whom, what, and a number that tells it from others of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: Instant,
    /// At whom.
    pub peer: PeerId,
    /// What.
    pub kind: Kind,
    /// The peer at the other end, or a count of bytes.
    pub detail: u64,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The peer was started.
    Start,
    /// It died.
    Death,
    /// It fell asleep.
    Sleep,
    /// It woke up.
    Wake,
    /// It was put on one side of a partition.
    Side,
    /// A command was given to it.
    Command,
    /// A timer fired.
    Timer,
    /// A message arrived.
    Message,
    /// A link came up.
    LinkUp,
    /// A link went down.
    LinkDown,
    /// A dial failed.
    DialFailed,
    /// It was told whether it can be dialled.
    Reachability,
}

/// Where a run first differs from the one that it is compared with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {number} was {expected}, and is {found}")]
pub struct Difference {
    /// Events before it.
    pub number: u64,
    /// What happened then.
    pub expected: Shown,
    /// What happened now.
    pub found: Shown,
}

/// A line, or the end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown(pub Option<Line>);

/// A text that is not a line of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a line of an event log: microseconds, peer, kind, detail were expected")]
pub struct BadLine;

impl Journal {
    /// Keeps a hash and nothing else.
    pub fn hash_only() -> Self {
        Self { hash: HASH_START, events: 0, mode: Mode::HashOnly }
    }

    /// Keeps all lines.
    pub fn keep() -> Self {
        Self { mode: Mode::Keep(Vec::new()), ..Self::hash_only() }
    }

    /// Compares with the lines of another run.
    pub fn compare(lines: Vec<Line>) -> Self {
        Self { mode: Mode::Compare { lines, difference: None }, ..Self::hash_only() }
    }

    /// Writes a line.
    pub fn write(&mut self, line: Line) {
        for word in line.words() {
            self.hash = mix(self.hash ^ word);
        }
        let number = self.events;
        self.events += 1;
        match &mut self.mode {
            Mode::HashOnly => {}
            Mode::Keep(lines) => lines.push(line),
            Mode::Compare { lines, difference } => {
                let at = usize::try_from(number).unwrap_or(usize::MAX);
                let expected = lines.get(at).copied();
                if difference.is_none() && expected != Some(line) {
                    let (expected, found) = (Shown(expected), Shown(Some(line)));
                    *difference = Some(Difference { number, expected, found });
                }
            }
        }
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The number of events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The lines that were kept.
    pub fn lines(&self) -> &[Line] {
        match &self.mode {
            Mode::Keep(lines) => lines,
            Mode::HashOnly | Mode::Compare { .. } => &[],
        }
    }

    /// The first difference from the other run, once this one is over.
    pub fn difference(&self) -> Option<Difference> {
        let Mode::Compare { lines, difference } = &self.mode else { return None };
        let at = usize::try_from(self.events).unwrap_or(usize::MAX);
        let missing = lines.get(at).map(|line| Difference {
            number: self.events,
            expected: Shown(Some(*line)),
            found: Shown(None),
        });
        difference.clone().or(missing)
    }
}

impl Line {
    fn words(self) -> [u64; 3] {
        let who = u64::from(self.peer.0) << 8 | self.kind as u64;
        [self.at.as_micros(), who, self.detail]
    }

    /// Reads what `Display` writes.
    ///
    /// # Errors
    /// When it is not in that form.
    pub fn parse(text: &str) -> Result<Self, BadLine> {
        let mut fields = text.split(' ');
        let mut next = || fields.next().ok_or(BadLine);
        let at = next()?.parse().map_err(|_| BadLine)?;
        let peer = next()?.parse().map_err(|_| BadLine)?;
        let kind = next()?;
        let kind = KINDS.iter().find(|(_, name)| *name == kind).ok_or(BadLine)?.0;
        let detail = next()?.parse().map_err(|_| BadLine)?;
        Ok(Self { at: Instant::from_micros(at), peer: PeerId(peer), kind, detail })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.at.as_micros(), self.peer.0, self.kind, self.detail)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KINDS[*self as usize].1)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(line) => write!(f, "`{line}`"),
            None => f.write_str("the end"),
        }
    }
}

/// Kinds in their order, with their names.
const KINDS: [(Kind, &str); 12] = [
    (Kind::Start, "start"),
    (Kind::Death, "death"),
    (Kind::Sleep, "sleep"),
    (Kind::Wake, "wake"),
    (Kind::Side, "side"),
    (Kind::Command, "command"),
    (Kind::Timer, "timer"),
    (Kind::Message, "message"),
    (Kind::LinkUp, "link-up"),
    (Kind::LinkDown, "link-down"),
    (Kind::DialFailed, "dial-failed"),
    (Kind::Reachability, "reachability"),
];

const HASH_START: u64 = 0x636c_6f61_6b73_696d;

/// The finaliser of SplitMix64.
fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: u64, detail: u64) -> Line {
        Line { at: Instant::from_micros(at), peer: PeerId(3), kind: Kind::Message, detail }
    }

    fn run(mut journal: Journal, lines: &[Line]) -> Journal {
        lines.iter().for_each(|line| journal.write(*line));
        journal
    }

    #[test]
    fn lines_read_back() {
        for (at, (kind, name)) in KINDS.iter().enumerate() {
            assert_eq!(*kind as usize, at, "{name}");
            let line = Line { kind: *kind, ..line(5, 6) };
            assert_eq!(Line::parse(&line.to_string()), Ok(line));
        }
        for bad in ["", "1 2 3 4", "1 2 message", "x 2 message 4"] {
            assert_eq!(Line::parse(bad), Err(BadLine), "{bad}");
        }
    }

    #[test]
    fn the_hash_depends_on_every_event_and_their_order() {
        let hash = |lines: &[Line]| run(Journal::hash_only(), lines).hash();
        assert_eq!(hash(&[line(1, 1), line(2, 2)]), hash(&[line(1, 1), line(2, 2)]));
        assert_ne!(hash(&[line(1, 1), line(2, 2)]), hash(&[line(2, 2), line(1, 1)]));
        assert_ne!(hash(&[line(1, 1)]), hash(&[line(1, 2)]));
    }

    #[test]
    fn a_comparison_shows_the_first_difference() {
        let kept = run(Journal::keep(), &[line(1, 1), line(2, 2)]).lines().to_vec();
        let compare = |lines: &[Line]| run(Journal::compare(kept.clone()), lines).difference();
        assert_eq!(compare(&[line(1, 1), line(2, 2)]), None);
        let found = compare(&[line(1, 1), line(2, 3), line(9, 9)]).unwrap();
        assert_eq!(found.to_string(), "event 1 was `2 3 message 2`, and is `2 3 message 3`");
        assert_eq!(compare(&[line(1, 1)]).unwrap().found, Shown(None));
        assert_eq!(compare(&[line(1, 1), line(2, 2), line(3, 3)]).unwrap().expected, Shown(None));
    }
}
