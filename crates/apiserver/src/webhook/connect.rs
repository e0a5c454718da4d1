//! Requests that write nothing and still pass admission: what is sent to a subresource of its own kind (a Binding, an
//! Eviction), and connections (`pods/exec`), whose options are in their query.

use knarr_api::{registry::Resource, status::ApiError};
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use crate::{
    contract::{AdmissionRequest, Ask, Operation, SubresourceRequest},
    matching::{Form, Subject, kind},
    server::Inner,
    write::Turns,
};

impl Inner {
    /// Asks webhooks and policies; the answer is what those that may change objects made of this one.
    pub(crate) async fn ask_users(&self, ask: Ask<'_>, object: Value) -> Result<Value, ApiError> {
        let options = if ask.dry_run { json!({"dryRun": ["All"]}) } else { json!({}) };
        let mut request = AdmissionRequest {
            operation: ask.operation,
            resource: ask.resource,
            subresource: ask.subresource,
            namespace: ask.namespace,
            name: ask.name,
            user: ask.user,
            dry_run: ask.dry_run,
            object,
            old: None,
            options: &options,
            warnings: Vec::new(),
        };
        let mut subject = Subject { request: &mut request, custom: None, form: Form::Own, is_name_generated: false };
        let mut turns = Turns::default();
        self.mutate_by_users(&mut subject, &mut turns).await?;
        if turns.changed() {
            turns.second(&subject.request.object);
            self.mutate_by_users(&mut subject, &mut turns).await?;
        }
        self.validate_by_users(&mut subject).await?;
        Ok(request.object)
    }

    /// Admission of a connection; what webhooks change of its options is changed in the request.
    pub(crate) async fn admit_connect(&self, request: &mut SubresourceRequest) -> Result<(), ApiError> {
        if !is_connect(request.resource, request.subresource) {
            return Ok(());
        }
        let options = options(request);
        let ask = Ask {
            user: &request.user,
            operation: Operation::Connect,
            resource: request.resource,
            subresource: request.subresource,
            namespace: &request.namespace,
            name: &request.name,
            dry_run: false,
        };
        let admitted = self.ask_users(ask, options.clone()).await?;
        if admitted != options { change(request, &admitted) } else { Ok(()) }
    }
}

fn is_connect(resource: &Resource, subresource: &str) -> bool {
    resource.group.is_empty()
        && matches!(
            (resource.plural, subresource),
            ("pods", "exec" | "attach" | "portforward" | "proxy") | ("services" | "nodes", "proxy")
        )
}

const FLAGS: [&str; 4] = ["stdin", "stdout", "stderr", "tty"];

/// The query as the object that upstream decodes it into.
fn options(request: &SubresourceRequest) -> Value {
    let (_, version, kind) = kind(request.resource, request.subresource);
    let mut object = json!({"kind": kind, "apiVersion": version});
    if request.subresource == "proxy" {
        if !request.rest.is_empty() {
            object["path"] = request.rest.as_str().into();
        }
        return object;
    }
    let query = request.request.uri().query().unwrap_or_default();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            flag if FLAGS.contains(&flag) => object[flag] = matches!(&*value, "true" | "1").into(),
            "container" => object["container"] = value.into(),
            "command" => push(&mut object, "command", value.into()),
            "ports" | "port" => {
                for port in value.split(',').filter_map(|port| port.parse::<u16>().ok()) {
                    push(&mut object, "ports", port.into());
                }
            }
            _ => {}
        }
    }
    object
}

fn push(object: &mut Value, key: &str, value: Value) {
    crate::json::list_mut(object, key).push(value);
}

/// Writes changed options back into the request.
fn change(request: &mut SubresourceRequest, options: &Value) -> Result<(), ApiError> {
    if request.subresource == "proxy" {
        request.rest = crate::json::text(&options["path"]).to_owned();
        return Ok(());
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    let empty = Map::new();
    for (key, value) in options.as_object().unwrap_or(&empty) {
        match value {
            _ if matches!(key.as_str(), "kind" | "apiVersion") => {}
            Value::Array(values) => {
                for value in values {
                    query.append_pair(key, &plain(value));
                }
            }
            value => {
                query.append_pair(key, &plain(value));
            }
        }
    }
    let target = format!("{}?{}", request.request.uri().path(), query.finish());
    *request.request.uri_mut() = target
        .parse()
        .map_err(|error| ApiError::internal(format_args!("a webhook's options are no query: {error}")))?;
    Ok(())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
