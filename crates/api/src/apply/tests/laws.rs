//! What holds of any two configurations, whatever is in them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{deployment, fields, request, writer};
use crate::{
    apply::{ApplyRequest, apply, merge, set, walk},
    schema,
};

/// Pod-like configurations over a few names, so that they meet.
fn config() -> impl Strategy<Value = Value> {
    let label = prop::collection::btree_map("[abc]", "[12]", 0..3);
    let env = prop::collection::btree_map("[AB]", "[12]", 0..3);
    let container = (prop::option::of("[xy]"), env);
    (label, prop::collection::btree_map("[cd]", container, 0..3), prop::option::of(0..3i64)).prop_map(
        |(labels, containers, replicas)| {
            let containers: Vec<Value> = containers
                .into_iter()
                .map(|(name, (image, env))| {
                    let env: Vec<Value> = env.into_iter().map(|(n, v)| json!({"name": n, "value": v})).collect();
                    let mut container = json!({"name": name});
                    if let Some(image) = image {
                        container["image"] = json!(image);
                    }
                    if !env.is_empty() {
                        container["env"] = json!(env);
                    }
                    container
                })
                .collect();
            let mut spec = json!({"template": {"metadata": {"labels": labels}}});
            if !containers.is_empty() {
                spec["template"]["spec"]["containers"] = json!(containers);
            }
            if let Some(replicas) = replicas {
                spec["replicas"] = json!(replicas);
            }
            deployment(spec)
        },
    )
}

fn forced(manager: &'static str, live: Option<&Value>, config: &Value) -> Value {
    apply(ApplyRequest { force: true, ..request(writer("Deployment", manager), live, config) }).unwrap()
}

/// Lists by key and without the order of elements, for comparing what is in an object.
fn unordered(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(unordered).collect();
            items.sort_by_key(|item| item.to_string());
            Value::Array(items)
        }
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), unordered(v))).collect(),
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(first in config(), second in config()) {
        let live = forced("one", None, &first);
        let once = forced("two", Some(&live), &second);
        let twice = forced("two", Some(&once), &second);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn a_forced_apply_shows_all_that_it_asks_for(first in config(), second in config()) {
        let live = forced("one", None, &first);
        let live = forced("two", Some(&live), &second);
        let mut again = live.clone();
        let ty = schema::of("apps", "v1", "Deployment").unwrap();
        merge::merge(Some(ty), &mut again, &second);
        // An empty map or list is the same as none.
        schema::prune(ty, &mut again);
        prop_assert_eq!(unordered(&again["spec"]), unordered(&live["spec"]));
    }

    #[test]
    fn owners_share_only_equal_values(first in config(), second in config()) {
        let live = forced("one", None, &first);
        let live = forced("two", Some(&live), &second);
        if let (Some(one), Some(two)) = (fields(&live, "one").as_object(), fields(&live, "two").as_object()) {
            let shared = set::intersect(one, two);
            let difference = walk::difference(schema::of("apps", "v1", "Deployment"), Some(&first), Some(&second));
            let contested = difference.changed.map(|changed| set::intersect(&changed, &shared)).unwrap_or_default();
            prop_assert!(contested.is_empty(), "shared although they differ: {:?}", set::paths(&contested));
        }
    }

    #[test]
    fn disjoint_appliers_commute(labels in prop::collection::btree_map("[abc]", "[12]", 1..3), replicas in 0..3i64) {
        let one = deployment(json!({"template": {"metadata": {"labels": labels}}}));
        let two = deployment(json!({"replicas": replicas}));
        let there = forced("two", Some(&forced("one", None, &one)), &two);
        let back = forced("one", Some(&forced("two", None, &two)), &one);
        prop_assert_eq!(there, back);
    }

    #[test]
    fn giving_all_up_leaves_what_the_other_applied(first in config(), second in config()) {
        let live = forced("one", None, &first);
        let live = forced("two", Some(&live), &second);
        let live = forced("one", Some(&live), &deployment(json!({})));
        let alone = forced("two", None, &second);
        prop_assert_eq!(unordered(&live["spec"]), unordered(&alone["spec"]));
    }

    #[test]
    fn sets_obey_their_laws(first in config(), second in config()) {
        let of = |config: &Value| walk::fields_of(schema::of("apps", "v1", "Deployment"), config, walk::Parents::Elements);
        let (a, b) = (of(&first), of(&second));
        let both = set::intersect(&a, &b);
        let (mut only_a, mut united) = (a.clone(), a.clone());
        set::subtract(&mut only_a, &b);
        set::unite(&mut united, &b);
        let mut again = only_a.clone();
        set::unite(&mut again, &both);
        prop_assert_eq!(&again, &a);
        prop_assert!(set::intersect(&only_a, &b).is_empty());
        set::subtract(&mut united, &only_a);
        prop_assert_eq!(&united, &b);
    }
}
