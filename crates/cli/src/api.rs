//! Requests to the API server: a method, a path, and JSON both ways.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt, TryStreamExt};
use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;
use tokio_util::{
    codec::{FramedRead, LinesCodec},
    io::StreamReader,
};

use crate::{
    error::{Error, Result},
    fail,
    flags::Flags,
    kubeconfig::Kubeconfig,
};

pub const JSON: &str = "application/json";
pub const TABLE: &str =
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
/// A line of a watch or a log may be this long.
const MAX_LINE_BYTES: usize = 64 << 20;

/// The query of a request; empty values are left out.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn add(mut self, key: &str, value: impl ToString) -> Self {
        let value = value.to_string();
        if !value.is_empty() {
            self.0.push((key.into(), value));
        }
        self
    }

    /// As [`Query::add`], where an empty value means something.
    pub fn keep(mut self, key: &str, value: &str) -> Self {
        self.0.push((key.into(), value.into()));
        self
    }

    pub fn some(self, key: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.add(key, value),
            None => self,
        }
    }

    pub fn on(self, path: &str) -> String {
        if self.0.is_empty() {
            return path.into();
        }
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(self.0).finish();
        format!("{path}{}{query}", if path.contains('?') { '&' } else { '?' })
    }
}

#[derive(Clone)]
pub struct Api {
    client: kube::Client,
    pub server: String,
    timeout: Option<Duration>,
    /// The warnings that were shown.
    warned: Arc<Mutex<BTreeSet<String>>>,
}

impl Api {
    pub async fn connect(config: &Kubeconfig, flags: &Flags) -> Result<Self> {
        let effective = config.effective(flags)?;
        let server = effective["clusters"][0]["cluster"]["server"].as_str().unwrap_or_default().to_owned();
        let bad = |error: &dyn std::fmt::Display| fail!("invalid configuration: {error}");
        let parsed: kube::config::Kubeconfig = serde_json::from_value(effective)?;
        let mut config =
            kube::Config::from_custom_kubeconfig(parsed, &Default::default()).await.map_err(|error| bad(&error))?;
        // A refusal is shown at once, as it was given.
        config.default_retry = false;
        if let Some(user) = flags.some("as") {
            let mut add = |name: HeaderName, value: &str| -> Result<()> {
                let value = HeaderValue::from_str(value).map_err(|error| bad(&error))?;
                config.headers.push((name, value));
                Ok(())
            };
            add(HeaderName::from_static("impersonate-user"), user)?;
            for group in flags.list("as-group") {
                add(HeaderName::from_static("impersonate-group"), group)?;
            }
        } else if !flags.list("as-group").is_empty() {
            return Err(fail!(
                "requesting uid, groups or user-extra for user impersonation without impersonating a user"
            ));
        }
        let timeout = flags.seconds("request-timeout")?.filter(|seconds| *seconds > 0.0).map(Duration::from_secs_f64);
        let client = kube::Client::try_from(config).map_err(|error| bad(&error))?;
        Ok(Self { client, server, timeout, warned: Arc::default() })
    }

