//! The order of work of every request: route, authenticate, wait for a place, authorise, handle, answer.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use knarr_api::status::ApiError;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Inner, deadline};
use crate::{
    aggregation::{self, Route, View},
    audit::{self, Running},
    authn,
    authz::forbidden,
    codec::{Accept, compressed, respond},
    contract::{Attributes, Authorizer, Body, Credentials, Decision, Response, UserInfo},
    custom::Found,
    fairness::{self, Place, Schema, TooMany},
    handlers::{self, Context},
    health,
    route::{Query, RequestInfo},
};

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// Longer names than this are replaced, as upstream cuts them.
const MAX_AUDIT_ID_BYTES: usize = 64;

/// Where a request comes from.
pub enum Origin {
    /// This process, as a user that needs no proof.
    Local(Arc<UserInfo>),
    /// A TLS connection, with the certificates that its handshake verified.
    Remote(Arc<Vec<CertificateDer<'static>>>),
    /// A TLS connection of a front proxy, which says who asks.
    Proxied(Box<UserInfo>),
    /// A TLS connection with a certificate that the authority does not stand for, or not any more. Whoever shows one
    /// is refused, whatever else they bring.
    Stranger,
}

/// What becomes known of a request on its way and is told with any answer, whoever gives it.
#[derive(Default)]
struct Trail {
    /// What it is found by in logs.
    id: Option<HeaderValue>,
    schema: OnceLock<Arc<Schema>>,
    audit: OnceLock<Running>,
    has_panicked: AtomicBool,
}

/// A request taken apart, before anybody has looked into it.
struct Asked {
    info: RequestInfo,
    query: Query,
    accept: Result<Accept, ApiError>,
    resolved: Option<(Found, &'static str)>,
    /// Another server answers.
    route: Option<Arc<Route>>,
    /// Why there is nothing to look into.
    refused: Option<ApiError>,
}

impl Inner {
    /// Answers a request; every error becomes a Status.
    pub async fn handle(self: Arc<Self>, request: http::Request<Body>, origin: Origin) -> Response {
        let started = Instant::now();
        let query = Query::parse(request.uri().query());
        let info = RequestInfo::parse(request.method(), request.uri().path(), &query);
        let (verb, long_running, head) = (info.verb, info.is_long_running(), request.method() == http::Method::HEAD);
        let route = self.aggregated(&info);
        let resolved =
            if info.is_resource && route.is_none() { handlers::resolve(&self.catalogue, &info) } else { None };
        // A Scale has a message, whatever it is of.
        let shown = resolved.as_ref().filter(|(_, sub)| *sub != "scale").map(|(found, _)| found.resource);
        // What a subresource streams (logs, proxies) is its own, and passes as it comes.
        let is_ours = route.is_none()
            && resolved.as_ref().is_none_or(|(found, sub)| self.plugins.handler(found.resource, sub).is_none());
        // What is answered and forgotten, such as a review, has no table.
        let accept = Accept::negotiate(request.headers(), &query, shown, is_ours);
        let errors_as = accept.as_ref().copied().unwrap_or(Accept::JSON);
        let label = resolved.as_ref().map_or("", |(found, _)| found.resource.plural);
        let is_remote = !matches!(origin, Origin::Local(_));
        let audit_id = (is_remote || self.audit.is_some()).then(|| self.audit_id(request.headers()));
        let compressible = is_ours && !long_running && matches!(verb, "get" | "list") && is_remote;
        let encodings = compressible.then(|| request.headers().clone());

        let mut trail = Trail { id: audit_id, ..Trail::default() };
        let patience = deadline::of(&info, &query);
        let refused = patience.as_ref().err().cloned();
        let asked = Asked { info, query, accept, resolved, route, refused };
        // In a place of its own: what wraps it would move and hold it anew each time.
        let work = Box::pin(self.clone().admit_and_serve(request, origin, &trail, asked));
        let work = unwinding(&trail.has_panicked, work);
        let outcome = match patience {
            Ok(Some(patience)) => {
                tokio::time::timeout(patience, work).await.unwrap_or_else(|_| Err(deadline::passed(verb)))
            }
            Ok(None) | Err(_) => work.await,
        };
        let running = trail.audit.take();
        let status = outcome.as_ref().err().filter(|_| running.is_some()).map(ApiError::to_value);
        let mut response = outcome.unwrap_or_else(|error| respond::error(&error, errors_as));
        if let Some(running) = running {
            response = running.answer(response, status, trail.has_panicked.into_inner()).await;
        }
        self.metrics.request(verb, label, response.status().as_u16(), started.elapsed(), long_running);
        if head {
            *response.body_mut() = respond::full("");
        } else if let Some(encodings) = encodings {
            response = compressed(&encodings, response);
        }
        if let Some(audit_id) = trail.id {
            response.headers_mut().insert(AUDIT_ID, audit_id);
        }
        if let Some(schema) = trail.schema.get() {
            schema.mark(&mut response);
        }
        response
    }

