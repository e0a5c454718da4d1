//! Certificates for keys that others made: a signing request (PKCS #10) read, and signed.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use knarr_api::pem;
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, SubjectPublicKeyInfo,
};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509CertificationRequest};

use super::{CertificateAuthority, authority::set_validity, inspect::address, subject};

const LABEL: &str = "CERTIFICATE REQUEST";

/// Why a signing request cannot be read or signed. The words go into the status of the request's object.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("PEM block type must be {LABEL}")]
    NotPem,
    #[error("asn1: the request cannot be parsed: {0}")]
    Malformed(String),
    #[error("usage {0:?} is not one that certificates can be signed for here")]
    Usage(String),
    #[error("signing failed")]
    Sign(#[source] rcgen::Error),
}

/// What a signing request asks to be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requested {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    /// Names of every other sort: mail addresses, URIs.
    pub other_names: usize,
}

impl Requested {
    /// Reads the PEM of a request.
    pub fn read(pem: &[u8]) -> Result<Self, RequestError> {
        let der = der_of(pem)?;
        let (_, request) =
            X509CertificationRequest::from_der(&der).map_err(|cause| RequestError::Malformed(cause.to_string()))?;
        let subject = &request.certification_request_info.subject;
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            let text = attribute.as_str().map(str::to_owned);
            text.map_err(|cause| RequestError::Malformed(format!("its subject: {cause}")))
        };
        let mut requested = Self {
            // Of several the last counts, as in Go.
            common_name: subject.iter_common_name().last().map(text).transpose()?.unwrap_or_default(),
            organizations: subject.iter_organization().map(text).collect::<Result<_, _>>()?,
            ..Self::default()
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(name) => requested.dns_names.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => match address(bytes) {
                        Some(address) => requested.addresses.push(address),
                        None => requested.other_names += 1,
                    },
                    _ => requested.other_names += 1,
                }
            }
        }
        Ok(requested)
    }
}

fn der_of(pem: &[u8]) -> Result<Vec<u8>, RequestError> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| RequestError::NotPem)?;
    if block.label == LABEL { Ok(block.contents) } else { Err(RequestError::NotPem) }
}

impl CertificateAuthority {
    /// Signs a request, whose own signature is verified first. Only its names and its key are taken over; what the
    /// certificate is good for, `usages` says in the terms of `certificates.k8s.io`.
    pub fn sign_request(
        &self,
        pem: &[u8],
        usages: &[String],
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<String, RequestError> {
        let malformed = |cause: &dyn std::fmt::Display| RequestError::Malformed(cause.to_string());
        let der = der_of(pem)?;
        let (_, request) = X509CertificationRequest::from_der(&der).map_err(|cause| malformed(&cause))?;
        request.verify_signature().map_err(|cause| malformed(&cause))?;
        let asked = &request.certification_request_info;
        let key = SubjectPublicKeyInfo::from_der(asked.subject_pki.raw).map_err(|cause| malformed(&cause))?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = alternative_names(&request)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        for usage in usages {
            match usage.as_str() {
                "signing" | "digital signature" => params.key_usages.push(KeyUsagePurpose::DigitalSignature),
                "key encipherment" => params.key_usages.push(KeyUsagePurpose::KeyEncipherment),
                "client auth" => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth),
                "server auth" => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth),
                other => return Err(RequestError::Usage(other.to_owned())),
            }
        }
        set_validity(&mut params, now, lifetime);
        let draft = params.signed_by(&key, self.issuer()).map_err(RequestError::Sign)?;
        let signer = KeyPair::from_pem(self.key_pem()).map_err(RequestError::Sign)?;
        let signed = subject::replaced(draft.der(), subject::OF_CERTIFICATE, asked.subject.as_raw(), &signer);
        let signed = signed.ok_or_else(|| malformed(&"its certificate has no subject"))?;
        Ok(pem::encode("CERTIFICATE", &signed.map_err(RequestError::Sign)?))
    }
}

