//! The `scale` subresource of a custom resource: `autoscaling/v1` Scale through the paths that its definition names.

use knarr_api::{custom::ScalePaths, status::ApiError, strategy::scale as workload};
use serde_json::{Value, json};

use super::Custom;

fn paths(custom: &Custom) -> Option<&ScalePaths> {
    custom.version().scale.as_ref()
}

/// The Scale of an object; one that does not say how many replicas it wants has none.
pub fn shown(custom: &Custom, object: &Value) -> Result<Value, ApiError> {
    match paths(custom) {
        Some(paths) if paths.wanted(object).is_none() => {
            let path = &paths.spec_replicas;
            Err(ApiError::internal(format_args!("the spec replicas field {path:?} does not exist")))
        }
        _ => Ok(read(custom, object)),
    }
}

/// As [`shown`], without a number where the object has none: a client may set the first.
pub fn read(custom: &Custom, object: &Value) -> Value {
    // The metadata is like every Scale's; the numbers are elsewhere.
    let mut scale = workload::read(&json!({"kind": object["kind"], "metadata": object["metadata"]}));
    let Some(paths) = paths(custom) else { return scale };
    scale["spec"] = paths.wanted(object).map_or_else(|| json!({}), |replicas| json!({"replicas": replicas}));
    scale["status"] = json!({"replicas": paths.observed(object)});
    let selector = paths.selector(object);
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

/// Puts the replicas of a Scale where the definition says, and the revision and uid that the Scale carries.
pub fn write(custom: &Custom, scale: &Value, object: &mut Value) -> Result<(), ApiError> {
    let Some(paths) = paths(custom) else { return Ok(()) };
    let path = &paths.spec_replicas;
    let Some(replicas) = scale["spec"]["replicas"].as_i64() else {
        return Err(ApiError::bad_request(format!("the spec replicas field {path:?} cannot be empty")));
    };
    if !paths.want(object, replicas) {
        return Err(ApiError::internal(format_args!("the spec replicas field {path:?} cannot be written")));
    }
    for key in ["resourceVersion", "uid"] {
        if let Some(value) = scale["metadata"].get(key).filter(|value| value.as_str().is_some_and(|t| !t.is_empty())) {
            object["metadata"][key] = value.clone();
        }
    }
    Ok(())
}
