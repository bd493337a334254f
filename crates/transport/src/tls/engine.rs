//! One connection's TLS records, opened in place and sealed straight into the output.
//!
//! This is the unbuffered API of rustls: it holds no buffers, decrypts where the bytes were read,
//! and costs a quarter of the buffered one. It wants to be driven exactly so:
//! - it must see the unconsumed front of the input at *every* call, sealing included: it may have
//!   noted how far into those bytes it has looked;
//! - at any call it may first want to encode something of its own (key update, alert), or to hear
//!   that this was sent. It goes into the output in order, which is all that "sent" has to mean.

use rustls::CommonState;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
    WriteTraffic,
};

use cloak_base::DeviceId;

use super::{ALPN, TlsError, verify};
use crate::connection::Outgoing;

/// Largest piece of plaintext in one record (RFC 8446, 5.1).
const RECORD_MAX: usize = 1 << 14;
/// What a record adds to its plaintext: header 5, content type 1, tag 16.
const RECORD_OVERHEAD: usize = 22;

/// One end of a TLS connection.
pub(crate) struct Engine {
    role: Box<Role>,
    /// Set by the first error, which every later call repeats.
    failed: Option<TlsError>,
}

enum Role {
    Dialler(UnbufferedClientConnection),
    Acceptor(UnbufferedServerConnection),
}

/// Where the connection stands once all input is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The handshake needs more input.
    Handshaking,
    /// Both directions work.
    Open,
    /// The peer said that it sends no more. We still may.
    PeerClosed,
}

/// What to do when the connection is ready to send.
#[derive(Clone, Copy)]
enum Want<'a> {
    Nothing,
    Seal(&'a [u8]),
    CloseNotify,
}

/// What one call to rustls came to.
enum Step {
    /// Something was done, and there may be more.
    Again,
    /// There is nothing more to do, and what was wanted is done.
    Done(State),
}

impl Engine {
    pub(super) fn dialler(tls: UnbufferedClientConnection) -> Self {
        Self { role: Box::new(Role::Dialler(tls)), failed: None }
    }

    pub(super) fn acceptor(tls: UnbufferedServerConnection) -> Self {
        Self { role: Box::new(Role::Acceptor(tls)), failed: None }
    }

    /// Opens every complete record of `input` in place and hands the plaintext to `sink`. Returns
    /// how many bytes at the front of `input` are done with; the others must come again.
    pub(crate) fn open(
        &mut self,
        input: &mut [u8],
        out: &mut Outgoing,
        sink: &mut dyn FnMut(&[u8]),
    ) -> (usize, Result<State, TlsError>) {
        self.run(input, Want::Nothing, out, sink)
    }

    /// Seals `plain` into `out`. `input` is what [`open`](Self::open) left over.
    pub(crate) fn seal(
        &mut self,
        input: &mut [u8],
        plain: &[u8],
        out: &mut Outgoing,
    ) -> Result<(), TlsError> {
        self.send(input, Want::Seal(plain), out)
    }

    /// Says in `out` that nothing more will be sent.
    pub(crate) fn close_notify(
        &mut self,
        input: &mut [u8],
        out: &mut Outgoing,
    ) -> Result<(), TlsError> {
        self.send(input, Want::CloseNotify, out)
    }

    /// The authenticated peer, once the handshake is over.
    pub(crate) fn peer(&self) -> Result<DeviceId, TlsError> {
        let common = self.common();
        // A peer that offers no application protocol at all gets through the handshake.
        if common.alpn_protocol() != Some(ALPN) {
            return Err(TlsError::Incompatible);
        }
        let key = common.peer_certificates().and_then(|keys| keys.first());
        key.and_then(|key| verify::device_of(key)).ok_or(TlsError::Unauthenticated)
    }

