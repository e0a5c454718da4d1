use serde_json::{Value, json};

use super::*;

fn request(signer: &str, conditions: Value, certificate: Option<&str>) -> CertificateSigningRequest {
    let request = json!({
        "metadata": {"name": "r"},
        "spec": {"request": "cGVt", "signerName": signer, "usages": ["client auth"], "expirationSeconds": 60},
        "status": {"conditions": conditions, "certificate": certificate},
    });
    serde_json::from_value(request).unwrap()
}

#[test]
fn only_what_is_approved_and_ours_is_signed() {
    let is = |kind: &str| json!({"type": kind, "status": "True"});
    let ours = "kubernetes.io/kube-apiserver-client";
    for (what, request, expected) in [
        ("pending", request(ours, json!([]), None), false),
        ("approved", request(ours, json!([is("Approved")]), None), true),
        ("denied", request(ours, json!([is("Denied")]), None), false),
        ("failed", request(ours, json!([is("Approved"), is("Failed")]), None), false),
        ("done", request(ours, json!([is("Approved")]), Some("cGVt")), false),
        ("another's", request("example.org/x", json!([is("Approved")]), None), false),
    ] {
        let work = plan::work(&request);
        assert_eq!(matches!(work, Work::Sign { .. }), expected, "{what}");
        if let Work::Sign { lifetime, pem, .. } = work {
            assert_eq!((lifetime, pem), (Duration::from_secs(600), &b"pem"[..]), "not shorter than ten minutes");
        }
    }
}

#[test]
fn signers_stand_for_what_they_are_named_after() {
    let jane = || Requested { common_name: "jane".into(), organizations: vec!["dev".into()], ..Requested::default() };
    let node = || Requested {
        common_name: "system:node:n1".into(),
        organizations: vec!["system:nodes".into()],
        ..Requested::default()
    };
    let (client, kubelet, serving) = (
        "kubernetes.io/kube-apiserver-client",
        "kubernetes.io/kube-apiserver-client-kubelet",
        "kubernetes.io/kubelet-serving",
    );
    for (signer, usages, asked, expected) in [
        (client, "client auth,digital signature", jane(), Ok(())),
        (client, "server auth", jane(), Err("usages did not contain client auth")),
        (
            client,
            "client auth,server auth",
            jane(),
            Err(
                "usage \"server auth\" is not among those of this signer: digital signature, key encipherment, client auth",
            ),
        ),
        (
            client,
            "client auth",
            Requested { organizations: vec!["a".into(), "b".into()], ..jane() },
            Err("requests with several organizations cannot be signed here; ask for one"),
        ),
        (kubelet, "client auth", node(), Ok(())),
        (kubelet, "client auth", jane(), Err("organization is not system:nodes")),
        (
            kubelet,
            "client auth",
            Requested { common_name: "n1".into(), ..node() },
            Err("subject common name does not begin with system:node:"),
        ),
        (
            kubelet,
            "client auth",
            Requested { dns_names: 1, ..node() },
            Err("DNS, IP, email and URI subjectAltNames are not allowed"),
        ),
        (serving, "server auth", node(), Err("DNS or IP subjectAltName is required")),
        (serving, "server auth,key encipherment", Requested { addresses: 1, ..node() }, Ok(())),
        (serving, "client auth", Requested { addresses: 1, ..node() }, Err("usages did not contain server auth")),
    ] {
        let usages: Vec<String> = usages.split(',').map(str::to_owned).collect();
        assert_eq!(plan::permit(signer, &usages, &asked), expected.map_err(str::to_owned), "{signer} {asked:?}");
    }
}
