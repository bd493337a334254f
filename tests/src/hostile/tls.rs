//! A dialler's TLS 1.3 with a raw Ed25519 key, which does not care whom it meets.

use std::error::Error;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_eddsa_type};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, PeerIncompatible, SignatureScheme,
    StreamOwned, version,
};

use super::ANSWER_WITHIN;

/// PKCS #8 (RFC 8410) around a 32-byte Ed25519 seed.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A connection whose handshake takes place with the first bytes.
pub(super) fn dial(
    to: SocketAddr,
    seed: &[u8; 32],
) -> Result<StreamOwned<ClientConnection, TcpStream>, Box<dyn Error>> {
    let stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    stream.set_nodelay(true)?;
    // Never sent: there is no server name.
    let name = ServerName::try_from("cloak.invalid")?;
    let connection = ClientConnection::new(Arc::new(config(seed)?), name)?;
    Ok(StreamOwned::new(connection, stream))
}

fn config(seed: &[u8; 32]) -> Result<ClientConfig, Box<dyn Error>> {
    let der = [&PKCS8_PREFIX[..], seed].concat();
    let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(der))?;
    let public = key.public_key().ok_or("no public key")?.to_vec();
    let key = Arc::new(CertifiedKey::new(vec![CertificateDer::from(public)], key));
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key)));
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"cloak/1".to_vec()];
    Ok(config)
}

/// Takes every key.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _key: &CertificateDer<'_>,
        _more: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
