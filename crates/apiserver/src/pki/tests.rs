use std::net::IpAddr;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::Env;

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

type Session = (tokio_rustls::server::TlsStream<DuplexStream>, tokio_rustls::client::TlsStream<DuplexStream>);

/// The two ends of a new connection.
async fn connect(server: Arc<rustls::ServerConfig>, client: Arc<rustls::ClientConfig>) -> Session {
    let (near, far) = tokio::io::duplex(1 << 16);
    let name = ServerName::try_from("node-1").unwrap();
    let accepting = tokio_rustls::TlsAcceptor::from(server);
    let connecting = tokio_rustls::TlsConnector::from(client);
    let (accepted, connected) = tokio::join!(accepting.accept(far), connecting.connect(name, near));
    (accepted.unwrap(), connected.unwrap())
}

fn shown_by_server(session: &Session) -> CertificateDer<'static> {
    session.1.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

fn shown_by_client(session: &Session) -> CertificateDer<'static> {
    session.0.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Certificates that end in 65 days: clients look at the host's clock, so that this one is set back.
fn near_their_end(directory: &std::path::Path) -> (Pki, Arc<Certificates>) {
    let then = Timestamp::now() - (24 * 300).hours();
    let pki = Pki::open(directory, &names(), then).unwrap();
    let authority = CertificateAuthority::from_pem(pki.authority.certificate_pem(), pki.authority.key_pem()).unwrap();
    let all = Certificates::open(directory.to_owned(), names(), Arc::new(authority), then).unwrap();
    (pki, Arc::new(all))
}

#[tokio::test]
async fn new_connections_get_the_new_certificate_and_those_of_before_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (pki, all) = near_their_end(dir.path());
    let (api, node) = (all.api().unwrap().config, Arc::new(all.kubelet().unwrap()));
    let admin = Arc::new(client_config(pki.authority.certificate(), Some(&pki.admin)).unwrap());
    let caller = Arc::new(all.kubelet_client().unwrap());

    let mut before = connect(api.clone(), admin.clone()).await;
    let to_node_before = connect(node.clone(), caller.clone()).await;
    assert_eq!(shown_by_server(&before), der(&pki.server.certificate_pem));
    let chain = before.1.get_ref().1.peer_certificates().unwrap();
    assert_eq!(chain[1], *pki.authority.certificate(), "for machines that join");
    assert_eq!(shown_by_client(&to_node_before), der(&pki.kubelet_client.certificate_pem));

    let renewed = all.renew(Timestamp::now()).unwrap();
    assert_ne!(renewed.certificate_pem, pki.admin.certificate_pem);
    let after = connect(api, admin).await;
    let to_node_after = connect(node, caller).await;
    assert_ne!(shown_by_server(&after), shown_by_server(&before));
    assert_eq!(after.1.get_ref().1.peer_certificates().unwrap()[1], *pki.authority.certificate());
    assert_ne!(shown_by_server(&to_node_after), shown_by_server(&to_node_before));
    assert_ne!(shown_by_client(&to_node_after), shown_by_client(&to_node_before));
    let left = peer_identity(&shown_by_server(&after)).unwrap().not_after - Timestamp::now().as_second();
    assert!(left > 364 * 24 * 3600, "{left}");

    before.1.write_all(b"still here").await.unwrap();
    before.1.flush().await.unwrap();
    let mut heard = [0; 10];
    before.0.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"still here");

    let again = all.renew(Timestamp::now()).unwrap();
    assert_eq!(again.certificate_pem, renewed.certificate_pem, "what is new stays");
    let kept = Pki::open(dir.path(), &names(), Timestamp::now()).unwrap();
    assert_eq!(der(&kept.server.certificate_pem), shown_by_server(&after), "the next start shows the same");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_runs_for_years_renews_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), &names(), now()).unwrap();
    let authority = Arc::new(pki.authority);
    let all = Arc::new(Certificates::open(dir.path().to_owned(), names(), authority, now()).unwrap());
    // A day before the first are due.
    let (begin, start) = (now() + (24 * 274).hours(), Instant::now());
    let clock = move || begin + jiff::SignedDuration::try_from(start.elapsed()).unwrap();
    let told: Arc<Mutex<Vec<(i64, String)>>> = Arc::default();
    let (tell, cancel) = (told.clone(), CancellationToken::new());
    let tell = Arc::new(move |admin: &Leaf| {
        let mut told = tell.lock().unwrap();
        if told.last().is_none_or(|(_, last)| *last != admin.certificate_pem) {
            let hours = clock().duration_since(now()).as_hours();
            told.push((hours, admin.certificate_pem.clone()));
        }
    });
    let keeping = tokio::spawn(all.keep_current(Env::seeded(clock, 1), tell, cancel.clone()));
    tokio::time::sleep(Duration::from_secs(3 * 24 * 3600)).await;
    let told = told.lock().unwrap().clone();
    assert_eq!(told[0], (24 * 274, pki.admin.certificate_pem), "told of what there is");
    assert_eq!((told.len(), told[1].0), (2, 24 * 275), "renewed 90 days before the end, and once");
    cancel.cancel();
    keeping.await.unwrap();
}
