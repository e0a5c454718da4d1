use std::sync::{Arc, Mutex};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::{
    pki::{CertificateAuthority, Identity, Purpose, Subject, server_config},
    tokens::SigningKey,
};

/// A provider on a loopback port: its documents, and how often it was asked for keys.
struct Provider {
    url: String,
    authority: String,
    keys: Arc<Mutex<(Vec<SigningKey>, usize)>>,
}

fn key() -> SigningKey {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    SigningKey::from_pem(&pair.serialize_pem()).unwrap()
}

async fn provider() -> Provider {
    let authority = CertificateAuthority::generate("provider", Timestamp::now()).unwrap();
    let identity = Identity {
        subject: Subject::new("localhost", None),
        purpose: Purpose::Serving,
        dns_names: vec!["localhost".into()],
        addresses: Vec::new(),
    };
    let leaf = authority.issue(&identity, Timestamp::now()).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server_config(&leaf, authority.certificate()).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/realm", listener.local_addr().unwrap().port());
    let keys = Arc::new(Mutex::new((vec![key()], 0)));
    let (issuer, shared) = (url.clone(), keys.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(tls) = acceptor.accept(stream).await else { continue };
            let service = service_fn(|request: Request<Incoming>| {
                let body = match request.uri().path() {
                    "/realm/.well-known/openid-configuration" => {
                        json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") })
                    }
                    "/realm/keys" => {
                        let mut shared = shared.lock().unwrap();
                        shared.1 += 1;
                        json!({ "keys": shared.0.iter().map(SigningKey::public_jwk).collect::<Vec<_>>() })
                    }
                    _ => Value::Null,
                };
                async move { Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(body.to_string())))) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
        }
    });
    Provider { url, authority: authority.certificate_pem().to_owned(), keys }
}

fn token(key: &SigningKey, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({ "alg": "ES256", "kid": key.key_id() })), part(claims));
    let signature = key.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

fn config(provider: &Provider) -> OidcConfig {
    OidcConfig {
        issuer_url: provider.url.clone(),
        client_id: "kubernetes".into(),
        authorities: Some(provider.authority.clone()),
        signing_algorithms: vec!["ES256".into()],
        groups_claim: "groups".into(),
        groups_prefix: "oidc:".into(),
        ..OidcConfig::default()
    }
}

