use jiff::{Timestamp, ToSpan};
use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-05-01T12:00:00Z".parse().unwrap()
}

fn key() -> SigningKey {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    SigningKey::from_pem(&pair.serialize_pem()).unwrap()
}

fn issuer() -> TokenIssuer {
    TokenIssuer::new(key(), "https://kubernetes.default.svc.cluster.local", Vec::new())
}

fn spec() -> TokenSpec {
    let reference = |name: &str, uid: &str| Reference { name: name.into(), uid: uid.into() };
    TokenSpec {
        bound: Bound {
            namespace: "ns".into(),
            serviceaccount: reference("sa", "u1"),
            pod: Some(reference("p", "u2")),
            ..Bound::default()
        },
        audiences: Vec::new(),
        lifetime_seconds: 600,
    }
}

#[test]
fn a_token_says_what_upstream_says() {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let (token, _) = issuer().issue(&spec(), "id-1".into(), now()).unwrap();
    let payload = token.split('.').nth(1).unwrap();
    let payload: serde_json::Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    assert_eq!(
        payload,
        json!({
            "aud": ["https://kubernetes.default.svc.cluster.local"],
            "iss": "https://kubernetes.default.svc.cluster.local",
            "sub": "system:serviceaccount:ns:sa",
            "jti": "id-1",
            "iat": now().as_second(), "nbf": now().as_second(), "exp": now().as_second() + 600,
            "kubernetes.io": {
                "namespace": "ns",
                "pod": { "name": "p", "uid": "u2" },
                "serviceaccount": { "name": "sa", "uid": "u1" },
            },
        })
    );
}

#[test]
fn what_was_issued_opens_and_what_was_changed_does_not() {
    let issuer = issuer();
    let (token, claims) = issuer.issue(&spec(), "id".into(), now()).unwrap();
    assert_eq!(issuer.open(&token).unwrap(), claims);

    let parts: Vec<&str> = token.split('.').collect();
    let (other, _) = issuer.issue(&TokenSpec { lifetime_seconds: 6000, ..spec() }, "id".into(), now()).unwrap();
    let other: Vec<&str> = other.split('.').collect();
    let none = "eyJhbGciOiJub25lIn0"; // {"alg":"none"}
    for (what, forged) in [
        ("claims of another token", format!("{}.{}.{}", parts[0], other[1], parts[2])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("no algorithm", format!("{none}.{}.", parts[1])),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("not base64", "a b.c d.e f".to_owned()),
        ("empty", String::new()),
        ("huge", "a.".repeat(20_000)),
    ] {
        assert!(issuer.open(&forged).is_err(), "{what}");
    }
    let foreign = TokenIssuer::new(key(), issuer.issuer(), Vec::new());
    assert_eq!(foreign.open(&token), Err(TokenError::Foreign), "a key of another cluster");
}

#[test]
fn times_and_audiences_are_checked() {
    let api = vec!["https://kubernetes.default.svc.cluster.local".to_owned()];
    let vault = vec!["vault".to_owned()];
    let issuer = issuer();
    let (_, own) = issuer.issue(&spec(), "id".into(), now()).unwrap();
    let (_, theirs) = issuer.issue(&TokenSpec { audiences: vault.clone(), ..spec() }, "id".into(), now()).unwrap();
    for (what, claims, wanted, at, ok) in [
        ("fresh", &own, &api, now(), true),
        ("last second", &own, &api, now() + 599.seconds(), true),
        ("expired", &own, &api, now() + 600.seconds(), false),
        ("clock behind by little", &own, &api, now() - 9.seconds(), true),
        ("clock behind by much", &own, &api, now() - 60.seconds(), false),
        ("another's audience", &own, &vault, now(), false),
        ("made for another", &theirs, &vault, now(), true),
        ("made for another, shown here", &theirs, &api, now(), false),
    ] {
        assert_eq!(claims.check(wanted, at).is_ok(), ok, "{what}");
    }
}

#[test]
fn service_account_users_are_split_strictly() {
    for (user, expected) in [
        ("system:serviceaccount:ns:name", Some(("ns", "name"))),
        ("system:serviceaccount:ns:", None),
        ("system:serviceaccount::name", None),
        ("system:serviceaccount:ns:a:b", None),
        ("system:serviceaccount:ns", None),
        ("jane", None),
    ] {
        assert_eq!(split_service_account_user(user), expected, "{user}");
    }
}

/// Whoever verifies tokens elsewhere has the published key only: it must be the one that signs.
#[test]
fn published_keys_verify_tokens() {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    let issuer = issuer();
    let (token, _) = issuer.issue(&spec(), "id".into(), now()).unwrap();
    let key = key_set(&issuer)["keys"][0].clone();
    let part = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let point = [vec![4], part("x"), part("y")].concat();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &signature).unwrap();

    let document = discovery_document(&issuer);
    assert_eq!(document["jwks_uri"], "https://kubernetes.default.svc.cluster.local/openid/v1/jwks");
}
