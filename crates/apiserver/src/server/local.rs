//! The server as a service in the same process: what controllers, scheduler and node use when they run beside it.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::BodyExt;
use tower_service::Service;

use super::{Inner, dispatch::Origin};
use crate::contract::{Body, Response, UserInfo};

/// Speaks as one user, without socket, TLS or authentication; the rights are the user's.
#[derive(Clone)]
pub struct LocalService {
    inner: Arc<Inner>,
    user: Arc<UserInfo>,
}

impl LocalService {
    pub(super) fn new(inner: Arc<Inner>, mut user: UserInfo) -> Self {
        let authenticated = "system:authenticated";
        if !user.groups.iter().any(|group| group == authenticated) {
            user.groups.push(authenticated.into());
        }
        Self { inner, user: Arc::new(user) }
    }
}

impl<B> Service<http::Request<B>> for LocalService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let request = request.map(|body| -> Body { body.map_err(Into::into).boxed_unsync() });
        let (inner, user) = (self.inner.clone(), self.user.clone());
        Box::pin(async move { Ok(inner.handle(request, Origin::Local(user)).await) })
    }
}