async fn who(oidc: &Oidc, token: &str) -> Result<Option<UserInfo>, String> {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    let found = oidc.authenticate(Credentials { headers: &headers, peer_certificates: &[] }).await;
    found.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_provider_vouches_for_its_users() {
    let provider = provider().await;
    let own = provider.keys.lock().unwrap().0[0].clone();
    let now = Timestamp::now().as_second();
    let good = json!({ "iss": provider.url, "aud": "kubernetes", "sub": "anna", "exp": now + 600, "jti": "7",
        "groups": ["dev"], "email": "anna@example.org", "email_verified": true, "team": "a" });
    let with = |change: Value| knarr_api::patch::merge_patch(&good, &change).unwrap();
    let mut options = config(&provider);
    let rows = [
        ("good", json!({}), Ok("anna [oidc:dev]")),
        ("one group", json!({ "groups": "ops" }), Ok("anna [oidc:ops]")),
        ("several audiences", json!({ "aud": ["x", "kubernetes"] }), Ok("anna [oidc:dev]")),
        ("for another", json!({ "aud": "x" }), Err("expected audience \"kubernetes\" got [\"x\"]")),
        ("at its end", json!({ "exp": now - 1 }), Err("token is expired")),
        ("too early", json!({ "nbf": now + 900 }), Err("before the nbf")),
        ("groups of another shape", json!({ "groups": [1] }), Err("parse groups claim \"groups\"")),
        ("groups elsewhere", json!({ "groups": null, "_claim_names": { "groups": "src1" } }), Err("is distributed")),
        ("nobody", json!({ "sub": null }), Err("parse username claims \"sub\": claim not present")),
        ("another provider's", json!({ "iss": "https://other.example.org" }), Ok("")),
    ];
    options.username_prefix = Some("-".into());
    let oidc = Oidc::new(options.clone(), Env::host()).unwrap();
    for (what, change, expected) in rows {
        let found = who(&oidc, &token(&own, &with(change))).await;
        let found = found
            .map(|user| user.map_or_else(String::new, |user| format!("{} [{}]", user.name, user.groups.join(","))));
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{what}"),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{what}: {found}"),
            (found, expected) => panic!("{what}: {found:?} instead of {expected:?}"),
        }
    }
    let user = who(&oidc, &token(&own, &good)).await.unwrap().unwrap();
    assert_eq!(user.extra["authentication.kubernetes.io/credential-id"], ["JTI=7"]);
    assert_eq!(who(&oidc, "no token at all").await, Ok(None));

    options.username_prefix = None;
    options.required_claims = [("team".to_owned(), "a".to_owned())].into();
    let prefixed = Oidc::new(options.clone(), Env::host()).unwrap();
    let name = format!("{}#anna", provider.url);
    assert_eq!(who(&prefixed, &token(&own, &good)).await.unwrap().unwrap().name, name);
    let refused = who(&prefixed, &token(&own, &with(json!({ "team": "b" })))).await.unwrap_err();
    assert!(refused.contains("required claim team value does not match. Got = b, want = a"), "{refused}");
    options.username_claim = "email".into();
    let by_mail = Oidc::new(options, Env::host()).unwrap();
    assert_eq!(who(&by_mail, &token(&own, &good)).await.unwrap().unwrap().name, "anna@example.org");
    let refused = who(&by_mail, &token(&own, &with(json!({ "email_verified": false })))).await.unwrap_err();
    assert!(refused.contains("email not verified"), "{refused}");
}

#[tokio::test]
async fn new_keys_are_fetched_and_forgeries_are_not_asked_about() {
    let provider = provider().await;
    let old = provider.keys.lock().unwrap().0[0].clone();
    let claims =
        json!({ "iss": provider.url, "aud": "kubernetes", "sub": "anna", "exp": Timestamp::now().as_second() + 600 });
    let oidc = Oidc::new(config(&provider), Env::host()).unwrap();
    assert!(who(&oidc, &token(&old, &claims)).await.unwrap().is_some());
    let asked = || provider.keys.lock().unwrap().1;
    assert_eq!(asked(), 1);
    // A name that is known with another's signature.
    let stranger = key();
    let forged = token(&stranger, &claims);
    let mut parts: Vec<String> = forged.split('.').map(str::to_owned).collect();
    parts[0] = BASE64_URL_SAFE_NO_PAD.encode(json!({ "alg": "ES256", "kid": old.key_id() }).to_string());
    assert!(who(&oidc, &parts.join(".")).await.is_err());
    assert!(who(&oidc, &forged).await.is_err());
    assert_eq!(asked(), 1, "not so soon again");
    *oidc.asked.lock().await = None;
    provider.keys.lock().unwrap().0 = vec![stranger];
    assert!(who(&oidc, &forged).await.unwrap().is_some());
    assert_eq!(asked(), 2);
    assert!(who(&oidc, &token(&old, &claims)).await.is_err(), "a key that the provider has withdrawn");
}

