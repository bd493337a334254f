//! TLS 1.3 with raw public keys (RFC 7250) on both sides. Every detail of rustls is in this module.
//!
//! A device's Ed25519 key is its TLS identity. The TLS layer proves that the peer holds a key and,
//! where a certain device was dialled, that it is that device's; what a device may do is decided
//! above. No tickets, no resumption, no early data, no server name: a connection proves itself
//! afresh, and resuming is the session's business. See docs/PROTOCOL.md, "Opening a transport".

mod engine;
mod verify;

use std::sync::Arc;

use cloak_base::DeviceId;
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{
    AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage, UnbufferedServerConnection,
};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, Error, ServerConfig, version};
use zeroize::Zeroizing;

pub(crate) use engine::{Engine, State};
use verify::Verifier;

/// The application protocol name (ALPN) of this version.
const ALPN: &[u8] = b"cloak/1";
/// PKCS #8 (RFC 8410) around a 32-byte Ed25519 seed.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A device's TLS identity and settings. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    verifier: Verifier,
    device: DeviceId,
}

/// The cryptography of this machine refused our settings: a bug, or a broken build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the TLS library does not take the device key or the settings")]
pub struct TlsSetupError;

/// Why a connection's TLS failed. That connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// Another device answered than was dialled: try another locator.
    #[error("device {} answered instead of {}", found.fmt_short(), expected.fmt_short())]
    WrongPeer {
        /// The device that was dialled.
        expected: DeviceId,
        /// The device that answered.
        found: DeviceId,
    },
    /// The peer's key is no Ed25519 key, or its signature is wrong.
    #[error("the peer did not prove an Ed25519 device key")]
    Unauthenticated,
    /// The peer's version, ciphers or application protocol are not ours.
    #[error("the peer does not speak cloak/1 over TLS 1.3")]
    Incompatible,
    /// What came is no TLS, or was tampered with.
    #[error("malformed or forged TLS records")]
    Malformed,
    /// The peer broke the rules of TLS.
    #[error("the peer broke the TLS protocol")]
    Misbehaved,
    /// The peer refused us.
    #[error("the peer ended TLS with alert {0}")]
    Alert(u8),
    /// No more bytes may be sealed with these keys, or the random generator failed.
    #[error("the TLS library failed")]
    Local,
}

impl Tls {
    /// The identity with this Ed25519 seed.
    ///
    /// # Errors
    /// The TLS library refused the key or the settings.
    pub fn new(seed: &[u8; 32]) -> Result<Self, TlsSetupError> {
        let provider = Arc::new(provider());
        let (key, device) = device_key(seed)?;
        let verifier = Verifier::any(&provider);
        Ok(Self {
            client: Arc::new(client_config(&provider, &key, &verifier)?),
            server: Arc::new(server_config(&provider, &key, &verifier)?),
            verifier,
            device,
        })
    }

    /// The device whose key this is.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// The dialling end of a connection; `expected` is the only device that may answer.
    pub(crate) fn dial(&self, expected: Option<DeviceId>) -> Result<Engine, TlsError> {
        let config = match expected {
            None => self.client.clone(),
            Some(device) => {
                let mut config = ClientConfig::clone(&self.client);
                let pinned = Arc::new(self.verifier.only(device));
                config.dangerous().set_certificate_verifier(pinned);
                Arc::new(config)
            }
        };
        // The name is required by the API and never sent: `enable_sni` is off.
        let name = ServerName::try_from("cloak.invalid").map_err(|_| TlsError::Local)?;
        Ok(Engine::dialler(UnbufferedClientConnection::new(config, name)?))
    }

    /// The accepting end of a connection.
    pub(crate) fn accept(&self) -> Result<Engine, TlsError> {
        Ok(Engine::acceptor(UnbufferedServerConnection::new(self.server.clone())?))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("device", &self.device).finish_non_exhaustive()
    }
}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        tracing::debug!(%error, "tls");
        match error {
            Error::InvalidCertificate(CertificateError::Other(other)) => {
                other.0.downcast_ref::<verify::WrongPeer>().map_or(Self::Unauthenticated, |wrong| {
                    Self::WrongPeer { expected: wrong.expected, found: wrong.found }
                })
            }
            Error::InvalidCertificate(_) | Error::NoCertificatesPresented => Self::Unauthenticated,
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::Incompatible,
            Error::InvalidMessage(_) | Error::DecryptError | Error::PeerSentOversizedRecord => {
                Self::Malformed
            }
            Error::AlertReceived(alert) => Self::Alert(alert.into()),
            Error::PeerMisbehaved(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. } => Self::Misbehaved,
            _ => Self::Local,
        }
    }
}

/// AES-128 first: it is the fastest, and its strength matches the key exchange. The key exchange is
/// hybrid first, so that what is recorded today stays closed to a later quantum computer.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
            aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    }
}

fn device_key(seed: &[u8; 32]) -> Result<(Arc<CertifiedKey>, DeviceId), TlsSetupError> {
    let mut der = Zeroizing::new([0; PKCS8_PREFIX.len() + 32]);
    der[..PKCS8_PREFIX.len()].copy_from_slice(&PKCS8_PREFIX);
    der[PKCS8_PREFIX.len()..].copy_from_slice(seed);
    let key = aws_lc_rs::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(&der[..]))
        .map_err(|_| TlsSetupError)?;
    let spki = key.public_key().ok_or(TlsSetupError)?.to_vec();
    let device = verify::device_of(&spki).ok_or(TlsSetupError)?;
    Ok((Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], key)), device))
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    key: &Arc<CertifiedKey>,
    verifier: &Verifier,
) -> Result<ClientConfig, TlsSetupError> {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|_| TlsSetupError)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier.clone()))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key.clone())));
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    key: &Arc<CertifiedKey>,
    verifier: &Verifier,
) -> Result<ServerConfig, TlsSetupError> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|_| TlsSetupError)?
        .with_client_cert_verifier(Arc::new(verifier.clone()))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key.clone())));
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}
