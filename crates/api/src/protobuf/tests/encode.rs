use proptest::prelude::*;
use serde_json::{Value, json};

use super::generate::Generator;
use super::{bytes, envelope, number};
use crate::protobuf::plan::Struct;
use crate::protobuf::{
    Encoder, ListHead, ProtobufError, decode, encode, envelope as around, list_item, short, watch_frame,
};
use crate::schema;

fn check(object: &Value, message: &[Vec<u8>]) {
    let (api_version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let expected = envelope(api_version, kind, &message.concat());
    assert_eq!(encode(object.to_string().as_bytes()).unwrap(), expected, "{object}");
    assert_eq!(decode(&expected).as_ref(), Ok(object));
}

/// Numbers are those of upstream's `.proto` files.
#[test]
fn objects_are_the_bytes_that_go_reads() {
    check(
        &json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": false, "data": { "k": "AP8=" },
            "metadata": {
                "name": "s", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 2,
                "creationTimestamp": "2023-11-14T22:13:20Z", "labels": { "b": "2", "a": "1", "c": "" },
                "managedFields": [{ "manager": "m", "fieldsType": "FieldsV1", "fieldsV1": { "f:data": {} } }],
            },
        }),
        &[
            bytes(
                1,
                [
                    bytes(1, "s"),
                    bytes(3, "n"),
                    bytes(5, "u"),
                    bytes(6, "7"),
                    number(7, 2),
                    bytes(8, [number(1, 1_700_000_000), number(2, 0)].concat()),
                    bytes(11, [bytes(1, "a"), bytes(2, "1")].concat()),
                    bytes(11, [bytes(1, "b"), bytes(2, "2")].concat()),
                    bytes(11, [bytes(1, "c"), bytes(2, "")].concat()),
                    bytes(17, [bytes(1, "m"), bytes(6, "FieldsV1"), bytes(7, bytes(1, r#"{"f:data":{}}"#))].concat()),
                ]
                .concat(),
            ),
            bytes(2, [bytes(1, "k"), bytes(2, [0u8, 255])].concat()),
            bytes(3, "Opaque"),
            number(5, 0),
        ],
    );
    check(
        &json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {},
            "spec": { "holderIdentity": "me", "leaseTransitions": 0, "renewTime": "2023-11-14T22:13:20.000123Z" },
        }),
        &[
            bytes(1, ""),
            bytes(
                2,
                [bytes(1, "me"), bytes(4, [number(1, 1_700_000_000), number(2, 123_000)].concat()), number(5, 0)]
                    .concat(),
            ),
        ],
    );
    check(
        &json!({ "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "message": "no",
                 "reason": "NotFound", "details": { "name": "x", "kind": "pods" }, "code": 404 }),
        &[
            bytes(1, ""),
            bytes(2, "Failure"),
            bytes(3, "no"),
            bytes(4, "NotFound"),
            bytes(5, [bytes(1, "x"), bytes(3, "pods")].concat()),
            number(6, 404),
        ],
    );
}

#[test]
fn inlined_structs_are_messages_of_their_own() {
    let probe = [
        bytes(1, bytes(2, [bytes(1, "/"), bytes(2, [number(1, 1), number(2, 0), bytes(3, "web")].concat())].concat())),
        number(3, 5),
        number(4, u64::MAX),
    ];
    let container = [
        bytes(1, "main"),
        bytes(8, bytes(1, [bytes(1, "cpu"), bytes(2, bytes(1, "500m"))].concat())),
        bytes(10, probe.concat()),
    ];
    let volume = [bytes(1, "v"), bytes(2, bytes(2, ""))];
    check(
        &json!({
            "apiVersion": "v1", "kind": "Pod",
            "spec": {
                "volumes": [{ "name": "v", "emptyDir": {} }],
                "containers": [{
                    "name": "main", "resources": { "limits": { "cpu": "500m" } },
                    "livenessProbe": { "httpGet": { "path": "/", "port": "web" }, "timeoutSeconds": 5, "periodSeconds": -1 },
                }],
                "terminationGracePeriodSeconds": 0,
            },
        }),
        &[bytes(2, [bytes(1, volume.concat()), bytes(2, container.concat()), number(4, 0)].concat())],
    );
    // Two deep: a rule stands in a rule with operations, which stands in a named one.
    let named = [bytes(1, "n"), bytes(2, [bytes(1, "CREATE"), bytes(2, bytes(3, "pods"))].concat())].concat();
    check(
        &json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "spec": { "matchConstraints": { "resourceRules": [
                { "operations": ["CREATE"], "resourceNames": ["n"], "resources": ["pods"] },
            ] } },
        }),
        &[bytes(2, bytes(2, bytes(3, named)))],
    );
}

