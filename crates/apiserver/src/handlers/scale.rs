//! The `scale` subresource: one number of a workload, as `autoscaling/v1` Scale.

use bytes::Bytes;
use http::StatusCode;
use knarr_api::{selector::LabelSelector, status::ApiError};
use serde_json::{Value, json};

use super::{Context, add_warnings, options};
use crate::{
    codec::{decode_object, read_body, respond},
    contract::{Body, Response},
    write::{Change, WriteOptions, Written, text},
};

pub const SCALE: (&str, &str, &str) = ("autoscaling", "v1", "Scale");

pub async fn serve(context: &Context, body: Body) -> Result<Response, ApiError> {
    match context.info.verb {
        "get" => get(context).await,
        "update" => update(context, body).await,
        _ => super::patch::patch_scale(context, body).await,
    }
}

async fn get(context: &Context) -> Result<Response, ApiError> {
    let found = context.server.current(context.resource, context.namespace(), &context.info.name).await?;
    let workload = found.ok_or_else(|| context.not_found())?.value();
    Ok(respond::render(StatusCode::OK, bytes(&scale_of(context, &workload)), context.accept))
}

async fn update(context: &Context, body: Body) -> Result<Response, ApiError> {
    let options = options::write_options("UpdateOptions", &context.query, &context.headers)?;
    let body = read_body(body).await?;
    let mut warnings = Vec::new();
    let scale = decode_object(SCALE, &context.headers, &body, options.validation, &mut warnings)?;
    write(context, &options, &mut |_| Ok(scale.clone()), warnings).await
}

/// Writes the number that `change` makes of the Scale as it is.
pub async fn write(
    context: &Context,
    options: &WriteOptions,
    change: &mut (dyn FnMut(&Value) -> Result<Value, ApiError> + Send),
    warnings: Vec<String>,
) -> Result<Response, ApiError> {
    let mut round = |current: Option<&Value>| {
        let Some(workload) = current else { return Err(context.not_found()) };
        let scale = change(&scale_of(context, workload))?;
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            let path = knarr_api::field::FieldPath::new("spec");
            let error = knarr_api::field::FieldError::invalid(
                &path.child("replicas"),
                replicas,
                "must be greater than or equal to 0",
            );
            return Err(ApiError::invalid("Scale.autoscaling", &context.info.name, vec![error]));
        }
        let mut changed = workload.clone();
        changed["spec"]["replicas"] = replicas.into();
        // The Scale speaks for the whole object: its revision and uid are the workload's.
        for key in ["resourceVersion", "uid"] {
            let sent = text(&scale, key);
            if !sent.is_empty() {
                changed["metadata"][key] = sent.into();
            }
        }
        let seen = !text(&scale, "resourceVersion").is_empty();
        Ok(if seen { Change::update(changed) } else { Change::of_current(changed) })
    };
    // To the workload's own rules this is a change of its spec.
    let call = crate::write::Call { subresource: "", ..context.call(options) };
    let Written { object, warnings: more, .. } = context.server.update(call, &mut round).await?;
    let scale = scale_of(context, &object.value());
    let mut response = respond::render(StatusCode::OK, bytes(&scale), context.accept);
    add_warnings(&mut response, &[warnings, more].concat());
    Ok(response)
}

fn bytes(scale: &Value) -> Bytes {
    scale.to_string().into()
}

/// The Scale of a workload.
pub fn scale_of(context: &Context, workload: &Value) -> Value {
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = workload["metadata"].get(key) {
            metadata[key] = value.clone();
        }
    }
    let selector = if context.resource.kind == "ReplicationController" {
        LabelSelector::from_map(&workload["spec"]["selector"]).to_string()
    } else {
        LabelSelector::from_value(&workload["spec"]["selector"])
            .map(|selector| selector.to_string())
            .unwrap_or_default()
    };
    let mut status = json!({"replicas": workload["status"]["replicas"].as_i64().unwrap_or(0)});
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": workload["spec"]["replicas"].as_i64().unwrap_or(0)}, "status": status,
    })
}
