//! Lists, then watches, for ever. One enum of states; each says how it is left.

use std::time::Duration;

use rand::{Rng as _, rngs::SmallRng};
use tokio::time::Instant;

use super::{
    Object,
    cache::{Cache, Event},
    frame::Frame,
    wire::{self, WireError},
};

/// Which objects of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// All namespaces where none is given.
    pub namespace: Option<String>,
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// Asks the server for metadata only; the type has to be one that reads it (`PartialObjectMeta`).
    pub metadata_only: bool,
}

impl Scope {
    pub fn fields(selector: impl Into<String>) -> Self {
        Self { field_selector: Some(selector.into()), ..Self::default() }
    }

    pub fn labels(selector: impl Into<String>) -> Self {
        Self { label_selector: Some(selector.into()), ..Self::default() }
    }

    pub fn metadata() -> Self {
        Self { metadata_only: true, ..Self::default() }
    }
}

/// Objects per page of a list: large enough to be quick, small enough that a page is some megabytes.
const PAGE_SIZE: u32 = 1000;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// A watch that lasted this long starts with a short pause after its next failure.
const HEALTHY_AFTER: Duration = Duration::from_secs(1);
/// A watch is asked to last this long, plus up to as much again, so that many clients do not reconnect at once.
const WATCH_SECONDS: u64 = 290;
/// How much longer than asked for a watch may stay silent before the connection is taken for dead.
const SILENCE_GRACE: Duration = Duration::from_secs(15);

enum State {
    /// Left with the list's version, or through a pause on failure.
    Listing,
    /// Left to itself when the server ends the watch, through a pause on failure, to `Listing` on 410 Gone.
    Watching { resource_version: String },
}

enum Progress {
    Listed,
    WatchEnded,
}

pub(super) async fn run<K: Object>(
    client: kube::Client,
    path: &str,
    scope: &Scope,
    cache: &Cache<K>,
    mut random: SmallRng,
) {
    let mut state = State::Listing;
    let mut pause = FIRST_PAUSE;
    loop {
        let before = Instant::now();
        let result = match &mut state {
            State::Listing => list(&client, path, scope, cache).await.map(|version| {
                state = State::Watching { resource_version: version };
                Progress::Listed
            }),
            State::Watching { resource_version } => {
                let seconds = WATCH_SECONDS + random.random_range(0..WATCH_SECONDS);
                watch(&client, path, scope, cache, resource_version, seconds).await.map(|()| Progress::WatchEnded)
            }
        };
        let lasted = before.elapsed() >= HEALTHY_AFTER;
        if lasted {
            pause = FIRST_PAUSE;
        }
        let error = match result {
            Ok(Progress::Listed) => continue,
            Ok(Progress::WatchEnded) if lasted => continue,
            // A server that ends watches at once must not make a busy loop of this one.
            Ok(Progress::WatchEnded) => {
                sleep_about(&mut pause, &mut random).await;
                continue;
            }
            Err(error) => error,
        };
        report(path, &error);
        // What cannot be decoded will not be by watching from the same place again.
        if error.is_expired() || matches!(error, WireError::Decode { .. } | WireError::TooLarge) {
            state = State::Listing;
        }
        sleep_about(&mut pause, &mut random).await;
    }
}

fn report(path: &str, error: &WireError) {
    let cause = error as &dyn std::error::Error;
    match error {
        error if error.is_expired() => tracing::debug!(path, "history no longer reaches back; listing again"),
        WireError::Decode { .. } | WireError::TooLarge => tracing::warn!(path, error = cause, "listing again"),
        _ => tracing::debug!(path, error = cause, "list or watch failed; trying again"),
    }
}

/// Sleeps for the pause plus up to as much again, and doubles it.
async fn sleep_about(pause: &mut Duration, random: &mut SmallRng) {
    tokio::time::sleep(pause.mul_f64(1.0 + random.random::<f64>())).await;
    *pause = (*pause * 2).min(LAST_PAUSE);
}

async fn list<K: Object>(
    client: &kube::Client,
    path: &str,
    scope: &Scope,
    cache: &Cache<K>,
) -> Result<String, WireError> {
    let mut objects = Vec::new();
    let mut continue_token = String::new();
    loop {
        let page = wire::list::<K>(client, path, scope, &continue_token, PAGE_SIZE).await?;
        objects.extend(page.items);
        if page.continue_token.is_empty() {
            cache.replace(objects);
            return Ok(page.resource_version);
        }
        continue_token = page.continue_token;
    }
}

async fn watch<K: Object>(
    client: &kube::Client,
    path: &str,
    scope: &Scope,
    cache: &Cache<K>,
    resource_version: &mut String,
    seconds: u64,
) -> Result<(), WireError> {
    let deadline = Instant::now() + Duration::from_secs(seconds) + SILENCE_GRACE;
    let mut body = wire::watch(client, path, scope, resource_version, seconds).await?;
    loop {
        let frames = match tokio::time::timeout_at(deadline, body.next::<K>()).await {
            Ok(frames) => frames?,
            Err(_) => return Ok(()),
        };
        let Some(frames) = frames else { return Ok(()) };
        let mut events = Vec::with_capacity(frames.len());
        for frame in frames {
            let event = match frame {
                Frame::Bookmark(version) => {
                    *resource_version = version;
                    continue;
                }
                Frame::Applied(object) => Event::Applied(object),
                Frame::Deleted(object) => Event::Deleted(object),
            };
            let (Event::Applied(object) | Event::Deleted(object)) = &event;
            if let Some(version) = &object.meta().resource_version {
                resource_version.clone_from(version);
            }
            events.push(event);
        }
        cache.apply(events);
    }
}
