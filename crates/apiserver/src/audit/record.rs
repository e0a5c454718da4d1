//! What becomes known of one request, stage by stage.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header, request::Parts};
use http_body_util::BodyExt;
use jiff::Timestamp;
use knarr_api::time;
use serde_json::{Value, json};

use super::{
    Auditor, Peer,
    bodies::{Continued, Lasting, Overheard},
    event::{Event, ObjectRef, User},
    policy::{Level, Verdict},
};
use crate::{
    codec::{MAX_BODY_BYTES, parse_document, respond::full},
    contract::{Body, Response, UserInfo},
    json::text,
    route::RequestInfo,
};

/// Larger answers are left out of the log, which is said where they would stand.
const MAX_ANSWER_BYTES: usize = 32 << 20;
const MAX_AGENT_BYTES: usize = 1_024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    RequestReceived,
    /// Of what goes on for long: the head of the answer is on its way.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub const ALL: [Self; 4] = [Self::RequestReceived, Self::ResponseStarted, Self::ResponseComplete, Self::Panic];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

#[derive(Default)]
struct Known {
    impersonated: Option<User>,
    status: Option<Value>,
    sent: Option<Value>,
    answered: Option<Value>,
    object: Option<ObjectRef>,
    annotations: BTreeMap<String, String>,
    /// The body of the request as it was read.
    body: BytesMut,
    ended: bool,
}

pub(crate) struct Record {
    auditor: Arc<Auditor>,
    verdict: Verdict,
    id: String,
    uri: String,
    verb: &'static str,
    is_long: bool,
    user: User,
    agent: String,
    source_ips: Vec<String>,
    headers: HeaderMap,
    received: Timestamp,
    known: Mutex<Known>,
}

impl Record {
    pub(super) fn new(
        auditor: Arc<Auditor>,
        verdict: Verdict,
        id: &str,
        user: Option<&UserInfo>,
        info: &RequestInfo,
        request: &Parts,
    ) -> Self {
        let header = |name| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut agent = header(header::USER_AGENT).to_owned();
        if agent.len() > MAX_AGENT_BYTES {
            // Header values of visible ASCII: any byte is a boundary.
            agent.truncate(MAX_AGENT_BYTES);
            agent.push_str("...TRUNCATED");
        }
        let object = info.is_resource.then(|| ObjectRef {
            resource: info.resource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            api_group: info.group.clone(),
            api_version: info.version.clone(),
            subresource: info.subresource.clone(),
            ..ObjectRef::default()
        });
        let received = auditor.env.now();
        let mut headers = HeaderMap::new();
        headers.extend(request.headers.get(header::CONTENT_TYPE).map(|value| (header::CONTENT_TYPE, value.clone())));
        Self {
            auditor,
            verdict,
            id: id.to_owned(),
            uri: request.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            verb: info.verb,
            is_long: info.is_long_running(),
            user: user.map(User::from).unwrap_or_default(),
            agent,
            source_ips: source_ips(request),
            headers,
            received,
            known: Mutex::new(Known { object, ..Known::default() }),
        }
    }

    pub fn annotate(&self, key: &str, value: String) {
        let mut known = self.known();
        match known.annotations.get(key) {
            None => drop(known.annotations.insert(key.to_owned(), value)),
            Some(first) if *first != value => {
                tracing::warn!(key, first, value, id = self.id, "an audit annotation is there already and stays");
            }
            Some(_) => {}
        }
    }

    pub fn impersonated(&self, user: &UserInfo) {
        self.known().impersonated = Some(user.into());
    }

    pub async fn received(&self) {
        self.emit(Stage::RequestReceived).await;
    }

    /// The request goes no further, and this is why.
    pub async fn refused(&self, status: Value) {
        self.known().status = Some(status);
        self.end(Stage::ResponseStarted).await;
    }

    /// The body on its way to the handler, of which the log keeps what the handler reads.
    pub fn hear(self: &Arc<Self>, body: Body) -> Body {
        let is_kept = self.known().object.is_some() && !self.is_long;
        if is_kept { Overheard { body, record: self.clone() }.boxed_unsync() } else { body }
    }

    /// Says the last, and that nothing more follows.
    async fn end(&self, stage: Stage) {
        self.known().ended = true;
        self.emit(stage).await;
    }

    pub(super) fn overhear(&self, data: &Bytes) {
        let mut known = self.known();
        // A larger one is refused by its handler.
        if known.body.len() + data.len() <= MAX_BODY_BYTES {
            known.body.extend_from_slice(data);
        }
    }

    /// The request as an object: what it is of, and all of it where the policy wants that.
    fn read_request(&self) {
        let body = std::mem::take(&mut self.known().body);
        if body.is_empty() {
            return;
        }
        let Ok((mut sent, _)) = parse_document(&self.headers, &body) else { return };
        let mut known = self.known();
        // Of a patch or of options only the path says what it is about.
        if let Some(object) = known.object.as_mut().filter(|_| matches!(self.verb, "create" | "update")) {
            let metadata = &sent["metadata"];
            let fields = [
                (&mut object.namespace, "namespace"),
                (&mut object.name, "name"),
                (&mut object.uid, "uid"),
                (&mut object.resource_version, "resourceVersion"),
            ];
            for (field, key) in fields.into_iter().filter(|(field, _)| field.is_empty()) {
                text(&metadata[key]).clone_into(field);
            }
        }
        if self.verdict.level >= Level::Request {
            if self.verdict.omit_managed_fields {
                drop_managed_fields(&mut sent);
            }
            known.sent = Some(sent);
        }
    }

