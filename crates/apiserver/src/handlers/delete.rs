//! Deletion of one object, and of all that a selector names.

use std::sync::Arc;

use futures::{StreamExt, stream::FuturesOrdered};
use http::StatusCode;
use knarr_api::{registry::Resource, status::ApiError};
use serde_json::json;

use super::{Context, Selection, list, options};
use crate::{
    codec::{decode_options, read_body, respond},
    contract::{Body, Response, Stored},
    write::{Call, WriteOptions, Written},
};

/// How many objects of a collection are deleted at the same time.
const PARALLEL_DELETIONS: usize = 32;

pub async fn delete(context: &Context, body: Body) -> Result<Response, ApiError> {
    let options = delete_options(context, body).await?;
    let written = context.server.delete(context.call(&options)).await?;
    if written.exists || returns_object(context.resource) {
        let orphaning = options.raw["orphanDependents"] == false;
        let status = if written.exists && orphaning { StatusCode::ACCEPTED } else { StatusCode::OK };
        return Ok(context.written(Written { status, ..written }));
    }
    let object = written.object.value();
    let mut details =
        json!({"name": context.info.name, "kind": context.resource.plural, "uid": object["metadata"]["uid"]});
    if !context.resource.group.is_empty() {
        details["group"] = context.resource.group.into();
    }
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    Ok(respond::render(StatusCode::OK, status.to_string().into(), context.accept))
}

async fn delete_options(context: &Context, body: Body) -> Result<WriteOptions, ApiError> {
    let body = read_body(body).await?;
    let mut raw = decode_options(&context.headers, &body)?;
    options::merge_delete_query(&mut raw, &context.query)?;
    let dry_run = match raw["dryRun"].as_array().map(Vec::as_slice) {
        None | Some([]) => false,
        Some(all) if all.iter().all(|one| one == "All") => true,
        Some(_) => {
            let why = format!("dryRun: Unsupported value: {}: supported values: \"All\"", raw["dryRun"]);
            return Err(options::invalid("DeleteOptions", why));
        }
    };
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
    let (listing, meta) = list::select(context, &selection, 0).await?;
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
            items.push(context.in_version(object));
        }
    }
    Ok(respond::list(context.shown(), items, &meta, context.accept, context.server.env.now()).await)
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
