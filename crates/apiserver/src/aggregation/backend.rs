//! Finding the server behind a Service and speaking with it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::SendRequest;
use rustls::ClientConfig;

use super::{Route, identity};
use crate::{
    builtin,
    contract::{Body, Lookup, UserInfo},
    env::Env,
    json::text,
    proxy::{dial_tls, service_endpoint},
};

/// The longest document of another server that is taken in.
const MAX_DOCUMENT_BYTES: usize = 64 << 20;

/// Who the server is to others while it asks for itself.
pub fn aggregator() -> UserInfo {
    UserInfo { name: "system:kube-aggregator".into(), groups: vec!["system:masters".into()], ..UserInfo::default() }
}

/// Where a connection goes: one of the Service's endpoints, or the name that it stands for.
pub fn resolve(lookup: &dyn Lookup, route: &Route, env: &Env) -> Result<(String, u16), String> {
    let missing = || format!("service {:?} not found", route.service);
    let stored = lookup.get(builtin::services(), &route.namespace, &route.service).ok_or_else(missing)?;
    let service = stored.value();
    match text(&service["spec"]["type"]) {
        "ExternalName" => Ok((text(&service["spec"]["externalName"]).to_owned(), route.port)),
        _ => service_endpoint(lookup, &route.namespace, &service, &route.port.to_string(), env)
            .map_err(|error| error.message().to_owned()),
    }
}

pub async fn connect(lookup: &dyn Lookup, route: &Route, env: &Env) -> Result<SendRequest<Body>, String> {
    let config: Arc<ClientConfig> = route.tls.clone()?;
    let (host, port) = resolve(lookup, route, env)?;
    dial_tls(&host, port, &route.host(), &config).await.map_err(|error| error.to_string())
}

/// What a server said to a question of the aggregator's own.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Asks for a document within a time.
pub async fn get(
    lookup: &dyn Lookup,
    route: &Route,
    env: &Env,
    path: &str,
    accept: &str,
    patience: Duration,
) -> Result<Answer, String> {
    let asking = async {
        let mut sender = connect(lookup, route, env).await?;
        let empty: Body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::get(path).header(header::HOST, route.host()).header(header::ACCEPT, accept);
        let mut request = request.body(empty).map_err(|error| error.to_string())?;
        identity::tell(request.headers_mut(), &aggregator());
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_DOCUMENT_BYTES).collect().await.map_err(|error| error.to_string())?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    };
    let slow = || format!("no answer within {} s", patience.as_secs());
    tokio::time::timeout(patience, asking).await.map_err(|_| slow())?
}
