use std::net::IpAddr;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{CertificateAuthority, Identity, Leaf};

/// A leaf is renewed when less than this is left of its life.
const RENEW_BEFORE_SECONDS: i64 = 90 * 24 * 60 * 60;

/// Who a client certificate speaks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerIdentity {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub not_after: i64,
}

/// Reads the subject of a certificate. `None` where it cannot be parsed or names nobody.
pub fn peer_identity(certificate: &[u8]) -> Option<PeerIdentity> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    // Of several common names the last counts, as in Go; of organizations all do.
    let common_name = subject.iter_common_name().last()?.as_str().ok()?.to_owned();
    let organizations = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    let not_after = certificate.validity().not_after.timestamp();
    (!common_name.is_empty()).then_some(PeerIdentity { common_name, organizations, not_after })
}

/// True while a leaf says what it should, is signed by the authority, and will be good for a while.
pub(super) fn is_current(leaf: &Leaf, identity: &Identity, authority: &CertificateAuthority, now: Timestamp) -> bool {
    check(leaf, identity, authority, now).unwrap_or(false)
}

fn check(leaf: &Leaf, identity: &Identity, authority: &CertificateAuthority, now: Timestamp) -> Option<bool> {
    let der = CertificateDer::from_pem_slice(leaf.certificate_pem.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let (_, signer) = X509Certificate::from_der(authority.certificate()).ok()?;
    let peer = peer_identity(&der)?;

    let mut dns_names: Vec<&str> = Vec::new();
    let mut addresses: Vec<IpAddr> = Vec::new();
    if let Ok(Some(names)) = certificate.subject_alternative_name() {
        for name in &names.value.general_names {
            match name {
                GeneralName::DNSName(name) => dns_names.push(name),
                GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                _ => {}
            }
        }
    }
    let organization = identity.subject.organization.as_slice();
    Some(
        peer.not_after - now.as_second() > RENEW_BEFORE_SECONDS
            && peer.common_name == identity.subject.common_name
            && peer.organizations == organization
            && identity.dns_names.iter().all(|name| dns_names.contains(&name.as_str()))
            && identity.addresses.iter().all(|a| addresses.contains(a))
            && certificate.verify_signature(Some(signer.public_key())).is_ok(),
    )
}

pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}
