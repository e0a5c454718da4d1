//! Expressions that say of a device whether it is meant.
//! (<https://kubernetes.io/docs/reference/using-api/cel/>, `device.driver`, `.attributes`, `.capacity`)

use std::{collections::BTreeMap, sync::LazyLock};

use k8s_openapi::api::resource::v1::{Device, DeviceAttribute};
use knarr_cel::{Budget, Env, Expect, ObjectType, Program, Type, Value, Variables};

use super::qualified;

/// What looking at one device may cost.
const MAX_COST: u64 = 1_000_000;

static ENVIRONMENT: LazyLock<Env> = LazyLock::new(|| {
    let by_domain = |inner: Type| Type::map(Type::String, Type::map(Type::String, inner));
    let device = ObjectType::declare(
        "kubernetes.DRADevice",
        [
            ("driver", Type::String),
            ("attributes", by_domain(Type::Dyn)),
            ("capacity", by_domain(Type::Opaque("kubernetes.Quantity"))),
            ("allowMultipleAllocations", Type::Bool),
        ],
    );
    Env::kubernetes().with_bindings().declare("device", device)
});

#[derive(Clone, Debug)]
pub struct Selector {
    program: Program,
}

/// A device as expressions see it; made once for all of them.
#[derive(Clone, Debug)]
pub struct Subject(Value<'static>);

impl Selector {
    /// The error is worded as the API server's.
    pub fn compile(expression: &str) -> Result<Self, String> {
        let program = ENVIRONMENT.compile(expression, Expect::Any);
        let program = program.map_err(|error| format!("compilation failed: {error}"))?;
        match program.result_type() {
            Type::Bool | Type::Dyn => Ok(Self { program }),
            other => Err(format!("must evaluate to bool or the unknown type, not {other}")),
        }
    }

    pub fn matches(&self, device: &Subject) -> Result<bool, String> {
        let variables = Variables::new().with("device", device.0.clone());
        let mut budget = Budget::new(MAX_COST, MAX_COST);
        let value = self.program.evaluate(&variables, &mut budget).map_err(|error| error.to_string())?;
        value.as_bool().ok_or_else(|| "CEL result could not be converted to bool".to_owned())
    }
}

impl Subject {
    pub fn of(driver: &str, device: &Device) -> Result<Self, String> {
        let mut attributes = BTreeMap::<&str, Vec<(String, Value<'static>)>>::new();
        for (name, attribute) in device.attributes.iter().flatten() {
            let (domain, id) = qualified(name, driver);
            let value = value(attribute).map_err(|error| format!("attribute {name}: {error}"))?;
            attributes.entry(domain).or_default().push((id.to_owned(), value));
        }
        let mut capacity = BTreeMap::<&str, Vec<(String, Value<'static>)>>::new();
        for (name, amount) in device.capacity.iter().flatten() {
            let (domain, id) = qualified(name, driver);
            let value = Value::quantity(&amount.value.0).map_err(|error| format!("capacity {name}: {error}"))?;
            capacity.entry(domain).or_default().push((id.to_owned(), value));
        }
        let by_domain = |all: BTreeMap<&str, Vec<(String, Value<'static>)>>| {
            Value::total_map(all.into_iter().map(|(domain, inner)| (domain.to_owned(), Value::map(inner))))
        };
        let shared = device.allow_multiple_allocations.unwrap_or(false);
        let fields = [
            ("driver", Value::text(driver)),
            ("attributes", by_domain(attributes)),
            ("capacity", by_domain(capacity)),
            ("allowMultipleAllocations", Value::Bool(shared)),
        ];
        Ok(Self(Value::map(fields.map(|(name, value)| (name.to_owned(), value)))))
    }
}

fn value(attribute: &DeviceAttribute) -> Result<Value<'static>, String> {
    let DeviceAttribute { bool, int, string, version, bools, ints, strings, versions } = attribute;
    let semver = |text: &String| Value::semver(text).map_err(|error| format!("parse semantic version: {error}"));
    let text = |text: &String| Value::text(text.as_str());
    Ok(match (bool, int, string, version, bools, ints, strings, versions) {
        (Some(value), ..) => Value::Bool(*value),
        (_, Some(value), ..) => Value::Int(*value),
        (_, _, Some(value), ..) => text(value),
        (_, _, _, Some(value), ..) => semver(value)?,
        (_, _, _, _, Some(list), ..) => Value::list(list.iter().copied().map(Value::Bool).collect()),
        (_, _, _, _, _, Some(list), ..) => Value::list(list.iter().copied().map(Value::Int).collect()),
        (_, _, _, _, _, _, Some(list), _) => Value::list(list.iter().map(text).collect()),
        (_, _, _, _, _, _, _, Some(list)) => Value::list(list.iter().map(semver).collect::<Result<_, _>>()?),
        _ => return Err("unsupported attribute value".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expressions_look_into_devices() {
        let device = serde_json::from_value(json!({
            "name": "gpu-0",
            "attributes": {
                "model": {"string": "a100"}, "index": {"int": 3}, "ecc": {"bool": true},
                "gpu.example.com/driver": {"version": "1.2.3"}, "other.example.com/zone": {"string": "b"},
                "links": {"strings": ["x", "y"]},
            },
            "capacity": {"memory": {"value": "40Gi"}},
        }));
        let device = Subject::of("gpu.example.com", &device.unwrap()).unwrap();
        for (expression, expected) in [
            ("device.driver == 'gpu.example.com'", Ok(true)),
            ("device.attributes['gpu.example.com'].model == 'a100'", Ok(true)),
            ("device.attributes['gpu.example.com'].index > 3", Ok(false)),
            ("device.attributes['gpu.example.com'].ecc", Ok(true)),
            ("device.attributes['gpu.example.com'].driver.isGreaterThan(semver('1.2.0'))", Ok(true)),
            ("device.attributes['other.example.com'].zone == 'b'", Ok(true)),
            ("device.capacity['gpu.example.com'].memory.compareTo(quantity('40Gi')) == 0", Ok(true)),
            ("cel.bind(gpu, device.attributes['gpu.example.com'], gpu.ecc && gpu.index == 3)", Ok(true)),
            ("'y' in device.attributes['gpu.example.com'].links", Ok(true)),
            ("has(device.attributes['nobody'].model)", Ok(false)),
            ("'nobody' in device.attributes", Ok(false)),
            ("'gpu.example.com' in device.attributes", Ok(true)),
            ("device.allowMultipleAllocations", Ok(false)),
            ("device.attributes['gpu.example.com'].missing == 1", Err("no such key: missing".to_owned())),
            ("device.attributes['gpu.example.com'].model", Err("CEL result could not be converted to bool".to_owned())),
        ] {
            assert_eq!(Selector::compile(expression).unwrap().matches(&device), expected, "{expression}");
        }
    }

    #[test]
    fn what_is_no_question_does_not_compile() {
        let compile = |expression: &str| Selector::compile(expression).unwrap_err();
        assert_eq!(compile("device.driver"), "must evaluate to bool or the unknown type, not string");
        assert!(compile("device.color == 1").starts_with("compilation failed: ERROR: <input>:1:7: undefined field"));
        assert!(compile("1 +").starts_with("compilation failed: "));
    }

    #[test]
    fn odd_devices_are_told_of() {
        let subject = |device: serde_json::Value| {
            Subject::of("d", &serde_json::from_value(device).unwrap()).map(drop).unwrap_err()
        };
        let odd = json!({"name": "x", "attributes": {"v": {"version": "1.x"}}});
        assert!(subject(odd).starts_with("attribute v: parse semantic version: "));
        let nothing = json!({"name": "x", "attributes": {"v": {}}});
        assert_eq!(subject(nothing), "attribute v: unsupported attribute value");
    }
}
