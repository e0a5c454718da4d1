mod damage;
mod encode;
pub(crate) mod generate;
mod measure;

use serde_json::json;

use super::table::{Shape, Type, message, names, same_name};
use super::wire::{Malformed, Reader, Wire};
use super::{ProtobufError, decode, zero};
use crate::schema::{self, Kind, TypeRef};

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

fn number(tag: u64, value: u64) -> Vec<u8> {
    [varint(tag << 3), varint(value)].concat()
}

fn bytes(tag: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    [varint(tag << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [bytes(1, api_version), bytes(2, kind)].concat();
    let unknown = [bytes(1, type_meta), bytes(2, raw), bytes(3, ""), bytes(4, "")].concat();
    [b"k8s\0".to_vec(), unknown].concat()
}

/// Metadata as Go writes it: strings and times that are not set are there all the same.
fn metadata(name: &str) -> Vec<u8> {
    let empty = [2, 3, 4, 5, 6].map(|tag| bytes(tag, "")).concat();
    [bytes(1, name), empty, number(7, 0), bytes(8, "")].concat()
}

/// What `kubectl create namespace team` sends, byte by byte.
#[test]
fn a_real_body_decodes() {
    let raw = [bytes(1, metadata("team")), bytes(2, ""), bytes(3, bytes(1, ""))].concat();
    assert_eq!(
        decode(&envelope("v1", "Namespace", &raw)).unwrap(),
        json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "team" }, "spec": {}, "status": {},
        })
    );
}

#[test]
fn types_become_what_json_has_for_them() {
    let time = [number(1, 1_700_000_000), number(2, 0)].concat();
    let quantity = |text: &str| bytes(1, text);
    let entry = |key: &str, value: Vec<u8>| [bytes(1, key), value].concat();
    let container = [
        bytes(1, "main"),
        bytes(2, "image"),
        bytes(3, "sh"),
        bytes(3, "-c"),
        bytes(5, ""),
        bytes(8, bytes(1, entry("cpu", bytes(2, quantity("500m"))))),
        bytes(15, [number(2, 0), number(4, 0)].concat()),
        // A probe with the inlined handler that asks over HTTP at a named port.
        bytes(
            10,
            [
                bytes(
                    1,
                    bytes(
                        2,
                        [bytes(1, "/"), bytes(2, [number(1, 1), number(2, 0), bytes(3, "web")].concat())].concat(),
                    ),
                ),
                number(2, 0),
                number(3, 5),
            ]
            .concat(),
        ),
        number(16, 0),
    ]
    .concat();
    let volume = [bytes(1, "v"), bytes(2, bytes(19, [bytes(1, bytes(1, "name"))].concat()))].concat();
    let spec = [
        bytes(1, volume),
        bytes(2, container),
        bytes(3, ""),
        number(4, 0),
        bytes(7, [bytes(1, "disk"), bytes(2, "ssd")].concat()),
        number(11, 0),
        number(21, 0),
    ]
    .concat();
    let meta = [metadata("p"), bytes(9, time)].concat();
    let decoded = decode(&envelope("v1", "Pod", &[bytes(1, meta), bytes(2, spec)].concat())).unwrap();
    assert_eq!(decoded["metadata"], json!({ "name": "p", "deletionTimestamp": "2023-11-14T22:13:20Z" }));
    let spec = &decoded["spec"];
    assert_eq!(spec["terminationGracePeriodSeconds"], 0, "a pointer: zero was meant");
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert!(spec.get("hostNetwork").is_none() && spec.get("restartPolicy").is_none(), "not set: {spec}");
    assert_eq!(spec["nodeSelector"], json!({ "disk": "ssd" }));
    let container = &spec["containers"][0];
    assert_eq!(container["command"], json!(["sh", "-c"]));
    assert_eq!(container["resources"], json!({ "limits": { "cpu": "500m" } }));
    assert_eq!(container["livenessProbe"], json!({ "httpGet": { "path": "/", "port": "web" }, "timeoutSeconds": 5 }));
    assert_eq!(container["securityContext"], json!({ "privileged": false, "runAsUser": 0 }));
    assert!(container.get("stdin").is_none() && container.get("workingDir").is_none());
}

