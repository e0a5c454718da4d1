//! A webhook of the test: HTTPS on loopback, with an authority of its own, that answers what it is told to and
//! remembers what it was asked.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use knarr_apiserver::pki::{self, CertificateAuthority, Identity, Purpose, Subject};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a webhook answers with.
pub enum Reply {
    /// `response` of a review of the same form and uid.
    Review(Value),
    /// Bytes as they are.
    Raw(u16, String),
    /// Another address.
    Redirect(String),
    Nothing,
}

type Answer = dyn Fn(&str, &Value) -> Reply + Send + Sync;

pub struct Hook {
    pub port: u16,
    authority: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

/// What allows.
pub fn allow() -> Reply {
    Reply::Review(json!({"allowed": true}))
}

/// What allows and changes.
pub fn patch(operations: Value) -> Reply {
    let patch = STANDARD.encode(operations.to_string());
    Reply::Review(json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}))
}

impl Hook {
    /// Answers each path and review by `answer`.
    pub async fn start(answer: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        let authority = CertificateAuthority::generate("webhooks", Timestamp::now()).unwrap();
        let identity = Identity {
            subject: Subject::new("webhook", None),
            purpose: Purpose::Serving,
            dns_names: vec!["hook.tools.svc".into()],
            addresses: vec!["127.0.0.1".parse().unwrap()],
        };
        let leaf = authority.issue(&identity, Timestamp::now()).unwrap();
        let tls = TlsAcceptor::from(Arc::new(pki::server_config(&leaf, authority.certificate()).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer: Arc<Answer> = Arc::new(answer);
        let asked = Arc::<Mutex<Vec<(String, Value)>>>::default();
        let seen = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, seen, answer) = (tls.clone(), seen.clone(), answer.clone());
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = service_fn(|request| respond(request, &seen, &*answer));
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { port, authority: STANDARD.encode(authority.certificate_pem()), asked }
    }

    /// A `clientConfig` with this webhook's address and authority.
    pub fn at(&self, path: &str) -> Value {
        json!({"url": format!("https://127.0.0.1:{}{path}", self.port), "caBundle": self.authority})
    }

    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What it was asked: paths and requests, the oldest first. They are forgotten with this.
    pub fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    pub fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|(path, _)| path).collect()
    }
}

async fn respond(
    request: Request<Incoming>,
    seen: &Mutex<Vec<(String, Value)>>,
    answer: &Answer,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    assert_eq!(request.headers()[header::CONTENT_TYPE], "application/json");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let asked = review["request"].clone();
    seen.lock().unwrap().push((path.clone(), asked.clone()));
    let mut response = Response::new(Full::default());
    match answer(&path, &asked) {
        Reply::Review(mut said) => {
            said["uid"] = asked["uid"].clone();
            let said = json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": said});
            *response.body_mut() = Full::from(said.to_string());
        }
        Reply::Raw(code, body) => {
            *response.status_mut() = code.try_into().unwrap();
            *response.body_mut() = Full::from(body);
        }
        Reply::Redirect(to) => {
            *response.status_mut() = http::StatusCode::FOUND;
            response.headers_mut().insert(header::LOCATION, to.parse().unwrap());
        }
        Reply::Nothing => std::future::pending().await,
    }
    Ok(response)
}
