//! TLS 1.3 with raw public keys (RFC 7250) on both sides, pinned to Ed25519 keys.
//!
//! Promises: the other side of a completed handshake holds the key that [`peer_key`] returns, and the server side accepted
//! it by its predicate, the client side expected exactly it. TLS 1.3 only; no tickets, no resumption, no early data; the ring
//! provider explicitly, whatever the process default is. The "certificate" is the DER of the key's SubjectPublicKeyInfo.
//!
//! Requires: the caller checks [`has_alpn`] after the handshake, because TLS lets a side offer none.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rorqual_config::{KeyPair, PublicKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};

/// Decides whether a key may connect.
pub type Allowed = Arc<dyn Fn(&PublicKey) -> bool + Send + Sync>;

/// SubjectPublicKeyInfo of an Ed25519 key up to the key itself (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// PKCS #8 version 1 of an Ed25519 key up to the seed itself (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The server side: proves `key`, demands a raw public key that `allowed` accepts, speaks `alpn` only.
pub fn server_config(key: &KeyPair, allowed: Allowed, alpn: &[u8]) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(NoClock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the ring provider has cipher suites for TLS 1.3")
        .with_client_cert_verifier(Arc::new(Pinned(allowed)))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(key))));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Arc::new(config)
}

/// The client side: proves `key`, accepts a server that proves `expected` and nobody else, offers `alpn` only.
pub fn client_config(key: &KeyPair, expected: PublicKey, alpn: &[u8]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(NoClock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the ring provider has cipher suites for TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned(Arc::new(move |key| *key == expected))))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(key))));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    Arc::new(config)
}

/// The name a client connects to: a formality, the key is what is checked.
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from("rorqual.invalid").expect("a constant DNS name")
}

/// The key the other side proved to hold; none before the handshake is complete.
pub fn peer_key(connection: &CommonState) -> Option<PublicKey> {
    if connection.is_handshaking() {
        return None;
    }
    match connection.peer_certificates() {
        Some([certificate]) => spki_key(certificate),
        _ => None,
    }
}

/// Whether both sides agreed on this application protocol.
pub fn has_alpn(connection: &CommonState, alpn: &[u8]) -> bool {
    connection.alpn_protocol() == Some(alpn)
}

/// Raw keys have no dates and there are no tickets: no time is needed. The default reads the system's clock, and panics before 1970.
#[derive(Debug)]
struct NoClock;

impl TimeProvider for NoClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::ZERO))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn spki(key: &PublicKey) -> Vec<u8> {
    [&SPKI_PREFIX[..], &key.0].concat()
}

/// The key in an SPKI; none if it is anything but an Ed25519 key in its one DER encoding.
fn spki_key(der: &[u8]) -> Option<PublicKey> {
    der.strip_prefix(&SPKI_PREFIX)?.try_into().ok().map(PublicKey)
}

fn certified(key: &KeyPair) -> Arc<CertifiedKey> {
    let der = PrivatePkcs8KeyDer::from([&PKCS8_PREFIX[..], &key.seed()].concat());
    let signing = ring::sign::any_eddsa_type(&der).expect("any 32 bytes are an Ed25519 seed");
    Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki(&key.public()))], signing))
}

/// Accepts raw Ed25519 keys by a predicate, on either side.
struct Pinned(Allowed);

impl Pinned {
    fn check(&self, end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
        let key = spki_key(end_entity).ok_or(CertificateError::BadEncoding)?;
        if !intermediates.is_empty() {
            return Err(CertificateError::BadEncoding.into());
        }
        if (self.0)(&key) { Ok(()) } else { Err(CertificateError::ApplicationVerificationFailure.into()) }
    }

    fn check_signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if signed.scheme != SignatureScheme::ED25519 {
            return Err(Error::PeerIncompatible(rustls::PeerIncompatible::NoSignatureSchemesInCommon));
        }
        let key = SubjectPublicKeyInfoDer::from(certificate.as_ref());
        let algorithms = ring::default_provider().signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signed, &algorithms)
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pinned")
    }
}

fn no_tls12() -> Error {
    Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOfferedOrEnabled)
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::check_signature(message, certificate, signed)
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
    fn a_key_has_one_encoding() {
        let key = KeyPair::from_seed([3; 32]).public();
        let der = spki(&key);
        assert_eq!(spki_key(&der), Some(key));
        assert_eq!(spki_key(&der[..43]), None);
        assert_eq!(spki_key(&[&der[..], &[0]].concat()), None);
    }

    #[test]
    fn the_certified_key_signs_for_the_public_key() {
        let key = KeyPair::from_seed([9; 32]);
        let certified = certified(&key);
        assert_eq!(spki_key(&certified.key.public_key().unwrap()), Some(key.public()));
    }
}
