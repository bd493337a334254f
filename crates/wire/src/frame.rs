//! Frames, their type numbers and their encoding.

use cloak_base::{Generation, SessionId};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Decoder as Cbor, Encode, Encoder};

use crate::decoder::WireError;
use crate::{
    Code, Deposit, HEADER_LEN, HandOver, Hello, LOADS_MAX, Load, Mark, NUDGE_MAX, Offer, PeerFrame,
    SessionFrame,
};

/// Any control frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// First in each direction of a transport.
    Hello(Box<Hello>),
    /// Of the session that rides this lane.
    Session(SessionFrame),
    /// An end of a session for the receiver; first on a lane, like `Open`.
    HandOver(Box<HandOver>),
    /// The other end has accepted the sender as the owner of what was handed over to it.
    HandedOver {
        /// Of the new owner.
        generation: Generation,
    },
    /// Asks which sessions the receiver has; first on a lane.
    AskSessions,
    /// Some of them; none after the last.
    Sessions {
        /// Each as JSON, as `cloak sessions --json` shows it.
        rows: Vec<ByteVec>,
    },
    /// Asks the receiver to hand its end of this session over to the sender; first on a lane.
    Fetch {
        /// The session.
        session: SessionId,
    },
    /// Asks whether the receiver wants the sender's end of a session; first on a lane.
    Offer(Box<Offer>),
    /// A copy of an end of a session for the receiver to keep; first on a lane.
    Deposit(Box<Deposit>),
    /// What has changed since the copy, or the last of these.
    Mark(Mark),
    /// The receiver of the copy, or of what has changed, has all of it.
    Kept,
    /// The copy is worth nothing any more. The lane is free again.
    Void,
    /// What was asked for was done, or not.
    Answer {
        /// Why not.
        code: Option<Code>,
    },
    /// Asks how the receiver stands with some services; first on a lane.
    AskLoads {
        /// Their ports, at most [`LOADS_MAX`].
        ports: Vec<u16>,
    },
    /// The answer, in the order of the question.
    Loads {
        /// Of the sender among the devices of its entity: the lower, the sooner.
        preference: u16,
        /// None where the sender takes no running sessions of that service.
        services: Vec<Option<Load>>,
    },
    /// Of a peer channel.
    Peer(PeerFrame),
    /// The sender closes this transport, and says why.
    Close {
        /// Why.
        code: Code,
    },
}

/// Type byte of `Data`, the one frame that is not in the table below.
pub(crate) const DATA: u8 = 0x00;

/// The header of a `Data` frame whose body has `len` bytes.
///
/// # Panics
/// When `len` is above [`DATA_MAX`](crate::DATA_MAX).
pub fn data_header(len: usize) -> [u8; HEADER_LEN] {
    header(DATA, len)
}

fn header(kind: u8, len: usize) -> [u8; HEADER_LEN] {
    let len = u32::try_from(len).expect("invariant: a frame is shorter than 16 MiB");
    let [high, bytes @ ..] = len.to_be_bytes();
    assert_eq!(high, 0, "invariant: a frame is shorter than 16 MiB");
    [kind, bytes[0], bytes[1], bytes[2]]
}

fn put(out: &mut Vec<u8>, kind: u8, body: impl Encode<()>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_LEN]);
    body.encode(&mut Encoder::new(&mut *out), &mut ())
        .expect("invariant: encoding into memory cannot fail");
    let head = header(kind, out.len() - start - HEADER_LEN);
    out[start..start + HEADER_LEN].copy_from_slice(&head);
}

fn get<'b, T: Decode<'b, ()>>(kind: u8, body: &'b [u8]) -> Result<T, WireError> {
    let mut cbor = Cbor::new(body);
    let value = cbor.decode().map_err(|_| WireError::Body { kind })?;
    if cbor.position() == body.len() { Ok(value) } else { Err(WireError::Trailing { kind }) }
}

