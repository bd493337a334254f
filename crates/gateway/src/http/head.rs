//! A strict look at the raw head of a request, before hyper sees it.
//!
//! Whatever two parsers could read in two ways is refused here: bare line feeds, folded fields,
//! spaces before colons, several hosts, two kinds of framing. Only the framing is taken from it;
//! the request itself is parsed by hyper.

use crate::errors::Failure;

/// How the body after a head is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

/// Finds the end of a head in bytes that arrive piecemeal.
#[derive(Debug, Default)]
pub(super) struct Scan {
    scanned: usize,
    line_start: usize,
}

impl Scan {
    /// Whether nothing was looked at yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.scanned == 0
    }

    /// Looks at all of `bytes`, which begin with the head; returns the head's length once it is
    /// complete.
    pub(super) fn find_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        while let Some(offset) = bytes[self.scanned..].iter().position(|byte| *byte == b'\n') {
            let end = self.scanned + offset;
            if end == self.line_start || bytes[end - 1] != b'\r' {
                return Err(Failure::BadRequest(
                    "A line of its head ends without carriage return.",
                ));
            }
            let is_empty = end == self.line_start + 1;
            self.scanned = end + 1;
            self.line_start = end + 1;
            if self.scanned > HEAD_LEN_MAX {
                return Err(Failure::HeaderTooLarge);
            }
            if is_empty {
                return Ok(Some(self.scanned));
            }
        }
        self.scanned = bytes.len();
        if self.scanned > HEAD_LEN_MAX { Err(Failure::HeaderTooLarge) } else { Ok(None) }
    }
}

/// Checks a complete head, its empty line included.
pub(super) fn check(head: &[u8]) -> Result<Framing, Failure> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut line = || {
        let line = lines.next()?;
        line.strip_suffix(b"\r").filter(|line| !line.is_empty())
    };
    let http_1_0 = check_request_line(line().ok_or(BAD_REQUEST_LINE)?)?;
    let mut fields = Fields::default();
    let mut count = 0;
    while let Some(line) = line() {
        count += 1;
        if count > FIELDS_MAX {
            return Err(Failure::HeaderTooLarge);
        }
        fields.add(line)?;
    }
    let framing = fields.framing(http_1_0)?;
    if head.starts_with(b"CONNECT ") && framing != Framing::Length(0) {
        return Err(Failure::BadRequest("A CONNECT request has no body."));
    }
    Ok(framing)
}

/// Whether it is an HTTP/1.0 request.
fn check_request_line(line: &[u8]) -> Result<bool, Failure> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(BAD_REQUEST_LINE);
    };
    let sound = is_token(method) && !target.is_empty() && target.iter().all(u8::is_ascii_graphic);
    match version {
        b"HTTP/1.1" if sound => Ok(false),
        b"HTTP/1.0" if sound => Ok(true),
        _ => Err(BAD_REQUEST_LINE),
    }
}

#[derive(Default)]
struct Fields {
    host: bool,
    length: Option<u64>,
    chunked: bool,
}

