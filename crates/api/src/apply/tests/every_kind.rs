//! What holds of applying any object of every built-in kind.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    apply::{ApplyError, ApplyRequest, Writer, apply, reset_fields, track_update},
    protobuf::tests::generate::Generator,
    schema,
};

type Gvk = (&'static str, &'static str, &'static str);

fn writer((group, version, kind): Gvk, manager: &'static str) -> Writer<'static> {
    Writer {
        schema: schema::of(group, version, kind),
        manager,
        subresource: "",
        now: "2026-01-02T03:04:05Z".parse().unwrap(),
        reset: reset_fields(false, ""),
    }
}

fn forced(gvk: Gvk, manager: &'static str, live: Option<&Value>, config: &Value) -> Result<Value, ApplyError> {
    apply(ApplyRequest { writer: writer(gvk, manager), live, config, force: true })
}

/// The object as a client would apply it: of the right types, and without what may not be in a configuration.
fn config(generator: &mut Generator, gvk: Gvk) -> Value {
    let mut object = generator.modest_object(gvk).unwrap();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    schema::prune(schema::of(gvk.0, gvk.1, gvk.2).unwrap(), &mut object);
    if object["metadata"].is_null() {
        object["metadata"] = json!({});
    }
    object["metadata"]["name"] = json!("one");
    object
}

fn without_owners(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"].as_object_mut().unwrap().remove("managedFields");
    object
}

fn is_object(gvk: &Gvk) -> bool {
    schema::of(gvk.0, gvk.1, gvk.2).is_some_and(|ty| ty.field("metadata").is_some() && ty.field("items").is_none())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn the_first_apply_is_its_configuration_and_giving_up_leaves_nothing(seed: u64) {
        let mut generator = Generator::new(seed);
        let mut applied = 0;
        for gvk in Generator::kinds().into_iter().filter(is_object) {
            let config = config(&mut generator, gvk);
            // Keys of lists are made up as well, so that some occur twice.
            let Ok(live) = forced(gvk, "one", None, &config) else { continue };
            applied += 1;
            prop_assert_eq!(without_owners(&live), config.clone(), "{:?}", gvk);
            prop_assert_eq!(&forced(gvk, "one", Some(&live), &config).unwrap(), &live, "{:?}", gvk);

            let nothing = json!({"apiVersion": config["apiVersion"], "kind": config["kind"], "metadata": {"name": "one"}});
            let left = without_owners(&forced(gvk, "one", Some(&live), &nothing).unwrap());
            let unowned = ["creationTimestamp", "generation", "name", "namespace", "resourceVersion", "selfLink", "uid"];
            prop_assert!(left.as_object().unwrap().keys().all(|name| nothing.get(name).is_some()), "{left}");
            let metadata = left["metadata"].as_object().unwrap();
            prop_assert!(metadata.keys().all(|name| unowned.contains(&name.as_str())), "{left}");
        }
        prop_assert!(applied > 20, "only {applied} kinds could be applied");
    }

    #[test]
    fn what_another_one_updates_is_no_longer_the_appliers(seed: u64) {
        let mut generator = Generator::new(seed);
        for gvk in Generator::kinds().into_iter().filter(is_object) {
            let (first, second) = (config(&mut generator, gvk), config(&mut generator, gvk));
            let Ok(live) = forced(gvk, "one", None, &first) else { continue };
            let mut updated = second.clone();
            updated["metadata"]["managedFields"] = live["metadata"]["managedFields"].clone();
            track_update(writer(gvk, "two"), Some(&live), &mut updated);
            prop_assert_eq!(without_owners(&updated), second, "owners are written down and nothing else");
            let owners = updated["metadata"]["managedFields"].clone();
            let mut again = updated.clone();
            track_update(writer(gvk, "three"), Some(&updated), &mut again);
            prop_assert_eq!(&again["metadata"]["managedFields"], &owners, "who changes nothing owns nothing");
        }
    }
}
