//! Against a small server of scripted answers: the protocol itself is tested through the real API server by the
//! controllers' tests.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use tokio::sync::mpsc;

use super::*;

type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// What the next request gets: its path and query have to contain `wants`.
struct Step {
    wants: &'static str,
    status: u16,
    answer: Answer,
}

fn fixed(wants: &'static str, status: u16, body: String) -> Step {
    Step { wants, status, answer: Full::new(Bytes::from(body)).boxed_unsync() }
}

fn watch(wants: &'static str) -> (Step, mpsc::UnboundedSender<String>) {
    let (sender, receiver) = mpsc::unbounded_channel::<String>();
    let stream = futures::stream::unfold(receiver, |mut receiver| async move {
        let line = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(line))), receiver))
    });
    (Step { wants, status: 200, answer: StreamBody::new(stream).boxed_unsync() }, sender)
}

fn informers(steps: Vec<Step>) -> Informers {
    let steps = Arc::new(Mutex::new(VecDeque::from(steps)));
    let service = tower::service_fn(move |request: Request<Body>| {
        let step = steps.lock().unwrap().pop_front();
        async move {
            let Some(step) = step else { return std::future::pending().await };
            assert!(request.uri().to_string().contains(step.wants), "{} has no {}", request.uri(), step.wants);
            Ok::<_, Infallible>(Response::builder().status(step.status).body(step.answer).unwrap())
        }
    });
    Informers::seeded(crate::in_process(service, "test"), CancellationToken::new(), 1)
}

fn map(name: &str, version: u32) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"namespace":"d","name":"{name}","uid":"u-{name}","resourceVersion":"{version}","managedFields":[{{"manager":"m"}}],"labels":{{"v":"{version}"}}}}}}"#
    )
}

fn list(version: u32, items: &[String]) -> String {
    format!(r#"{{"kind":"ConfigMapList","metadata":{{"resourceVersion":"{version}"}},"items":[{}]}}"#, items.join(","))
}

fn event(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

/// As `old>new` by resourceVersion, after the name.
fn show(change: &Change<ConfigMap>) -> String {
    let version = |side: &Option<Arc<ConfigMap>>| {
        side.as_ref().and_then(|o| o.metadata.resource_version.clone()).unwrap_or_default()
    };
    format!("{} {}>{}", change.latest().metadata.name.as_deref().unwrap(), version(&change.old), version(&change.new))
}

#[tokio::test(start_paused = true)]
async fn lists_then_watches_and_keeps_indexes() {
    let (step, events) = watch("watch=true&allowWatchBookmarks=true&resourceVersion=5&");
    let informers = informers(vec![fixed("limit=1000", 200, list(5, &[map("a", 3), map("b", 4)])), step]);
    let informer = informers.of::<ConfigMap>();
    informer.index_by_label("v");
    let mut changes = informer.subscribe();
    assert!(informer.synced().await);
    assert_eq!(show(&changes.next().await.unwrap()), "a >3");
    assert_eq!(show(&changes.next().await.unwrap()), "b >4");
    // An event may be cut anywhere.
    let text = event("MODIFIED", &map("a", 6)) + &event("DELETED", &map("b", 7)) + &event("ADDED", &map("c", 8));
    let (head, tail) = text.split_at(40);
    events.send(head.into()).unwrap();
    events.send(tail.into()).unwrap();
    assert_eq!(show(&changes.next().await.unwrap()), "a 3>6");
    assert_eq!(show(&changes.next().await.unwrap()), "b 7>");
    assert_eq!(show(&changes.next().await.unwrap()), "c >8");
    assert_eq!(informer.by_index("v", "6").len(), 1);
    assert!(informer.by_index("v", "3").is_empty() && informer.by_index("v", "4").is_empty());
    assert!(informer.get("d", "a").unwrap().metadata.managed_fields.is_none());
    assert_eq!(informer.in_namespace("d").len(), 2);
    let late: Vec<_> = {
        let mut late = informer.subscribe();
        std::iter::from_fn(move || late.try_next()).collect()
    };
    assert_eq!(late.iter().map(show).collect::<Vec<_>>(), ["a >6", "c >8"], "a late subscriber gets what there is");
}

#[tokio::test(start_paused = true)]
async fn after_gone_it_lists_again_and_tells_the_difference() {
    let gone =
        r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"too old","reason":"Expired","code":410}"#;
    let (last, _events) = watch("resourceVersion=20&");
    let mut successor = map("d", 19);
    successor = successor.replace("u-d", "u-other");
    let informers = informers(vec![
        fixed("limit", 200, list(5, &[map("a", 3), map("b", 4), map("c", 5), map("d", 2)])),
        fixed("resourceVersion=5&", 410, gone.into()),
        fixed("limit", 200, list(20, &[map("a", 9), map("c", 5), successor, map("e", 18)])),
        last,
    ]);
    let informer = informers.of::<ConfigMap>();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    informer.on_change(move |change| log.lock().unwrap().push(show(change)));
    informer.synced().await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(seen.lock().unwrap()[4..], ["b 4>", "a 3>9", "d 2>", "d >19", "e >18"]);
    assert_eq!(informer.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    let (last, _events) = watch("resourceVersion=1&");
    let mut steps: Vec<_> = (0..5).map(|_| fixed("limit", 503, "starting".into())).collect();
    steps.extend([fixed("limit", 200, list(1, &[])), last]);
    let informers = informers(steps);
    assert!(informers.of::<ConfigMap>().synced().await);
}

#[tokio::test(start_paused = true)]
async fn pages_are_followed_and_bookmarks_move_the_position() {
    let first =
        list(7, &[map("a", 1)]).replace(r#""resourceVersion":"7""#, r#""resourceVersion":"7","continue":"next==""#);
    let (step, events) = watch("resourceVersion=7&");
    let (last, _last_events) = watch("resourceVersion=99&");
    let informers = informers(vec![
        fixed("limit=1000", 200, first),
        fixed("continue=next%3D%3D", 200, list(7, &[map("b", 2)])),
        step,
        last,
    ]);
    let informer = informers.of::<ConfigMap>();
    informer.synced().await;
    assert_eq!(informer.len(), 2);
    events
        .send(event("BOOKMARK", r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":"99"}}"#))
        .unwrap();
    drop(events);
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_gets_merged_changes_and_its_stream_ends() {
    let (step, events) = watch("resourceVersion=1&");
    let informers = informers(vec![fixed("limit", 200, list(1, &[map("a", 1)])), step]);
    let informer = informers.of::<ConfigMap>();
    let mut changes = informer.subscribe();
    informer.synced().await;
    assert_eq!(show(&changes.next().await.unwrap()), "a >1");
    for version in 2..100 {
        events.send(event("MODIFIED", &map("a", version))).unwrap();
    }
    events.send(event("ADDED", &map("b", 100))).unwrap();
    events.send(event("DELETED", &map("b", 101))).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    assert_eq!(show(&changes.next().await.unwrap()), "a 1>99");
    assert!(changes.try_next().is_none(), "what came and went in between was never seen");
    informers.cancellation().cancel();
    assert!(changes.next().await.is_none());
}
