//! A member of the realm that plays foul: it passes TLS and `Hello` as any gateway does, then sends
//! whatever bytes it likes.
//!
//! Nothing of the product's transport is used, which would not send what it should not. What the
//! realm has to be shown is real: an invitation is redeemed, the credentials count.

mod tls;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use cloak_base::{Incarnation, RealmId, Rng, UnixTime};
use cloak_identity::{Invitation, Redemption, SecretKey, Transcript, TransportEnd};
use cloak_overlay::Message;
use cloak_wire::{Code, Frame, HEADER_LEN, Hello, Nonce, PeerFrame, Purpose, Serials, VERSION};
use minicbor::bytes::ByteVec;
use rustls::{ClientConnection, StreamOwned};

use crate::clock;

/// Frame type of a message of the overlay: its body is an array with one byte string.
pub const OVERLAY: u8 = 0x40;
/// Frame type of `Close`.
const CLOSE: u8 = 0x02;
/// Whoever has not answered by then will not.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A member that speaks for itself.
pub struct Mallory {
    key: SecretKey,
    realm: RealmId,
    credentials: Vec<u8>,
}

/// Its peer channel or lane with a gateway, after both `Hello`s.
pub struct Channel {
    tls: StreamOwned<ClientConnection, TcpStream>,
}

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its type.
    pub kind: u8,
    /// Its body.
    pub body: Vec<u8>,
}

impl Mallory {
    /// Redeems an invitation of `cloak invite`, in which the name is fixed. `seed` draws the keys.
    ///
    /// # Panics
    /// When it is not redeemed.
    #[track_caller]
    #[must_use]
    pub fn join(invitation: &str, seed: u64) -> Self {
        let invitation: Invitation = invitation.parse().expect("an invitation");
        let mut rng = Rng::from_u64(seed);
        let (key, entity) = (SecretKey::generate(&mut rng), SecretKey::generate(&mut rng));
        let mut mallory = Self { key, realm: invitation.realm, credentials: Vec::new() };
        let (mut channel, theirs) = mallory.greet(invitation.locators[0], Purpose::Join);
        let end = |device, nonce: Nonce| TransportEnd { device, nonce: *nonce.0 };
        let transcript = Transcript {
            dialler: end(mallory.key.device_id(), nonce()),
            acceptor: end(invitation.registrar, theirs.nonce),
        };
        let (label, now) = ("one".parse().expect("a label"), wall());
        let redemption = Redemption::new(invitation, &transcript, entity, None, label, now)
            .expect("it can be redeemed");
        let request = redemption.request().encode().into();
        channel.send_frame(&Frame::Peer(PeerFrame::Redeem { request })).expect("it is sent");
        let answer = channel.receive().expect("an answer");
        let (grant,): (ByteVec,) = minicbor::decode(&answer.body).expect("a grant");
        let joined = redemption.finish(&grant, now).expect("the grant counts");
        mallory.credentials = joined.credentials.encode();
        mallory
    }

    /// Opens a peer channel, or a lane, with a gateway.
    ///
    /// # Panics
    /// When the gateway does not greet.
    #[track_caller]
    #[must_use]
    pub fn open(&self, gateway: SocketAddr, purpose: Purpose) -> Channel {
        self.greet(gateway, purpose).0
    }

    #[track_caller]
    fn greet(&self, to: SocketAddr, purpose: Purpose) -> (Channel, Hello) {
        let tls = tls::dial(to, self.key.seed()).expect("the gateway accepts");
        let mut channel = Channel { tls };
        let hello = Hello {
            version: VERSION,
            realm: self.realm,
            credentials: self.credentials.clone().into(),
            serials: Serials::default(),
            incarnation: Incarnation { counter: 1, random: 1 },
            nonce: nonce(),
            purpose,
            observed: None,
            listening: None,
        };
        channel.send_frame(&Frame::Hello(Box::new(hello))).expect("the Hello is sent");
        let first = channel.receive().expect("the gateway answers");
        let theirs = minicbor::decode(&first.body)
            .unwrap_or_else(|error| panic!("no Hello ({error}): {first:?}"));
        (channel, theirs)
    }
}

