//! Variables made of others, names with dots, and what expressions construct.

use serde_json::json;

use crate::{
    Attributes, Authorizer, Budget, Composite, Decision, Env, EvalError, Expect, ObjectType, Type, Value, Variables,
};

struct Nobody;

impl Authorizer for Nobody {
    fn check(&self, asked: &Attributes) -> Decision {
        Decision { reason: asked.resource.clone(), ..Decision::default() }
    }
}

fn env() -> Env {
    Env::kubernetes()
        .declare("x", Type::Dyn)
        .declare("authorizer", Variables::authorizer_type())
        .declare("authorizer.requestResource", Variables::resource_check_type())
        .with_patches()
}

/// The value as JSON or what went wrong, and what it cost.
fn evaluate(source: &str, limit: u64) -> (String, u64) {
    let base = env();
    let composite = |env: &Env, name: &str, source: &str| Composite {
        name: name.to_owned(),
        program: env.compile(source, Expect::Any).map_err(|error| error.text),
    };
    let ty = ObjectType::declare("variables", [("one", Type::Int), ("two", Type::Int), ("lost", Type::Dyn)]);
    let full = base.declare("v", ty);
    let list = [
        composite(&full, "one", "int(x.n)"),
        composite(&full, "two", "v.one + v.one"),
        composite(&full, "lost", "x.missing"),
        // Nothing sees itself.
        composite(&full, "one", "v.one + 10"),
    ];
    let program = match full.compile(source, Expect::Any) {
        Ok(program) => program,
        Err(error) => return (error.text, 0),
    };
    let object = json!({"n": 7});
    let attributes = Attributes { resource: "pods".into(), ..Attributes::default() };
    let variables = Variables::new()
        .with("x", Value::json(&object))
        .with_authorizer("authorizer", &Nobody)
        .with_resource_check("authorizer.requestResource", &Nobody, attributes)
        .with_composed("v", &list);
    let mut budget = Budget::new(limit, limit);
    let text = match program.evaluate(&variables, &mut budget) {
        Ok(value) => value.to_json().map_or_else(|why| why, |json| json.to_string()),
        Err(EvalError::Failed(text)) => text,
        Err(other) => format!("{other:?}"),
    };
    (text, limit - budget.remaining())
}

#[test]
fn composed_variables_are_made_once_of_those_before_them() {
    for (source, expected) in [
        ("v.two", "14"),
        ("v.one", "17"),
        ("v.two + v.two", "28"),
        ("has(v.two)", "true"),
        ("true || v.lost", "true"),
        ("v.lost", "composited variable \"lost\" fails to evaluate: no such key: missing"),
        ("authorizer.requestResource.check('get').reason()", "\"pods\""),
        ("[1].map(authorizer, authorizer)[0]", "1"),
    ] {
        assert_eq!(evaluate(source, 1_000_000).0, expected, "{source}");
    }
    let once = evaluate("v.two", 1_000).1;
    assert!(evaluate("v.two + v.two", 1_000).1 < 2 * once, "the second costs no more than its name");
    assert_eq!(evaluate("v.two", once - 1).0, "BudgetExceeded");
}

#[test]
fn objects_and_patches_are_constructed() {
    for (source, expected) in [
        ("Object{}", "{}"),
        ("Object{spec: Object.spec{replicas: x.n, ?gone: x.?missing}}", "{\"spec\":{\"replicas\":7}}"),
        ("Object{a: 1}.a", "1"),
        ("Object{a: 1} == Object{a: 1} && Object{a: 1} != Object{a: 2}", "true"),
        ("[JSONPatch{op: 'add', path: '/a', value: [1]}]", "[{\"op\":\"add\",\"path\":\"/a\",\"value\":[1]}]"),
        ("jsonpatch.escapeKey('a/b~c')", "\"a~1b~0c\""),
        (
            "JSONPatch{nonsense: 1}",
            "ERROR: <input>:1:19: undefined field 'nonsense'\n | JSONPatch{nonsense: 1}\n | ..................^",
        ),
        ("Other{}", "ERROR: <input>:1:6: undeclared reference to 'Other' (in container '')\n | Other{}\n | .....^"),
    ] {
        assert_eq!(evaluate(source, 1_000_000).0, expected, "{source}");
    }
    for source in ["Object{}", "jsonpatch.escapeKey('a')"] {
        assert!(Env::kubernetes().compile(source, Expect::Any).is_err(), "{source}");
    }
}
