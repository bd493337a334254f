//! An application at one end: writes so many bytes, reads what comes, and checks every one.

use cloak_wire::{Code, Early};

/// The byte at an offset of the stream that `side` writes. Where its application died and another one went
/// on from an offset, that one writes other bytes.
fn byte_at(side: usize, offset: u64, deaths: &[u64]) -> u8 {
    let writer = deaths.iter().filter(|death| **death <= offset).count() as u64;
    let mixed = (offset + 1 + (writer << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56).to_le_bytes()[0] ^ u8::try_from(side).unwrap()
}

#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) side: usize,
    /// Bytes it wants to write, then its end of file.
    pub(crate) total: u64,
    pub(crate) written: u64,
    pub(crate) finished: bool,
    /// Bytes it may write now.
    pub(crate) allowance: u64,
    /// Bytes it takes now.
    pub(crate) appetite: u64,
    pub(crate) read: u64,
    /// End of file seen.
    pub(crate) ended: bool,
    /// Its connection was reset by the gateway, or it died.
    pub(crate) reset: Option<Code>,
    pub(crate) died: bool,
    /// Where others went on in the stream of each side.
    pub(crate) deaths: [Vec<u64>; 2],
}

impl App {
    pub(crate) fn new(side: usize, total: u64) -> Self {
        Self {
            side,
            total,
            written: 0,
            finished: false,
            allowance: 0,
            appetite: 0,
            read: 0,
            ended: false,
            reset: None,
            died: false,
            deaths: [Vec::new(), Vec::new()],
        }
    }

    /// Takes the front of `bytes`, as far as it has appetite; each must be the next one.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> usize {
        if self.died {
            return bytes.len();
        }
        let len = bytes.len().min(usize::try_from(self.appetite).unwrap());
        for byte in &bytes[..len] {
            let expected = byte_at(1 - self.side, self.read, &self.deaths[1 - self.side]);
            assert_eq!(*byte, expected, "side {} got a wrong byte at {}", self.side, self.read);
            self.read += 1;
        }
        assert!(len == 0 || !self.ended, "bytes after the end of file");
        self.appetite -= len as u64;
        len
    }

    /// What it says before its session is open.
    pub(crate) fn say(&mut self, len: u64) -> Early {
        let bytes: Vec<u8> = (0..len).map(|offset| byte_at(self.side, offset, &[])).collect();
        self.written = len;
        Early::of(&bytes)
    }

    /// Writes into `room`; gives how many bytes.
    pub(crate) fn give(&mut self, room: &mut [u8]) -> usize {
        let most = self.allowance.min(self.total - self.written);
        let len = room.len().min(usize::try_from(most).unwrap());
        for byte in &mut room[..len] {
            *byte = byte_at(self.side, self.written, &self.deaths[self.side]);
            self.written += 1;
        }
        self.allowance -= len as u64;
        len
    }

    pub(crate) fn wants_to_finish(&self) -> bool {
        !self.finished && !self.died && self.written == self.total
    }
}
