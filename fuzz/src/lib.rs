//! What several targets share.

use std::sync::LazyLock;

use jiff::Timestamp;
use knarr_api::{print, protobuf, registry, strategy};
use knarr_apiserver::fuzzing;
use serde_json::{Value, json};

/// An object with a bit of everything.
pub static DEPLOYMENT: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}, "finalizers": ["a.io/b", "c"]},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                "containers": [
                    {"name": "a", "image": "i:1", "args": ["x", "y"], "env": [{"name": "E", "value": "1"}],
                     "ports": [{"containerPort": 80, "protocol": "TCP"}], "resources": {"limits": {"cpu": "500m"}}},
                    {"name": "b", "image": "i:2"},
                ],
                "volumes": [{"name": "v", "emptyDir": {}}], "tolerations": [{"key": "k", "operator": "Exists"}],
            }},
        },
    })
});

/// Two inputs in one: the first byte says where the second begins.
pub fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let Some((at, rest)) = data.split_first() else { return (data, data) };
    rest.split_at((usize::from(*at) * 8).min(rest.len()))
}

/// A body as the server takes it in; the first byte chooses the resource.
pub fn through_the_rules(form: &'static str, data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let all = registry::builtins();
    let resource = &all[usize::from(*choice) % all.len()];
    let Some(mut object) = fuzzing::body(resource.gvk(), form, body) else { return };
    // What is served in another form than it is stored in is brought into that one first.
    if !resource.same(resource.stored_as()) {
        return;
    }
    let rules = strategy::of(resource);
    rules.default(&mut object);
    rules.prepare_create(&mut object);
    rules.validate_create(&object);
    let mut again = object.clone();
    rules.default(&mut again);
    assert_eq!(object, again, "defaults settle at once");
    rules.prepare_update(&mut again, &object, strategy::Part::Main);
    rules.validate_update(&again, &object, strategy::Part::Main);
    rules.warnings(&object);
    print::row(resource, &object, Timestamp::UNIX_EPOCH);
    let _ = protobuf::encode(object.to_string().as_bytes());
}
