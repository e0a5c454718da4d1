use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use rand::RngCore;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::PkiError;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Certificates hold from a while before they are made: clocks of machines that talk to each other differ.
const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// What a certificate is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Client,
    Serving,
    Both,
}

/// The name that Kubernetes reads out of a certificate: the common name is the user, the organization a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    pub common_name: String,
    pub organization: Option<String>,
}

impl Subject {
    pub fn new(common_name: impl Into<String>, organization: Option<&str>) -> Self {
        Self { common_name: common_name.into(), organization: organization.map(str::to_owned) }
    }

    /// The identity of a node's agent.
    pub fn node(name: &str) -> Self {
        Self::new(format!("system:node:{name}"), Some("system:nodes"))
    }
}

/// What a leaf certificate is to say.
#[derive(Clone, Debug)]
pub struct Identity {
    pub subject: Subject,
    pub purpose: Purpose,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
}

impl Identity {
    pub fn client(subject: Subject) -> Self {
        Self { subject, purpose: Purpose::Client, dns_names: Vec::new(), addresses: Vec::new() }
    }
}

/// A certificate with its private key, both PEM.
#[derive(Clone)]
pub struct Leaf {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

/// A certificate authority: its certificate, and the key to sign with.
pub struct CertificateAuthority {
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl CertificateAuthority {
    pub fn generate(common_name: &str, now: Timestamp) -> Result<Self, PkiError> {
        let what = "the cluster's certificate authority";
        let fail = |source| PkiError::Generate { what: what.into(), source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&Subject::new(common_name, None));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now, AUTHORITY_LIFETIME);
        let certificate = params.self_signed(&key).map_err(fail)?;
        Self::from_pem(&certificate.pem(), &key.serialize_pem())
    }

    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|e| PkiError::damaged("the authority's certificate", e))?;
        let key = KeyPair::from_pem(key_pem).map_err(|e| PkiError::damaged("the authority's key", e))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|e| PkiError::damaged("the authority's certificate", e))?;
        Ok(Self { certificate_pem: certificate_pem.to_owned(), certificate, key_pem: key_pem.to_owned(), issuer })
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    pub(super) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Makes a key and a certificate for it, good for a year.
    pub fn issue(&self, identity: &Identity, now: Timestamp) -> Result<Leaf, PkiError> {
        let fail =
            |source| PkiError::Generate { what: format!("a certificate for {}", identity.subject.common_name), source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&identity.subject);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = match identity.purpose {
            Purpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Purpose::Serving => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Purpose::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        for name in &identity.dns_names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(fail)?));
        }
        params.subject_alt_names.extend(identity.addresses.iter().copied().map(SanType::IpAddress));
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, LEAF_LIFETIME);
        let certificate = params.signed_by(&key, &self.issuer).map_err(fail)?;
        Ok(Leaf { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

fn distinguished_name(subject: &Subject) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = &subject.organization {
        name.push(DnType::OrganizationName, organization.as_str());
    }
    name.push(DnType::CommonName, subject.common_name.as_str());
    name
}

pub(super) fn set_validity(params: &mut CertificateParams, now: Timestamp, lifetime: Duration) {
    let since_epoch = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0)).max(DAY);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + (since_epoch - BACKDATE);
    params.not_after = epoch + (since_epoch + lifetime);
    // RFC 5280: positive, at most 20 octets, hard to guess.
    let mut serial = [0u8; 16];
    #[allow(clippy::disallowed_methods)] // a serial number has to be one that nobody can guess
    rand::rng().fill_bytes(&mut serial);
    serial[0] = (serial[0] & 0x7f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
}
