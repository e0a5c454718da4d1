//! What a ClusterTrustBundle may hold, and be called.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use super::*;

/// A certificate in PEM, of an authority or not.
fn certificate(is_ca: IsCa) -> String {
    let mut params = CertificateParams::new(["a.b".to_owned()]).unwrap();
    params.is_ca = is_ca;
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

fn authority() -> String {
    certificate(IsCa::Ca(BasicConstraints::Unconstrained))
}

fn bundle(name: &str, signer: Option<&str>, pem: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"signerName": signer, "trustBundle": pem}})
}

fn faults(object: &Value) -> Vec<String> {
    let strategy = of_kind("certificates.k8s.io", "ClusterTrustBundle");
    strategy.validate_create(object).iter().map(ToString::to_string).collect()
}

#[test]
fn a_bundle_has_authorities_and_nothing_else() {
    let (one, two) = (authority(), authority());
    let with_headers = one.replacen("-----\n", "-----\nKey: value\n\n", 1);
    for (pem, expected) in [
        (one.clone(), vec![]),
        (format!("of one\n{one}and of two\n{two}"), vec![]),
        (String::new(), vec!["at least one trust anchor must be provided"]),
        ("?".repeat(1 << 20), vec!["at least one trust anchor must be provided"]),
        (format!("{one}{two}{one}"), vec!["duplicate trust anchor (indices [0 2])"]),
        (with_headers, vec!["entry 0 has PEM block headers"]),
        (certificate(IsCa::NoCa), vec!["entry 0 does not have the CA bit set"]),
        (certificate(IsCa::ExplicitNoCa), vec!["entry 0 does not have the CA bit set"]),
        (
            format!(
                "{one}{}{}{one}",
                crate::pem::encode("CERTIFICATE", b"?"),
                crate::pem::encode("RSA PRIVATE KEY", b"?")
            ),
            vec!["entry 1 does not parse as X.509", "entry 2 has bad block type: RSA PRIVATE KEY"],
        ),
    ] {
        let expected: Vec<String> = expected
            .into_iter()
            .map(|why| format!("spec.trustBundle: Invalid value: \"<value omitted>\": {why}"))
            .collect();
        assert_eq!(faults(&bundle("b", None, &pem)), expected);
    }
    let too_long = faults(&bundle("b", None, &"?".repeat((1 << 20) + 1)));
    assert_eq!(too_long, ["spec.trustBundle: Too long: may not be more than 1048576 bytes"]);
}

#[test]
fn a_bundle_is_called_after_its_signer() {
    let pem = authority();
    let subdomain = "a lowercase RFC 1123 subdomain must consist of";
    for (name, signer, expected) in [
        ("b.c", None, String::new()),
        ("a.b:c:d", Some("a.b/c"), String::new()),
        ("a.b:c.d:e.f", Some("a.b/c.d"), String::new()),
        (
            "a.b:c:d",
            None,
            "metadata.name: Invalid value: \"a.b:c:d\": ClusterTrustBundle without signer name must not have \":\" in its \
             name"
                .to_owned(),
        ),
        ("b_", None, format!("metadata.name: Invalid value: \"b_\": {subdomain}")),
        (
            "d",
            Some("a.b/c"),
            "metadata.name: Invalid value: \"d\": ClusterTrustBundle for signerName a.b/c must be named with prefix a.b:c:"
                .to_owned(),
        ),
        ("a.b:c:D", Some("a.b/c"), format!("metadata.name: Invalid value: \"a.b:c:D\": {subdomain}")),
        (
            "A.b:c:d",
            Some("A.b/c"),
            "spec.signerName: Invalid value: \"A.b\": validating label \"A\": a lowercase RFC 1123 label must".to_owned(),
        ),
        (
            "a.b:c:d:e",
            Some("a.b/c/d"),
            "spec.signerName: Invalid value: \"a.b/c/d\": must be a fully qualified domain and path of the form".to_owned(),
        ),
    ] {
        let found = faults(&bundle(name, signer, &pem));
        assert!(found.len() == usize::from(!expected.is_empty()), "{name}: {found:?}");
        assert!(found.iter().all(|fault| fault.starts_with(&expected)), "{name}: {found:?}");
    }
}

#[test]
fn a_bundle_stays_its_signers_and_what_was_taken_stays_good() {
    let strategy = of_kind("certificates.k8s.io", "ClusterTrustBundle");
    let faults = |new: &Value, old: &Value| -> Vec<String> {
        strategy.validate_update(new, old, Part::Main).iter().map(|error| error.body()).collect()
    };
    let (old, other) = (bundle("a.b:c:d", Some("a.b/c"), "?"), bundle("a.b:c:d", Some("a.b/c"), "!"));
    assert!(faults(&old, &old).is_empty());
    assert_eq!(faults(&other, &old).len(), 1);
    let moved = faults(&bundle("a.b:c:d", Some("a.b/d"), "?"), &old);
    assert_eq!(moved.last().map(String::as_str), Some("Invalid value: \"a.b/d\": field is immutable"));
}