impl Fields {
    fn add(&mut self, line: &[u8]) -> Result<(), Failure> {
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        if colon.is_none() || !is_token(name) {
            return Err(Failure::BadRequest(
                "A field of its head is folded or has no proper name.",
            ));
        }
        let value = value[1..].trim_ascii();
        if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(Failure::BadRequest("A field of its head has control characters."));
        }
        match () {
            () if name.eq_ignore_ascii_case(b"host") => self.add_host(),
            () if name.eq_ignore_ascii_case(b"content-length") => self.add_length(value),
            () if name.eq_ignore_ascii_case(b"transfer-encoding") => self.add_encoding(value),
            () => Ok(()),
        }
    }

    fn add_host(&mut self) -> Result<(), Failure> {
        if self.host {
            return Err(Failure::BadRequest("It has several Host fields."));
        }
        self.host = true;
        Ok(())
    }

    fn add_length(&mut self, value: &[u8]) -> Result<(), Failure> {
        let digits = std::str::from_utf8(value)
            .ok()
            .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
        let length = digits.and_then(|digits| digits.parse().ok());
        if self.length.is_some() || length.is_none() {
            return Err(Failure::BadRequest("Its Content-Length is not one plain number."));
        }
        self.length = length;
        Ok(())
    }

    fn add_encoding(&mut self, value: &[u8]) -> Result<(), Failure> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Failure::BadRequest("Its Transfer-Encoding is not simply \"chunked\"."));
        }
        self.chunked = true;
        Ok(())
    }

    fn framing(&self, http_1_0: bool) -> Result<Framing, Failure> {
        match (self.chunked, self.length) {
            (true, Some(_)) => {
                Err(Failure::BadRequest("It has both Content-Length and Transfer-Encoding."))
            }
            (true, None) if http_1_0 => {
                Err(Failure::BadRequest("HTTP/1.0 has no Transfer-Encoding."))
            }
            (true, None) => Ok(Framing::Chunked),
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

fn is_token(name: &[u8]) -> bool {
    let tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(tchar)
}

const BAD_REQUEST_LINE: Failure =
    Failure::BadRequest("Its first line is not METHOD TARGET HTTP/1.1.");

/// Longest head in bytes, request line and empty line included.
pub(super) const HEAD_LEN_MAX: usize = 64 * 1024;
/// Most fields of a head.
pub(super) const FIELDS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(text: &str) -> Result<Framing, &'static str> {
        let head = text.as_bytes();
        let end = Scan::default().find_end(head).map_err(Failure::as_str)?;
        assert_eq!(end, Some(head.len()), "{text}");
        check(head).map_err(Failure::as_str)
    }

    #[test]
    fn proper_heads_pass_with_their_framing() {
        for (fields, expected) in [
            ("", Framing::Length(0)),
            ("Host: x\r\nContent-Length: 12\r\n", Framing::Length(12)),
            ("host:x\r\ntransfer-encoding:\tChunked\r\n", Framing::Chunked),
            ("X-Empty:\r\nX: \u{e9}\r\n", Framing::Length(0)),
        ] {
            assert_eq!(framing(&format!("POST /a HTTP/1.1\r\n{fields}\r\n")), Ok(expected));
        }
    }

    #[test]
    fn whatever_can_be_read_in_two_ways_is_refused() {
        for fields in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: \x0bchunked\r\n",
            "Host: a\r\nHost: a\r\n",
            "Host : a\r\n",
            " folded\r\n",
            "X: a\r\n\tfolded: b\r\n",
            "no colon\r\n",
            ": no name\r\n",
            "X: a\0b\r\n",
            "X: a\rb\r\n",
        ] {
            let result = framing(&format!("POST / HTTP/1.1\r\n{fields}\r\n"));
            assert_eq!(result, Err("bad-request"), "{fields:?}");
        }
        for line in
            ["GET  / HTTP/1.1", "GET / HTTP/2.0", "GET /", " GET / HTTP/1.1", "GET /\t HTTP/1.1"]
        {
            assert_eq!(framing(&format!("{line}\r\n\r\n")), Err("bad-request"), "{line:?}");
        }
        let http_1_0 = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(framing(http_1_0), Err("bad-request"));
        assert_eq!(
            framing("CONNECT a:1 HTTP/1.1\r\nContent-Length: 1\r\n\r\n"),
            Err("bad-request")
        );
    }

    #[test]
    fn bare_line_feeds_and_endless_heads_are_noticed_at_once() {
        let bare = Failure::BadRequest("A line of its head ends without carriage return.");
        for head in ["GET / HTTP/1.1\n", "GET / HTTP/1.1\r\nHost: x\n\n", "\n"] {
            assert_eq!(Scan::default().find_end(head.as_bytes()), Err(bare), "{head:?}");
        }
        let endless = vec![b'x'; HEAD_LEN_MAX + 1];
        assert_eq!(Scan::default().find_end(&endless), Err(Failure::HeaderTooLarge));
        let mut scan = Scan::default();
        let head = b"GET / HTTP/1.1\r\n\r\nrest";
        for len in 0..18 {
            assert_eq!(scan.find_end(&head[..len]), Ok(None));
        }
        assert_eq!(scan.find_end(head), Ok(Some(18)));
    }
}
