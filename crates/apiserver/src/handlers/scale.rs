//! The `scale` subresource: one number of a workload, as `autoscaling/v1` Scale.

use http::StatusCode;
use knarr_api::{status::ApiError, strategy::scale as workload};
use serde_json::Value;

use super::{Context, add_warnings, options};
use crate::{
    codec::{Form, decode_object, read_body, respond, table},
    contract::{Body, Response},
    custom,
    write::{Change, Tracking, WriteOptions, Written, text},
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
    let object = context.in_version(found.ok_or_else(|| context.not_found())?).await?.value();
    let shown = match &context.custom {
        Some(custom) => custom::scale::shown(custom, &object)?,
        None => workload::read(&object),
    };
    Ok(answer(context, &shown))
}

async fn update(context: &Context, body: Body) -> Result<Response, ApiError> {
    let options = options::write_options("UpdateOptions", &context.query, &context.headers, Vec::new())?;
    let body = read_body(body).await?;
    let mut warnings = Vec::new();
    let scale = decode_object(SCALE.into(), &context.headers, &body, options.validation, &mut warnings)?;
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
        let Some(current) = current else { return Err(context.not_found()) };
        let custom = context.custom.as_deref();
        let scale =
            change(&custom.map_or_else(|| workload::read(current), |custom| custom::scale::read(custom, current)))?;
        let errors = workload::validate(&scale);
        if !errors.is_empty() {
            return Err(ApiError::invalid("Scale.autoscaling", &context.info.name, errors));
        }
        let mut changed = current.clone();
        match custom {
            Some(custom) => custom::scale::write(custom, &scale, &mut changed)?,
            None => workload::write(&scale, &mut changed),
        }
        let seen = !text(&scale, "resourceVersion").is_empty();
        let change = if seen { Change::update(changed) } else { Change::of_current(changed) };
        Ok(Change { tracking: Tracking::Scale, ..change })
    };
    // To the workload's own rules this is a change of its spec.
    let call = crate::write::Call { subresource: "", ..context.call(options) };
    let Written { object, warnings: more, .. } = context.server.update(call, &mut round).await?;
    let object = context.in_version(object).await?.value();
    let shown = match &context.custom {
        Some(custom) => custom::scale::shown(custom, &object)?,
        None => workload::read(&object),
    };
    let mut response = answer(context, &shown);
    add_warnings(&mut response, &[warnings, more].concat());
    Ok(response)
}

fn answer(context: &Context, scale: &Value) -> Response {
    let bytes = match context.accept.form {
        Form::Table { version, include } => table::of_scale(scale, version, include, context.server.env.now()),
        Form::Whole | Form::Metadata { .. } => scale.to_string().into(),
    };
    respond::render(StatusCode::OK, bytes, context.accept)
}
