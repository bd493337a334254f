//! Finds the end of a chunked body, accepting nothing but the plain grammar.

/// Where in a chunked body we are.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    /// Bytes of the current chunk line, or of all trailers, so far.
    line_len: usize,
}

/// A body that is not properly chunked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotChunked;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    #[default]
    Start,
    Size(u64),
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// At the start of a trailer line, or of the empty line that ends the body.
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
    Done,
}

impl Chunked {
    /// Follows the body through `bytes`; returns how many of them belong to it.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<usize, NotChunked> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if let State::Data(left) = self.state {
                let here = u64::try_from(bytes.len() - at).unwrap_or(u64::MAX).min(left);
                at += usize::try_from(here).expect("invariant: at most the length of a slice");
                self.state = if here == left { State::DataCr } else { State::Data(left - here) };
            } else {
                self.state = self.step(bytes[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn step(&mut self, byte: u8) -> Result<State, NotChunked> {
        self.line_len += 1;
        if self.line_len > LINE_LEN_MAX {
            return Err(NotChunked);
        }
        let text = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        match (self.state, byte) {
            (State::Start, _) => digit(0, byte),
            (State::Size(size), b'\r') | (State::Extension(size), b'\r') => Ok(State::SizeLf(size)),
            (State::Size(size), b';') => Ok(State::Extension(size)),
            (State::Size(size), _) => digit(size, byte),
            (State::Extension(size), _) if text => Ok(State::Extension(size)),
            (State::SizeLf(0), b'\n') => {
                self.line_len = 0;
                Ok(State::TrailerStart)
            }
            (State::SizeLf(size), b'\n') => Ok(State::Data(size)),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => {
                self.line_len = 0;
                Ok(State::Start)
            }
            (State::TrailerStart, b'\r') => Ok(State::LastLf),
            (State::TrailerStart, b' ' | b'\t' | b':') => Err(NotChunked),
            (State::TrailerStart, _) if text => Ok(State::Trailer),
            (State::Trailer, b'\r') => Ok(State::TrailerLf),
            (State::Trailer, _) if text => Ok(State::Trailer),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::LastLf, b'\n') => Ok(State::Done),
            _ => Err(NotChunked),
        }
    }
}

fn digit(size: u64, byte: u8) -> Result<State, NotChunked> {
    let digit = char::from(byte).to_digit(16).ok_or(NotChunked)?;
    let shifted = size.checked_mul(16).ok_or(NotChunked)?;
    Ok(State::Size(shifted | u64::from(digit)))
}

/// Longest chunk line, and longest trailer section, in bytes.
const LINE_LEN_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_whatever_the_pieces() {
        let body = b"5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nX: y\r\n\r\n";
        let with_next = [body.as_slice(), b"GET / HTTP/1.1"].concat();
        for piece in 1..with_next.len() {
            let mut chunked = Chunked::default();
            let mut taken = 0;
            while !chunked.is_done() {
                let end = (taken + piece).min(with_next.len());
                taken += chunked.advance(&with_next[taken..end]).unwrap();
            }
            assert_eq!(taken, body.len());
        }
    }

    #[test]
    fn anything_but_the_plain_grammar_is_refused() {
        for bad in [
            "\r\n",
            "g\r\n",
            "0x5\r\n",
            "5 \r\n",
            " 5\r\n",
            "5\nhello",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "5\r\rhello",
            "5;a\nb\r\n",
            "0\r\n\n",
            "0\r\n folded\r\n",
            "11111111111111111\r\n",
            "-1\r\n",
            "0\r\nX: y\n\r\n",
        ] {
            assert_eq!(Chunked::default().advance(bad.as_bytes()), Err(NotChunked), "{bad:?}");
        }
        let endless = [b"5;".as_slice(), &[b'x'; LINE_LEN_MAX]].concat();
        assert_eq!(Chunked::default().advance(&endless), Err(NotChunked));
    }
}
