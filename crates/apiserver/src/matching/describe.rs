//! A request as an AdmissionRequest, without its objects: what webhooks are sent and what expressions see.

use knarr_api::registry::Resource;
use serde_json::{Map, Value, json};

use super::{Subject, kind, name_of};
use crate::{
    contract::{Operation, UserInfo},
    custom::Found,
};

/// `found`: the resource as which the request matched.
pub(crate) fn describe(subject: &Subject<'_, '_>, found: &Found) -> Value {
    let request = &*subject.request;
    let part = subject.subresource();
    let (as_is, as_asked) = (found.resource, request.resource);
    let gvk = |(group, version, kind): (&str, &str, &str)| json!({"group": group, "version": version, "kind": kind});
    let gvr = |row: &Resource| json!({"group": row.group, "version": row.version, "resource": row.plural});
    let mut members = json!({
        "kind": gvk(kind(as_is, part)),
        "resource": gvr(as_is),
        "requestKind": gvk(kind(as_asked, part)),
        "requestResource": gvr(as_asked),
        "operation": name_of(request.operation),
        "userInfo": user(request.user),
        "dryRun": request.dry_run,
        "options": options(subject),
    });
    for (key, value) in [
        ("subResource", part),
        ("requestSubResource", part),
        ("name", subject.name()),
        ("namespace", subject.namespace()),
    ] {
        if !value.is_empty() {
            members[key] = value.into();
        }
    }
    members
}

fn user(user: &UserInfo) -> Value {
    let mut members = Map::new();
    members.insert("username".into(), user.name.as_str().into());
    if !user.uid.is_empty() {
        members.insert("uid".into(), user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        members.insert("groups".into(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        members.insert("extra".into(), json!(user.extra));
    }
    Value::Object(members)
}

/// The options as their kind; a patch is an update or a creation by the time that it gets here.
fn options(subject: &Subject<'_, '_>) -> Value {
    let request = &*subject.request;
    let kind = match request.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = request.options.as_object().cloned().unwrap_or_default();
    options.remove("force");
    options.insert("kind".into(), kind.into());
    options.insert("apiVersion".into(), "meta.k8s.io/v1".into());
    Value::Object(options)
}
