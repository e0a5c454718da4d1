//! Reads of what an [`ObjectSource`] makes up.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use knarr_api::status::ApiError;

use super::{Context, Selection};
use crate::{
    cache::{Extract, object_key},
    codec::respond::{self, ListMeta},
    contract::{KeptForm, KeptMessage, ObjectSource, Response, Stored},
};

pub async fn serve(context: &Context, source: &dyn ObjectSource) -> Result<Response, ApiError> {
    match context.info.verb {
        "get" => get(context, source),
        "list" => list(context, source).await,
        _ => Err(context.not_supported()),
    }
}

fn get(context: &Context, source: &dyn ObjectSource) -> Result<Response, ApiError> {
    let (namespace, name) = (context.namespace(), context.info.name.as_str());
    if context.resource.namespaced && namespace.is_empty() {
        return Err(ApiError::no_such_resource());
    }
    let found = objects(context, source, name)?.into_iter().next();
    let found = found.ok_or_else(|| source.not_found(context.resource, namespace, name))?;
    Ok(context.one(&found, StatusCode::OK))
}

async fn list(context: &Context, source: &dyn ObjectSource) -> Result<Response, ApiError> {
    let selection = Selection::parse(context.resource, None, context.namespace(), &context.query)?;
    let mut items = objects(context, source, selection.name().unwrap_or_default())?;
    items.retain(|item| selection.matches(item));
    Ok(respond::list(context.shown(), items, &ListMeta::default(), context.accept, context.server.env.now()).await)
}

fn objects(context: &Context, source: &dyn ObjectSource, name: &str) -> Result<Vec<Arc<Stored>>, ApiError> {
    let values = source.objects(context.resource, context.namespace(), name)?;
    let stored = values.into_iter().map(|value| {
        let of = |key: &str| value["metadata"][key].as_str().unwrap_or_default();
        let key = object_key(of("namespace"), of("name"));
        let Extract { labels, fields } = Extract::of(context.resource, None, &value);
        Arc::new(Stored {
            key: key.into(),
            json: value.to_string().into(),
            line: Bytes::new(),
            resource_version: 0,
            labels,
            fields,
            message: KeptMessage::default(),
            shown: KeptForm::default(),
        })
    });
    Ok(stored.collect())
}