/// The names beside the subject. What else a request wants of its certificate is for `usages` to say; an extension that
/// this authority knows nothing of is not silently left out.
fn alternative_names(request: &X509CertificationRequest<'_>) -> Result<Vec<SanType>, RequestError> {
    let unknown = |what: &dyn std::fmt::Debug| RequestError::Malformed(format!("unsupported: {what:?}"));
    let mut all = Vec::new();
    for extension in request.requested_extensions().into_iter().flatten() {
        let names = match extension {
            ParsedExtension::SubjectAlternativeName(names) => names,
            ParsedExtension::KeyUsage(_)
            | ParsedExtension::ExtendedKeyUsage(_)
            | ParsedExtension::BasicConstraints(_) => continue,
            other => return Err(unknown(other)),
        };
        for name in &names.general_names {
            let taken = match name {
                GeneralName::DNSName(name) => (*name).try_into().map(SanType::DnsName),
                GeneralName::RFC822Name(name) => (*name).try_into().map(SanType::Rfc822Name),
                GeneralName::URI(name) => (*name).try_into().map(SanType::URI),
                GeneralName::IPAddress(bytes) => Ok(SanType::IpAddress(address(bytes).ok_or_else(|| unknown(name))?)),
                other => return Err(unknown(other)),
            };
            all.push(taken.map_err(|cause| RequestError::Malformed(cause.to_string()))?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use rcgen::{DnType, PublicKeyData};

    use super::*;
    use crate::pki::peer_identity;

    fn request() -> String {
        let mut params = CertificateParams::new(vec!["jane.example.org".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "jane");
        params.distinguished_name.push(DnType::OrganizationName, "dev");
        // A request cannot make itself an authority.
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    #[test]
    fn a_subject_that_cannot_be_read_is_refused() {
        let mut params = CertificateParams::default();
        let masters = rcgen::string::BmpString::try_from("system:masters").unwrap();
        params.distinguished_name.push(DnType::OrganizationName, rcgen::DnValue::BmpString(masters));
        let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let refused = Requested::read(request.as_bytes()).unwrap_err().to_string();
        assert!(refused.contains("its subject: "), "{refused}");
    }

    #[test]
    fn a_request_is_read_and_signed() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let authority = CertificateAuthority::generate("test", now).unwrap();
        let pem = request();
        let expected = Requested {
            common_name: "jane".into(),
            organizations: vec!["dev".into()],
            dns_names: vec!["jane.example.org".into()],
            ..Requested::default()
        };
        assert_eq!(Requested::read(pem.as_bytes()).unwrap(), expected);
        let usages = ["client auth".to_owned()];
        let signed =
            authority.sign_request(pem.as_bytes(), &usages, Duration::from_secs(3600), now).expect("a good request");
        let (_, block) = x509_parser::pem::parse_x509_pem(signed.as_bytes()).unwrap();
        let identity = peer_identity(&rustls_pki_types::CertificateDer::from(block.contents.clone())).unwrap();
        assert_eq!(
            (identity.common_name.as_str(), identity.organizations.as_slice()),
            ("jane", &["dev".to_owned()][..])
        );
        assert_eq!(identity.not_after, now.as_second() + 3600);
        let certificate = block.parse_x509().unwrap();
        assert!(!certificate.is_ca());
        let (_, issuer) = x509_parser::parse_x509_certificate(authority.certificate()).unwrap();
        certificate.verify_signature(Some(issuer.public_key())).expect("the authority signed it");
    }

    #[test]
    fn every_organization_of_a_request_is_in_its_certificate() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let authority = CertificateAuthority::generate("test", now).unwrap();
        let key = KeyPair::generate().unwrap();
        let plain = CertificateParams::default().serialize_request(&key).unwrap();
        for (organizations, in_one_set) in
            [(&["dev", "ops", "qa"][..], true), (&["dev", "ops", "qa"], false), (&["dev"], true), (&[], false)]
        {
            let name = subject::tests::name(organizations, in_one_set, "jane");
            let der = subject::replaced(plain.der(), subject::tests::OF_REQUEST, &name, &key).unwrap().unwrap();
            let pem = pem::encode(LABEL, &der);
            let asked = Requested::read(pem.as_bytes()).unwrap();
            assert_eq!((&*asked.common_name, &*asked.organizations), ("jane", &*to_owned(organizations)));
            let usages = ["client auth".to_owned()];
            let signed = authority.sign_request(pem.as_bytes(), &usages, Duration::from_secs(3600), now).unwrap();
            let (_, block) = x509_parser::pem::parse_x509_pem(signed.as_bytes()).unwrap();
            let identity = peer_identity(&block.contents).unwrap();
            assert_eq!((&*identity.common_name, &*identity.organizations), ("jane", &*to_owned(organizations)));
            let certificate = block.parse_x509().unwrap();
            let (_, issuer) = x509_parser::parse_x509_certificate(authority.certificate()).unwrap();
            certificate.verify_signature(Some(issuer.public_key())).expect("the authority signed it");
            assert_eq!(certificate.public_key().raw, key.subject_public_key_info());
        }
        // A request that somebody else has changed on the way is not signed.
        let name = subject::tests::name(&["system:masters"], true, "jane");
        let other = KeyPair::generate().unwrap();
        let der = subject::replaced(plain.der(), subject::tests::OF_REQUEST, &name, &other).unwrap().unwrap();
        let refused = authority.sign_request(pem::encode(LABEL, &der).as_bytes(), &[], Duration::from_secs(3600), now);
        assert!(matches!(refused, Err(RequestError::Malformed(_))), "{refused:?}");
    }

    fn to_owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let authority = CertificateAuthority::generate("test", now).unwrap();
        let other_block = authority.certificate_pem();
        for (pem, expected) in [
            ("", "PEM block type must be CERTIFICATE REQUEST"),
            ("nonsense", "PEM block type must be CERTIFICATE REQUEST"),
            (other_block, "PEM block type must be CERTIFICATE REQUEST"),
        ] {
            assert_eq!(Requested::read(pem.as_bytes()).unwrap_err().to_string(), expected);
        }
        let usages = ["code signing".to_owned()];
        let refused = authority.sign_request(request().as_bytes(), &usages, Duration::from_secs(600), now);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "usage \"code signing\" is not one that certificates can be signed for here"
        );
    }
}
