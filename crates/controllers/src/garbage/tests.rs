use serde_json::{Value, json};

use super::{
    act::{Standing, Verdict, verdict},
    graph::*,
    *,
};
use crate::common::trace::Trace;

fn resource(kind: &str) -> Arc<Served> {
    let plural = format!("{}s", kind.to_lowercase());
    Arc::new(Served {
        group: "g".into(),
        version: "v1".into(),
        kind: kind.into(),
        plural,
        namespaced: true,
        verbs: vec![],
    })
}

fn see(graph: &mut Graph, uid: &str, change: Value) -> Vec<String> {
    let mut value = json!({"name": uid, "namespace": "d", "uid": uid});
    json_patch::merge(&mut value, &change);
    let object: Trace = serde_json::from_value(json!({"metadata": value})).unwrap();
    show(graph.seen(Seen { resource: resource("Thing"), object: Arc::new(object) }))
}

fn owned_by(owners: &[(&str, bool)]) -> Value {
    let reference = |(uid, blocks): &(&str, bool)| json!({"apiVersion": "g/v1", "kind": "Thing", "name": uid, "uid": uid, "blockOwnerDeletion": blocks});
    json!({"ownerReferences": owners.iter().map(reference).collect::<Vec<_>>()})
}

fn going(finalizer: &str) -> Value {
    json!({"deletionTimestamp": "2024-01-01T00:00:00Z", "finalizers": [finalizer]})
}

fn show(works: Vec<Work>) -> Vec<String> {
    let mut works: Vec<_> = works.iter().map(Work::to_string).collect();
    works.sort();
    works
}

const NOTHING: [&str; 0] = [];

#[test]
fn when_an_owner_goes_its_dependents_are_judged() {
    let mut graph = Graph::default();
    assert_eq!(see(&mut graph, "owner", json!({})), NOTHING);
    assert_eq!(see(&mut graph, "a", owned_by(&[("owner", true)])), NOTHING);
    assert_eq!(see(&mut graph, "b", owned_by(&[("owner", false)])), NOTHING);
    assert_eq!(show(graph.removed("owner")), ["judge a", "judge b"]);
    assert!(graph.is_absent("owner"));
}

#[test]
fn an_owner_nobody_saw_is_looked_for() {
    let mut graph = Graph::default();
    assert_eq!(see(&mut graph, "a", owned_by(&[("ghost", true)])), ["judge ghost"]);
    assert!(graph.get("ghost").unwrap().is_virtual());
    // Seen after all.
    assert_eq!(see(&mut graph, "ghost", json!({})), NOTHING);
    assert!(!graph.get("ghost").unwrap().is_virtual());
    assert!(graph.get("ghost").unwrap().dependents.contains("a"));
    // Or it is not there, says the server.
    assert_eq!(see(&mut graph, "b", owned_by(&[("never", true)])), ["judge never"]);
    assert_eq!(show(graph.removed("never")), ["judge b"]);
}

#[test]
fn foreground_waits_for_those_that_block() {
    let mut graph = Graph::default();
    see(&mut graph, "owner", json!({}));
    see(&mut graph, "blocks", owned_by(&[("owner", true)]));
    see(&mut graph, "free", owned_by(&[("owner", false)]));
    assert_eq!(see(&mut graph, "owner", going(FOREGROUND)), ["judge blocks", "judge free", "judge owner"]);
    assert_eq!(see(&mut graph, "owner", going(FOREGROUND)), NOTHING, "only once");
    assert_eq!(graph.blocking_dependents("owner"), ["blocks"]);
    assert_eq!(see(&mut graph, "late", owned_by(&[("owner", true)])), ["judge late"]);
    assert_eq!(show(graph.removed("late")), ["judge owner"]);
    assert_eq!(see(&mut graph, "blocks", owned_by(&[("owner", false)])), ["judge owner"], "unblocked");
    assert!(graph.blocking_dependents("owner").is_empty());
}

#[test]
fn a_circle_of_those_that_wait_is_found_and_broken() {
    let waiting = |owners: &[(&str, bool)]| {
        let mut value = going(FOREGROUND);
        json_patch::merge(&mut value, &owned_by(owners));
        value
    };
    let mut graph = Graph::default();
    see(&mut graph, "a", waiting(&[("c", true)]));
    see(&mut graph, "b", waiting(&[("a", true), ("outside", true)]));
    see(&mut graph, "outside", going(FOREGROUND));
    see(&mut graph, "c", owned_by(&[("b", true)]));
    assert_eq!(graph.circle("a"), NOTHING, "c can still be deleted");
    // Whoever closes the circle is judged, and sees it.
    assert_eq!(see(&mut graph, "c", waiting(&[("b", true)])), ["judge a", "judge c"]);
    for (uid, owner) in [("a", "c"), ("b", "a"), ("c", "b")] {
        assert_eq!(graph.circle(uid), [owner]);
    }
    assert_eq!(graph.circle("outside"), NOTHING, "it waits for a circle, but is not of it");
    assert_eq!(see(&mut graph, "c", waiting(&[("b", false)])), ["judge b"], "b waits for nobody now");
    for uid in ["a", "b", "c"] {
        assert_eq!(graph.circle(uid), NOTHING);
    }
    assert_eq!(graph.blocking_dependents("b"), NOTHING);
}

#[test]
fn orphan_finalizer_sets_dependents_free() {
    let mut graph = Graph::default();
    see(&mut graph, "owner", json!({}));
    assert_eq!(see(&mut graph, "owner", going(ORPHAN)), ["orphan the dependents of owner"]);
    assert_eq!(see(&mut graph, "owner", going(ORPHAN)), NOTHING);
    // Deleted first without that wish, and held by somebody else meanwhile.
    see(&mut graph, "other", json!({}));
    assert_eq!(see(&mut graph, "other", going("somebody/else")), NOTHING);
    assert_eq!(see(&mut graph, "other", going(ORPHAN)), ["orphan the dependents of other"]);
}

#[test]
fn an_owner_dropped_from_the_references_forgets_its_dependent() {
    let mut graph = Graph::default();
    see(&mut graph, "owner", json!({}));
    see(&mut graph, "a", owned_by(&[("owner", true)]));
    see(&mut graph, "a", json!({}));
    assert_eq!(show(graph.removed("owner")), NOTHING);
}

#[test]
fn verdicts() {
    use Standing::*;
    let owners = |standings: &[Standing]| -> Vec<_> {
        let reference = |uid: usize| {
            serde_json::from_value(json!({"apiVersion": "v1", "kind": "K", "name": "n", "uid": uid.to_string()}))
                .unwrap()
        };
        standings.iter().enumerate().map(|(uid, standing)| (reference(uid), *standing)).collect()
    };
    for (standings, has_dependents, expected) in [
        (&[][..], false, Verdict::Stays),
        (&[Solid], true, Verdict::Stays),
        (&[Solid, Gone], false, Verdict::Loses(vec!["1".into()])),
        (&[Waiting, Solid, Gone], false, Verdict::Loses(vec!["0".into(), "2".into()])),
        (&[Gone], true, Verdict::Goes),
        (&[Waiting], false, Verdict::Goes),
        (&[Waiting], true, Verdict::GoesInForeground),
        (&[Gone, Waiting], true, Verdict::GoesInForeground),
    ] {
        assert_eq!(verdict(&owners(standings), has_dependents), expected, "{standings:?}");
    }
}
