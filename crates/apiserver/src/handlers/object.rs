//! One object: get, create, update.

use http::StatusCode;
use knarr_api::status::ApiError;

use super::{Context, options};
use crate::{
    cache::object_key,
    codec::{decode_object, read_body},
    contract::{Body, Response},
    write::{Change, text},
};

pub async fn get(context: &Context) -> Result<Response, ApiError> {
    let caches = &context.server.caches;
    match options::revision(&context.query)? {
        None => {
            caches.fresh().await?;
        }
        Some(revision) => caches.at_least(revision).await?,
    }
    let key = object_key(context.namespace(), &context.info.name);
    let found = caches.of(context.resource).and_then(|cache| cache.get(&key)).ok_or_else(|| context.not_found())?;
    let served = context.in_version(found).await?;
    Ok(context.one(&served, StatusCode::OK))
}

pub async fn create(context: &Context, body: Body) -> Result<Response, ApiError> {
    let options = options::write_options("CreateOptions", &context.query, &context.headers, Vec::new())?;
    let body = read_body(body).await?;
    let call = context.call(&options);
    let may_have_twins = context.server.may_have_twins(&call, &context.headers);
    if may_have_twins && let Some(written) = context.server.create_twin(&call, &body).await? {
        return context.written(Ok(written), Vec::new()).await;
    }
    let mut warnings = Vec::new();
    let object = decode_object(context.shape(), &context.headers, &body, options.validation, &mut warnings)?;
    let written = match may_have_twins && warnings.is_empty() && text(&object, "name").is_empty() {
        true => Box::pin(context.server.create_first(call, body, object)).await,
        false => Box::pin(context.server.create(call, object)).await,
    };
    context.written(written, warnings).await
}

pub async fn update(context: &Context, body: Body) -> Result<Response, ApiError> {
    let options = options::write_options("UpdateOptions", &context.query, &context.headers, Vec::new())?;
    let body = read_body(body).await?;
    let mut warnings = Vec::new();
    let object = decode_object(context.shape(), &context.headers, &body, options.validation, &mut warnings)?;
    if text(&object, "name").is_empty() {
        return Err(ApiError::bad_request("name must be provided"));
    }
    let may_create = context.subresource.is_empty() && context.call(&options).rules().allow_create_on_update();
    let mut change = |current: Option<&serde_json::Value>| match current {
        None if !may_create => Err(context.not_found()),
        // Whoever names a uid means an object that was there.
        None if !text(&object, "uid").is_empty() => {
            let uid = text(&object, "uid");
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: ");
            Err(ApiError::conflict(&context.resource.qualified_name(), &context.info.name, why))
        }
        _ => Ok(Change::update(object.clone())),
    };
    let written = context.server.update(context.call(&options), &mut change).await;
    context.written(written, warnings).await
}
