//! Watches: a stream of events, lines of JSON or messages, until the client goes, the time is up or the reader is too slow.
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>)

mod beginning;
mod pace;
#[cfg(test)]
mod tests;
mod view;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use beginning::{Beginning, timeout};
use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use knarr_api::status::ApiError;
use pace::Pace;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use view::View;

use super::{Context, Selection};
use crate::{
    cache::{CachedEvent, Caches, Change, Watcher},
    codec::{Accept, Encoding, respond},
    contract::{Response, Stored},
    custom::Custom,
    server::Inner,
};

/// How often a quiet watch says how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Events that wait are sent together up to about this size.
const BATCH_BYTES: usize = 128 << 10;
/// Room for so many events is kept while nothing comes.
const KEPT_ROOM: usize = 16;

/// What a watcher's task needs to know.
struct Session {
    watcher: Watcher,
    view: View,
    bookmarks: bool,
    deadline: Instant,
    next_bookmark: Instant,
    caches: Arc<Caches>,
    shutdown: CancellationToken,
    /// Weak, so that a watch keeps no server that is dropped; it is asked where a webhook converts.
    server: Weak<Inner>,
    /// What was there at the start and is still to be sent, and the bookmark that ends it.
    initial: std::vec::IntoIter<Arc<Stored>>,
    initial_bookmark: Option<u64>,
    /// What is to be sent before anything else.
    ready: BytesMut,
    pace: Pace,
    events: Vec<Arc<CachedEvent>>,
    /// The reader was too slow, and was told so.
    expired: bool,
    ended: bool,
}

pub async fn watch(context: Context) -> Result<Response, ApiError> {
    let selection = Selection::parse(context.resource, context.custom.as_deref(), context.namespace(), &context.query)?;
    let beginning = Beginning::wait(&context).await?;
    let timeout = timeout(&context)?;
    let caches = context.server.caches.clone();
    let cache = caches.of(context.resource).ok_or_else(ApiError::no_such_resource)?;
    // Read before the watcher starts, so that a bookmark never names what was not seen.
    let applied = caches.applied();
    let started = cache.watch(beginning.start, selection.topic(context.resource), |object| selection.matches(object));
    let view = View {
        resource: context.resource,
        custom: context.custom.clone(),
        selection,
        accept: context.accept,
        env: context.server.env.clone(),
    };
    let mut watcher = match started {
        Ok(watcher) => watcher,
        Err(expired) => return Ok(streaming(context.accept, view.expired(&expired))),
    };
    let now = Instant::now();
    let jitter = Duration::from_millis(context.server.env.random() % 5_000);
    let initial = context.in_versions_of_webhook(watcher.take_snapshot()).await?;
    let initial_bookmark = beginning.mark_initial.then(|| applied.max(watcher.changed_at()));
    let session = Session {
        watcher,
        view,
        bookmarks: context.query.flag("allowWatchBookmarks"),
        deadline: now + timeout,
        next_bookmark: now + BOOKMARK_EVERY + jitter,
        caches: caches.clone(),
        shutdown: context.server.shutdown.clone(),
        server: Arc::downgrade(&context.server),
        initial: initial.into_iter(),
        initial_bookmark,
        ready: BytesMut::new(),
        pace: Pace::starting(now),
        events: Vec::new(),
        expired: false,
        ended: false,
    };
    let guard = context.server.metrics.watch_started(context.resource);
    let accept = context.accept;
    let frames = stream::unfold((session, guard), |(mut session, guard)| async move {
        let bytes = session.next().await?;
        Some((Ok(Frame::data(bytes)), (session, guard)))
    });
    let mut response = streaming(accept, Bytes::new());
    *response.body_mut() = StreamBody::new(frames).boxed_unsync();
    Ok(response)
}

