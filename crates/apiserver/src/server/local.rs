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
use tokio::sync::Semaphore;
use tower_service::Service;

use super::{Inner, dispatch::Origin};
use crate::contract::{Body, Response, UserInfo};

/// How many requests a user of this process has under way. What is more waits here, as clients elsewhere keep a rate of
/// their own: the queues of a level are for telling users apart, and refuse whoever fills them alone.
const UNDER_WAY: usize = 200;

/// Speaks as one user, without socket, TLS or authentication; the rights are the user's.
#[derive(Clone)]
pub struct LocalService {
    inner: Arc<Inner>,
    user: Arc<UserInfo>,
    door: Arc<Semaphore>,
}

impl LocalService {
    pub(super) fn new(inner: Arc<Inner>, mut user: UserInfo) -> Self {
        let authenticated = "system:authenticated";
        if !user.groups.iter().any(|group| group == authenticated) {
            user.groups.push(authenticated.into());
        }
        Self { inner, user: Arc::new(user), door: Arc::new(Semaphore::new(UNDER_WAY)) }
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
        let (inner, user, door) = (self.inner.clone(), self.user.clone(), self.door.clone());
        Box::pin(async move {
            // Nobody closes the door; until the answer's head is there, no longer: watches and streams go on outside.
            let _entered = door.acquire().await;
            Ok(inner.handle(request, Origin::Local(user)).await)
        })
    }
}
