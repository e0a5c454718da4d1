//! `portForward`.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::{Body, Inner, Refusal};

pub async fn serve(
    server: &Arc<Inner>,
    namespace: &str,
    pod: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let found = server.find_pod(namespace, pod)?;
    let observed = server.observe(found.metadata.uid.as_deref().unwrap_or_default()).await?;
    let sandbox = observed.sandbox.filter(|sandbox| sandbox.ready);
    let sandbox = sandbox.ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            format!("unable to forward port because pod is not running: pod \"{pod}_{namespace}\""),
        )
    })?;
    knarr_streaming::portforward::serve(server.streams.clone(), sandbox.id, request)
}
