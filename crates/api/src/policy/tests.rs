//! Policies over small requests.

use knarr_cel::{Attributes, Authorizer, Decision as Allowed};
use serde_json::{Value, json};

use super::*;

/// Lets people read and nothing else.
pub(super) struct Readers;

impl Authorizer for Readers {
    fn check(&self, attributes: &Attributes) -> Allowed {
        Allowed { allowed: attributes.verb == "get", reason: attributes.resource.clone(), error: None }
    }
}

/// What a request is, in a few words; what is not said is null.
pub(super) fn with_input<T>(said: &Value, then: impl FnOnce(&Input<'_>) -> T) -> T {
    let resource = Attributes { resource: "pods".into(), ..Attributes::default() };
    then(&Input {
        object: &said["object"],
        old: &said["oldObject"],
        request: &said["request"],
        params: &said["params"],
        namespace: &said["namespace"],
        authorizer: &Readers,
        resource,
    })
}

/// What was denied with which words.
fn denied(spec: &Value, said: &Value) -> Vec<String> {
    let judgement = with_input(said, |input| ValidatingPolicy::compile(spec).judge(input));
    let decisions = judgement.decisions.into_iter().filter(|one| one.verdict == Verdict::Deny);
    let annotated = judgement.annotations.into_iter().filter_map(|one| match one.annotation {
        Annotation::Publish(value) => Some(format!("{}={value}", one.key)),
        Annotation::Exclude => None,
        Annotation::Error(why) => Some(format!("{}: {why}", one.key)),
    });
    decisions.map(|one| one.message).chain(annotated).collect()
}

#[test]
fn validations_deny_in_the_words_that_are_closest() {
    let said = json!({"object": {"n": 1, "name": "x"}, "request": {"operation": "CREATE"}, "params": {"max": 3},
        "namespace": {"metadata": {"name": "prod", "creationTimestamp": "2024-02-29T12:30:45Z"}}});
    for (validation, expected) in [
        (json!({"expression": "object.n == 1"}), vec![]),
        (json!({"expression": " object.n == 2 "}), vec!["failed expression: object.n == 2"]),
        (json!({"expression": "false", "message": " no "}), vec!["no"]),
        (json!({"expression": "false", "message": "no", "messageExpression": "'not ' + object.name"}), vec!["not x"]),
        (json!({"expression": "false", "message": "no", "messageExpression": "'a\\nb'"}), vec!["no"]),
        (json!({"expression": "false", "message": "no", "messageExpression": "object.missing"}), vec!["no"]),
        (json!({"expression": "object.n > params.max"}), vec!["failed expression: object.n > params.max"]),
        (json!({"expression": "oldObject == null && request.operation == 'CREATE'"}), vec![]),
        (json!({"expression": "namespaceObject.metadata.name == 'prod'"}), vec![]),
        (
            json!({"expression": "namespaceObject.metadata.creationTimestamp < timestamp('2025-01-01T00:00:00Z')"}),
            vec![],
        ),
        (json!({"expression": "authorizer.group('').resource('x').check('get').allowed()"}), vec![]),
        (json!({"expression": "authorizer.requestResource.check('get').reason() == 'pods'"}), vec![]),
        (json!({"expression": "authorizer.requestResource.check('delete').allowed()", "message": "no"}), vec!["no"]),
        (
            json!({"expression": "object.missing == 1"}),
            vec!["expression 'object.missing == 1' resulted in error: no such key: missing"],
        ),
        (
            json!({"expression": "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, \
                [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, a > 0))))))"}),
            vec![
                "expression '[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, \
                [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, a > 0))))))' \
                resulted in error: operation cancelled: actual cost limit exceeded",
            ],
        ),
    ] {
        let spec = json!({"validations": [validation], "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}});
        assert_eq!(denied(&spec, &said), expected, "{validation}");
        let ignoring = json!({"validations": [validation], "paramKind": {}, "failurePolicy": "Ignore"});
        let is_error = expected.iter().any(|message| message.contains("resulted in error"));
        assert_eq!(denied(&ignoring, &said).is_empty(), expected.is_empty() || is_error, "{validation}");
    }
}

#[test]
fn variables_are_made_of_those_before_them_and_only_when_asked_for() {
    let variables = json!([
        {"name": "n", "expression": "object.n"},
        {"name": "twice", "expression": "int(variables.n) * 2"},
        {"name": "broken", "expression": "object.missing"},
    ]);
    for (expression, expected) in [
        ("variables.twice == 14", None),
        ("has(variables.twice)", None),
        ("true || variables.broken", None),
        (
            "variables.broken == 1",
            Some(
                "expression 'variables.broken == 1' resulted in error: composited variable \"broken\" fails to evaluate: \
                 no such key: missing",
            ),
        ),
    ] {
        let spec = json!({"variables": variables, "validations": [{"expression": expression}],
            "auditAnnotations": [{"key": "n", "valueExpression": "string(variables.twice)"}]});
        let mut said = denied(&spec, &json!({"object": {"n": 7}}));
        assert_eq!(said.pop().as_deref(), Some("n=14"));
        assert_eq!(said.pop().as_deref(), expected, "{expression}");
    }
}

#[test]
fn annotations_are_published_where_they_say_something() {
    for (expression, policy, expected) in [
        ("'a' + object.b", "Fail", vec!["k=ac"]),
        ("'  '", "Fail", vec![]),
        ("null", "Fail", vec![]),
        ("'a' + object.c", "Fail", vec!["k: expression ''a' + object.c' resulted in error: no such key: c"]),
        ("'a' + object.c", "Ignore", vec![]),
    ] {
        let spec = json!({"failurePolicy": policy, "auditAnnotations": [{"key": "k", "valueExpression": expression}]});
        assert_eq!(denied(&spec, &json!({"object": {"b": "c"}})), expected, "{expression}");
    }
}

#[test]
fn conditions_that_are_false_outweigh_those_that_fail() {
    let matches = |expressions: &[&str]| {
        let conditions: Vec<Value> = expressions.iter().map(|one| json!({"name": "c", "expression": one})).collect();
        let conditions = Conditions::compile(&json!(conditions), false);
        with_input(&json!({"object": {"a": 1}}), |input| conditions.matches(input))
    };
    let error = |source: &str| format!("expression '{source}' resulted in error: no such key: b");
    for (expressions, failed, expected) in [
        (&[][..], 0, Ok(true)),
        (&["true", "object.a == 1"], 0, Ok(true)),
        (&["true", "object.a == 2"], 0, Ok(false)),
        (&["object.b == 1", "false"], 1, Ok(false)),
        (&["object.b == 1", "true"], 1, Err(error("object.b == 1"))),
        (
            &["object.b == 1", "object.b == 2"],
            2,
            Err(format!("[{}, {}]", error("object.b == 1"), error("object.b == 2"))),
        ),
    ] {
        assert_eq!(matches(expressions), Matched { failed, matches: expected }, "{expressions:?}");
    }
    let long = "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, \
                [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, a > 0)))))";
    let spent = "validation failed due to running out of cost budget, no further validation rules will be run";
    assert_eq!(matches(&[long; 6]).matches, Err(spent.to_owned()));
}

/// What a policy with one mutation makes of a Deployment, or why it makes nothing.
fn mutated(mutation: &Value, object: &Value) -> Result<Value, String> {
    let schema = crate::schema::of("apps", "v1", "Deployment");
    let policy = MutatingPolicy::compile(&json!({"mutations": [mutation]}));
    with_input(&json!({"object": object}), |input| policy.mutate(0, input, schema))
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"a": "b"}},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[test]
fn configurations_are_merged_as_apply_merges() {
    let apply = |source: &str| {
        let mutation = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": source}});
        mutated(&mutation, &deployment())
    };
    let changed = |change: fn(&mut Value)| {
        let mut expected = deployment();
        change(&mut expected);
        Ok(expected)
    };
    for (source, expected) in [
        (
            "Object{metadata: Object.metadata{labels: {'c': string(object.spec.replicas)}}}",
            changed(|object| object["metadata"]["labels"]["c"] = "1".into()),
        ),
        (
            "Object{spec: Object.spec{replicas: object.spec.replicas + 2, ?paused: object.spec.?paused}}",
            changed(|object| object["spec"]["replicas"] = 3.into()),
        ),
        (
            "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{\
             containers: [Object.spec.template.spec.containers{name: 'c', tty: true}]}}}}",
            changed(|object| object["spec"]["template"]["spec"]["containers"][0]["tty"] = true.into()),
        ),
        (
            "Object{spec: Object.wrong{replicas: 2}}",
            Err("type mismatch: unexpected type name \"Object.wrong\", expected \"Object.spec\", which matches field \
                 name path from root Object type"
                .to_owned()),
        ),
        (
            "Object{spec: Object.spec{selector: Object.spec.selector{}}}",
            Err("error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: \
                 .spec.selector"
                .to_owned()),
        ),
        (
            "Object{spec: Object.spec{nonsense: 1}}",
            Err("error applying patch: failed to convert patch object to typed object: .spec.nonsense: field not \
                 declared in schema"
                .to_owned()),
        ),
        (
            "Object{spec: Object.spec{replicas: object.missing}}",
            Err("expression 'Object{spec: Object.spec{replicas: object.missing}}' resulted in error: no such key: \
                 missing"
                .to_owned()),
        ),
    ] {
        assert_eq!(apply(source), expected, "{source}");
    }
}

#[test]
fn json_patches_are_made_and_applied() {
    let patch = |source: &str| {
        let mutation = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": source}});
        mutated(&mutation, &deployment()).map(|object| object["metadata"]["labels"].clone())
    };
    for (source, expected) in [
        ("[JSONPatch{op: 'add', path: '/metadata/labels/c', value: 'd'}]", Ok(json!({"a": "b", "c": "d"}))),
        ("[JSONPatch{op: 'remove', path: '/metadata/labels/a'}]", Ok(json!({}))),
        (
            "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('x/y~z'), value: 'd'}]",
            Ok(json!({"a": "b", "x/y~z": "d"})),
        ),
        ("[JSONPatch{op: 'copy', from: '/metadata/labels/a', path: '/metadata/labels/c'}]", Ok(json!({"a": "b", "c": "b"}))),
        (
            "[JSONPatch{op: 'replace', path: '/metadata', value: Object.metadata{name: 'd', labels: {'x': 'y'}}}]",
            Ok(json!({"x": "y"})),
        ),
        (
            "[JSONPatch{op: 'test', path: '/metadata/labels/a', value: 'x'}, \
             JSONPatch{op: 'remove', path: '/metadata/labels/a'}]",
            Ok(json!({"a": "b"})),
        ),
        (
            "[JSONPatch{op: 'remove', path: '/metadata/labels/x'}]",
            Err("JSONPath: error in remove for path: '/metadata/labels/x': Unable to remove nonexistent key: x: missing \
                 value"
                .to_owned()),
        ),
    ] {
        assert_eq!(patch(source), expected, "{source}");
    }
}

/// The built-ins.
struct Builtins;

impl Kinds for Builtins {
    fn kind(&self, group: &str, version: &str, resource: &str) -> Option<String> {
        crate::registry::by_plural(group, version, resource).map(|row| row.kind.to_owned())
    }

    fn object(&self, group: &str, version: &str, kind: &str) -> Option<knarr_cel::Type> {
        crate::schema::of(group, version, kind).map(|schema| object_type(schema, kind))
    }
}

#[test]
fn expressions_are_checked_against_the_types_they_are_for() {
    let rule = json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments", "deployments/scale"]});
    let check = |rule: &Value, validation: Value| {
        let spec = json!({"matchConstraints": {"resourceRules": [rule]}, "validations": [validation],
            "variables": [{"name": "n", "expression": "object.spec.replicas"}]});
        warnings(&json!({"spec": spec}), &Builtins)
    };
    assert!(check(&rule, json!({"expression": "object.spec.replicas > 1 && variables.n > 1"})).is_empty());
    let confused = check(
        &rule,
        json!({"expression": "object.spec.replicas > '1'", "messageExpression": "'got ' + object.spec.replicas"}),
    );
    assert_eq!(confused.len(), 2);
    assert_eq!(confused[0]["fieldRef"], "spec.validations[0].expression");
    assert_eq!(
        confused[0]["warning"],
        "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'\n \
         | object.spec.replicas > '1'\n | .....................^\n"
    );
    let second = confused[1]["warning"].as_str().unwrap();
    assert!(second.contains("found no matching overload for '_+_' applied to '(string, int)'"), "{second}");
    let anything = json!({"apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["deployments"]});
    assert!(check(&anything, json!({"expression": "object.nonsense"})).is_empty());
    // Schemas of schemas come to an end.
    let schemas = json!({"apiGroups": ["apiextensions.k8s.io"], "apiVersions": ["v1"],
        "resources": ["customresourcedefinitions"]});
    assert!(check(&schemas, json!({"expression": "object.spec.group == ''"})).is_empty());
}
