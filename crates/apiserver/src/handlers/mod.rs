//! One handler a verb, the same for every resource.

mod delete;
pub mod list;
mod object;
pub mod options;
mod patch;
mod scale;
mod selection;
mod sourced;
mod watch;

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use knarr_api::{registry::Resource, status::ApiError, strategy};

pub use selection::Selection;

use crate::{
    codec::{
        Accept, Shape, Shown,
        respond::{self, add_warnings},
    },
    contract::{Body, Lookup, Response, Stored, SubresourceRequest, UserInfo},
    custom::{Catalogue, Custom, Found},
    route::{Query, RequestInfo},
    server::Inner,
    write::{Call, WriteOptions, Written},
};

/// Subresources of the object's own shape, which the generic path serves.
const OBJECT_SHAPED: [&str; 5] = ["status", "ephemeralcontainers", "resize", "finalize", "approval"];

/// Everything about a request that its handler needs beside the body.
pub struct Context {
    pub server: Arc<Inner>,
    pub resource: &'static Resource,
    /// What is known of a custom resource beside its row.
    pub custom: Option<Arc<Custom>>,
    pub subresource: &'static str,
    pub info: RequestInfo,
    pub query: Query,
    pub headers: HeaderMap,
    pub user: Arc<UserInfo>,
    pub accept: Accept,
}

impl Context {
    fn call<'a>(&'a self, options: &'a WriteOptions) -> Call<'a> {
        Call {
            resource: self.resource,
            custom: self.custom.as_deref(),
            namespace: self.namespace(),
            name: &self.info.name,
            subresource: self.subresource,
            user: &self.user,
            options,
        }
    }

    /// A Namespace is named by its path's namespace, but does not lie in one.
    fn namespace(&self) -> &str {
        if self.resource.namespaced { &self.info.namespace } else { "" }
    }

    /// What whoever uses the resource is warned of.
    fn deprecation(&self) -> Option<String> {
        match &self.custom {
            Some(custom) => custom.version().deprecation.clone(),
            None => strategy::deprecation(self.resource).map(str::to_owned),
        }
    }

    fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.resource.qualified_name(), &self.info.name)
    }

    fn not_supported(&self) -> ApiError {
        ApiError::new(
            knarr_api::status::Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource",
        )
    }

    /// What came of a write. What was said when the body was read comes before what the write itself was warned of,
    /// and is heard of a refusal, too.
    async fn written(&self, outcome: Result<Written, ApiError>, told: Vec<String>) -> Result<Response, ApiError> {
        let written = match outcome {
            Ok(written) => written,
            Err(error) => return Err(error.warned(told)),
        };
        let stored = self.in_version(written.object).await?;
        let mut response = self.one(&stored, written.status);
        add_warnings(&mut response, &told);
        add_warnings(&mut response, &written.warnings);
        Ok(response)
    }

    /// The object in the version that was asked for.
    async fn in_version(&self, stored: Arc<Stored>) -> Result<Arc<Stored>, ApiError> {
        self.server.in_version(self.resource, self.custom.as_deref(), stored).await
    }

    /// As [`Context::in_version`], for as many as there are: a webhook that converts is asked once.
    async fn in_versions(&self, all: Vec<Arc<Stored>>) -> Result<Vec<Arc<Stored>>, ApiError> {
        self.server.in_versions(self.resource, self.custom.as_deref(), all).await
    }

    /// As [`Context::in_versions`] where a webhook converts; everything else is converted when it is sent.
    async fn in_versions_of_webhook(&self, all: Vec<Arc<Stored>>) -> Result<Vec<Arc<Stored>>, ApiError> {
        match &self.custom {
            Some(custom) if custom.converter.is_some() => self.in_versions(all).await,
            _ => Ok(all),
        }
    }

    /// What the fields of a body are checked against.
    fn shape(&self) -> Shape<'_> {
        Shape { gvk: self.resource.gvk(), custom: self.custom.as_deref() }
    }

    /// What tables and lists of the resource look like.
    fn shown(&self) -> Shown<'_> {
        Shown { resource: self.resource, printer: self.custom.as_deref().map(|custom| custom.version().columns()) }
    }

    fn one(&self, stored: &Stored, status: StatusCode) -> Response {
        respond::object(self.shown(), stored, status, self.accept, self.server.env.now())
    }
}

