use serde_json::{Value, json};

use super::{super::Strategy, SERVICE};
use crate::strategy::Part;

fn service(spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": "web", "namespace": "d"}, "spec": spec});
    SERVICE.default(&mut object);
    SERVICE.prepare_create(&mut object);
    object
}

fn errors(object: &Value) -> Vec<String> {
    SERVICE.validate_create(object).iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_are_the_documented_ones_and_stay() {
    let object = service(json!({"ports": [{"port": 80}], "sessionAffinity": "ClientIP"}));
    assert_eq!(
        object["spec"],
        json!({
            "type": "ClusterIP", "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Cluster",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}, "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        })
    );
    assert_eq!(object["status"], json!({"loadBalancer": {}}));
    let mut again = object.clone();
    SERVICE.default(&mut again);
    assert_eq!(again, object);
    assert_eq!(errors(&object), [""; 0]);
}

#[test]
fn what_is_wrong_is_said_as_upstream_says_it() {
    let rows = [
        (json!({}), "spec.ports: Required value"),
        (json!({"clusterIP": "None"}), ""),
        (json!({"type": "ExternalName"}), "spec.externalName: Required value"),
        (
            json!({"type": "LoadBalancer", "clusterIP": "None", "ports": [{"port": 1}]}),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for LoadBalancer services",
        ),
        (
            json!({"ports": [{"port": 0}]}),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"ports": [{"port": 1, "nodePort": 30000}]}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (json!({"ports": [{"port": 1, "name": "a"}, {"port": 2}]}), "spec.ports[1].name: Required value"),
        (
            json!({"ports": [{"port": 1}], "type": "Odd"}),
            "spec.type: Unsupported value: \"Odd\": supported values: \"ClusterIP\", \"ExternalName\", \
             \"LoadBalancer\", \"NodePort\"",
        ),
        (
            json!({"ports": [{"port": 1}], "loadBalancerClass": "a/b"}),
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            json!({"ports": [{"port": 1}], "ipFamilyPolicy": "RequireDualStack"}),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack \
             services",
        ),
    ];
    for (spec, expected) in rows {
        let found = errors(&service(spec.clone()));
        let first = found.iter().find(|error| *error == expected).map_or("", String::as_str);
        assert_eq!(first, expected, "{spec}: {found:?}");
        assert_eq!(expected.is_empty(), found.is_empty(), "{spec}: {found:?}");
    }
}

fn updated(mut new: Value, old: &Value) -> (Value, Vec<String>) {
    SERVICE.default(&mut new);
    SERVICE.prepare_update(&mut new, old, Part::Main);
    let errors = SERVICE.validate_update(&new, old, Part::Main).iter().map(ToString::to_string).collect();
    (new, errors)
}

#[test]
fn an_update_keeps_what_was_handed_out_and_a_change_of_type_drops_it() {
    let mut old = service(json!({"type": "NodePort", "ports": [{"port": 80}]}));
    old["spec"]["clusterIP"] = json!("10.0.0.9");
    old["spec"]["clusterIPs"] = json!(["10.0.0.9"]);
    old["spec"]["ports"][0]["nodePort"] = json!(30080);

    let same_type = json!({"metadata": {"name": "web"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let (new, found) = updated(same_type, &old);
    assert_eq!(found, [""; 0]);
    assert_eq!((&new["spec"]["clusterIP"], &new["spec"]["ports"][0]["nodePort"]), (&json!("10.0.0.9"), &json!(30080)));

    let mut cluster_ip = old.clone();
    cluster_ip["spec"]["type"] = json!("ClusterIP");
    let (new, found) = updated(cluster_ip, &old);
    assert_eq!(found, [""; 0]);
    assert_eq!(new["spec"]["ports"][0].get("nodePort"), None);
    assert_eq!(new["spec"].get("externalTrafficPolicy"), None);

    let mut external = old.clone();
    external["spec"]["type"] = json!("ExternalName");
    external["spec"]["externalName"] = json!("example.com");
    let (new, found) = updated(external, &old);
    assert_eq!(found, [""; 0], "{new}");
    assert_eq!(new["spec"].get("clusterIP"), None);

    let mut moved = old.clone();
    moved["spec"]["clusterIP"] = json!("10.0.0.10");
    let (_, found) = updated(moved, &old);
    assert_eq!(found, ["spec.clusterIPs[0]: Invalid value: \"10.0.0.10\": may not change once set"]);
}
