use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ConnectionTrafficSecrets};

use super::*;
use crate::tls::Tls;

/// One end in memory.
struct End {
    engine: Engine,
    out: Outgoing,
    left_over: Vec<u8>,
    plain: Vec<u8>,
}

impl End {
    fn new(engine: Engine) -> Self {
        Self { engine, out: Outgoing::default(), left_over: Vec::new(), plain: Vec::new() }
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<State, TlsError> {
        self.left_over.extend_from_slice(bytes);
        let mut sink = |plain: &[u8]| self.plain.extend_from_slice(plain);
        let (used, state) = self.engine.open(&mut self.left_over, &mut self.out, &mut sink);
        self.left_over.drain(..used);
        state
    }

    fn seal(&mut self, plain: &[u8]) -> Result<(), TlsError> {
        self.engine.seal(&mut self.left_over, plain, &mut self.out)
    }

    fn take_sealed(&mut self) -> Vec<u8> {
        let bytes = self.out.unsent().to_vec();
        self.out.consume(bytes.len());
        bytes
    }
}

fn tls(seed: u8) -> Tls {
    Tls::new(&[seed; 32]).unwrap()
}

fn client(config: ClientConfig) -> UnbufferedClientConnection {
    let name = ServerName::try_from("cloak.invalid").unwrap();
    UnbufferedClientConnection::new(config.into(), name).unwrap()
}

/// Carries the flights of a handshake; the first error of either end.
fn shake(dialler: &mut End, acceptor: &mut End) -> Result<(), TlsError> {
    let mut state = dialler.receive(b"")?;
    let mut flight = dialler.take_sealed();
    while !flight.is_empty() || state == State::Handshaking {
        acceptor.receive(&flight)?;
        state = dialler.receive(&acceptor.take_sealed())?;
        flight = dialler.take_sealed();
    }
    Ok(())
}

fn pair() -> (End, End) {
    let mut dialler = End::new(tls(1).dial(None).unwrap());
    let mut acceptor = End::new(tls(2).accept().unwrap());
    shake(&mut dialler, &mut acceptor).unwrap();
    (dialler, acceptor)
}

fn carry(from: &mut End, to: &mut End, plain: &[u8]) {
    from.seal(plain).unwrap();
    assert_eq!(to.receive(&from.take_sealed()), Ok(State::Open));
    assert_eq!(std::mem::take(&mut to.plain), plain);
}

#[test]
fn both_ends_are_proved() {
    let (dialler, acceptor) = pair();
    assert_eq!(dialler.engine.peer(), Ok(tls(2).device()));
    assert_eq!(acceptor.engine.peer(), Ok(tls(1).device()));
}

#[test]
fn any_length_is_sealed_whole() {
    let (mut dialler, mut acceptor) = pair();
    for len in [0, 1, 16_383, 16_384, 16_385, 131_072] {
        let plain: Vec<u8> = (0..=255).cycle().take(len).collect();
        carry(&mut dialler, &mut acceptor, &plain);
        carry(&mut acceptor, &mut dialler, &plain);
    }
    assert_eq!((dialler.out.capacity(), acceptor.out.capacity()), (0, 0));
}

#[test]
fn new_keys_at_any_time_go_unnoticed() {
    let (mut dialler, mut acceptor) = pair();
    for round in 0..5 {
        let Role::Dialler(tls) = &mut *dialler.engine.role else { unreachable!() };
        let ConnectionState::WriteTraffic(traffic) =
            tls.process_tls_records(&mut []).state.unwrap()
        else {
            unreachable!()
        };
        traffic.refresh_traffic_keys().unwrap();
        carry(&mut dialler, &mut acceptor, &[round; 20_000]);
        // The acceptor answers with new keys of its own, ahead of what it sends next.
        carry(&mut acceptor, &mut dialler, &[round; 20_000]);
    }
}

#[test]
fn a_peer_without_our_protocol_name_is_incompatible() {
    let mut config = ClientConfig::clone(&tls(1).client);
    config.alpn_protocols = vec![];
    let mut dialler = End::new(Engine::dialler(client(config.clone())));
    let mut acceptor = End::new(tls(2).accept().unwrap());
    shake(&mut dialler, &mut acceptor).unwrap();
    assert_eq!(acceptor.engine.peer(), Err(TlsError::Incompatible));
    assert_eq!(dialler.engine.peer(), Err(TlsError::Incompatible));

    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut dialler = End::new(Engine::dialler(client(config)));
    let mut acceptor = End::new(tls(2).accept().unwrap());
    assert_eq!(shake(&mut dialler, &mut acceptor), Err(TlsError::Incompatible));
    // The refusal is told, once, and the engine stays failed.
    assert!(matches!(dialler.receive(&acceptor.take_sealed()), Err(TlsError::Alert(120))));
    assert_eq!(acceptor.seal(b"x"), Err(TlsError::Incompatible));
    assert_eq!(acceptor.out.len(), 0);
}

#[test]
fn a_client_without_a_key_is_refused() {
    let own = tls(1);
    let config = ClientConfig::builder_with_provider(own.client.crypto_provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(std::sync::Arc::new(own.verifier))
        .with_no_client_auth();
    let mut dialler = End::new(Engine::dialler(client(config)));
    let mut acceptor = End::new(tls(2).accept().unwrap());
    assert!(shake(&mut dialler, &mut acceptor).is_err());
}

/// Seals records by hand, so that they can hold what rustls would never send.
struct Forger {
    key: LessSafeKey,
    iv: Vec<u8>,
    sequence: u64,
}

impl Forger {
    /// A peer of `acceptor` after an honest handshake.
    fn meet(acceptor: &mut End) -> Self {
        let mut config = ClientConfig::clone(&tls(1).client);
        config.enable_secret_extraction = true;
        let mut dialler = End::new(Engine::dialler(client(config)));
        shake(&mut dialler, acceptor).unwrap();
        let Role::Dialler(tls) = *dialler.engine.role else { unreachable!() };
        let secrets = tls.dangerous_into_kernel_connection().unwrap().0;
        let (sequence, ConnectionTrafficSecrets::Aes128Gcm { key, iv }) = secrets.tx else {
            unreachable!("AES-128-GCM is preferred")
        };
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).unwrap();
        Self { key: LessSafeKey::new(key), iv: iv.as_ref().to_vec(), sequence }
    }

    fn record(&mut self, content_type: u8, content: &[u8]) -> Vec<u8> {
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&self.iv);
        for (byte, mask) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= mask;
        }
        self.sequence += 1;
        let mut inner = [content, &[content_type]].concat();
        let len = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
        let header = [23, 3, 3, len[0], len[1]];
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut inner).unwrap();
        [&header[..], &inner].concat()
    }
}

