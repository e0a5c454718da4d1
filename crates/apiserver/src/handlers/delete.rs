//! Deletion of one object, and of all that a selector names.

use std::sync::Arc;

use futures::{StreamExt, stream::FuturesOrdered};
use http::StatusCode;
use knarr_api::{registry::Resource, status::ApiError, strategy};
use serde_json::json;

use super::{Context, Selection, add_warnings, list, options};
use crate::{
    codec::{decode_options, read_body, respond},
    contract::{Body, Response, Stored},
    write::{Call, WriteOptions, Written},
};

/// How many objects of a collection are deleted at the same time.
const PARALLEL_DELETIONS: usize = 32;

pub async fn delete(context: &Context, body: Body) -> Result<Response, ApiError> {
    let options = delete_options(context, body).await?;
    let mut written = context.server.delete(context.call(&options)).await?;
    written.warnings.extend(warning(context, &options));
    if written.exists || returns_object(context.resource) {
        let orphaning = options.raw["orphanDependents"] == false;
        let status = if written.exists && orphaning { StatusCode::ACCEPTED } else { StatusCode::OK };
        return context.written(Ok(Written { status, ..written }), Vec::new()).await;
    }
    let object = written.object.value();
    let mut details =
        json!({"name": context.info.name, "kind": context.resource.plural, "uid": object["metadata"]["uid"]});
    if !context.resource.group.is_empty() {
        details["group"] = context.resource.group.into();
    }
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    let mut response = respond::render(StatusCode::OK, status.to_string().into(), context.accept);
    add_warnings(&mut response, &written.warnings);
    Ok(response)
}

/// What whoever leaves it open what becomes of dependents is told.
fn warning(context: &Context, options: &WriteOptions) -> Option<String> {
    let is_open = options.raw["propagationPolicy"].is_null() && options.raw["orphanDependents"].is_null();
    let warning = if is_open && context.custom.is_none() { strategy::deletion_warning(context.resource) } else { None };
    warning.map(str::to_owned)
}

async fn delete_options(context: &Context, body: Body) -> Result<WriteOptions, ApiError> {
    let body = read_body(body).await?;
    let mut raw = decode_options(&context.headers, &body)?;
    options::merge_delete_query(&mut raw, &context.query)?;
    if let Some(error) = options::unknown_dry_run(&raw["dryRun"]) {
        return Err(options::invalid_options("DeleteOptions", vec![error]));
    }
    let dry_run = raw["dryRun"].as_array().is_some_and(|all| !all.is_empty());
    Ok(WriteOptions { dry_run, raw, ..WriteOptions::default() })
}

/// Resources whose deletion is answered with the object that went, as upstream documents for each.
fn returns_object(resource: &Resource) -> bool {
    matches!(
        (resource.group, resource.plural),
        (
            "",
            "pods"
                | "podtemplates"
                | "persistentvolumes"
                | "persistentvolumeclaims"
                | "resourcequotas"
                | "serviceaccounts"
                | "services"
        ) | ("storage.k8s.io", _)
            | ("resource.k8s.io", _)
    )
}

pub async fn delete_collection(context: &Context, body: Body) -> Result<Response, ApiError> {
    let options = delete_options(context, body).await?;
    let selection = Selection::parse(context.resource, context.custom.as_deref(), context.namespace(), &context.query)?;
    let limit = list::parse_limit(context)?;
    let (listing, meta) = list::page(context, &selection, limit).await?;
    let mut running = FuturesOrdered::new();
    let mut left = listing.items.into_iter();
    let mut items = Vec::with_capacity(left.len());
    loop {
        while running.len() < PARALLEL_DELETIONS
            && let Some(object) = left.next()
        {
            running.push_back(delete_one(context, &options, object));
        }
        let Some(deleted) = running.next().await else { break };
        if let Some(object) = deleted? {
            items.push(object);
        }
    }
    let items = context.in_versions(items).await?;
    let mut response = respond::list(context.shown(), items, &meta, context.accept, context.server.env.now()).await;
    add_warnings(&mut response, warning(context, &options).as_slice());
    Ok(response)
}

/// `None` where somebody else was faster: what counts is that it is gone.
async fn delete_one(
    context: &Context,
    options: &WriteOptions,
    object: Arc<Stored>,
) -> Result<Option<Arc<Stored>>, ApiError> {
    let call = Call {
        resource: context.resource,
        custom: context.custom.as_deref(),
        namespace: object.namespace(),
        name: object.name(),
        subresource: "",
        user: &context.user,
        options,
    };
    match context.server.delete(call).await {
        Ok(written) => Ok(Some(written.object)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
