//! What policies and bindings may say.

use serde_json::{Value, json};

use crate::strategy::{Part, of_kind};

fn faults(kind: &str, mut object: Value) -> Vec<String> {
    let rules = of_kind("admissionregistration.k8s.io", kind);
    rules.default(&mut object);
    rules.validate_create(&object).iter().map(ToString::to_string).collect()
}

fn rule() -> Value {
    json!({"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]})
}

/// A policy of either kind; `more` overrides what is in its spec.
fn policy(kind: &str, more: &Value) -> Vec<String> {
    let mut spec = json!({"matchConstraints": {"resourceRules": [rule()]}});
    if kind == "MutatingAdmissionPolicy" {
        spec["reinvocationPolicy"] = "Never".into();
        spec["mutations"] = json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]);
        spec["mutations"][0]["jsonPatch"]["expression"] = "[JSONPatch{op: 'remove', path: '/a'}]".into();
    } else {
        spec["validations"] = json!([{"expression": "true"}]);
    }
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    faults(kind, json!({"metadata": {"name": "p"}, "spec": spec}))
}

#[test]
fn policies_say_what_they_are_about_and_their_expressions_compile() {
    let undeclared = |source: &str, name: &str| {
        format!(
            "Invalid value: \"{source}\": compilation failed: ERROR: <input>:1:1: undeclared reference to '{name}' (in \
             container '')\n | {source}\n | ^"
        )
    };
    for (more, expected) in [
        (json!({}), vec![]),
        (
            json!({"failurePolicy": "Maybe"}),
            vec!["spec.failurePolicy: Unsupported value: \"Maybe\": supported values: \"Fail\", \"Ignore\"".into()],
        ),
        (json!({"matchConstraints": null}), vec!["spec.matchConstraints: Required value".into()]),
        (json!({"matchConstraints": {}}), vec!["spec.matchConstraints.resourceRules: Required value".into()]),
        (
            json!({"paramKind": {}}),
            vec!["spec.paramKind.apiVersion: Required value".into(), "spec.paramKind.kind: Required value".into()],
        ),
        (
            json!({"matchConditions": [{"name": "a", "expression": "params == null"}]}),
            vec![format!("spec.matchConditions[0].expression: {}", undeclared("params == null", "params"))],
        ),
        (
            json!({"matchConditions": [{"name": "a", "expression": "variables.a"}], "variables": [{"name": "a", "expression": "true"}]}),
            vec![format!("spec.matchConditions[0].expression: {}", undeclared("variables.a", "variables"))],
        ),
        (
            json!({"matchConditions": [{"name": "a", "expression": "1"}, {"name": "a", "expression": "true"}, {"expression": ""}]}),
            vec![
                "spec.matchConditions[0].expression: Invalid value: \"1\": must evaluate to bool but got int".into(),
                "spec.matchConditions[1].name: Duplicate value: \"a\"".into(),
                "spec.matchConditions[2].expression: Required value".into(),
                "spec.matchConditions[2].name: Required value".into(),
            ],
        ),
        (
            json!({"variables": [{"name": "in", "expression": "1"}, {"name": "b", "expression": "missing"}, {"name": "", "expression": ""}]}),
            vec![
                "spec.variables[0].name: Invalid value: \"in\": name is not a valid CEL identifier".into(),
                format!("spec.variables[1].expression: {}", undeclared("missing", "missing")),
                "spec.variables[2].name: Required value: name is not specified".into(),
                "spec.variables[2].expression: Required value: expression is not specified".into(),
            ],
        ),
    ] {
        for kind in ["ValidatingAdmissionPolicy", "MutatingAdmissionPolicy"] {
            assert_eq!(policy(kind, &more), expected, "{kind} {more}");
        }
    }
}

#[test]
fn validations_and_annotations_are_checked() {
    let one = |validation: Value| json!({"validations": [validation]});
    let at = "spec.validations[0]";
    for (more, expected) in [
        (
            json!({"validations": []}),
            vec![
                "spec.validations: Required value: validations or auditAnnotations must contain at least one item".to_owned(),
                "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item".into(),
            ],
        ),
        (one(json!({"expression": "variables.x > 1"})), vec![format!(
            "{at}.expression: Invalid value: \"variables.x > 1\": compilation failed: ERROR: <input>:1:10: undefined field 'x'\n | variables.x > 1\n | .........^"
        )]),
        (one(json!({"expression": " "})), vec![format!("{at}.expression: Required value: expression is not specified")]),
        (one(json!({"expression": "object.a"})), vec![format!("{at}.expression: Invalid value: \"object.a\": must evaluate to bool but got dyn")]),
        (one(json!({"expression": "true", "reason": "Because"})), vec![format!(
            "{at}.reason: Unsupported value: \"Because\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\", \"Unauthorized\""
        )]),
        (one(json!({"expression": "true", "message": "a\nb"})), vec![format!("{at}.message: Invalid value: \"a\\nb\": message must not contain line breaks")]),
        (one(json!({"expression": "true", "messageExpression": "1"})), vec![format!("{at}.messageExpression: Invalid value: \"1\": must evaluate to string but got int")]),
        (one(json!({"expression": "authorizer.path('/x').check('get').allowed()", "messageExpression": "authorizer"})), vec![format!(
            "{at}.messageExpression: Invalid value: \"authorizer\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'authorizer' (in container '')\n | authorizer\n | ^"
        )]),
        (
            json!({"auditAnnotations": [{"key": "a b", "valueExpression": "1"}]}),
            vec![
                "spec.auditAnnotations[0].key: Invalid value: \"p/a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')".into(),
                "spec.auditAnnotations[0].valueExpression: Invalid value: \"1\": must evaluate to one of [string null_type] but got int".into(),
            ],
        ),
    ] {
        assert_eq!(policy("ValidatingAdmissionPolicy", &more), expected, "{more}");
    }
}