impl Channel {
    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The gateway had enough.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.write_all(bytes)?;
        self.tls.flush()
    }

    /// Sends a frame as it should be.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub fn send_frame(&mut self, frame: &Frame) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.send(&bytes)
    }

    /// The next frame.
    ///
    /// # Errors
    /// The end of the channel; [`ErrorKind::TimedOut`] where nothing came in time.
    pub fn receive(&mut self) -> io::Result<Received> {
        let mut header = [0; HEADER_LEN];
        self.tls.read_exact(&mut header).map_err(timed_out)?;
        let length = u32::from_be_bytes([0, header[1], header[2], header[3]]);
        let mut body = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.tls.read_exact(&mut body).map_err(timed_out)?;
        Ok(Received { kind: header[0], body })
    }

    /// The first of the overlay's messages for which `choose` gives something.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn overlay_message<T>(&mut self, mut choose: impl FnMut(Message) -> Option<T>) -> T {
        clock::wait_for("the gateway speaks of the overlay", ANSWER_WITHIN, || {
            let received = self.receive();
            let received = received.expect("a message of the overlay before the channel ends");
            if received.kind != OVERLAY {
                return None;
            }
            let (bytes,): (ByteVec,) = minicbor::decode(&received.body).expect("one byte string");
            choose(Message::decode(&bytes).expect("gateways send messages"))
        })
    }

    /// Sends batches of one frame until the gateway ends the channel, and returns the code that it
    /// told. Each batch is sent once the gateway has taken the one before, so that no more than
    /// `batch` frames are ever under way.
    ///
    /// # Panics
    /// When the gateway takes `batches` of them.
    #[track_caller]
    pub fn flood(mut self, frame: &[u8], batch: usize, batches: u64) -> Option<Code> {
        for number in 0..batches {
            let mut bytes = frame.repeat(batch);
            Frame::Peer(PeerFrame::Probe { number }).encode(&mut bytes);
            let alive = Frame::Peer(PeerFrame::Alive { number });
            // It may be cut before everything is written.
            let _ = self.send(&bytes);
            if let Err(told) = self.read_to(&alive) {
                return told;
            }
        }
        panic!("{batches} batches of {batch} frames were taken");
    }

    /// Reads to the end of the channel, and returns the code that the gateway told.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn end(mut self) -> Option<Code> {
        // No gateway sends this, so it is never met.
        let never = Frame::Peer(PeerFrame::Alive { number: u64::MAX });
        self.read_to(&never).expect_err("only an end ends this")
    }

    /// Reads up to a frame; the code, if any was told, where the channel ends before.
    #[track_caller]
    fn read_to(&mut self, wanted: &Frame) -> Result<(), Option<Code>> {
        let mut bytes = Vec::new();
        wanted.encode(&mut bytes);
        let (start, mut told) = (clock::now(), None);
        loop {
            assert!(start.elapsed() < ANSWER_WITHIN, "the channel neither answers nor ends");
            match self.receive() {
                Ok(Received { kind, body }) if kind == bytes[0] && body == bytes[HEADER_LEN..] => {
                    return Ok(());
                }
                Ok(Received { kind: CLOSE, body }) => {
                    told = minicbor::decode(&body).ok().map(|(code,): (Code,)| code);
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    panic!("the channel neither answers nor ends")
                }
                Err(_) => return Err(told),
            }
        }
    }
}

/// The frame that carries a message of the overlay, or what is to be taken for one.
#[must_use]
pub fn overlay_frame(message: &[u8]) -> Vec<u8> {
    let body = minicbor::to_vec((ByteVec::from(message.to_vec()),))
        .unwrap_or_else(|error| panic!("encoding into memory: {error}"));
    frame(OVERLAY, &body)
}

/// A frame of any type with any body.
///
/// # Panics
/// When the body is too long for its length field.
#[must_use]
pub fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a short body").to_be_bytes();
    assert_eq!(length[0], 0, "a short body");
    [&[kind][..], &length[1..], body].concat()
}

/// What the kernel says of a read that took too long depends on the platform.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

/// Mallory makes no effort.
fn nonce() -> Nonce {
    Nonce([7; 32].into())
}

#[expect(clippy::disallowed_methods, reason = "certificates are judged by the wall clock")]
fn wall() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixTime(since.map_or(0, |since| since.as_secs()))
}
