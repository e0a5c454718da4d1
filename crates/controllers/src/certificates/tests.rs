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
        (client, "client auth", Requested { organizations: vec!["a".into(), "b".into()], ..jane() }, Ok(())),
        (
            kubelet,
            "client auth",
            Requested { organizations: vec!["system:nodes".into(), "b".into()], ..node() },
            Err("organization is not system:nodes"),
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
            Requested { dns_names: vec!["n1".into()], ..node() },
            Err("DNS, IP, email and URI subjectAltNames are not allowed"),
        ),
        (serving, "server auth", node(), Err("DNS or IP subjectAltName is required")),
        (
            serving,
            "server auth,key encipherment",
            Requested { addresses: vec!["192.0.2.1".parse().unwrap()], ..node() },
            Ok(()),
        ),
        (
            serving,
            "client auth",
            Requested { addresses: vec!["192.0.2.1".parse().unwrap()], ..node() },
            Err("usages did not contain server auth"),
        ),
    ] {
        let usages: Vec<String> = usages.split(',').map(str::to_owned).collect();
        assert_eq!(plan::permit(signer, &usages, &asked), expected.map_err(str::to_owned), "{signer} {asked:?}");
    }
}

fn node(name: &str, ready: &str, ip: &str, machine: &str) -> Arc<Node> {
    let value = json!({
        "metadata": {"name": name, "annotations": {"knarr.dev/machine": machine}},
        "status": {"conditions": [{"type": "Ready", "status": ready}], "addresses": [{"type": "InternalIP", "address": ip}]},
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

#[test]
fn nodes_are_approved_and_impostors_are_not() {
    let (client, serving) = ("kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving");
    let (client_usages, serving_usages) = (["digital signature", "client auth"], ["digital signature", "server auth"]);
    let ask = |signer: &str, usages: [&str; 2], user: &str, machine: &str| -> CertificateSigningRequest {
        serde_json::from_value(json!({
            "metadata": {"name": "r", "annotations": {"knarr.dev/machine": machine}},
            "spec": {"request": "cGVt", "signerName": signer, "usages": usages, "username": user,
                     "groups": [if user.starts_with("system:node:") { "system:nodes" } else { "system:bootstrappers" }]},
        }))
        .unwrap()
    };
    let of = |name: &str| Requested {
        common_name: format!("system:node:{name}"),
        organizations: vec!["system:nodes".into()],
        ..Requested::default()
    };
    let at = |name: &str, dns: &str, ip: &str| Requested {
        dns_names: vec![dns.into()],
        addresses: vec![ip.parse().unwrap()],
        ..of(name)
    };
    let nodes = [
        node("alive", "True", "192.0.2.1", "m1"),
        node("dead", "Unknown", "192.0.2.2", "m2"),
        node("twin", "True", "192.0.2.2", "m3"),
    ];
    let token = "system:bootstrap:abcdef";
    let show = |approval: Approval| match approval {
        Approval::Ask(asked) => asked.iter().map(|(subresource, _)| *subresource).collect::<Vec<_>>().join(","),
        Approval::Deny(why) => why,
        Approval::Approve(_) => "yes".to_owned(),
        Approval::Later => "later".to_owned(),
        Approval::None => "no".to_owned(),
    };
    for (what, request, asked, expected) in [
        ("a new name", ask(client, client_usages, token, "m9"), of("new"), "nodeclient"),
        ("the same machine again", ask(client, client_usages, token, "m1"), of("alive"), "nodeclient"),
        ("another machine in a dead one's place", ask(client, client_usages, token, "m9"), of("dead"), "nodeclient"),
        (
            "another machine of the name",
            ask(client, client_usages, token, "m9"),
            of("alive"),
            "a node named alive is part of the cluster already and runs on another machine",
        ),
        ("renewal", ask(client, client_usages, "system:node:alive", ""), of("alive"), "selfnodeclient,nodeclient"),
        ("somebody else's", ask(client, client_usages, "system:node:dead", "m9"), of("new"), "nodeclient"),
        ("with names", ask(client, client_usages, token, "m9"), at("new", "new", "192.0.2.9"), "no"),
        ("another use", ask(client, serving_usages, token, "m9"), of("new"), "no"),
        (
            "a person",
            ask(client, client_usages, token, "m9"),
            Requested { common_name: "jane".into(), ..of("x") },
            "no",
        ),
        ("its own", ask(serving, serving_usages, "system:node:alive", ""), at("alive", "alive", "192.0.2.1"), "yes"),
        ("foreign name", ask(serving, serving_usages, "system:node:alive", ""), at("alive", "dead", "192.0.2.1"), "no"),
        (
            "foreign address",
            ask(serving, serving_usages, "system:node:alive", ""),
            at("alive", "alive", "192.0.2.3"),
            "later",
        ),
        (
            "shared address",
            ask(serving, serving_usages, "system:node:dead", ""),
            at("dead", "dead", "192.0.2.2"),
            "later",
        ),
        ("not itself", ask(serving, serving_usages, "system:node:dead", ""), at("alive", "alive", "192.0.2.1"), "no"),
        ("by a token", ask(serving, serving_usages, token, ""), at("alive", "alive", "192.0.2.1"), "no"),
    ] {
        assert_eq!(show(approve::approval(&request, &asked, &nodes)), expected, "{what}");
    }
}

#[test]
fn requests_are_kept_for_an_hour_or_a_day() {
    let now: jiff::Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
    for (created, decided, hours) in [
        ("2026-01-01T12:00:00Z", None, 12),
        ("2026-01-01T00:00:00Z", None, 0),
        ("2026-01-01T00:00:00Z", Some("2026-01-02T00:00:00Z"), 1),
        ("2026-01-01T00:00:00Z", Some("2026-01-01T23:00:00Z"), 0),
    ] {
        let mut request = request("example.org/x", json!([]), None);
        request.metadata.creation_timestamp = serde_json::from_value(json!(created)).unwrap();
        if let Some(at) = decided {
            request = approve::decided(&request, "Approved", "r", "m", at.parse().unwrap());
        }
        assert_eq!(approve::kept(&request, now), Duration::from_secs(hours * 3600), "{created} {decided:?}");
    }
}