    /// What a request is found by in logs: the name that the client gave it, or a new one.
    fn audit_id(&self, headers: &HeaderMap) -> HeaderValue {
        let given = headers.get(AUDIT_ID).filter(|id| !id.is_empty() && id.len() <= MAX_AUDIT_ID_BYTES);
        let made = || HeaderValue::from_str(&self.env.uid().to_string()).ok();
        given.cloned().or_else(made).unwrap_or(HeaderValue::from_static("unknown"))
    }

    /// Who else answers a path.
    fn aggregated(&self, info: &RequestInfo) -> Option<Arc<Route>> {
        let find = |group: &str, version: &str| self.aggregation.routes().find(group, version).cloned();
        if info.is_resource {
            return find(&info.group, &info.version);
        }
        let mut segments = info.path.trim_matches('/').split('/');
        match [segments.next(), segments.next(), segments.next(), segments.next()] {
            [Some("apis"), Some(group), Some(version), None] => find(group, version),
            [Some("api"), Some(version), None, None] => find("", version),
            _ => None,
        }
    }

    async fn admit_and_serve(
        self: Arc<Self>,
        request: http::Request<Body>,
        origin: Origin,
        trail: &Trail,
        asked: Asked,
    ) -> Result<Response, ApiError> {
        let info = &asked.info;
        if let Some(error) = &asked.refused {
            let status = json!({"metadata": {}, "message": error.message(), "code": error.code()});
            self.tell_refused(trail, request, info, status).await;
            return Err(error.clone());
        }
        if health::is_public(&info.path) && self.audit.is_none() {
            return Ok(self.health.answer(&info.path, &asked.query));
        }
        let user = match self.authenticate(request.headers(), origin).await {
            Ok(user) => user,
            // Whoever asks; only the log wants to know.
            Err(_) if health::is_public(&info.path) => Arc::new(authn::anonymous()),
            Err(error) => {
                let status = json!({"metadata": {}, "status": "Failure", "message": "Authentication failed",
                                    "reason": "Unauthorized", "code": error.code()});
                self.tell_refused(trail, request, info, status).await;
                return Err(error);
            }
        };
        let Some(auditor) = &self.audit else { return Box::pin(self.serve(request, trail, user, asked)).await };
        let (head, body) = request.into_parts();
        let id = trail.id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
        let Some(record) = auditor.begin(id, Some(&user), info, &head) else {
            let request = http::Request::from_parts(head, body);
            return Box::pin(self.serve(request, trail, user, asked)).await;
        };
        record.received().await;
        let request = http::Request::from_parts(head, record.hear(body));
        let _ = trail.audit.set(Running(record.clone()));
        let work = self.clone().serve(request, trail, user, asked);
        Box::pin(audit::within(record, work)).await
    }

    /// Logs a request that goes no further, before it is known whose it is.
    async fn tell_refused(&self, trail: &Trail, request: http::Request<Body>, info: &RequestInfo, status: Value) {
        let Some(auditor) = &self.audit else { return };
        let id = trail.id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
        let (head, _) = request.into_parts();
        if let Some(record) = auditor.begin(id, None, info, &head) {
            record.refused(status).await;
        }
    }

    /// The way of a request from who asks to the answer.
    async fn serve(
        self: Arc<Self>,
        request: http::Request<Body>,
        trail: &Trail,
        user: Arc<UserInfo>,
        asked: Asked,
    ) -> Result<Response, ApiError> {
        let Asked { info, query, accept, resolved, route, refused: _ } = asked;
        if health::is_public(&info.path) {
            return Ok(self.health.answer(&info.path, &query));
        }
        let asks = user.clone();
        let user = self.impersonate(request.headers(), user).await?;
        if let Some(Running(record)) = trail.audit.get().filter(|_| !Arc::ptr_eq(&asks, &user)) {
            record.impersonated(&user);
        }
        // A watch gives its place back once it has begun; what else goes on for long takes none.
        let Ok(_place) = self.place(trail, &user, &info, &query, resolved.as_ref()).await else {
            return Ok(fairness::too_many_requests());
        };
        self.authorize(&user, &info).await?;
        if let Some(route) = route {
            return Ok(aggregation::proxy(&self, &route, &user, request).await);
        }
        let Some((Found { resource, custom }, subresource)) = resolved else {
            return self.path(request, &info, &query, accept, &user).await;
        };
        // What streams bytes decides about forms itself; everything else must be able to answer.
        let handled = self.plugins.handler(resource, subresource).is_some();
        let accept = if handled && info.is_long_running() { accept.unwrap_or(Accept::JSON) } else { accept? };
        let headers = request.headers().clone();
        let context =
            Context { server: self.clone(), resource, custom, subresource, info, query, headers, user, accept };
        handlers::serve(context, request).await
    }

