//! What holds of patches of any object, and of strategic ones of every built-in kind.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::{
    patch::{json_patch, merge_patch, strategic_merge_patch},
    protobuf::tests::generate::Generator,
    schema,
};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![any::<bool>().prop_map(Value::from), (0..3i64).prop_map(Value::from), Just(json!("x"))];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[abc/~]", inner, 0..4).prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[abc/~]", value(), 0..4).prop_map(|map| map.into_iter().collect::<Value>())
}

/// The merge patch that makes one object of the other (RFC 7386).
fn merge_difference(from: &Map<String, Value>, to: &Map<String, Value>) -> Value {
    let gone = from.keys().filter(|name| !to.contains_key(*name)).map(|name| (name.clone(), Value::Null));
    let changed = to.iter().filter(|(name, new)| from.get(*name) != Some(new)).map(|(name, new)| {
        let patch = match (from.get(name), new) {
            (Some(Value::Object(from)), Value::Object(to)) => merge_difference(from, to),
            (_, new) => new.clone(),
        };
        (name.clone(), patch)
    });
    gone.chain(changed).collect()
}

/// The JSON patch that makes one object of the other, property by property.
fn operations(from: &Map<String, Value>, to: &Map<String, Value>) -> Value {
    let path = |name: &str| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    let gone = from.iter().filter(|(name, _)| !to.contains_key(*name));
    let gone = gone.flat_map(|(name, old)| {
        [json!({"op": "test", "path": path(name), "value": old}), json!({"op": "remove", "path": path(name)})]
    });
    gone.chain(to.iter().map(|(name, new)| json!({"op": "add", "path": path(name), "value": new}))).collect()
}

type Containers = BTreeMap<String, (Option<String>, BTreeMap<String, String>)>;

fn containers() -> impl Strategy<Value = Containers> {
    let env = prop::collection::btree_map("[AB]", "[12]", 0..3);
    prop::collection::btree_map("[abcd]", (prop::option::of("[xy]"), env), 0..4)
}

fn pod(containers: &Containers) -> Value {
    let env = |env: &BTreeMap<String, String>| -> Value {
        env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
    };
    let one = |(name, (image, vars)): (&String, &(Option<String>, _))| {
        let mut container = json!({"name": name, "env": env(vars)});
        container.as_object_mut().unwrap().extend(image.iter().map(|image| ("image".to_owned(), json!(image))));
        container
    };
    json!({"spec": {"containers": containers.iter().map(one).collect::<Value>()}})
}

/// What a client sends that has compared two pods: elements by name, with all that goes and the order.
fn strategic_difference(from: &Containers, to: &Containers) -> Value {
    let order =
        |names: &mut dyn Iterator<Item = &String>| -> Value { names.map(|name| json!({"name": name})).collect() };
    let delete = |name: &String| json!({"$patch": "delete", "name": name});
    let mut list: Vec<Value> = from.keys().filter(|name| !to.contains_key(*name)).map(delete).collect();
    for (name, (image, env)) in to {
        let old = from.get(name).map(|(_, env)| env.clone()).unwrap_or_default();
        let mut vars: Vec<Value> = old.keys().filter(|name| !env.contains_key(*name)).map(delete).collect();
        vars.extend(env.iter().map(|(name, value)| json!({"name": name, "value": value})));
        list.push(json!({"name": name, "image": image, "$setElementOrder/env": order(&mut env.keys()), "env": vars}));
    }
    json!({"spec": {"$setElementOrder/containers": order(&mut to.keys()), "containers": list}})
}

proptest! {
    #[test]
    fn a_merge_patch_and_its_inverse(a in object(), b in object()) {
        let (from, to) = (a.as_object().unwrap(), b.as_object().unwrap());
        let there = merge_patch(&a, &merge_difference(from, to)).unwrap();
        prop_assert_eq!(&there, &b);
        prop_assert_eq!(merge_patch(&there, &merge_difference(to, from)).unwrap(), a);
    }

    #[test]
    fn a_merge_patch_twice_is_one(a in object(), patch in object()) {
        let once = merge_patch(&a, &patch).unwrap();
        prop_assert_eq!(merge_patch(&once, &patch).unwrap(), once);
    }

    #[test]
    fn a_json_patch_and_its_inverse(a in object(), b in object()) {
        let (from, to) = (a.as_object().unwrap(), b.as_object().unwrap());
        let there = json_patch(&a, &operations(from, to)).unwrap();
        prop_assert_eq!(&there, &b);
        prop_assert_eq!(json_patch(&there, &operations(to, from)).unwrap(), a);
    }

    #[test]
    fn a_strategic_patch_and_its_inverse(a in containers(), b in containers()) {
        let ty = schema::of("", "v1", "Pod").unwrap();
        let there = strategic_merge_patch(ty, &pod(&a), &strategic_difference(&a, &b)).unwrap();
        prop_assert_eq!(&there, &pod(&b));
        prop_assert_eq!(strategic_merge_patch(ty, &there, &strategic_difference(&b, &a)).unwrap(), pod(&a));
    }

    /// A list with a key never has two elements of one name, and loses none that nobody named.
    #[test]
    fn keyed_lists_stay_keyed(a in containers(), b in containers()) {
        let ty = schema::of("", "v1", "Pod").unwrap();
        let merged = strategic_merge_patch(ty, &pod(&a), &pod(&b)).unwrap();
        let names: Vec<&str> =
            merged["spec"]["containers"].as_array().unwrap().iter().filter_map(|c| c["name"].as_str()).collect();
        let mut distinct = names.clone();
        distinct.sort_unstable();
        distinct.dedup();
        prop_assert_eq!(names.len(), distinct.len());
        prop_assert!(a.keys().chain(b.keys()).all(|name| names.contains(&name.as_str())));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_patch_that_says_nothing_changes_nothing(seed: u64) {
        let mut generator = Generator::new(seed);
        for (group, version, kind) in Generator::kinds() {
            let object = generator.object((group, version, kind));
            let ty = schema::of(group, version, kind).unwrap();
            prop_assert_eq!(strategic_merge_patch(ty, &object, &json!({})), Ok(object.clone()));
            prop_assert_eq!(merge_patch(&object, &json!({})), Ok(object.clone()));
            prop_assert_eq!(json_patch(&object, &json!([])), Ok(object.clone()));
            let same = json!({"apiVersion": object["apiVersion"], "kind": kind});
            prop_assert_eq!(strategic_merge_patch(ty, &object, &same), Ok(object.clone()));
        }
    }

    /// Kinds differ in where lists merge. A list that is new is taken as it is, doubles and all; merged with itself it has
    /// none, and then nothing is left to do.
    #[test]
    fn any_object_is_a_patch_of_its_kind(seed: u64) {
        let mut generator = Generator::new(seed);
        for (group, version, kind) in Generator::kinds() {
            let ty = schema::of(group, version, kind).unwrap();
            let (object, patch) = (generator.object((group, version, kind)), generator.object((group, version, kind)));
            let merged = |object: &Value| strategic_merge_patch(ty, object, &patch);
            let Ok(twice) = merged(&object).and_then(|once| merged(&once)) else { continue };
            prop_assert_eq!(merged(&twice), Ok(twice), "{}", kind);
        }
    }
}