#[test]
fn secrets_and_options_decode() {
    let data = [bytes(1, "key"), bytes(2, [0u8, 255])].concat();
    let secret = [bytes(1, metadata("s")), bytes(2, data), bytes(3, "Opaque")].concat();
    let decoded = decode(&envelope("v1", "Secret", &secret)).unwrap();
    assert_eq!((&decoded["data"], &decoded["type"]), (&json!({ "key": "AP8=" }), &json!("Opaque")));

    let options =
        decode(&envelope("apps/v1", "DeleteOptions", &[number(1, 0), bytes(4, "Background")].concat())).unwrap();
    assert_eq!((&options["gracePeriodSeconds"], &options["propagationPolicy"]), (&json!(0), &json!("Background")));
}

#[test]
fn json_inside_a_message_and_unions_of_schemas_decode() {
    let revision = [bytes(1, metadata("r")), bytes(2, bytes(1, r#"{"spec":{"a":[1]}}"#)), number(3, 7)].concat();
    let decoded = decode(&envelope("apps/v1", "ControllerRevision", &revision)).unwrap();
    assert_eq!((&decoded["data"], &decoded["revision"]), (&json!({ "spec": { "a": [1] } }), &json!(7)));

    let tag = |property: &str| {
        let schema = message("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps").unwrap();
        u64::from(schema.iter().find(|field| same_name(field.name, property)).unwrap().tag)
    };
    let text = bytes(tag("type"), "string");
    let schema = [
        bytes(tag("items"), bytes(1, &text)),
        bytes(tag("additionalProperties"), [number(1, 1), bytes(2, &text)].concat()),
        bytes(tag("additionalItems"), number(1, 0)),
        bytes(tag("default"), bytes(1, "5")),
        [varint(tag("maximum") << 3 | 1), 2.5f64.to_le_bytes().to_vec()].concat(),
    ]
    .concat();
    let version = [bytes(1, "v1"), number(2, 1), number(3, 1), bytes(4, bytes(1, schema))].concat();
    let crd = [bytes(1, metadata("c")), bytes(2, bytes(7, version))].concat();
    let decoded = decode(&envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", &crd)).unwrap();
    assert_eq!(
        decoded["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
        json!({
            "items": { "type": "string" },
            "additionalProperties": { "type": "string" },
            "additionalItems": false,
            "default": 5,
            "maximum": 2.5,
        })
    );
}

#[test]
fn what_is_wrong_is_named() {
    let pod = |raw: &[u8]| decode(&envelope("v1", "Pod", raw));
    assert_eq!(decode(b"{}"), Err(ProtobufError::Magic));
    assert!(matches!(decode(&envelope("v9", "Pod", b"")), Err(ProtobufError::UnknownKind { .. })));
    assert_eq!(pod(&[0x0a, 0x7f]), Err(ProtobufError::Truncated("the object".into())));
    assert_eq!(pod(&bytes(2, [0x0a, 0x7f])), Err(ProtobufError::Truncated("spec".into())));
    assert_eq!(pod(&number(2, 1)), Err(ProtobufError::Type("spec".into())));
    assert_eq!(pod(&bytes(4000, "later")), Ok(json!({ "apiVersion": "v1", "kind": "Pod" })), "a field to come");
    assert_eq!(Reader(&[0xff; 11]).next(), Some(Err(Malformed)));
    assert_eq!(Reader(&number(1, u64::MAX)).next(), Some(Ok((1, Wire::Varint(u64::MAX)))));
}

#[test]
fn no_bytes_make_it_panic() {
    let body = envelope("v1", "Namespace", &bytes(1, metadata("team")));
    for end in 0..body.len() {
        let _ = decode(&body[..end]);
        let mut flipped = body.clone();
        flipped[end] ^= 0xff;
        let _ = decode(&flipped);
    }
}

fn visit(ty: TypeRef<'static>, seen: &mut std::collections::BTreeSet<String>, missing: &mut Vec<String>) {
    match ty.kind() {
        Kind::List | Kind::Map => visit(ty.element(), seen, missing),
        Kind::Struct if seen.insert(ty.name().to_owned()) => {
            let known = fields_of(ty.name());
            for field in ty.fields() {
                let name = field.name();
                if !matches!(name, "apiVersion" | "kind") && !known.iter().any(|k| same_name(k, name)) {
                    missing.push(format!("{}.{name}", ty.name()));
                }
                visit(field.ty(), seen, missing);
            }
        }
        _ => {}
    }
}

/// A message's fields, those of messages that may be inlined included.
fn fields_of(definition: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for field in message(definition).unwrap_or_default() {
        names.push(field.name);
        let may_be_inlined =
            ["source", "reference", "handler", "common", "operations", "rule", "configuration", "value"]
                .iter()
                .any(|ending| field.name.ends_with(ending));
        if let (Type::Message(inner), Shape::One, true) = (field.ty, field.shape, may_be_inlined) {
            names.extend(fields_of(inner));
        }
    }
    names
}

/// Structs that 1.36 brought with features that are still alpha.
const NEW_STRUCTS: &[&str] = &[
    "io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus",
    "io.k8s.api.core.v1.PodSchedulingGroup",
    "io.k8s.api.resource.v1.NodeAllocatableResourceMapping",
    // Not of Kubernetes' own API; they are read and written as JSON only.
    "io.k8s.metrics.pkg.apis.metrics.v1beta1.ContainerMetrics",
    "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics",
    "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics",
];

/// The fields that hold them.
const NEW_FIELDS: &[&str] = &[
    "io.k8s.api.core.v1.PodSpec.schedulingGroup",
    "io.k8s.api.core.v1.PodStatus.nodeAllocatableResourceClaimStatuses",
    "io.k8s.api.resource.v1.Device.nodeAllocatableResourceMappings",
];

/// What both tables have not and the schema has must be what is new.
#[test]
fn the_table_covers_the_schema() {
    let (mut seen, mut missing) = (std::collections::BTreeSet::new(), Vec::new());
    for resource in crate::registry::builtins() {
        let (group, version, kind) = resource.gvk();
        let Some(ty) = schema::of(group, version, kind) else { continue };
        visit(ty, &mut seen, &mut missing);
    }
    let absent: Vec<&str> = seen.iter().map(String::as_str).filter(|name| message(name).is_none()).collect();
    assert_eq!(absent, NEW_STRUCTS);
    missing.retain(|name| !absent.iter().any(|absent| name.starts_with(absent)));
    missing.sort();
    assert_eq!(missing, NEW_FIELDS);
    assert!(seen.len() > 400 && names().count() > 600);
}

#[test]
fn pointers_are_fields_of_the_schema() {
    let mut seen = std::collections::BTreeSet::new();
    for resource in crate::registry::builtins() {
        let (group, version, kind) = resource.gvk();
        if let Some(ty) = schema::of(group, version, kind) {
            visit(ty, &mut seen, &mut Vec::new());
        }
    }
    let fields: Vec<(String, Vec<String>)> = seen
        .iter()
        .filter_map(|name| {
            Some((name.rsplit('.').next()?.to_owned(), fields_of(name).iter().map(|f| (*f).to_owned()).collect()))
        })
        .collect();
    for (owner, property) in zero::all() {
        // Options and what is sent to subresources are no resources.
        if matches!(owner, "PodLogOptions" | "DeleteOptions" | "ScaleSpec" | "TokenRequestSpec") {
            continue;
        }
        let found = fields.iter().any(|(name, fields)| {
            name.eq_ignore_ascii_case(owner) && fields.iter().any(|field| same_name(field, property))
        });
        assert!(found, "{owner}.{property} is not in the schema");
    }
    assert!(zero::is_pointer("io.k8s.api.apps.v1.DeploymentSpec", "replicas"));
    assert!(!zero::is_pointer("io.k8s.api.apps.v1.DeploymentSpec", "paused"));
}
