//! Which certificate a client is shown.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Secret;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the Secret has no {0}")]
    Missing(&'static str),
    #[error("{0} of the Secret is no PEM")]
    Pem(&'static str),
    #[error("the certificate and the key cannot be used")]
    Unusable(#[from] rustls::Error),
    #[error("the default certificate cannot be made")]
    Default(#[from] rcgen::Error),
}

/// The certificates by host: exact, `*.domain`, or empty for whoever asks for none of them.
#[derive(Debug)]
pub struct Certificates {
    by_host: ArcSwap<HashMap<String, Arc<CertifiedKey>>>,
    /// Vouches for nobody: it only lets a client say what it wants.
    fallback: Arc<CertifiedKey>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Certificates {
    pub fn new() -> Result<Self, TlsError> {
        let made = rcgen::generate_simple_self_signed(["knarr-ingress.invalid".to_owned()])?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let fallback = Arc::new(CertifiedKey::from_der(vec![made.cert.der().clone()], key, &provider())?);
        Ok(Self { by_host: ArcSwap::default(), fallback })
    }

    pub fn set(&self, by_host: HashMap<String, Arc<CertifiedKey>>) {
        self.by_host.store(Arc::new(by_host));
    }

    fn find(&self, name: &str) -> Arc<CertifiedKey> {
        let (all, name) = (self.by_host.load(), name.to_lowercase());
        let wildcard = name.split_once('.').map(|(_, domain)| format!("*.{domain}")).unwrap_or_default();
        let found = [name.as_str(), &wildcard, ""].into_iter().find_map(|host| all.get(host));
        found.unwrap_or(&self.fallback).clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.find(hello.server_name().unwrap_or_default()))
    }
}

pub fn server_config(certificates: Arc<Certificates>) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// What a Secret of type `kubernetes.io/tls` holds.
pub fn read(secret: &Secret) -> Result<CertifiedKey, TlsError> {
    let part = |name: &'static str| {
        let data = secret.data.as_ref().and_then(|data| data.get(name));
        data.map(|bytes| bytes.0.as_slice()).ok_or(TlsError::Missing(name))
    };
    let (chain, key) = (part("tls.crt")?, part("tls.key")?);
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|_| TlsError::Pem("tls.crt"))?;
    if chain.is_empty() {
        return Err(TlsError::Pem("tls.crt"));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Pem("tls.key"))?;
    Ok(CertifiedKey::from_der(chain, key, &provider())?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;

    use super::*;

    fn secret(host: &str) -> (Secret, CertificateDer<'static>) {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        let data = BTreeMap::from([
            ("tls.crt".to_owned(), ByteString(made.cert.pem().into_bytes())),
            ("tls.key".to_owned(), ByteString(made.signing_key.serialize_pem().into_bytes())),
        ]);
        (Secret { data: Some(data), ..Secret::default() }, made.cert.der().clone())
    }

    #[test]
    fn a_name_gets_its_certificate() {
        let certificates = Certificates::new().unwrap();
        let (exact, exact_der) = secret("a.example");
        let (wild, wild_der) = secret("*.example");
        let by_host = [("a.example", &exact), ("*.example", &wild)];
        let read_all = by_host.map(|(host, secret)| (host.to_owned(), Arc::new(read(secret).unwrap())));
        certificates.set(read_all.into_iter().collect());
        let own = certificates.fallback.cert[0].clone();
        for (name, expected) in [
            ("a.example", &exact_der),
            ("A.Example", &exact_der),
            ("b.example", &wild_der),
            ("x.y.example", &own),
            ("", &own),
        ] {
            assert_eq!(&certificates.find(name).cert[0], expected, "{name}");
        }
    }

    #[test]
    fn secrets_that_cannot_be_used_say_why() {
        let empty = Secret::default();
        assert!(matches!(read(&empty), Err(TlsError::Missing("tls.crt"))));
        let (mut broken, _) = secret("a");
        broken.data.as_mut().unwrap().insert("tls.crt".into(), ByteString(b"rubbish".to_vec()));
        assert!(matches!(read(&broken), Err(TlsError::Pem("tls.crt"))));
        let (mut mixed, _) = secret("a");
        let (other, _) = secret("b");
        mixed.data.as_mut().unwrap().insert("tls.key".into(), other.data.unwrap()["tls.key"].clone());
        assert!(matches!(read(&mixed), Err(TlsError::Unusable(_))));
    }
}
