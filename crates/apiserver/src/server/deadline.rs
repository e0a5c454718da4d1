//! How long a request may take that is not meant to last: what the client asks for with `timeout`, at most what the server
//! grants.

use std::time::Duration;

use knarr_api::status::ApiError;

use crate::route::{Query, RequestInfo};

/// What the server grants (upstream's `--request-timeout`).
const LONGEST: Duration = Duration::from_secs(60);

/// `None` for what lasts as long as the client wants. A client that asks for nothing, for no limit or for more than there
/// is gets what there is.
pub(super) fn of(info: &RequestInfo, query: &Query) -> Result<Option<Duration>, ApiError> {
    if info.is_long_running() {
        return Ok(None);
    }
    let asked = query.get("timeout");
    if asked.is_empty() {
        return Ok(Some(LONGEST));
    }
    let nanos = knarr_cel::go_duration(asked)
        .map_err(|why| ApiError::bad_request(format!("invalid timeout specified in the request URL - {why}")))?;
    let wanted = u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos);
    Ok(Some(wanted.map_or(LONGEST, |wanted| wanted.min(LONGEST))))
}

/// The answer to a request that took too long. A write may have happened all the same.
pub(super) fn passed(verb: &str) -> ApiError {
    let why = match verb {
        "create" | "update" | "patch" | "delete" | "deletecollection" => {
            "request did not complete within requested timeout - context deadline exceeded"
        }
        _ => "request did not complete within the allotted timeout",
    };
    ApiError::timeout(why, 0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::{Method, Request};
    use http_body_util::{BodyExt, Full};
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::*;
    use crate::{
        ApiServer, Plugins,
        contract::{Admission, AdmissionRequest, Body, Response},
        server::PathHandler,
        testing::{admin, message},
    };

    #[test]
    fn clients_say_how_long_they_wait() {
        let rows = [
            ("/api/v1/pods", Ok(Some(60_000))),
            ("/api/v1/pods?timeout=5s", Ok(Some(5_000))),
            ("/api/v1/pods?timeout=1m1s", Ok(Some(60_000))),
            ("/api/v1/pods?timeout=0", Ok(Some(60_000))),
            ("/api/v1/pods?timeout=-5s", Ok(Some(60_000))),
            ("/api/v1/pods?timeout=", Ok(Some(60_000))),
            ("/healthz?timeout=1.5s", Ok(Some(1_500))),
            ("/api/v1/pods?watch=1&timeout=5s", Ok(None)),
            ("/api/v1/namespaces/n/pods/p/log?timeout=nonsense", Ok(None)),
            ("/api/v1/pods?timeout=5", Err("time: missing unit in duration \"5\"")),
            ("/api/v1/pods?timeout=soon", Err("time: invalid duration \"soon\"")),
        ];
        for (target, expected) in rows {
            let uri: http::Uri = target.parse().unwrap();
            let query = Query::parse(uri.query());
            let info = RequestInfo::parse(&Method::GET, uri.path(), &query);
            let found = of(&info, &query).map(|left| left.map(|left| left.as_millis()));
            let expected = expected
                .map_err(|why| ApiError::bad_request(format!("invalid timeout specified in the request URL - {why}")));
            assert_eq!(found, expected, "{target}");
        }
    }

    /// Never comes to an end.
    struct Forever;

    #[async_trait::async_trait]
    impl Admission for Forever {
        fn name(&self) -> &'static str {
            "Forever"
        }

        async fn validate(&self, _: &AdmissionRequest<'_>) -> Result<(), ApiError> {
            std::future::pending().await
        }
    }

    #[async_trait::async_trait]
    impl PathHandler for Forever {
        fn paths(&self) -> &'static [&'static str] {
            &["/forever"]
        }

        async fn handle(&self, _: Request<Body>) -> Response {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn what_takes_too_long_is_given_up() {
        let mut plugins = Plugins::permissive();
        plugins.admission.push(Arc::new(Forever));
        plugins.paths.push(Arc::new(Forever));
        let store = Arc::new(knarr_store::MemoryStore::default());
        let server = ApiServer::builder(store).plugins(move |_| plugins).start().await.unwrap();
        let names = "/api/v1/namespaces";
        for (method, target, code, reason, said) in [
            (
                "POST",
                format!("{names}?timeout=20ms"),
                504,
                "Timeout",
                "Timeout: request did not complete within requested timeout - context deadline exceeded",
            ),
            (
                "GET",
                "/forever?timeout=20ms".to_owned(),
                504,
                "Timeout",
                "Timeout: request did not complete within the allotted timeout",
            ),
            (
                "GET",
                format!("{names}?timeout=5"),
                400,
                "BadRequest",
                "invalid timeout specified in the request URL - time: missing unit in duration \"5\"",
            ),
        ] {
            let body = json!({"metadata": {"name": "n"}}).to_string();
            let request = Request::builder().method(method).uri(&target).header("content-type", "application/json");
            let request = request.body(Full::new(Bytes::from(body))).unwrap();
            let answer = server.local(admin()).oneshot(request).await.unwrap();
            assert_eq!(answer.status().as_u16(), code, "{target}");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let status: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((status["reason"].as_str(), message(&status)), (Some(reason), said), "{target}");
        }
    }
}
