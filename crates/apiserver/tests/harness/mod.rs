//! A server in this process, and requests to it as data.

#![allow(dead_code)]

pub mod secured;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use knarr_apiserver::{ApiServer, LocalService, contract::UserInfo};
use knarr_store::MemoryStore;
use serde_json::Value;
use tower::ServiceExt;

pub struct Server {
    pub server: ApiServer,
    service: LocalService,
}

pub struct Answer {
    what: String,
    parts: http::response::Parts,
    body: Bytes,
}

pub fn json_patch() -> &'static str {
    "application/json-patch+json"
}

pub fn merge_patch() -> &'static str {
    "application/merge-patch+json"
}

impl Server {
    pub async fn start() -> Self {
        Self::over(Arc::new(MemoryStore::default())).await
    }

    pub async fn over(store: Arc<MemoryStore>) -> Self {
        let server = ApiServer::builder(store).address("192.0.2.1:6443").start().await.unwrap();
        let user = UserInfo { name: "tester".into(), groups: vec!["system:masters".into()], ..UserInfo::default() };
        Self::of(server, user)
    }

    /// A running server as one user sees it.
    pub fn of(server: ApiServer, user: UserInfo) -> Self {
        let service = server.local(user);
        Self { server, service }
    }

    /// The answer with its body still to come, for watches.
    pub async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> knarr_apiserver::contract::Response {
        let mut request = http::Request::builder().method(method).uri(path).header("user-agent", "tester/1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        self.service.clone().oneshot(request).await.unwrap()
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let response = self.open(method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { what: format!("{method} {path}"), parts, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Vec::new()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], Vec::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string().into()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &[("content-type", "application/json")], body.to_string().into()).await
    }

    pub async fn patch(&self, path: &str, content_type: &str, body: &Value) -> Answer {
        self.send("PATCH", path, &[("content-type", content_type)], body.to_string().into()).await
    }
}

impl Answer {
    /// The body, where the code is the expected one.
    #[track_caller]
    pub fn expect(&self, code: u16) -> Value {
        assert_eq!(self.parts.status.as_u16(), code, "{}: {}", self.what, self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|cause| panic!("{}: {cause}: {}", self.what, self.text()))
    }

    /// A failure with a code and a reason.
    #[track_caller]
    pub fn status(&self, code: u16, reason: &str) -> Value {
        let status = self.expect(code);
        assert_eq!((&status["kind"], &status["status"]), (&"Status".into(), &"Failure".into()), "{}", self.what);
        assert_eq!(status["reason"], reason, "{}: {status}", self.what);
        assert_eq!(status["code"], code);
        status
    }

    #[track_caller]
    pub fn is_text(&self, code: u16, text: &str) {
        assert_eq!((self.parts.status.as_u16(), self.text().as_str()), (code, text), "{}", self.what);
    }

    pub fn code(&self) -> u16 {
        self.parts.status.as_u16()
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let value = self.parts.headers.get(name).unwrap_or_else(|| panic!("{}: no header {name}", self.what));
        value.to_str().unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn warnings(&self) -> Vec<String> {
        self.parts.headers.get_all("warning").iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }
}
