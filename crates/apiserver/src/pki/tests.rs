use std::net::IpAddr;

use jiff::{Timestamp, ToSpan};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::*;

fn now() -> Timestamp {
    "2026-05-01T12:00:00Z".parse().unwrap()
}

fn names() -> ServerNames {
    ServerNames {
        node_name: "node-1".into(),
        cluster_domain: "cluster.local".into(),
        service_address: "10.96.0.1".parse().unwrap(),
        host_addresses: vec!["192.0.2.7".parse().unwrap()],
        extra: vec!["api.example.org".into(), "198.51.100.1".into()],
    }
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

#[test]
fn a_second_start_keeps_what_the_first_one_made() {
    let dir = tempfile::tempdir().unwrap();
    let first = Pki::open(dir.path(), &names(), now()).unwrap();
    let second = Pki::open(dir.path(), &names(), now() + 24.hours()).unwrap();
    assert_eq!(first.authority.certificate_pem(), second.authority.certificate_pem());
    assert_eq!(first.server.certificate_pem, second.server.certificate_pem);
    assert_eq!(first.admin.key_pem, second.admin.key_pem);
    assert_eq!(first.service_account_key.key_id(), second.service_account_key.key_id());
}

#[test]
fn a_leaf_is_renewed_near_its_end_and_when_a_name_is_added() {
    let dir = tempfile::tempdir().unwrap();
    let first = Pki::open(dir.path(), &names(), now()).unwrap();

    let mut more = names();
    more.host_addresses.push("192.0.2.8".parse().unwrap());
    let second = Pki::open(dir.path(), &more, now()).unwrap();
    assert_ne!(first.server.certificate_pem, second.server.certificate_pem, "a new address needs a new certificate");
    assert_eq!(first.admin.certificate_pem, second.admin.certificate_pem, "other certificates stay");

    let third = Pki::open(dir.path(), &more, now() + (24 * 300).hours()).unwrap();
    assert_ne!(second.admin.certificate_pem, third.admin.certificate_pem, "65 days before its end it is renewed");
    assert_eq!(second.authority.certificate_pem(), third.authority.certificate_pem());
}

#[test]
fn half_an_authority_is_an_error_and_not_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    Pki::open(dir.path(), &names(), now()).unwrap();
    std::fs::remove_file(dir.path().join("ca.key")).unwrap();
    let error = Pki::open(dir.path(), &names(), now()).err().expect("must fail");
    assert!(error.to_string().contains("ca.key"), "{error}");
}

#[test]
fn private_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pki");
    Pki::open(&path, &names(), now()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
}

#[test]
fn subjects_are_read_back() {
    let authority = CertificateAuthority::generate("kubernetes", now()).unwrap();
    let leaf = authority.issue(&Identity::client(Subject::node("n1")), now()).unwrap();
    let peer = peer_identity(&der(&leaf.certificate_pem)).unwrap();
    assert_eq!(peer.common_name, "system:node:n1");
    assert_eq!(peer.organizations, ["system:nodes"]);
    assert_eq!(peer.not_after, (now() + (24 * 365).hours()).as_second());
    assert_eq!(peer_identity(b"not a certificate"), None);
}

/// A real handshake: the server's name is checked, and the client's certificate arrives.
#[tokio::test]
async fn both_sides_of_a_handshake_accept_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), &names(), Timestamp::now()).unwrap();
    let server = server_config(&pki.server, pki.authority.certificate()).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(server));

    for (name, shown, ok) in [
        ("kubernetes.default.svc", Some(&pki.admin), true),
        ("api.example.org", None, true),
        ("10.96.0.1", Some(&pki.admin), true),
        ("192.0.2.7", Some(&pki.admin), true),
        ("elsewhere.example.org", Some(&pki.admin), false),
    ] {
        let client = client_config(pki.authority.certificate(), shown).unwrap();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client));
        let (near, far) = tokio::io::duplex(1 << 16);
        let server_name = match name.parse::<IpAddr>() {
            Ok(address) => rustls_pki_types::ServerName::IpAddress(address.into()),
            Err(_) => rustls_pki_types::ServerName::try_from(name).unwrap(),
        };
        let (accepted, connected) = tokio::join!(acceptor.accept(far), connector.connect(server_name, near));
        assert_eq!(connected.is_ok(), ok, "{name}");
        if ok {
            let accepted = accepted.unwrap();
            let peer = accepted.get_ref().1.peer_certificates().and_then(|chain| peer_identity(&chain[0]));
            assert_eq!(peer.is_some(), shown.is_some(), "{name}");
        }
    }
}
