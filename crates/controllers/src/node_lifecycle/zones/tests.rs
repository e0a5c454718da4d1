use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{super::plan::Evict, *};

/// `r` is ready, `s` silent, `t` silent with the taint that evicts, `n` one that never said anything.
fn node(name: &str, zone: &str, state: char) -> Node {
    let taints = json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]);
    let status = if state == 'r' { "True" } else { "Unknown" };
    let conditions = json!([{"type": "Ready", "status": status}]);
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": {"taints": if state == 't' { taints } else { Value::Null }},
        "status": {"conditions": if state == 'n' { Value::Null } else { conditions }},
    }))
    .unwrap()
}

/// Nodes `a0`, `a1`, … of zone `a`, and so on.
fn nodes(zones: &[(&str, &str)]) -> Vec<Node> {
    let of = |(zone, states): &(&str, &str)| -> Vec<Node> {
        states.chars().enumerate().map(|(index, state)| node(&format!("{zone}{index}"), zone, state)).collect()
    };
    zones.iter().flat_map(of).collect()
}

/// A run of a cluster: what becomes of it second by second.
struct Run {
    zones: Zones,
    begin: Instant,
    now: Instant,
}

impl Run {
    fn of(zones: &[(&str, &str)], local: Option<&str>) -> Self {
        let begin = Instant::now();
        let nodes = nodes(zones);
        Self { zones: Zones::new(local.map(str::to_owned), &nodes, begin), begin, now: begin }
    }

    /// All nodes of these zones become so, one after the other; says whether eviction was given up over it.
    fn become_(&mut self, zones: &[(&str, &str)]) -> bool {
        let changed: Vec<bool> = nodes(zones).iter().map(|node| self.saw(node)).collect();
        changed.contains(&true)
    }

    fn saw(&mut self, node: &Node) -> bool {
        self.zones.saw(meta::name(&node.metadata), Some(node), self.now)
    }

    /// Who gets a turn in so many seconds, and in which second since the beginning.
    fn turns(&mut self, seconds: u64) -> String {
        let until = self.now + Duration::from_secs(seconds);
        let mut all = Vec::new();
        loop {
            let turns = self.zones.turns(self.now);
            let at = (self.now - self.begin).as_secs();
            all.extend(turns.now.iter().map(|name| format!("{name}@{at}")));
            match turns.next {
                Some(next) if next <= until => self.now = next,
                _ => break,
            }
        }
        self.now = until;
        all.join(" ")
    }
}

#[test]
fn which_zones_lose_nodes() {
    // As a controller finds them that has just started. `a0` is the node in the server's process where there is one.
    let many = |ready: usize, silent: usize| "r".repeat(ready) + &"s".repeat(silent);
    let (half, most, large) = (many(23, 28), many(22, 28), many(22, 29));
    for (zones, has_local, expected) in [
        (vec![("a", "r")], true, ""),
        (vec![("a", "s")], true, ""),
        (vec![("a", "s")], false, ""),
        (vec![("a", "rs")], true, "a1@0"),
        (vec![("a", "rs")], false, "a1@0"),
        (vec![("a", "rss")], true, ""),
        (vec![("a", "rss")], false, "a1@0 a2@10"),
        (vec![("a", "ss")], false, ""),
        (vec![("a", "rsr")], true, "a1@0"),
        (vec![("a", "rsrrr")], true, "a1@0"),
        (vec![("a", "rsssr")], true, ""),
        (vec![("a", "rssrr")], true, "a1@0 a2@10"),
        (vec![("a", "rsssrrrr")], true, "a1@0 a2@10 a3@20"),
        // Whoever has the taint needs no turn any more; it counts as silent all the same.
        (vec![("a", "rtsrr")], true, "a2@0"),
        (vec![("a", "rttsr")], true, ""),
        // What never said anything is not ready, and has no state that could become a taint.
        (vec![("a", "rnrrr")], true, ""),
        (vec![("a", "rnnsr")], true, ""),
        // Each zone is judged by itself, and has a token of its own.
        (vec![("a", "rs"), ("b", "rs")], false, "a1@0 b1@0"),
        (vec![("a", "rrr"), ("b", "sss")], false, "b0@0 b1@10 b2@20"),
        (vec![("a", "rrr"), ("b", "ssssr")], false, ""),
        (vec![("a", "rs"), ("b", "ssssr")], false, "a1@0"),
        (vec![("a", "sss"), ("b", "ss")], false, ""),
        (vec![("a", "r"), ("b", "ss")], true, ""),
        (vec![("a", "rs"), ("b", "ss")], true, ""),
        // 54.9, 56 and 56.9 %: the last is of a zone that is large.
        (vec![("a", &half)], false, "a23@0 a24@10 a25@20 a26@30 a27@40 a28@50"),
        (vec![("a", &most)], false, ""),
        (vec![("a", &large)], false, "a22@0"),
    ] {
        let mut run = Run::of(&zones, has_local.then_some("a0"));
        assert_eq!(run.turns(59), expected, "{zones:?} {has_local}");
    }
}