    /// Waits until it is this request's turn.
    async fn place(
        &self,
        trail: &Trail,
        user: &UserInfo,
        info: &RequestInfo,
        query: &Query,
        resolved: Option<&(Found, &'static str)>,
    ) -> Result<Option<Place>, TooMany> {
        if info.is_long_running() && info.verb != "watch" {
            return Ok(None);
        }
        let Some(schema) = self.fairness.classify(user, info) else { return Ok(None) };
        let stored = || resolved.and_then(|(found, _)| self.caches.of(found.resource)).map_or(0, |cache| cache.count());
        let width = |nominal| fairness::width(info, query, nominal, stored);
        let place = trail.schema.get_or_init(|| schema).enter(user, info, width).await;
        place.map(Some)
    }

    async fn authenticate(&self, headers: &http::HeaderMap, origin: Origin) -> Result<Arc<UserInfo>, ApiError> {
        let certificates = match origin {
            Origin::Local(user) => return Ok(user),
            Origin::Remote(certificates) => certificates,
            Origin::Proxied(mut user) => {
                authn::count_as_authenticated(&mut user);
                return Ok(Arc::new(*user));
            }
            Origin::Stranger => {
                tracing::debug!("the client certificate is foreign or has expired");
                return Err(ApiError::unauthorized());
            }
        };
        let credentials = Credentials { headers, peer_certificates: &certificates };
        let mut rejected = None;
        for authenticator in &self.plugins.authenticators {
            match authenticator.authenticate(credentials).await {
                Ok(Some(mut user)) => {
                    authn::count_as_authenticated(&mut user);
                    return Ok(Arc::new(user));
                }
                Ok(None) => {}
                Err(error) => rejected = Some(error),
            }
        }
        match rejected {
            Some(error) => {
                tracing::debug!(%error, "unable to authenticate the request");
                Err(ApiError::unauthorized())
            }
            // Health was answered before; nothing else is for those who prove nothing.
            None if !self.plugins.authenticators.is_empty() => Err(ApiError::unauthorized()),
            None => Ok(Arc::new(authn::anonymous())),
        }
    }

    /// `kubectl --as`: whoever may impersonate goes on as somebody else.
    async fn impersonate(&self, headers: &http::HeaderMap, user: Arc<UserInfo>) -> Result<Arc<UserInfo>, ApiError> {
        let other = authn::impersonate(&self.plugins, &user, headers).await?;
        Ok(other.map_or(user, Arc::new))
    }

    async fn authorize(&self, user: &UserInfo, info: &RequestInfo) -> Result<(), ApiError> {
        let attributes = Attributes {
            user,
            verb: info.verb,
            namespace: &info.namespace,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            name: &info.name,
            field_selector: &info.field_selector,
            path: &info.path,
            is_resource: info.is_resource,
        };
        let decision = self.plugins.authorize(&attributes).await;
        let (word, reason) = match &decision {
            Decision::Allow => ("allow", ""),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => ("forbid", &**reason),
        };
        if self.audit.is_some() {
            audit::annotate("authorization.k8s.io/decision", word);
            audit::annotate("authorization.k8s.io/reason", reason);
        }
        if decision == Decision::Allow { Ok(()) } else { Err(forbidden(&attributes, reason)) }
    }

    /// What is served at this moment, here and by others.
    fn view(&self) -> View {
        View::new(self.catalogue.now(), self.aggregation.routes(), self.aggregation.documents())
    }

    /// Everything that is no resource.
    async fn path(
        &self,
        request: http::Request<Body>,
        info: &RequestInfo,
        query: &Query,
        accept: Result<Accept, ApiError>,
        user: &UserInfo,
    ) -> Result<Response, ApiError> {
        if let Some(handler) = self.plugins.paths.iter().find(|handler| handler.paths().contains(&&*info.path)) {
            return Ok(handler.handle(request).await);
        }
        if !info.is_resource && !matches!(info.verb, "get" | "head") {
            return Ok(no_such_path());
        }
        let path = info.path.trim_end_matches('/');
        let answer = match path {
            "/metrics" => Some(self.metrics.answer()),
            "/version" => {
                let pretty = Accept { pretty: true, ..Accept::JSON };
                Some(respond::render(StatusCode::OK, health::version().into(), pretty))
            }
            "" => Some(self.discovery.root(&self.view())),
            _ if path.starts_with("/openapi/") => {
                let view = self.view();
                // The document of another server's group version is that server's to give.
                if let Some(route) = view.documented_elsewhere(path) {
                    return Ok(aggregation::proxy(self, &route, user, request).await);
                }
                self.openapi.answer(&view, path, query, request.headers()).await?
            }
            _ => self.discovery.answer(&self.view(), path, request.headers(), accept)?,
        };
        Ok(answer.unwrap_or_else(no_such_path))
    }
}

/// A handler that panics costs its own request only, not the connection with all others on it.
async fn unwinding(
    has_panicked: &AtomicBool,
    work: impl Future<Output = Result<Response, ApiError>>,
) -> Result<Response, ApiError> {
    // Nothing outlives the work but what is behind locks, which survive a panic (`PoisonError::into_inner`).
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
        has_panicked.store(true, Ordering::Relaxed);
        tracing::error!("a request handler panicked; this is a bug, and the message above says where");
        Err(ApiError::internal("the request handler failed unexpectedly"))
    })
}

fn no_such_path() -> Response {
    let mut response = respond::text(StatusCode::NOT_FOUND, "404 page not found\n");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    response
}
