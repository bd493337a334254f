//! Reads frames from a stream of bytes that arrives in arbitrary pieces.

use crate::frame::DATA;
use crate::{CONTROL_MAX, Code, Frame, HEADER_LEN};

/// Bytes that are no frame. The connection they came on ends; nothing else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A type that this version does not know.
    #[error("unknown frame type {kind:#04x}")]
    UnknownType {
        /// The type byte.
        kind: u8,
    },
    /// A control frame over [`CONTROL_MAX`].
    #[error("frame type {kind:#04x} of {len} bytes is over the limit of {CONTROL_MAX}")]
    TooLong {
        /// The type byte.
        kind: u8,
        /// The length in the header.
        len: usize,
    },
    /// A body that is not what its type says.
    #[error("malformed body of frame type {kind:#04x}")]
    Body {
        /// The type byte.
        kind: u8,
    },
    /// Bytes after the end of a body.
    #[error("bytes after the body of frame type {kind:#04x}")]
    Trailing {
        /// The type byte.
        kind: u8,
    },
}

impl WireError {
    /// The code to close the connection with.
    pub fn code(&self) -> Code {
        Code::Malformed
    }
}

/// What a [`Decoder`] finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A complete control frame.
    Frame(Frame),
    /// The next bytes of the application's stream: part of a `Data` frame, or all of it.
    Data(&'a [u8]),
}

/// Reads frames. Data is passed through without a copy; a control frame that arrives in pieces is
/// collected, up to [`CONTROL_MAX`] bytes.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Header and body of a control frame that has not fully arrived.
    partial: Vec<u8>,
    /// Bytes of the current `Data` frame that have not arrived.
    data_left: usize,
}

impl Decoder {
    /// True between two frames: nothing of a frame has arrived that was not handed out.
    pub fn is_between_frames(&self) -> bool {
        self.partial.is_empty() && self.data_left == 0
    }

    /// Takes the next item from the front of `input`; `None` when more bytes are needed, and then
    /// `input` is empty.
    ///
    /// # Errors
    /// Bytes that are no frame. The decoder must not be used after that.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Item<'a>>, WireError> {
        loop {
            if self.data_left > 0 {
                let taken = take(input, self.data_left);
                self.data_left -= taken.len();
                return Ok((!taken.is_empty()).then_some(Item::Data(taken)));
            }
            if !self.fill(input, HEADER_LEN) {
                return Ok(None);
            }
            let kind = self.partial[0];
            let len = usize::from(self.partial[1]) << 16
                | usize::from(self.partial[2]) << 8
                | usize::from(self.partial[3]);
            if kind == DATA {
                self.partial.clear();
                self.data_left = len;
                continue;
            }
            if len > CONTROL_MAX {
                return Err(WireError::TooLong { kind, len });
            }
            if !self.fill(input, HEADER_LEN + len) {
                return Ok(None);
            }
            let frame = Frame::decode(kind, &self.partial[HEADER_LEN..]);
            // An idle session keeps no buffer.
            self.partial = Vec::new();
            return frame.map(|frame| Some(Item::Frame(frame)));
        }
    }

    /// Moves bytes into `partial` until it has `wanted`; false when `input` ran out first.
    fn fill(&mut self, input: &mut &[u8], wanted: usize) -> bool {
        let missing = wanted.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(take(input, missing));
        self.partial.len() >= wanted
    }
}

fn take<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    taken
}

#[cfg(test)]
mod tests;
