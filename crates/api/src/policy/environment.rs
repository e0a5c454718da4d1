//! What expressions of policies and match conditions may name.

use std::sync::LazyLock;

use knarr_cel::{Declaration, Env, ObjectType, Type, Variables};
use serde_json::{Value, json};

/// Which variables there are beside `object`, `oldObject`, `request` and `namespaceObject`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scope {
    pub params: bool,
    pub authorizer: bool,
    /// Objects and patches can be constructed.
    pub patches: bool,
}

pub(crate) const AUTHORIZER: &str = "authorizer";
pub(crate) const RESOURCE_CHECK: &str = "authorizer.requestResource";
pub(crate) const VARIABLES: &str = "variables";
pub(crate) const NAMESPACE_OBJECT: &str = "namespaceObject";

/// Objects are not typed here: one policy may be for many kinds.
pub(crate) fn env(scope: Scope) -> Env {
    typed(scope, &Type::Dyn, &Type::Dyn)
}

/// As [`env`], for objects and parameters whose types are known.
pub(crate) fn typed(scope: Scope, object: &Type, params: &Type) -> Env {
    static BASE: LazyLock<Env> = LazyLock::new(|| {
        Env::kubernetes().declare("request", request()).declare(NAMESPACE_OBJECT, NAMESPACE.ty.clone())
    });
    let mut env = BASE.clone().declare("object", object.clone()).declare("oldObject", object.clone());
    if scope.params {
        env = env.declare("params", params.clone());
    }
    if scope.authorizer {
        env = env.declare(AUTHORIZER, Variables::authorizer_type());
        env = env.declare(RESOURCE_CHECK, Variables::resource_check_type());
    }
    if scope.patches { env.with_patches() } else { env }
}

fn request() -> Type {
    let texts = |name: &str, fields: &[&str]| ObjectType::declare(name, fields.iter().map(|one| (*one, Type::String)));
    let kind = texts("kubernetes.GroupVersionKind", &["group", "version", "kind"]);
    let resource = texts("kubernetes.GroupVersionResource", &["group", "version", "resource"]);
    let strings = Type::list(Type::String);
    let user = ObjectType::declare(
        "kubernetes.UserInfo",
        [
            ("username", Type::String),
            ("uid", Type::String),
            ("groups", strings.clone()),
            ("extra", Type::map(Type::String, strings)),
        ],
    );
    let texts = ["subResource", "requestSubResource", "name", "namespace", "operation"];
    let others = [
        ("kind", kind.clone()),
        ("requestKind", kind),
        ("resource", resource.clone()),
        ("requestResource", resource),
        ("userInfo", user),
        ("dryRun", Type::Bool),
        ("options", Type::Dyn),
    ];
    ObjectType::declare("kubernetes.AdmissionRequest", texts.map(|one| (one, Type::String)).into_iter().chain(others))
}

/// A Namespace, without what is of interest to nobody who admits: owners, and who wrote which field.
pub(crate) static NAMESPACE: LazyLock<Declaration> = LazyLock::new(|| {
    let text = || json!({"type": "string"});
    let time = || json!({"type": "string", "format": "date-time"});
    let texts = || json!({"type": "array", "items": text()});
    let map = || json!({"type": "object", "additionalProperties": text()});
    let number = || json!({"type": "integer"});
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let metadata = object(json!({
        "name": text(), "generateName": text(), "namespace": text(), "labels": map(), "annotations": map(),
        "uid": text(), "creationTimestamp": time(), "deletionTimestamp": time(), "resourceVersion": text(),
        "deletionGracePeriodSeconds": number(), "generation": number(), "finalizers": texts(),
    }));
    let condition = object(json!({
        "type": text(), "status": text(), "reason": text(), "message": text(), "lastTransitionTime": time(),
    }));
    let status = object(json!({"phase": text(), "conditions": {"type": "array", "items": condition}}));
    let spec = object(json!({"finalizers": texts()}));
    let schema = object(json!({"metadata": metadata, "spec": spec, "status": status}));
    // The schema above is one that expressions see.
    Declaration::of(&schema, "kubernetes.Namespace", false).expect("a schema of an object")
});
