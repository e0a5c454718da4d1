//! As much of an API server as a node talks to: objects by path, lists and watches by field selector, status
//! patches, and deletion in two steps. Nothing is validated.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::broadcast;

type Answer = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Clone)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<(String, Value)>,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By path: `/api/v1/namespaces/NS/pods/NAME`.
    objects: BTreeMap<String, Value>,
    /// Events, in order.
    told: Vec<Value>,
    status_patches: usize,
    /// Whose tokens are, and what users may do with subresources of nodes (`get metrics`).
    tokens: BTreeMap<String, String>,
    grants: Vec<(String, String)>,
    reviews: usize,
    /// Of what no list is given.
    refused: Option<String>,
}

impl FakeApi {
    pub fn new() -> Self {
        Self { state: Arc::default(), events: broadcast::channel(1024).0 }
    }

    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        knarr_client::connect::in_process(service, "test")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Stores an object as someone else's write.
    pub fn put(&self, path: &str, mut object: Value) {
        let mut state = self.state();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let kind = if state.objects.contains_key(path) { "MODIFIED" } else { "ADDED" };
        state.objects.insert(path.to_owned(), object.clone());
        drop(state);
        let _ = self.events.send((path.to_owned(), json!({"type": kind, "object": object})));
    }

    /// Refuses lists of a collection, or of none any longer.
    pub fn refuse(&self, path: Option<&str>) {
        self.state().refused = path.map(str::to_owned);
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    pub fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).unwrap_or_else(|| panic!("no {path}"));
        change(&mut object);
        self.put(path, object);
    }

    pub fn remove(&self, path: &str) {
        let removed = self.state().objects.remove(path);
        if let Some(object) = removed {
            let _ = self.events.send((path.to_owned(), json!({"type": "DELETED", "object": object})));
        }
    }

    /// Whether an Event of this reason was told, and its message.
    pub fn told(&self, reason: &str) -> Option<String> {
        self.event(reason)?["message"].as_str().map(str::to_owned)
    }

    /// The last Event of this reason.
    pub fn event(&self, reason: &str) -> Option<Value> {
        self.state().told.iter().rev().find(|event| event["reason"] == reason).cloned()
    }

    pub fn status_patches(&self) -> usize {
        self.state().status_patches
    }

    /// From now on a token is a user's, who may do these things with a node.
    pub fn know(&self, token: &str, user: &str, grants: &[&str]) {
        let mut state = self.state();
        state.tokens.insert(token.to_owned(), user.to_owned());
        state.grants.extend(grants.iter().map(|grant| (user.to_owned(), (*grant).to_owned())));
    }

    /// How often was asked who somebody is, or what they may do.
    pub fn reviews(&self) -> usize {
        self.state().reviews
    }

    fn review_token(&self, mut review: Value) -> Value {
        let mut state = self.state();
        state.reviews += 1;
        let user = state.tokens.get(review["spec"]["token"].as_str().unwrap_or_default());
        review["status"] = match user {
            Some(user) => json!({"authenticated": true, "user": {"username": user, "groups": ["g"]}}),
            None => json!({"authenticated": false, "error": "invalid bearer token"}),
        };
        review
    }

    fn review_access(&self, mut review: Value) -> Value {
        let mut state = self.state();
        state.reviews += 1;
        let asked = &review["spec"]["resourceAttributes"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let grant = format!("{} {}", text(&asked["verb"]), text(&asked["subresource"]));
        let is_about_node = (&asked["resource"], &asked["name"]) == (&json!("nodes"), &json!("n1"));
        let wanted = (text(&review["spec"]["user"]), grant);
        review["status"] = json!({"allowed": is_about_node && state.grants.contains(&wanted)});
        review
    }

    async fn answer(&self, request: Request<Body>) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query: BTreeMap<String, String> =
            knarr_streaming::query::query(parts.uri.query().unwrap_or_default()).into_iter().collect();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        let collection = last.ends_with('s') && last != "status";
        match parts.method {
            Method::GET if query.get("watch").is_some_and(|watch| watch == "true") => self.watch(path, query),
            Method::GET if collection => self.list(&path, &query),
            Method::GET => self.get(&path).map_or_else(|| missing(&path), |object| page(200, &object)),
            Method::POST if path.ends_with("/token") => page(
                201,
                &json!({"metadata": {}, "spec": {"audiences": []}, "status": {"token": "token", "expirationTimestamp": "2026-01-01T01:00:00Z"}}),
            ),
            Method::POST if path.ends_with("/tokenreviews") => page(201, &self.review_token(sent)),
            Method::POST if path.ends_with("/subjectaccessreviews") => page(201, &self.review_access(sent)),
            Method::POST if path.ends_with("/events") => {
                self.state().told.push(sent.clone());
                let mut made = sent;
                made["metadata"]["name"] = json!("event");
                page(201, &made)
            }
            Method::POST => {
                let path = format!("{path}/{}", sent["metadata"]["name"].as_str().unwrap_or_default());
                let mut made = sent;
                made["metadata"]["uid"] = json!(format!("uid-of-{path}"));
                self.put(&path, made);
                page(201, &self.get(&path).unwrap_or_default())
            }
            Method::PUT => {
                let path = path.trim_end_matches("/status");
                self.put(path, sent);
                page(200, &self.get(path).unwrap_or_default())
            }
            Method::PATCH => self.patch(&path, &sent),
            Method::DELETE => {
                let gone = self.get(&path);
                self.remove(&path);
                gone.map_or_else(|| missing(&path), |object| page(200, &object))
            }
            _ => page(405, &json!({"kind": "Status", "apiVersion": "v1", "code": 405, "status": "Failure"})),
        }
    }

    fn patch(&self, path: &str, patch: &Value) -> Response<Answer> {
        let target = path.trim_end_matches("/status").to_owned();
        let Some(mut object) = self.get(&target) else { return missing(path) };
        if path.ends_with("/status") {
            self.state().status_patches += 1;
        }
        if patch["metadata"]["uid"].is_string() && patch["metadata"]["uid"] != object["metadata"]["uid"] {
            return page(
                409,
                &json!({"kind": "Status", "apiVersion": "v1", "code": 409, "reason": "Conflict", "status": "Failure"}),
            );
        }
        merge(&mut object, patch);
        self.put(&target, object);
        page(200, &self.get(&target).unwrap_or_default())
    }

    fn list(&self, path: &str, query: &BTreeMap<String, String>) -> Response<Answer> {
        let state = self.state();
        if state.refused.as_deref() == Some(path) {
            return page(503, &json!({"kind": "Status", "apiVersion": "v1", "code": 503, "status": "Failure"}));
        }
        let found: Vec<&Value> = state
            .objects
            .iter()
            .filter(|(at, object)| matches(path, query, at, object))
            .map(|(_, object)| object)
            .collect();
        page(200, &json!({"metadata": {"resourceVersion": state.version.to_string()}, "items": found}))
    }

    fn watch(&self, path: String, query: BTreeMap<String, String>) -> Response<Answer> {
        let since: u64 = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
        let receiver = self.events.subscribe();
        // What was written between the list and now.
        let missed: Vec<Value> = {
            let state = self.state();
            let newer = |object: &Value| {
                object["metadata"]["resourceVersion"]
                    .as_str()
                    .and_then(|v| v.parse::<u64>().ok())
                    .is_some_and(|v| v > since)
            };
            let objects =
                state.objects.iter().filter(|(at, object)| matches(&path, &query, at, object) && newer(object));
            objects.map(|(_, object)| json!({"type": "ADDED", "object": object})).collect()
        };
        let stream = futures::stream::unfold((missed.into_iter(), receiver), move |(mut missed, mut receiver)| {
            let (path, query) = (path.clone(), query.clone());
            async move {
                let event = match missed.next() {
                    Some(event) => event,
                    None => loop {
                        let (at, event) = receiver.recv().await.ok()?;
                        if matches(&path, &query, &at, &event["object"]) {
                            break event;
                        }
                    },
                };
                let line = Bytes::from(format!("{event}\n"));
                Some((Ok::<_, Infallible>(Frame::data(line)), (missed, receiver)))
            }
        });
        Response::new(StreamBody::new(stream).boxed_unsync())
    }
}