    /// Name of the key exchange of the handshake.
    pub(crate) fn key_exchange(&self) -> Option<&'static str> {
        self.common().negotiated_key_exchange_group()?.name().as_str()
    }

    fn send(
        &mut self,
        input: &mut [u8],
        want: Want<'_>,
        out: &mut Outgoing,
    ) -> Result<(), TlsError> {
        let (used, state) = self.run(input, want, out, &mut |_| {
            debug_assert!(false, "invariant: open() left no complete record");
        });
        debug_assert_eq!(used, 0, "invariant: open() left no complete record");
        state.map(|_| ())
    }

    fn run(
        &mut self,
        input: &mut [u8],
        want: Want<'_>,
        out: &mut Outgoing,
        sink: &mut dyn FnMut(&[u8]),
    ) -> (usize, Result<State, TlsError>) {
        if let Some(error) = self.failed {
            return (0, Err(error));
        }
        let mut used = 0;
        loop {
            let (discard, step) = self.step(&mut input[used..], want, out, sink);
            used += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Done(state)) => return (used, Ok(state)),
                Err(error) => {
                    self.failed = Some(error);
                    self.encode_alert(&mut input[used..], out);
                    return (used, Err(error));
                }
            }
        }
    }

    /// After an error: what rustls has to tell the peer about it. It must not be led to the bad
    /// input again, so this stops as soon as nothing waits to be encoded.
    fn encode_alert(&mut self, input: &mut [u8], out: &mut Outgoing) {
        while self.common().wants_write() {
            let (_, step) = self.step(input, Want::Nothing, out, &mut |_| ());
            if step.is_err() {
                return;
            }
        }
    }

    fn common(&self) -> &CommonState {
        match &*self.role {
            Role::Dialler(tls) => tls,
            Role::Acceptor(tls) => tls,
        }
    }

    fn step(
        &mut self,
        input: &mut [u8],
        want: Want<'_>,
        out: &mut Outgoing,
        sink: &mut dyn FnMut(&[u8]),
    ) -> (usize, Result<Step, TlsError>) {
        match &mut *self.role {
            Role::Dialler(tls) => step(tls.process_tls_records(input), want, out, sink),
            Role::Acceptor(tls) => step(tls.process_tls_records(input), want, out, sink),
        }
    }
}

fn step<D>(
    status: UnbufferedStatus<'_, '_, D>,
    want: Want<'_>,
    out: &mut Outgoing,
    sink: &mut dyn FnMut(&[u8]),
) -> (usize, Result<Step, TlsError>) {
    let UnbufferedStatus { mut discard, state, .. } = status;
    let state = match state {
        Ok(state) => state,
        Err(error) => return (discard, Err(error.into())),
    };
    let step = match state {
        ConnectionState::ReadTraffic(mut records) => {
            while let Some(record) = records.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        sink(record.payload);
                    }
                    Err(error) => return (discard, Err(error.into())),
                }
            }
            Ok(Step::Again)
        }
        ConnectionState::EncodeTlsData(mut record) => {
            append(out, 0, |space| match record.encode(space) {
                Ok(len) => Ok(len),
                Err(EncodeError::InsufficientSize(size)) => Err(Short::Size(size)),
                Err(EncodeError::AlreadyEncoded) => Err(Short::Never),
            })
            .map(|()| Step::Again)
        }
        ConnectionState::TransmitTlsData(sent) => {
            sent.done();
            Ok(Step::Again)
        }
        ConnectionState::WriteTraffic(traffic) => {
            write(traffic, want, out).map(|()| Step::Done(State::Open))
        }
        ConnectionState::BlockedHandshake => Ok(Step::Done(State::Handshaking)),
        ConnectionState::PeerClosed => match want {
            Want::Nothing => Ok(Step::Done(State::PeerClosed)),
            // Reported once per connection; the next call gets on with what is wanted.
            Want::Seal(_) | Want::CloseNotify => Ok(Step::Again),
        },
        ConnectionState::Closed => Ok(Step::Done(State::PeerClosed)),
        // Early data is off; the enum may grow.
        _ => Err(TlsError::Local),
    };
    (discard, step)
}

fn write<D>(
    mut traffic: WriteTraffic<'_, D>,
    want: Want<'_>,
    out: &mut Outgoing,
) -> Result<(), TlsError> {
    match want {
        Want::Nothing => Ok(()),
        Want::Seal(plain) => {
            let records = plain.len().div_ceil(RECORD_MAX);
            append(out, plain.len() + records * RECORD_OVERHEAD, |space| {
                traffic.encrypt(plain, space).map_err(Short::from)
            })
        }
        Want::CloseNotify => append(out, 2 + RECORD_OVERHEAD, |space| {
            traffic.queue_close_notify(space).map_err(Short::from)
        }),
    }
}

/// Why rustls did not write.
enum Short {
    Size(InsufficientSizeError),
    Never,
}

impl From<EncryptError> for Short {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(size) => Self::Size(size),
            EncryptError::EncryptExhausted => Self::Never,
        }
    }
}

/// Lets `write` append to `out`; it is asked again when it needs more than the `guess`, as it does
/// when it has records of its own to put first.
fn append(
    out: &mut Outgoing,
    guess: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Short>,
) -> Result<(), TlsError> {
    let written = match write(out.space(guess)) {
        Err(Short::Size(size)) => write(out.space(size.required_size)),
        first => first,
    };
    match written {
        Ok(len) => {
            out.commit(len);
            Ok(())
        }
        Err(_) => Err(TlsError::Local),
    }
}

#[cfg(test)]
mod tests;