#[test]
fn the_threshold_is_part_of_what_is_disrupted() {
    let count = |ready, silent| Count { ready, silent }.rate();
    assert_eq!(count(9, 11), None, "55 % of 20");
    assert_eq!(count(10, 11), Some(EVERY), "52 %");
    assert_eq!(count(1, 2), Some(EVERY), "two are too few");
    assert_eq!(count(45, 55), Some(SELDOM));
    assert_eq!(count(0, 60), Some(EVERY), "a zone that is lost as a whole");
    assert_eq!(Count::default().rate(), Some(EVERY));
}

#[test]
fn a_lost_node_goes_at_once_and_those_after_it_in_line() {
    let mut run = Run::of(&[("a", "rrrrrrrr")], None);
    assert_eq!(run.turns(30), "");
    run.become_(&[("a", "rsrrrrrr")]);
    assert_eq!(run.turns(3), "a1@30");
    assert_eq!(run.zones.verdict("a1"), Evict::Now);
    run.become_(&[("a", "rtrsrrrr")]);
    run.become_(&[("a", "rtssrrrr")]);
    run.become_(&[("a", "stssrrrr")]);
    assert_eq!(run.zones.verdict("a3"), Evict::Not);
    assert_eq!(run.turns(8), "a3@40");
    // Who is heard of again does not hold up the others.
    run.become_(&[("a", "strtrrrr")]);
    assert_eq!(run.turns(20), "a0@50");
    run.zones.saw("a0", None, run.now);
    assert_eq!(run.zones.verdict("a0"), Evict::Not);
}

#[test]
fn a_rate_that_changes_gives_no_token_away() {
    let mut run = Run::of(&[("a", "rrrrrr")], None);
    run.become_(&[("a", "ssssrr")]);
    assert_eq!(run.turns(60), "", "too much is silent");
    run.become_(&[("a", "rsssrr")]);
    assert_eq!(run.turns(25), "a1@70 a2@80", "the line keeps its order, and the first waits its time");
    assert_eq!(run.zones.verdict("a3"), Evict::Not);
}

#[test]
fn when_all_is_silent_all_taints_go_and_afterwards_time_begins_anew() {
    let mut run = Run::of(&[("a", "rrr"), ("b", "rr")], None);
    run.become_(&[("b", "sr")]);
    assert_eq!(run.turns(1), "b0@0");
    assert!(!run.become_(&[("b", "ts"), ("a", "ssr")]), "one is there still");
    assert_eq!(run.zones.healed(), None);
    assert!(run.become_(&[("a", "sss")]));
    assert_eq!(run.zones.verdict("b0"), Evict::Nobody);
    assert!(!run.become_(&[("b", "ss")]), "the taint was taken away");
    assert_eq!(run.turns(500), "");
    run.become_(&[("a", "rss")]);
    assert_eq!(run.zones.healed(), Some(run.begin + Duration::from_secs(501)));
    assert_eq!(run.zones.verdict("b0"), Evict::Not);
    run.become_(&[("a", "rrr")]);
    assert_eq!(run.turns(25), "b1@511 b0@521");
}