/// Whether the object at `at` is in the collection `path` and fits the field selector.
fn matches(path: &str, query: &BTreeMap<String, String>, at: &str, object: &Value) -> bool {
    let plural = path.rsplit('/').next().unwrap_or_default();
    let inside = match path.strip_prefix("/api/v1/namespaces/") {
        Some(_) => at.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')),
        None => at.rsplit('/').nth(1) == Some(plural),
    };
    let fits = query.get("fieldSelector").is_none_or(|selector| {
        let (field, value) = selector.split_once('=').unwrap_or((selector, ""));
        let pointer = format!("/{}", field.replace('.', "/"));
        object.pointer(&pointer).and_then(Value::as_str) == Some(value)
    });
    inside && fits
}

/// Merges maps, conditions by type; other lists are replaced.
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        match value {
            Value::Null => _ = target.as_object_mut().unwrap().remove(key),
            Value::Object(_) => merge(&mut target[key], value),
            Value::Array(list) if key == "conditions" => {
                let mut all = target[key].as_array().cloned().unwrap_or_default();
                for condition in list {
                    all.retain(|old| old["type"] != condition["type"]);
                    if condition["$patch"] != "delete" {
                        all.push(condition.clone());
                    }
                }
                target[key] = json!(all);
            }
            Value::Array(list) => {
                target[key] = list.iter().filter(|item| item.get("$patch").is_none()).cloned().collect();
            }
            _ => target[key] = value.clone(),
        }
    }
}

fn page(code: u16, value: &Value) -> Response<Answer> {
    let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
    Response::builder().status(code).header("content-type", "application/json").body(body).unwrap()
}

fn missing(path: &str) -> Response<Answer> {
    let message = format!("{path} not found");
    page(
        404,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound", "message": message}),
    )
}