/// A message that is no property of the schema counts as inlined, so that one which upstream took away would, too.
#[test]
fn what_is_inlined_is_known() {
    let (mut seen, mut inlined) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for (group, version, kind) in Generator::kinds() {
        let ty = schema::of(group, version, kind).and_then(Struct::of).unwrap();
        ty.visit(&mut seen, &mut |ty| {
            let around = ty.plan().slots().iter().filter(|slot| slot.path.len() > 1);
            inlined.extend(around.map(|slot| format!("{} {}", short(ty.name()), slot.path[0])));
        });
    }
    let inlined: Vec<&str> = inlined.iter().map(String::as_str).collect();
    assert_eq!(
        inlined,
        [
            "ConfigMapEnvSource 1",
            "ConfigMapKeySelector 1",
            "ConfigMapProjection 1",
            "ConfigMapVolumeSource 1",
            "DeviceAllocationConfiguration 3",
            "DeviceClaimConfiguration 2",
            "DeviceClassConfiguration 1",
            "EphemeralContainer 1",
            "IngressRule 2",
            "NamedRuleWithOperations 2",
            "PersistentVolumeSpec 2",
            "Probe 1",
            "RuleWithOperations 2",
            "SecretEnvSource 1",
            "SecretKeySelector 1",
            "SecretProjection 1",
            "Volume 2",
        ]
    );
}

#[test]
fn what_json_leaves_open_is_left_out() {
    let odd =
        br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"creationTimestamp":null,"name":"a"},"later":[{}]}"#;
    assert_eq!(encode(odd).unwrap(), envelope("v1", "ConfigMap", &bytes(1, bytes(1, "a"))));
    assert_eq!(
        encode(br#"{"kind":"APIVersions","versions":["v1"]}"#).unwrap(),
        envelope("v1", "APIVersions", &bytes(1, "v1"))
    );
    assert!(matches!(encode(br#"{"kind":"Widget","apiVersion":"a/v1"}"#), Err(ProtobufError::UnknownKind { .. })));
    for wrong in [
        &br#"{"kind":"Pod","apiVersion":"v1","spec":5}"#[..],
        br#"{"kind":"Pod","apiVersion":"v1","spec":{"priority":"x"}}"#,
        b"[",
        b"{",
    ] {
        assert!(matches!(encode(wrong), Err(ProtobufError::Json(_))), "{wrong:?}");
    }
}

#[test]
fn lists_metadata_and_events_are_put_together() {
    let pod = br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"},"spec":{"nodeName":"n"}}"#;
    let encoder = Encoder::of("", "v1", "Pod").unwrap();
    let head = ListHead { resource_version: "9", continue_token: "c", remaining_item_count: Some(3) };
    let message = encoder.message(pod).unwrap();
    let item = [list_item(message.len()), message].concat();
    let list = [head.message(), item.clone(), item].concat();
    let decoded = decode(&around("v1", "PodList", &list)).unwrap();
    assert_eq!(decoded["metadata"], json!({ "resourceVersion": "9", "continue": "c", "remainingItemCount": 3 }));
    assert_eq!(decoded["items"][1], json!({ "metadata": { "name": "a" }, "spec": { "nodeName": "n" } }));
    assert_eq!(Encoder::metadata().message(pod).unwrap(), bytes(1, bytes(1, "a")));
    assert!(Encoder::of("metrics.k8s.io", "v1beta1", "PodMetrics").is_none());

    let event = [bytes(1, "ADDED"), bytes(2, bytes(1, "object"))].concat();
    assert_eq!(watch_frame("ADDED", b"object"), [vec![0, 0, 0, event.len() as u8], event].concat());
}

/// The same object with its properties the other way round.
fn reversed(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let properties: Vec<String> =
                object.iter().rev().map(|(name, value)| format!("{}:{}", json!(name), reversed(value))).collect();
            format!("{{{}}}", properties.join(","))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(reversed).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// JSON that is carried as it is keeps the order it came in.
fn without_json(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| value.get("f:b").is_none());
            object.values_mut().for_each(without_json);
        }
        Value::Array(list) => {
            list.retain(|value| value.get("f:b").is_none());
            list.iter_mut().for_each(without_json);
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_kind_survives_the_way_there_and_back(seed: u64) {
        let mut generator = Generator::new(seed);
        for gvk in Generator::kinds() {
            let mut object = generator.object(gvk);
            let written = encode(object.to_string().as_bytes()).unwrap();
            prop_assert_eq!(&decode(&written).unwrap(), &object);
            without_json(&mut object);
            let written = encode(object.to_string().as_bytes()).unwrap();
            prop_assert!(encode(reversed(&object).as_bytes()).unwrap() == written, "{:?}", gvk);
        }
    }
}

/// Which of its fields a device's attribute has says of what type it is.
#[test]
fn an_attribute_that_is_zero_or_empty_stays_what_it_is() {
    let slice = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": { "name": "s" },
        "spec": {
            "driver": "d", "nodeName": "n", "pool": { "name": "p", "generation": 1, "resourceSliceCount": 1 },
            "devices": [{ "name": "d0", "attributes": {
                "a": { "int": 0 }, "b": { "bool": false }, "c": { "string": "" }, "d": { "version": "1.2.3" },
            } }],
        },
    });
    assert_eq!(decode(&encode(slice.to_string().as_bytes()).unwrap()), Ok(slice));
}