#[test]
fn nobody_keeps_a_turn_of_before_all_was_silent() {
    let mut run = Run::of(&[("a", "rr")], None);
    run.become_(&[("a", "rs")]);
    assert_eq!(run.turns(1), "a1@0");
    assert!(run.become_(&[("a", "ss")]));
    run.become_(&[("a", "rs")]);
    assert_eq!(run.zones.verdict("a1"), Evict::Not);
    assert_eq!(run.turns(30), "a1@11");
}

#[test]
fn a_cluster_that_has_just_started_owes_nobody_a_wait() {
    let mut run = Run::of(&[], Some("a0"));
    run.become_(&[("a", "s")]);
    assert_eq!(run.turns(1), "", "the first node is not ready yet");
    run.become_(&[("a", "rs")]);
    run.become_(&[("a", "rr")]);
    assert_eq!(run.turns(2), "");
    run.become_(&[("a", "rs")]);
    assert_eq!(run.turns(1), "a1@3");
    // A token that was taken is not given again because the rate changed meanwhile.
    run.become_(&[("a", "rr")]);
    run.become_(&[("a", "ss")]);
    run.become_(&[("a", "rr")]);
    run.become_(&[("a", "rs")]);
    assert_eq!(run.turns(20), "a1@14");
}

#[test]
fn a_node_that_joins_makes_no_lost_one_wait() {
    let mut run = Run::of(&[("a", "r")], Some("a0"));
    run.become_(&[("a", "rn")]);
    run.become_(&[("a", "rs")]);
    assert_eq!(run.zones.verdict("a1"), Evict::Now, "it says so, and nobody is on it");
    assert_eq!(run.turns(1), "a1@0");
    run.become_(&[("a", "rt")]);
    run.become_(&[("a", "rr")]);
    run.become_(&[("a", "rs")]);
    assert_eq!(run.turns(1), "a1@1", "with a token");
    run.become_(&[("a", "rr")]);
    run.become_(&[("a", "rs")]);
    assert_eq!(run.turns(20), "a1@11", "it is new only once");
    // One that was found here by a controller that has just started may have pods.
    assert_eq!(Run::of(&[("a", "rrrss")], None).turns(20), "a3@0 a4@10");
}

#[test]
fn nodes_are_where_their_labels_say_and_some_do_not_count() {
    let with = |labels: Value| {
        let mut value = serde_json::to_value(node("n", "", 'r')).unwrap();
        value["metadata"]["labels"] = labels;
        Seen::of(&serde_json::from_value(value).unwrap())
    };
    let beta = "failure-domain.beta.kubernetes.io";
    for (labels, zone, is_counted) in [
        (Value::Null, "\0", true),
        (json!({"topology.kubernetes.io/zone": "z"}), "\0z", true),
        (json!({"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r"}), "r\0z", true),
        (json!({"topology.kubernetes.io/zone": "z", format!("{beta}/zone"): "old"}), "\0old", true),
        (json!({"topology.kubernetes.io/region": "r", format!("{beta}/zone"): "z"}), "r\0z", true),
        (json!({EXCLUDED: ""}), "\0", false),
    ] {
        let seen = with(labels.clone());
        assert_eq!((&*seen.zone, seen.is_counted), (zone, is_counted), "{labels}");
    }
    let mut run = Run::of(&[("a", "rr"), ("b", "rr")], None);
    run.become_(&[("b", "ss")]);
    run.saw(&node("b0", "a", 's'));
    assert_eq!(run.zones.zones.len(), 2);
    assert_eq!(run.turns(30), "b0@0 b1@0", "each in its zone");
    run.saw(&node("b1", "a", 'r'));
    assert_eq!(run.zones.zones.len(), 1, "a zone without nodes is forgotten");
}

#[test]
fn thousands_of_nodes_are_counted_and_not_listed() {
    const NODES: usize = 5_000;
    let mut run = Run::of(&[("a", &"r".repeat(NODES))], None);
    let lost = nodes(&[("a", &"s".repeat(NODES - 1))]);
    let started = Instant::now();
    for node in &lost {
        run.saw(node);
    }
    assert_eq!(run.turns(150), "a0@0 a1@100", "the zone is large, so that some go on");
    // Listing all of them for each that is lost takes a hundred times as long.
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}