/// The table of frame types: number, value, fields of the body in order.
macro_rules! frames {
    ($($number:literal $pattern:pat => $body:expr, $decode:expr;)*) => {
        impl Frame {
            /// Appends the frame, header and all, to `out`.
            pub fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $($pattern => put(out, $number, $body),)*
                }
            }

            /// The frame with this type and body.
            pub(crate) fn decode(kind: u8, body: &[u8]) -> Result<Self, WireError> {
                match kind {
                    $($number => $decode(kind, body),)*
                    _ => Err(WireError::UnknownType { kind }),
                }
            }
        }
    };
}

fn session<'b, T: Decode<'b, ()>>(
    make: impl Fn(T) -> SessionFrame,
) -> impl Fn(u8, &'b [u8]) -> Result<Frame, WireError> {
    move |kind, body| get(kind, body).map(|value| Frame::Session(make(value)))
}

fn peer<'b, T: Decode<'b, ()>>(
    make: impl Fn(T) -> PeerFrame,
) -> impl Fn(u8, &'b [u8]) -> Result<Frame, WireError> {
    move |kind, body| get(kind, body).map(|value| Frame::Peer(make(value)))
}

fn nudge(kind: u8, body: &[u8]) -> Result<Frame, WireError> {
    let (sessions,): (Vec<SessionId>,) = get(kind, body)?;
    if sessions.len() > NUDGE_MAX {
        return Err(WireError::Body { kind });
    }
    Ok(Frame::Peer(PeerFrame::Nudge { sessions }))
}

fn ask_loads(kind: u8, body: &[u8]) -> Result<Frame, WireError> {
    let (ports,): (Vec<u16>,) = get(kind, body)?;
    let fits = ports.len() <= LOADS_MAX;
    if fits { Ok(Frame::AskLoads { ports }) } else { Err(WireError::Body { kind }) }
}

fn loads(kind: u8, body: &[u8]) -> Result<Frame, WireError> {
    let (preference, services): (u16, Vec<Option<Load>>) = get(kind, body)?;
    let fits = services.len() <= LOADS_MAX;
    if fits { Ok(Frame::Loads { preference, services }) } else { Err(WireError::Body { kind }) }
}

use Frame::{Close, Peer, Session};
use PeerFrame as P;
use SessionFrame as S;