/// Finds what a resource path names. A path that is none is answered as upstream does, in plain text.
pub fn resolve(catalogue: &Catalogue, info: &RequestInfo) -> Option<(Found, &'static str)> {
    let found = catalogue.find(&info.group, &info.version, &info.resource)?;
    if info.subresource.is_empty() {
        return Some((found, ""));
    }
    let subresource = found.resource.subresource(&info.subresource)?.name;
    Some((found, subresource))
}

/// Serves a request to a resource that was authenticated and authorised.
pub async fn serve(context: Context, request: http::Request<Body>) -> Result<Response, ApiError> {
    if let Some(handler) = context.server.plugins.handler(context.resource, context.subresource) {
        return hand_over(context, handler, request).await;
    }
    if let Some(source) = context.server.plugins.source(context.resource) {
        return sourced::serve(&context, &*source).await;
    }
    let allowed = match context.subresource {
        "" => context.resource.verbs.iter().any(|verb| verb.as_str() == context.info.verb),
        name => {
            let subresource = context.resource.subresource(name);
            subresource.is_some_and(|sub| sub.verbs.iter().any(|verb| verb.as_str() == context.info.verb))
        }
    };
    let served = context.subresource.is_empty()
        || context.subresource == "scale"
        || OBJECT_SHAPED.contains(&context.subresource);
    // What changes one object names it; what creates one in a collection does not.
    let misplaced = match context.info.verb {
        "update" | "patch" => context.info.name.is_empty(),
        "create" => !context.info.name.is_empty(),
        _ => false,
    };
    // What is not kept (a review) is answered by a handler, or not at all.
    let kept = context.server.caches.of(context.resource).is_some();
    if !allowed || !served || misplaced || (!kept && context.info.verb == "create") {
        return Err(context.not_supported());
    }
    if context.resource.namespaced
        && context.info.namespace.is_empty()
        && !matches!(context.info.verb, "list" | "watch")
    {
        return Err(ApiError::no_such_resource());
    }
    if context.subresource == "scale" {
        return scale::serve(&context, request.into_body()).await;
    }
    let deprecation = context.deprecation();
    let mut response = generic(context, request).await?;
    if let Some(warning) = deprecation {
        add_warnings(&mut response, &[warning]);
    }
    Ok(response)
}

/// Each verb's work has a place of its own, so that a GET does not take the room of a patch.
async fn generic(context: Context, request: http::Request<Body>) -> Result<Response, ApiError> {
    match context.info.verb {
        "get" => Box::pin(object::get(&context)).await,
        "list" => Box::pin(list::list(&context)).await,
        "watch" => Box::pin(watch::watch(context)).await,
        "create" => Box::pin(object::create(&context, request.into_body())).await,
        "update" => Box::pin(object::update(&context, request.into_body())).await,
        "patch" => Box::pin(patch::patch(&context, request.into_body())).await,
        "delete" => Box::pin(delete::delete(&context, request.into_body())).await,
        "deletecollection" => Box::pin(delete::delete_collection(&context, request.into_body())).await,
        _ => Err(context.not_supported()),
    }
}

async fn hand_over(
    context: Context,
    handler: Arc<dyn crate::contract::SubresourceHandler>,
    request: http::Request<Body>,
) -> Result<Response, ApiError> {
    let dry_run = options::dry_run("CreateOptions", &context.query)?;
    let lookup: Arc<dyn Lookup> = context.server.lookup.clone();
    let namespace = context.namespace().to_owned();
    let mut request = SubresourceRequest {
        resource: context.resource,
        subresource: context.subresource,
        namespace,
        name: context.info.name,
        rest: context.info.rest,
        user: UserInfo::clone(&context.user),
        dry_run,
        accept: context.accept,
        request,
    };
    context.server.admit_connect(&mut request).await?;
    handler.handle(lookup, request).await
}