#[test]
fn mutations_come_to_what_their_patch_type_wants() {
    let apply = |source: &str| json!({"mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": source}}]});
    let patch = |source: &str| json!({"mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": source}}]});
    let at = "spec.mutations[0]";
    for (more, expected) in [
        (apply("Object{metadata: Object.metadata{labels: {'a': 'b'}}}"), vec![]),
        (apply("Object{spec: Object.spec{replicas: object.spec.replicas + 1, ?paused: object.spec.?paused}}"), vec![]),
        (apply("{'a': 1}"), vec![format!("{at}.applyConfiguration.expression: Invalid value: \"{{'a': 1}}\": must evaluate to Object but got map(string, int)")]),
        (patch("[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c'), value: 'x'}]"), vec![]),
        (patch("'x'"), vec![format!("{at}.jsonPatch.expression: Invalid value: \"'x'\": must evaluate to list(JSONPatch) but got string")]),
        (patch("[JSONPatch{op: 1}]"), vec![format!(
            "{at}.jsonPatch.expression: Invalid value: \"[JSONPatch{{op: 1}}]\": compilation failed: ERROR: <input>:1:14: expected type of field 'op' is 'string' but provided type is 'int'\n | [JSONPatch{{op: 1}}]\n | .............^"
        )]),
        (json!({"mutations": []}), vec!["spec.mutations: Required value: mutations must contain at least one item".into()]),
        (json!({"mutations": [{"patchType": "JSONPatch", "applyConfiguration": {"expression": "x"}}]}), vec![
            format!("{at}.applyConfiguration: Invalid value: \"{{applyConfiguration}}\": must not be specified when patchType is JSONPatch"),
            format!("{at}.jsonPatch: Required value: must be specified when patchType is JSONPatch"),
        ]),
        (json!({"reinvocationPolicy": ""}), vec!["spec.reinvocationPolicy: Required value".into()]),
        (json!({"matchConstraints": {"resourceRules": [{"operations": ["DELETE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]}}), vec![
            "spec.matchConstraints.resourceRules[0].operations[0]: Unsupported value: \"DELETE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"".into(),
        ]),
    ] {
        assert_eq!(policy("MutatingAdmissionPolicy", &more), expected, "{more}");
    }
    let constructs = json!({"validations": [{"expression": "Object{} == Object{}"}]});
    assert!(!policy("ValidatingAdmissionPolicy", &constructs).is_empty());
}

#[test]
fn bindings_name_a_policy_its_parameters_and_what_comes_of_it() {
    let spec = |more: Value| {
        let mut spec = json!({"policyName": "p", "validationActions": ["Deny"]});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        faults("ValidatingAdmissionPolicyBinding", json!({"metadata": {"name": "b"}, "spec": spec}))
    };
    for (more, expected) in [
        (json!({"validationActions": ["Warn", "Audit"], "matchResources": {}}), vec![]),
        (json!({"policyName": ""}), vec!["spec.policyName: Required value"]),
        (
            json!({"validationActions": []}),
            vec!["spec.validationActions: Required value: at least one validation action is required"],
        ),
        (
            json!({"validationActions": ["Deny", "Warn", "Deny", "No"]}),
            vec![
                "spec.validationActions[2]: Duplicate value: \"Deny\"",
                "spec.validationActions[3]: Unsupported value: \"No\": supported values: \"Audit\", \"Deny\", \"Warn\"",
                "spec.validationActions: Invalid value: [\"Deny\",\"Warn\",\"Deny\",\"No\"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
            ],
        ),
        (
            json!({"paramRef": {"name": "a", "selector": {}, "parameterNotFoundAction": "Deny"}}),
            vec![
                "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
            ],
        ),
        (
            json!({"paramRef": {}}),
            vec![
                "spec.paramRef: Required value: one of name or selector must be specified",
                "spec.paramRef.parameterNotFoundAction: Required value",
            ],
        ),
        (
            json!({"matchResources": {"matchPolicy": "Some"}}),
            vec![
                "spec.matchResouces.matchPolicy: Unsupported value: \"Some\": supported values: \"Equivalent\", \"Exact\"",
            ],
        ),
    ] {
        assert_eq!(spec(more.clone()), expected, "{more}");
    }
    assert!(faults("MutatingAdmissionPolicyBinding", json!({"spec": {"policyName": "p"}})).is_empty());
}

#[test]
fn a_stored_expression_that_does_not_compile_stays() {
    let rules = of_kind("admissionregistration.k8s.io", "ValidatingAdmissionPolicy");
    let policy = |expressions: &[&str]| {
        let validations: Vec<Value> = expressions.iter().map(|source| json!({ "expression": source })).collect();
        let mut policy = json!({ "metadata": { "name": "p", "resourceVersion": "1" }, "spec": {
            "matchConstraints": { "resourceRules": [rule()] }, "validations": validations } });
        rules.default(&mut policy);
        policy
    };
    let rows: [(&[&str], usize); 4] =
        [(&["nonsense"], 0), (&["true", "nonsense"], 0), (&["nonsense", "other"], 1), (&["nonsense()"], 1)];
    let old = policy(&["nonsense"]);
    for (expressions, expected) in rows {
        let errors = rules.validate_update(&policy(expressions), &old, Part::Main);
        assert_eq!(errors.len(), expected, "{expressions:?}: {errors:?}");
    }
    let mut broken = policy(&["nonsense"]);
    broken["spec"]["failurePolicy"] = "Maybe".into();
    let errors = rules.validate_update(&broken, &broken, Part::Main);
    assert_eq!(errors.len(), 1, "all else is held to what holds now: {errors:?}");
}
