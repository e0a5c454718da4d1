//! Asking what someone may do: `authorizer.group('apps').resource('deployments').check('create').allowed()`.

use std::sync::Arc;

use super::{Cost, Outcome, Row, Sig, member, no_overload, run};
use crate::{
    authorizer::Attributes,
    value::{Authority, Opaque, Value},
};

const AUTHORIZER: Sig = Sig::Opaque("kubernetes.authorization.Authorizer");
const PATH: Sig = Sig::Opaque("kubernetes.authorization.PathCheck");
const GROUP: Sig = Sig::Opaque("kubernetes.authorization.GroupCheck");
const RESOURCE: Sig = Sig::Opaque("kubernetes.authorization.ResourceCheck");
const DECISION: Sig = Sig::Opaque("kubernetes.authorization.Decision");
const ONE: Cost = Cost::Fixed(1);
/// An expression can ask twice.
const CHECK: Cost = Cost::Fixed(350_000);

macro_rules! detail {
    ($name:literal, $cost:expr, $field:ident, $value:expr) => {
        member($name, &[RESOURCE, Sig::String], RESOURCE, $cost, run!(
            [Value::Opaque(Opaque::ResourceCheck(check)), Value::String(text)] =>
                Ok(Value::Opaque(Opaque::ResourceCheck(with(check, |attributes| attributes.$field = $value(text)))))))
    };
}

pub(crate) const ROWS: &[Row] = &[
    member(
        "path",
        &[AUTHORIZER, Sig::String],
        PATH,
        ONE,
        run!(
        [Value::Opaque(Opaque::Authorizer(check)), Value::String(path)] => match path.trim() {
            "" => Err("path must not be empty".to_owned()),
            _ => Ok(Value::Opaque(Opaque::PathCheck(with(check, |attributes| attributes.path = Some(path.to_string()))))),
        }),
    ),
    member(
        "group",
        &[AUTHORIZER, Sig::String],
        GROUP,
        ONE,
        run!(
        [Value::Opaque(Opaque::Authorizer(check)), Value::String(group)] =>
            Ok(Value::Opaque(Opaque::GroupCheck(with(check, |attributes| attributes.group = group.to_string()))))),
    ),
    member(
        "serviceAccount",
        &[AUTHORIZER, Sig::String, Sig::String],
        AUTHORIZER,
        ONE,
        run!(
        [Value::Opaque(Opaque::Authorizer(check)), Value::String(namespace), Value::String(name)] =>
            service_account(check, namespace, name)),
    ),
    member(
        "resource",
        &[GROUP, Sig::String],
        RESOURCE,
        ONE,
        run!(
        [Value::Opaque(Opaque::GroupCheck(check)), Value::String(resource)] => match resource.trim() {
            "" => Err("resource must not be empty".to_owned()),
            _ => Ok(Value::Opaque(Opaque::ResourceCheck(with(check, |attributes| {
                attributes.resource = resource.to_string();
            })))),
        }),
    ),
    detail!("subresource", ONE, subresource, |text: &str| text.to_owned()),
    detail!("namespace", ONE, namespace, |text: &str| text.to_owned()),
    detail!("name", ONE, name, |text: &str| text.to_owned()),
    detail!("fieldSelector", Cost::Selector, field_selector, |text: &str| Some(text.to_owned())),
    detail!("labelSelector", Cost::Selector, label_selector, |text: &str| Some(text.to_owned())),
    member("check", &[PATH, Sig::String], DECISION, CHECK, check),
    member("check", &[RESOURCE, Sig::String], DECISION, CHECK, check),
    member(
        "errored",
        &[DECISION],
        Sig::Bool,
        ONE,
        run!(
        [Value::Opaque(Opaque::Decision(decision))] => Ok(Value::Bool(decision.error.is_some()))),
    ),
    member(
        "error",
        &[DECISION],
        Sig::String,
        ONE,
        run!(
        [Value::Opaque(Opaque::Decision(decision))] => Ok(Value::text(decision.error.clone().unwrap_or_default()))),
    ),
    member(
        "allowed",
        &[DECISION],
        Sig::Bool,
        ONE,
        run!(
        [Value::Opaque(Opaque::Decision(decision))] => Ok(Value::Bool(decision.allowed))),
    ),
    member(
        "reason",
        &[DECISION],
        Sig::String,
        ONE,
        run!(
        [Value::Opaque(Opaque::Decision(decision))] => Ok(Value::text(decision.reason.clone()))),
    ),
];

fn with<'a>(authority: &Authority<'a>, change: impl FnOnce(&mut Attributes)) -> Authority<'a> {
    let mut attributes = Attributes::clone(&authority.attributes);
    change(&mut attributes);
    Authority { authorizer: authority.authorizer, attributes: Arc::new(attributes) }
}

fn service_account<'a>(authority: &Authority<'a>, namespace: &str, name: &str) -> Outcome<'a> {
    if !super::formats::is_subdomain(name) {
        return Err("Invalid service account name".to_owned());
    }
    if !super::formats::is_label(namespace) {
        return Err("Invalid service account namespace".to_owned());
    }
    let user = Some((namespace.to_owned(), name.to_owned()));
    Ok(Value::Opaque(Opaque::Authorizer(with(authority, |attributes| attributes.user = user))))
}

fn check<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Opaque(Opaque::PathCheck(asked) | Opaque::ResourceCheck(asked)), Value::String(verb)] = args else {
        return no_overload();
    };
    let complete = with(asked, |attributes| attributes.verb = verb.to_string());
    let decision = complete.authorizer.check(&complete.attributes);
    Ok(Value::Opaque(Opaque::Decision(Arc::new(decision))))
}