fn streaming(accept: Accept, body: Bytes) -> Response {
    let mut response = respond::json(StatusCode::OK, body);
    if accept.encoding == Encoding::Protobuf {
        let frames = HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch");
        response.headers_mut().insert(header::CONTENT_TYPE, frames);
    }
    // Proxies must not hold events back.
    response.headers_mut().insert(header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// When the definition of what is watched is no longer what it was; never, for a built-in.
async fn replaced(custom: Option<&Custom>) {
    match custom {
        Some(custom) => custom.replaced.cancelled().await,
        None => std::future::pending().await,
    }
}

impl Session {
    /// Encodes the next of the initial objects, a chunk at a time.
    fn take_initial(&mut self) {
        while self.ready.len() < BATCH_BYTES
            && let Some(object) = self.initial.next()
        {
            self.ready.extend_from_slice(&self.view.object(Change::Added, &object));
        }
        if self.initial.as_slice().is_empty()
            && let Some(revision) = self.initial_bookmark.take()
        {
            self.ready.extend_from_slice(&self.view.bookmark(revision, true));
        }
    }

    /// The next piece to send; `None` ends the watch.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.take_initial();
            if !self.ready.is_empty() {
                return Some(self.ready.split().freeze());
            }
            if self.ended {
                return None;
            }
            let now = Instant::now();
            let tick_at = if self.bookmarks { self.next_bookmark.min(self.deadline) } else { self.deadline };
            // Also where there is never a quiet moment.
            if now >= tick_at {
                self.tick(now).await;
                continue;
            }
            if let Some(due) = self.pace.due(now) {
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.shutdown.cancelled() => self.ended = true,
                }
                continue;
            }
            if let Some(bytes) = self.take_events().await {
                self.pace.sent();
                return Some(bytes);
            }
            if self.ended || !self.ready.is_empty() {
                continue;
            }
            tokio::select! {
                changed = self.watcher.wait() => self.ended |= !changed,
                () = sleep_until(tick_at) => {}
                () = self.shutdown.cancelled() => self.ended = true,
                () = replaced(self.view.custom.as_deref()) => self.finish().await,
            }
        }
    }

    /// Sends what is there already, and no more.
    async fn finish(&mut self) {
        self.take_all().await;
        self.ended = true;
    }

    async fn take_all(&mut self) {
        while !self.expired
            && let Some(bytes) = self.take_events().await
        {
            self.ready.extend_from_slice(&bytes);
        }
    }

    async fn tick(&mut self, now: Instant) {
        self.ended |= now >= self.deadline;
        if self.bookmarks {
            // Everything up to this revision is in the ring; all of what is there is sent first.
            let applied = self.caches.applied();
            self.take_all().await;
            if !self.expired {
                self.ready.extend_from_slice(&self.view.bookmark(applied, false));
            }
            self.next_bookmark = now + BOOKMARK_EVERY;
        }
    }

    /// Puts the watched version's objects into events where a webhook converts, those of one read by one request.
    async fn convert(&self, events: &mut [Arc<CachedEvent>]) -> Result<(), ApiError> {
        if !self.view.is_converted_by_webhook() || events.is_empty() {
            return Ok(());
        }
        let stopped = || ApiError::service_unavailable("the server is shutting down");
        let server = self.server.upgrade().ok_or_else(stopped)?;
        let objects = events.iter().flat_map(|event| [Some(&event.object), event.before.as_ref()]);
        let objects = objects.flatten().cloned().collect();
        let converted = server.in_versions(self.view.resource, self.view.custom.as_deref(), objects).await?;
        let mut converted = converted.into_iter();
        for event in events {
            let Some(object) = converted.next() else { break };
            let before = event.before.as_ref().and_then(|_| converted.next());
            *event = Arc::new(CachedEvent::new(event.revision, event.change, object, before));
        }
        Ok(())
    }

    /// Encodes the events that are there; one alone is sent without being copied.
    async fn take_events(&mut self) -> Option<Bytes> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        loop {
            let mut events = std::mem::take(&mut self.events);
            if let Err(expired) = self.watcher.poll_now(&mut events) {
                self.ready.extend_from_slice(&self.view.expired(&expired));
                (self.expired, self.ended) = (true, true);
                break;
            }
            if let Err(error) = self.convert(&mut events).await {
                self.ready.extend_from_slice(&self.view.failed(&error));
                (self.expired, self.ended) = (true, true);
                break;
            }
            let drained = events.is_empty();
            for event in events.drain(..) {
                let Some(line) = self.view.event(&event) else { continue };
                bytes += line.len();
                taken.push(line);
            }
            // There are many watchers, and most of them wait: the room for a burst goes with it.
            if !drained || events.capacity() <= KEPT_ROOM {
                self.events = events;
            }
            if drained || bytes >= BATCH_BYTES {
                break;
            }
        }
        if taken.len() > 1 { Some(taken.concat().into()) } else { taken.pop() }
    }
}