#[test]
fn options_that_cannot_be_are_refused() {
    let good = OidcConfig { issuer_url: "https://example.org".into(), client_id: "c".into(), ..OidcConfig::default() };
    assert!(Oidc::new(good.clone(), Env::host()).is_ok());
    for (change, why) in [
        (OidcConfig { issuer_url: "http://example.org".into(), ..good.clone() }, "require 'https'"),
        (OidcConfig { issuer_url: "nothing".into(), ..good.clone() }, "is not a URL"),
        (OidcConfig { client_id: String::new(), ..good.clone() }, "oidc-client-id"),
        (OidcConfig { signing_algorithms: vec!["HS256".into()], ..good.clone() }, "\"HS256\" is not supported"),
        (OidcConfig { authorities: Some("no PEM".into()), ..good.clone() }, "oidc-ca-file"),
    ] {
        let error = Oidc::new(change, Env::host()).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn signatures_by_rsa_hold() {
    let keys = Keys::parse(&json!({ "keys": [{ "kty": "RSA", "kid": "rsa", "use": "sig", "e": "AQAB", "n": N }] }));
    let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
    let algorithm = |name: &str| Algorithm::parse(name).unwrap();
    for (name, signature, expected) in [
        ("RS256", PKCS1, true),
        ("RS512", PKCS1, false),
        ("PS256", PSS, true),
        ("RS256", PSS, false),
        ("ES256", PKCS1, false),
    ] {
        let holds = keys.verify("rsa", algorithm(name), SIGNED.as_bytes(), &decode(signature));
        assert_eq!(holds, expected, "{name}");
    }
    assert!(!keys.verify("other", algorithm("RS256"), SIGNED.as_bytes(), &decode(PKCS1)));
    assert!(!keys.verify("rsa", algorithm("RS256"), b"something else", &decode(PKCS1)));
}

/// Made with OpenSSL; the key is thrown away.
const SIGNED: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJzdWIiOiJhbm5hIn0";
const N: &str = concat!(
    "ozOcf-Y4GK_c8CZsyxRZkjU_BxiFOwebj_QmNOLFoTzZ4IPhe9qZ71eD-HAo5cRDzlX0QcB3upk7n_EwRsxkN_8NeP_aqnBeMc9J",
    "9thUtO-eXTl9rztq800APUBqOobLaREVykvtHP76NXCVrvehGmWAX7Ho6VWETTlIdYcZ7e3lH0TWG2jbe6G3AAIKGCyvIgKi8mC6",
    "IdBpEb6fnVgFqpEWrRhASJACHG3O9DAQM5hT5LmvnlpyP8S4fyvh-pWxScrqMpJnb-j8IHwBssuZH-V3nO3Sxo42MwdLx54uKKaP",
    "fLJyCa08eDo78X_VlqX7PqIHYEtUp9uP9WYQvnSSxQ",
);
const PKCS1: &str = concat!(
    "HPeg0S5551DOtMaYqOmixljh8wwKS80YoJELjTPb3qBJUMInu_aTyeiTWZAaeRkaZj8EEAg3gy6-c-jVz7bcFSu9-evBF2YWi92F",
    "56NeNCW_imiGQq66VA3BwXJF8wdBhy0hQo_Y3rRWZsFKFdQCbo_lqQ-TEwcrvhSptZ7wKAHQtRbS94ks7u_eIj6CF7LTukMqu4tM",
    "8xwQj-FG2V-NfonPNtcwWst10HbpkH1XU4vyXXjHGU5_Kac4EFzxXaq0KPcfw7VKqx2AZqYL99K-lDxdCi_VE1Qgh1FC5PZSQrcu",
    "_bZpMKSPdZKMWlaB-I7oPAazzQSMzHXzD7X_g4kqWg",
);
const PSS: &str = concat!(
    "doGWlSMWetuHbtSysvxg13qOIDMg_HwEbMAZkY8LNBqMc3JWWW1He_htpTXQAAyTKp9t47IJvPkB6B-760Rb5JkWpj-LU-AwCMnu",
    "Jup_P78ybMxZB9MdwhIbYZdyheOJ07jR4QZS7tnuvpvsrWwh9UazpFDVAagEFjrsZyILs7Lz9t0CD_vCUO_lBut3JzYoaswmgOb0",
    "iiyuAnjIEs-TDdtzdXDqDuTX70UiOAs5P-8e3a2oPfYY7y1bfFsuNb19VSP19Qz2_1P9xORPcFjzqEP5xpaQ-kO5nGrItpcWaNpO",
    "AEpCP9LsSp84E2Ks0TordgZn5Alg-Q2JTSKthmzxoA",
);
