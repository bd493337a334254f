//! Accepts any well-formed Ed25519 key whose holder signed the handshake, or only a certain one.

use std::sync::Arc;

use cloak_base::DeviceId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, SignatureScheme,
};

/// What precedes the 32 key bytes in an Ed25519 `SubjectPublicKeyInfo` (RFC 8410); the encoding is
/// DER, so there is exactly one.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// The device with this `SubjectPublicKeyInfo`; `None` when it is no Ed25519 key.
pub(super) fn device_of(spki: &[u8]) -> Option<DeviceId> {
    DeviceId::from_slice(spki.strip_prefix(&SPKI_PREFIX)?)
}

#[derive(Debug, Clone)]
pub(super) struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    expected: Option<DeviceId>,
}

/// Travels through rustls as the reason of a refusal.
#[derive(Debug, thiserror::Error)]
#[error("another device answered")]
pub(super) struct WrongPeer {
    pub(super) expected: DeviceId,
    pub(super) found: DeviceId,
}

impl Verifier {
    pub(super) fn any(provider: &CryptoProvider) -> Self {
        Self { algorithms: provider.signature_verification_algorithms, expected: None }
    }

    pub(super) fn only(&self, device: DeviceId) -> Self {
        Self { expected: Some(device), ..self.clone() }
    }

    fn check(&self, key: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), Error> {
        let found = device_of(key)
            .filter(|_| more.is_empty())
            .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        match self.expected {
            Some(expected) if expected != found => {
                let wrong = OtherError(Arc::new(WrongPeer { expected, found }));
                Err(Error::InvalidCertificate(CertificateError::Other(wrong)))
            }
            _ => Ok(()),
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(key, more).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(key, more).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_encoding_of_a_key_is_a_device() {
        let spki = [&SPKI_PREFIX[..], &[7; 32]].concat();
        assert_eq!(device_of(&spki), Some(DeviceId::from_bytes([7; 32])));
        assert_eq!(device_of(&spki[..43]), None);
        assert_eq!(device_of(&[&spki[..], &[0]].concat()), None);
        let mut rsa = spki.clone();
        rsa[8] = 0x71;
        assert_eq!(device_of(&rsa), None);
        assert_eq!(device_of(b""), None);
    }
}