const HANDSHAKE: u8 = 22;
const APPLICATION: u8 = 23;
/// A `KeyUpdate` that asks for none in return.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

#[test]
fn sending_between_two_halves_of_a_message_does_no_harm() {
    // rustls remembers how far into the left-over bytes it has looked, so it must see them again
    // when it is only asked to seal. Where it does not, any peer can make it panic.
    let mut acceptor = End::new(tls(2).accept().unwrap());
    let mut forger = Forger::meet(&mut acceptor);
    let first = forger.record(HANDSHAKE, &KEY_UPDATE[..3]);
    assert_eq!(acceptor.receive(&first), Ok(State::Open));
    assert!(!acceptor.left_over.is_empty(), "half a message waits for the other half");
    acceptor.seal(b"meanwhile").unwrap();
    assert!(acceptor.out.len() > 0);
    let second = forger.record(HANDSHAKE, &KEY_UPDATE[3..]);
    assert_eq!(acceptor.receive(&second), Ok(State::Open));
    assert!(acceptor.left_over.is_empty());
}

#[test]
fn data_between_two_halves_of_a_message_is_misbehaviour() {
    let mut acceptor = End::new(tls(2).accept().unwrap());
    let mut forger = Forger::meet(&mut acceptor);
    let mut bytes = forger.record(HANDSHAKE, &KEY_UPDATE[..3]);
    bytes.extend(forger.record(APPLICATION, b"data"));
    assert_eq!(acceptor.receive(&bytes), Err(TlsError::Misbehaved));
    assert_eq!(acceptor.seal(b"x"), Err(TlsError::Misbehaved));
}

#[test]
fn a_message_that_never_ends_is_not_collected_for_ever() {
    let mut acceptor = End::new(tls(2).accept().unwrap());
    let mut forger = Forger::meet(&mut acceptor);
    // A certificate of 16 MiB, as it says.
    let mut content = vec![11, 0xff, 0xff, 0xff];
    content.resize(16_000, 0);
    assert!(acceptor.receive(&forger.record(HANDSHAKE, &content)).is_err());
}

#[test]
fn records_of_unknown_types_and_empty_ones_end_the_connection() {
    let mut acceptor = End::new(tls(2).accept().unwrap());
    let mut forger = Forger::meet(&mut acceptor);
    assert_eq!(acceptor.receive(&forger.record(APPLICATION, b"fine")), Ok(State::Open));
    assert!(acceptor.receive(&forger.record(99, b"what")).is_err());

    let mut acceptor = End::new(tls(2).accept().unwrap());
    let mut forger = Forger::meet(&mut acceptor);
    let warning = [1, 90];
    let mut ended = false;
    for _ in 0..100 {
        ended |= acceptor.receive(&forger.record(21, &warning)).is_err();
    }
    assert!(ended, "warnings without end are an attack");
}