frames! {
    0x01 Frame::Hello(hello) => hello, |kind, body| get(kind, body).map(Frame::Hello);
    0x02 Close { code } => (code,), |kind, body| get(kind, body).map(|(code,)| Close { code });

    0x10 Session(S::Open(open)) => open, session(S::Open);
    0x11 Session(S::Opened(opened)) => opened, session(S::Opened);
    0x12 Session(S::Refused { code }) => (code,), session(|(code,)| S::Refused { code });
    0x13 Session(S::Resume(resume)) => resume, session(S::Resume);
    0x14 Session(S::Resumed(resumed)) => resumed, session(S::Resumed);
    0x15 Session(S::Gone { session, code, delivered }) => (session, code, delivered),
        self::session(|(session, code, delivered)| S::Gone { session, code, delivered });
    0x16 Session(S::Ack { delivered, credit }) => (delivered, credit),
        session(|(delivered, credit)| S::Ack { delivered, credit });
    0x17 Session(S::Fin) => (), session(|()| S::Fin);
    0x18 Session(S::Reset { code }) => (code,), session(|(code,)| S::Reset { code });
    0x19 Session(S::Probe { number, unheard }) => (number, unheard),
        session(|(number, unheard)| S::Probe { number, unheard });
    0x1a Session(S::Alive { number }) => (number,), session(|(number,)| S::Alive { number });
    0x1b Session(S::Idle) => (), session(|()| S::Idle);
    0x1c Session(S::Move { generation, to }) => (generation, to),
        session(|(generation, to)| S::Move { generation, to });
    0x1d Session(S::MayMove { generation }) => (generation,),
        session(|(generation,)| S::MayMove { generation });
    0x1e Session(S::Stay { generation, code }) => (generation, code),
        session(|(generation, code)| S::Stay { generation, code });
    0x1f Session(S::Escrow { generation, to, copy }) => (generation, to, copy),
        session(|(generation, to, copy)| S::Escrow { generation, to, copy });

    0x20 Frame::HandOver(hand_over) => hand_over, |kind, body| get(kind, body).map(Frame::HandOver);
    0x21 Frame::HandedOver { generation } => (generation,),
        |kind, body| get(kind, body).map(|(generation,)| Frame::HandedOver { generation });

    0x22 Frame::AskSessions => (), |kind, body| get(kind, body).map(|()| Frame::AskSessions);
    0x23 Frame::Sessions { rows } => (rows,),
        |kind, body| get(kind, body).map(|(rows,)| Frame::Sessions { rows });
    0x24 Frame::Fetch { session } => (session,),
        |kind, body| get(kind, body).map(|(session,)| Frame::Fetch { session });
    0x25 Frame::Answer { code } => (code,),
        |kind, body| get(kind, body).map(|(code,)| Frame::Answer { code });
    0x26 Frame::Offer(offer) => offer, |kind, body| get(kind, body).map(Frame::Offer);
    0x27 Frame::AskLoads { ports } => (ports,), ask_loads;
    0x28 Frame::Loads { preference, services } => (preference, services), loads;
    0x29 Session(S::Escrowed { generation, code }) => (generation, code),
        session(|(generation, code)| S::Escrowed { generation, code });
    0x2a Frame::Deposit(deposit) => deposit, |kind, body| get(kind, body).map(Frame::Deposit);
    0x2b Frame::Mark(mark) => mark, |kind, body| get(kind, body).map(Frame::Mark);
    0x2c Frame::Kept => (), |kind, body| get(kind, body).map(|()| Frame::Kept);
    0x2d Frame::Void => (), |kind, body| get(kind, body).map(|()| Frame::Void);

    0x30 Peer(P::Binding { record }) => (record,),
        peer(|(record,): (ByteVec,)| P::Binding { record });
    0x31 Peer(P::DialBack { cookie, at }) => (cookie, at),
        peer(|(cookie, at)| P::DialBack { cookie, at });
    0x32 Peer(P::Nudge { sessions }) => (sessions,), nudge;
    0x33 Peer(P::Serials(serials)) => serials, peer(P::Serials);
    0x34 Peer(P::FetchRevocations(serials)) => serials, peer(P::FetchRevocations);
    0x35 Peer(P::Revocations { list }) => (list,), peer(|(list,)| P::Revocations { list });
    0x36 Peer(P::Renew { membership }) => (membership,),
        peer(|(membership,)| P::Renew { membership });
    0x37 Peer(P::Renewed { membership }) => (membership,),
        peer(|(membership,)| P::Renewed { membership });
    0x38 Peer(P::Redeem { request }) => (request,), peer(|(request,)| P::Redeem { request });
    0x39 Peer(P::Redeemed { grant }) => (grant,), peer(|(grant,)| P::Redeemed { grant });
    0x3a Peer(P::Refused { code }) => (code,), peer(|(code,)| P::Refused { code });
    0x3b Peer(P::Probe { number }) => (number,), peer(|(number,)| P::Probe { number });
    0x3c Peer(P::Alive { number }) => (number,), peer(|(number,)| P::Alive { number });
    0x3d Peer(P::Certify { certificate }) => (certificate,),
        peer(|(certificate,)| P::Certify { certificate });
    0x3e Peer(P::Certified { certificate }) => (certificate,),
        peer(|(certificate,)| P::Certified { certificate });
    0x3f Peer(P::Appoint { certificate }) => (certificate,),
        peer(|(certificate,)| P::Appoint { certificate });

    0x40 Peer(P::Overlay { message }) => (message,), peer(|(message,)| P::Overlay { message });

    0x50 Peer(P::Circuit { circuit, to, from }) => (circuit, to, from),
        peer(|(circuit, to, from)| P::Circuit { circuit, to, from });
    0x51 Peer(P::Hop { circuit, from, cookie }) => (circuit, from, cookie),
        peer(|(circuit, from, cookie)| P::Hop { circuit, from, cookie });
    0x52 Peer(P::NoCircuit { circuit, code }) => (circuit, code),
        peer(|(circuit, code)| P::NoCircuit { circuit, code });
}
