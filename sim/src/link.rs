//! One client's way to the API server: requests and answers take time, get lost, and streams break in the middle.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use knarr_apiserver::contract::UserInfo;
use tokio::sync::watch;
use tower_service::Service;

use crate::{
    chance::Dice,
    site::{Running, Site},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What every request takes, also when all is calm: without it things could go round for ever while no time passes.
const TRAVEL: Duration = Duration::from_millis(1);
const LAG: Duration = Duration::from_millis(60);
/// How late a piece of a stream may be: watches of two resources are seldom equally far.
const STREAM_LAG: Duration = Duration::from_millis(1_500);
/// How often a request never arrives, and how often an answer does not.
const LOST: usize = 60;
/// After how many frames a body breaks off, on average. Small answers are one frame.
const BREAKS: usize = 200;

/// How good the way is. Cheap to clone.
#[derive(Clone)]
pub struct Way {
    dice: Dice,
    cut: Arc<watch::Sender<bool>>,
}

impl Way {
    pub fn rough(dice: Dice) -> Self {
        Self { dice, cut: Arc::new(watch::Sender::new(false)) }
    }

    /// Cuts the way, or mends it. What is under way on it breaks.
    pub fn set_cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    async fn broken(&self) {
        // The sender lives as long as `self`.
        let _ = self.cut.subscribe().wait_for(|cut| *cut).await;
    }
}

/// A service that speaks as one user.
#[derive(Clone)]
pub struct Link {
    pub site: Arc<Site>,
    pub user: UserInfo,
    pub way: Way,
}

impl Link {
    pub fn client(self, agent: &'static str) -> kube::Client {
        knarr_client::in_process(self, agent)
    }

    /// Sends a request; an error says only that there was no answer.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<Body>, BoxError>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(Into::into)?.to_bytes();
        let request = Request::from_parts(parts, Full::new(body));
        tokio::select! {
            biased;
            () = self.way.broken() => Err("no route to host".into()),
            answer = self.exchange(request) => answer,
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, BoxError> {
        tokio::time::sleep(TRAVEL).await;
        self.way.dice.lag(LAG).await;
        if self.way.dice.breaks(LOST) {
            return Err("the request was lost".into());
        }
        tracing::trace!(user = self.user.name, method = %request.method(), uri = %request.uri(), "request");
        let Some(Running { api, gone }) = self.site.reach() else { return Err("connection refused".into()) };
        let mut service = api.local(self.user.clone());
        drop(api);
        let answer = tokio::select! {
            biased;
            () = gone.cancelled() => return Err("connection reset by peer".into()),
            answer = service.call(request) => answer.unwrap_or_else(|never| match never {}),
        };
        drop(service);
        self.way.dice.lag(LAG).await;
        if self.way.dice.breaks(LOST) {
            return Err("the answer was lost".into());
        }
        let way = self.way.clone();
        Ok(answer.map(|body| carry(body, way, gone)))
    }
}

/// The body as it arrives.
fn carry(body: Body, way: Way, gone: tokio_util::sync::CancellationToken) -> Body {
    let frames = stream::unfold(Some((body, way, gone)), |state| async move {
        let (mut body, way, gone) = state?;
        let frame = tokio::select! {
            biased;
            () = gone.cancelled() => Some(Err("connection reset by peer".into())),
            () = way.broken() => Some(Err("no route to host".into())),
            frame = body.frame() => frame,
        };
        way.dice.lag(STREAM_LAG).await;
        if way.dice.breaks(BREAKS) {
            return Some((Err("the connection broke".into()), None));
        }
        let frame = frame?;
        let rest = frame.is_ok().then_some((body, way, gone));
        Some((frame, rest))
    });
    StreamBody::new(frames).boxed_unsync()
}

impl Service<Request<kube::client::Body>> for Link {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let link = self.clone();
        Box::pin(async move { link.send(request).await })
    }
}
