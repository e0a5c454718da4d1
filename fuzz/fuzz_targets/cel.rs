//! CEL: any source, evaluated within a budget where it compiles.
#![no_main]

use knarr_cel::{Budget, Env, Expect, Type, Value, Variables};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|source: &str| {
    let env = Env::kubernetes().with_bindings().declare("self", Type::Dyn).declare("x", Type::Dyn);
    let Ok(program) = env.compile(source, Expect::Any) else { return };
    program.estimate(&[]);
    let (object, other) = (json!({"s": "text", "l": [1, 2.5, null], "m": {"k": "v"}}), json!([1, "a", {}]));
    let variables = Variables::new().with("self", Value::json(&object)).with("x", Value::json(&other));
    let _ = program.evaluate(&variables, &mut Budget::new(100_000, 100_000));
});