    /// One request; the answer's head is here when this returns, its body may still come.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Body>> {
        let answer = async { self.client.send(request).await.map_err(|error| self.unreachable(&error)) };
        let response = match self.timeout {
            None => answer.await?,
            Some(limit) => tokio::time::timeout(limit, answer)
                .await
                .map_err(|_| Error::Raw("Unable to connect to the server: context deadline exceeded".into()))??,
        };
        self.warn(&response);
        if response.status().as_u16() < 400 {
            return Ok(response);
        }
        Err(refusal(response).await)
    }

    /// Warnings that the server sends along, with a refusal too, go to standard error, as kubectl shows them: each once.
    fn warn(&self, response: &Response<Body>) {
        for warning in response.headers().get_all(header::WARNING) {
            let text = warning.to_str().unwrap_or_default();
            if let Some((_, quoted)) = text.split_once(" \"") {
                let message = quoted.rsplit_once('"').map_or(quoted, |(message, _)| message).replace("\\\"", "\"");
                if self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(message.clone()) {
                    eprintln!("Warning: {message}");
                }
            }
        }
    }

    fn unreachable(&self, error: &kube::Error) -> Error {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
        let mut deepest = error.to_string();
        while let Some(cause) = source {
            deepest = cause.to_string();
            if let Some(io) = cause.downcast_ref::<std::io::Error>()
                && io.kind() == std::io::ErrorKind::ConnectionRefused
            {
                let host = self.server.split("://").last().unwrap_or_default().trim_end_matches('/');
                return Error::Raw(format!(
                    "The connection to the server {host} was refused - did you specify the right host or port?"
                ));
            }
            source = cause.source();
        }
        Error::Raw(format!("Unable to connect to the server: {deepest}"))
    }

    pub fn request(method: Method, path: &str, accept: &str, body: Option<(&str, Vec<u8>)>) -> Result<Request<Body>> {
        let mut request = Request::builder().method(method).uri(path).header(header::ACCEPT, accept);
        if let Some((content_type, _)) = &body {
            request = request.header(header::CONTENT_TYPE, *content_type);
        }
        let bytes = body.map(|(_, bytes)| bytes).unwrap_or_default();
        request.body(Body::from(bytes)).map_err(|error| fail!("the request cannot be made: {error}"))
    }

    async fn call(&self, method: Method, path: &str, accept: &str, body: Option<(&str, Vec<u8>)>) -> Result<Value> {
        let response = self.send(Self::request(method, path, accept, body)?).await?;
        let bytes = response.into_body().collect().await.map_err(|error| fail!("{error}"))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| fail!("the answer to {path} is no JSON: {error}"))
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, JSON, None).await
    }

    pub async fn get_as(&self, path: &str, accept: &str) -> Result<Value> {
        self.call(Method::GET, path, accept, None).await
    }

    pub async fn raw(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<String> {
        let response = self.send(Self::request(method, path, "*/*", body.map(|body| (JSON, body)))?).await?;
        let bytes = response.into_body().collect().await.map_err(|error| fail!("{error}"))?.to_bytes();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::POST, path, JSON, Some((JSON, body.to_string().into_bytes()))).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::PUT, path, JSON, Some((JSON, body.to_string().into_bytes()))).await
    }

    pub async fn patch(&self, path: &str, kind: &str, body: Vec<u8>) -> Result<Value> {
        self.call(Method::PATCH, path, JSON, Some((kind, body))).await
    }

    pub async fn delete(&self, path: &str, options: &Value) -> Result<Value> {
        self.call(Method::DELETE, path, JSON, Some((JSON, options.to_string().into_bytes()))).await
    }

    /// The lines of an answer while they come, without their ends.
    pub async fn lines(&self, path: &str, accept: &str) -> Result<impl Stream<Item = Result<String>> + use<>> {
        let response = self.send(Self::request(Method::GET, path, accept, None)?).await?;
        let reader = StreamReader::new(response.into_body().into_data_stream().map_err(std::io::Error::other));
        let lines = FramedRead::new(reader, LinesCodec::new_with_max_length(MAX_LINE_BYTES));
        Ok(lines.map(|line| line.map_err(|error| fail!("{error}"))))
    }

    /// The bytes of an answer while they come.
    pub async fn bytes(&self, path: &str) -> Result<impl Stream<Item = Result<Vec<u8>>> + Unpin + use<>> {
        let response = self.send(Self::request(Method::GET, path, "*/*", None)?).await?;
        let chunks = response.into_body().into_data_stream();
        Ok(Box::pin(chunks.map(|chunk| chunk.map(|bytes| bytes.to_vec()).map_err(|error| fail!("{error}")))))
    }

    /// The events of a watch: what happened, and to which object (or table).
    pub async fn watch(
        &self,
        path: &str,
        accept: &str,
    ) -> Result<impl Stream<Item = Result<(String, Value)>> + Unpin + use<>> {
        let lines = self.lines(path, accept).await?;
        Ok(Box::pin(lines.map(|line| {
            let mut event: Value = serde_json::from_str(&line?)?;
            let object = event["object"].take();
            match event["type"].as_str().unwrap_or_default() {
                "ERROR" => Err(Error::Status(Box::new(object))),
                kind => Ok((kind.to_owned(), object)),
            }
        })))
    }

    /// The answer of a request to another machine, such as a file of resources on a web server.
    pub async fn fetch(url: &str) -> Result<String> {
        let bad = |error: &dyn std::fmt::Display| fail!("unable to read URL {url:?}, {error}");
        let mut url_now = url.to_owned();
        for _ in 0..10 {
            let parsed = url::Url::parse(&url_now).map_err(|error| bad(&error))?;
            let origin = parsed.origin().ascii_serialization().parse().map_err(|error| bad(&error))?;
            let client = kube::Client::try_from(kube::Config::new(origin)).map_err(|error| bad(&error))?;
            let path = &parsed[url::Position::BeforePath..url::Position::AfterQuery];
            let response = client.send(Self::request(Method::GET, path, "*/*", None)?).await.map_err(|e| bad(&e))?;
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            match (response.status(), location) {
                (status, Some(location)) if status.is_redirection() => {
                    url_now = parsed.join(location).map_err(|error| bad(&error))?.into();
                }
                (status, _) if status.is_success() => {
                    let bytes = response.into_body().collect().await.map_err(|error| bad(&error))?.to_bytes();
                    return String::from_utf8(bytes.to_vec()).map_err(|error| bad(&error));
                }
                (status, _) => return Err(bad(&format!("server reported {status}, status code={}", status.as_u16()))),
            }
        }
        Err(bad(&"it redirects more than ten times"))
    }
}

async fn refusal(response: Response<Body>) -> Error {
    let code = response.status();
    let bytes = match response.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return fail!("{error}"),
    };
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(status) if status["kind"] == "Status" => Error::Status(Box::new(status)),
        _ => {
            let text = String::from_utf8_lossy(&bytes);
            let text = text.trim();
            fail!("the server answered {code}{}{text}", if text.is_empty() { "" } else { ": " })
        }
    }
}
