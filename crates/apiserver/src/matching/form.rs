//! Objects in the version and form in which a webhook or a policy wants to see them, and back.

use std::borrow::Cow;

use knarr_api::{status::ApiError, strategy::scale as workload};
use serde_json::{Map, Value};

use super::{Form, Subject, kind};
use crate::{
    codec::{
        Shape, cannot_be_handled,
        strict::{strictness, unknown_fields, unknown_fields_told},
    },
    contract::Operation,
    convert,
    custom::{self, Found},
    server::Inner,
    write::{Validation, metadata_mut},
};

impl Inner {
    /// The new and the old object as a webhook or a policy is to see them.
    pub(crate) async fn shown<'v>(
        &self,
        subject: &'v Subject<'_, '_>,
        found: &Found,
        is_mutating: bool,
    ) -> Result<(Cow<'v, Value>, Cow<'v, Value>), ApiError> {
        let request = &*subject.request;
        let mut object = self.in_form(subject, found, &request.object).await?;
        if is_mutating && request.operation == Operation::Create && subject.subresource().is_empty() {
            hide_identity(object.to_mut(), subject.is_name_generated);
        }
        let old = match request.old {
            Some(old) => self.in_form(subject, found, old).await?,
            None => Cow::Owned(Value::Null),
        };
        Ok((object, old))
    }

    async fn in_form<'v>(
        &self,
        subject: &Subject<'_, '_>,
        found: &Found,
        object: &'v Value,
    ) -> Result<Cow<'v, Value>, ApiError> {
        if object.is_null() || subject.is_foreign() {
            return Ok(Cow::Borrowed(object));
        }
        if subject.form == Form::Scale {
            return Ok(Cow::Owned(match subject.custom {
                Some(custom) => custom::scale::read(custom, object),
                None => workload::read(object),
            }));
        }
        match &found.custom {
            Some(custom) => Ok(Cow::Owned(self.convert_one(custom, found.resource, object.clone()).await?)),
            None if convert::is_served_as_stored(found.resource, None) => Ok(Cow::Borrowed(object)),
            None => Ok(Cow::Owned(convert::value_to_served(found.resource, None, object.clone()))),
        }
    }

    /// The other way: what one made of the object becomes what is written.
    pub(crate) async fn take_back(
        &self,
        subject: &mut Subject<'_, '_>,
        found: &Found,
        mut changed: Value,
    ) -> Result<(), ApiError> {
        if subject.is_foreign() {
            subject.request.object = changed;
            return Ok(());
        }
        if subject.form == Form::Scale {
            let object = &mut subject.request.object;
            return match subject.custom {
                Some(custom) => custom::scale::write(custom, &changed, object),
                None => {
                    workload::write(&changed, object);
                    Ok(())
                }
            };
        }
        let before = &subject.request.object;
        if subject.request.operation == Operation::Create {
            restore_identity(&mut changed, before);
        }
        changed = match &found.custom {
            Some(custom) => {
                let version = before["apiVersion"].as_str().unwrap_or_default().to_owned();
                self.convert_to(custom, &version, vec![changed]).await?.pop().unwrap_or_default()
            }
            None => {
                convert::to_stored(found.resource, None, &mut changed);
                changed
            }
        };
        subject.request.object = changed;
        Ok(())
    }
}

/// What the server gives an object is not there yet when upstream asks those that may change it.
fn hide_identity(object: &mut Value, is_name_generated: bool) {
    let metadata = metadata_mut(object);
    metadata.remove("uid");
    if is_name_generated {
        metadata.remove("name");
    }
}

fn restore_identity(changed: &mut Value, before: &Value) {
    let keep = |metadata: &mut Map<String, Value>, key: &str| {
        if let Some(value) = before["metadata"].get(key) {
            metadata.insert(key.into(), value.clone());
        }
    };
    let metadata = metadata_mut(changed);
    keep(metadata, "uid");
    keep(metadata, "creationTimestamp");
    if metadata.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
        keep(metadata, "name");
    }
}

/// What a patch made must still be an object of its kind. Fields that a built-in kind does not know are dropped, as
/// they are by whoever decodes it; those of a custom resource are dropped when it is written.
pub(crate) fn check_type(
    subject: &Subject<'_, '_>,
    found: &Found,
    patched: &mut Value,
    validation: Validation,
) -> Result<(), ApiError> {
    let gvk = kind(found.resource, subject.subresource());
    let internal = |why: String| ApiError::internal(why);
    let (group, version, kind) = gvk;
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    if !patched.is_object() || patched["apiVersion"] != *api_version || patched["kind"] != *kind {
        return Err(internal(format!("a patch made something else of an object of {api_version}, Kind={kind}")));
    }
    if let Some(custom) = &found.custom
        && gvk == found.resource.gvk()
    {
        return custom.version().unreadable(patched).map_or(Ok(()), |why| Err(internal(why)));
    }
    let unknown = unknown_fields(Shape { gvk, custom: None }, patched);
    unknown
        .and_then(|unknown| strictness(unknown_fields_told(&unknown).collect(), validation, &mut Vec::new()))
        .map_err(|why| internal(cannot_be_handled((version, kind), &why).message().to_owned()))
}
