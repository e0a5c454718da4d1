//! Certificate requests and certificates, as PEM and bare.
#![no_main]

use std::{sync::LazyLock, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use knarr_apiserver::pki::{CertificateAuthority, Requested, peer_identity};
use libfuzzer_sys::fuzz_target;

static AUTHORITY: LazyLock<CertificateAuthority> =
    LazyLock::new(|| CertificateAuthority::generate("fuzz", Timestamp::UNIX_EPOCH).expect("keys can be made"));

fuzz_target!(|data: &[u8]| {
    let label = "CERTIFICATE REQUEST";
    let pem = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(data));
    for pem in [data, pem.as_bytes()] {
        let _ = Requested::read(pem);
        let _ = AUTHORITY.sign_request(pem, &[], Duration::from_secs(600), Timestamp::UNIX_EPOCH);
    }
    peer_identity(data);
});
