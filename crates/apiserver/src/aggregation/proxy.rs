use http::{StatusCode, header};

use super::{Route, backend, identity};
use crate::{
    codec::respond,
    contract::{Body, Response, UserInfo},
    proxy::{Forward, forward},
    server::Inner,
};

/// Hands a request on to the server behind an APIService, under the name of whoever asked. Bodies, watches and upgraded
/// connections pass as they come. Errors on the way are plain text, as upstream's are.
pub async fn proxy(server: &Inner, route: &Route, user: &UserInfo, mut request: http::Request<Body>) -> Response {
    if !route.available {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "service unavailable");
    }
    if let Err(why) = &route.tls {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, why);
    }
    let sender = match backend::connect(&*server.lookup, route, &server.env).await {
        Ok(sender) => sender,
        Err(why) => {
            tracing::debug!(service = route.name, why, "an API server cannot be reached");
            return plain(StatusCode::SERVICE_UNAVAILABLE, &format!("error trying to reach service: {why}"));
        }
    };
    identity::tell(request.headers_mut(), user);
    let target = request.uri().path_and_query().map_or_else(|| route.path(), ToString::to_string);
    let to = Forward { target, host: route.host(), errors_as_status: false };
    match forward(sender, request, to).await {
        Ok(response) => response,
        Err(error) => {
            plain(StatusCode::from_u16(error.code()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE), error.message())
        }
    }
}

fn plain(status: StatusCode, text: &str) -> Response {
    let mut response = respond::text(status, format!("{text}\n"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    response
}
