//! Certificate requests, certificates and bundles of them, as PEM and bare.
#![no_main]

use std::{sync::LazyLock, time::Duration};

use jiff::Timestamp;
use knarr_api::{pem, strategy};
use knarr_apiserver::pki::{CertificateAuthority, Requested, peer_identity};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

static AUTHORITY: LazyLock<CertificateAuthority> =
    LazyLock::new(|| CertificateAuthority::generate("fuzz", Timestamp::UNIX_EPOCH).expect("keys can be made"));

fuzz_target!(|data: &[u8]| {
    let request = pem::encode("CERTIFICATE REQUEST", data);
    for pem in [data, request.as_bytes()] {
        let _ = Requested::read(pem);
        let _ = AUTHORITY.sign_request(pem, &[], Duration::from_secs(600), Timestamp::UNIX_EPOCH);
    }
    peer_identity(data);
    for text in [String::from_utf8_lossy(data), pem::encode("CERTIFICATE", data).into()] {
        let bundle = json!({"metadata": {"name": "b"}, "spec": {"trustBundle": text}});
        strategy::of_kind("certificates.k8s.io", "ClusterTrustBundle").validate_create(&bundle);
    }
});