    /// Reads the whole answer where the policy wants it, and passes it on.
    async fn keep_answer(&self, response: Response) -> Response {
        if self.verdict.level < Level::RequestResponse || self.known().object.is_none() {
            return response;
        }
        let (head, mut body) = response.into_parts();
        let mut all = BytesMut::new();
        let mut rest = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            all.extend_from_slice(&data);
            if all.len() > MAX_ANSWER_BYTES {
                rest.push(body);
                break;
            }
        }
        let all = all.freeze();
        if let Some(rest) = rest.pop() {
            self.annotate("audit.k8s.io/truncated", "true".into());
            return Response::from_parts(head, Continued { first: Some(all), rest }.boxed_unsync());
        }
        if let Ok((mut answered, _)) = parse_document(&head.headers, &all) {
            if self.verdict.omit_managed_fields {
                drop_managed_fields(&mut answered);
            }
            self.known().answered = Some(answered);
        }
        Response::from_parts(head, full(all))
    }

    async fn emit(&self, stage: Stage) {
        if let Some(line) = self.line(stage) {
            self.auditor.log.write(line).await;
        }
    }

    /// An event as a line; `None` where the policy leaves the stage out.
    fn line(&self, stage: Stage) -> Option<Vec<u8>> {
        if self.verdict.omits(stage) {
            return None;
        }
        let received = time::micros(self.received);
        let stamp = match stage {
            Stage::RequestReceived => received.clone(),
            _ => time::micros(self.auditor.env.now()),
        };
        let known = self.known();
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: self.verdict.level.as_str(),
            audit_id: &self.id,
            stage: stage.as_str(),
            request_uri: &self.uri,
            verb: self.verb,
            user: &self.user,
            impersonated_user: known.impersonated.as_ref(),
            source_ips: &self.source_ips,
            user_agent: &self.agent,
            object_ref: known.object.as_ref(),
            response_status: known.status.as_ref(),
            request_object: known.sent.as_ref(),
            response_object: known.answered.as_ref(),
            request_received_timestamp: &received,
            stage_timestamp: &stamp,
            annotations: &known.annotations,
        };
        let mut line = serde_json::to_vec(&event).ok()?;
        line.push(b'\n');
        Some(line)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says the last, once, where nobody can wait for the log.
    fn end_now(&self) {
        let mut known = self.known();
        if std::mem::replace(&mut known.ended, true) {
            return;
        }
        known.status.get_or_insert_with(
            || json!({"metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200}),
        );
        drop(known);
        if let Some(line) = self.line(Stage::ResponseComplete) {
            self.auditor.log.write_now(line);
        }
    }
}

/// A request under way. However it ends, its record says so.
pub(crate) struct Running(pub Arc<Record>);

impl Running {
    /// The answer on its way to the client. What goes on for long ends when its body does.
    pub async fn answer(self, response: Response, status: Option<Value>, has_panicked: bool) -> Response {
        let record = &self.0;
        record.read_request();
        let mut status = status.unwrap_or_else(|| json!({}));
        if let Some(status) = status.as_object_mut() {
            status.retain(|key, _| !matches!(&**key, "kind" | "apiVersion"));
            status.entry("metadata").or_insert_with(|| json!({}));
            status.insert("code".into(), response.status().as_u16().into());
        }
        record.known().status = Some(status);
        if has_panicked {
            record.end(Stage::Panic).await;
            return response;
        }
        if record.is_long {
            record.emit(Stage::ResponseStarted).await;
            return response.map(|body| Lasting { body, _running: self }.boxed_unsync());
        }
        let response = record.keep_answer(response).await;
        record.end(Stage::ResponseComplete).await;
        response
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.end_now();
    }
}

/// From the client on: what proxies say of the way, and who is at the other end of the connection.
fn source_ips(request: &Parts) -> Vec<String> {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_address = |text: &&str| text.parse::<std::net::IpAddr>().is_ok();
    let mut all: Vec<String> =
        header("x-forwarded-for").split(',').map(str::trim).filter(is_address).map(Into::into).collect();
    let real = header("x-real-ip").trim();
    if is_address(&real) && !all.iter().any(|known| known == real) {
        all.push(real.to_owned());
    }
    if let Some(Peer(peer)) = request.extensions.get() {
        let peer = peer.to_canonical().to_string();
        if all.last() != Some(&peer) {
            all.push(peer);
        }
    }
    all
}

/// From an object, or from each of a list or table.
fn drop_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    let items = |object: &mut Value, key: &str| object.get_mut(key).and_then(Value::as_array_mut).map(std::mem::take);
    for (list, inner) in [("items", None), ("rows", Some("object"))] {
        let Some(mut all) = items(object, list) else { continue };
        for one in &mut all {
            match inner {
                Some(key) => one.get_mut(key).into_iter().for_each(drop_managed_fields),
                None => drop_managed_fields(one),
            }
        }
        object[list] = all.into();
    }
}
