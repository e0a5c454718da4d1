//! PATCH in its four forms. (<https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply>)

use http::HeaderMap;
use knarr_api::{
    apply::{self, ApplyError, ApplyRequest},
    field::{FieldError, FieldPath},
    patch::{PatchError, json_patch, merge_patch, strategic_merge_patch},
    schema,
    status::{ApiError, Cause, Reason},
};
use serde_json::Value;

use super::{Context, options, scale};
use crate::{
    codec::{
        Shape, media_type, parse_document, read_body, set_type,
        strict::{self, strictness, unknown_fields, unknown_fields_told},
    },
    contract::{Body, Response},
    write::{Basis, Change, Tracking, Validation, WriteOptions, metadata_mut, text, writer},
};

const OFFERED: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// Of custom resources, whose schemas say nothing about merging lists in a patch.
const OFFERED_CUSTOM: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl Kind {
    fn of(headers: &HeaderMap, is_custom: bool) -> Result<Self, ApiError> {
        match media_type(headers) {
            "application/strategic-merge-patch+json" if is_custom => {
                Err(ApiError::unsupported_media_type(&OFFERED_CUSTOM))
            }
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ if is_custom => Err(ApiError::unsupported_media_type(&OFFERED_CUSTOM)),
            _ => Err(ApiError::unsupported_media_type(&OFFERED)),
        }
    }
}

/// A patch request that was read.
struct Patch {
    kind: Kind,
    body: Value,
    /// What is said of keys that occur twice in it, where it is YAML.
    lines: Option<String>,
    /// What is wrong with the fields of the patch itself, whatever it is applied to.
    problems: Vec<String>,
    force: bool,
    options: WriteOptions,
}

pub async fn patch(context: &Context, body: Body) -> Result<Response, ApiError> {
    let mut patch = read(context, body).await?;
    if patch.kind == Kind::Apply {
        // What the type does not know is the apply's own to refuse, however strict the client is.
        let gvk = context.resource.gvk();
        set_type(&mut patch.body, gvk.0, gvk.1, gvk.2)?;
    }
    let mut told = Vec::new();
    let mut round = |current: Option<&Value>| {
        told.clear();
        if patch.kind == Kind::Apply {
            applied(context, &patch, current, &mut told)
        } else {
            patched(context, &patch, current, &mut told)
        }
    };
    let written = context.server.update(context.call(&patch.options), &mut round).await;
    context.written(written, told).await
}

/// A patch of a Scale. An apply of it has one field, so it is merged and owned like an update.
pub async fn patch_scale(context: &Context, body: Body) -> Result<Response, ApiError> {
    let patch = read(context, body).await?;
    let mut warnings = Vec::new();
    let mut change = |current: &Value| {
        warnings.clear();
        let mut object = match patch.kind {
            Kind::Apply => merge_patch(current, &patch.body).map_err(|error| patch_error(&error))?,
            _ => apply_to(scale::SCALE, current, &patch)?,
        };
        checked(scale::SCALE.into(), &mut object, &patch, &mut warnings)?;
        if !patch.names_revision() {
            metadata_mut(&mut object).remove("resourceVersion");
        }
        Ok(object)
    };
    scale::write(context, &patch.options, &mut change, Vec::new()).await
}

async fn read(context: &Context, body: Body) -> Result<Patch, ApiError> {
    let kind = Kind::of(&context.headers, context.custom.is_some())?;
    let force = context.query.flag("force");
    let mut errors = Vec::new();
    if kind == Kind::Apply {
        if context.query.get("fieldManager").is_empty() {
            errors.push(FieldError::required(&FieldPath::new("fieldManager"), "is required for apply patch"));
        }
    } else if context.query.find("force").is_some() {
        errors.push(FieldError::forbidden(&FieldPath::new("force"), "may not be specified for non-apply patch"));
    }
    let mut options = options::write_options("PatchOptions", &context.query, &context.headers, errors)?;
    if force {
        options.raw["force"] = true.into();
    }
    let bytes = read_body(body).await?;
    let (body, repeated) = parse_document(&context.headers, &bytes).map_err(|why| match kind {
        Kind::Apply => ApiError::bad_request(format!("error decoding YAML: {why}")),
        Kind::Json | Kind::Merge => ApiError::bad_request(format!("error decoding patch: {why}")),
        Kind::Strategic => ApiError::bad_request(why),
    })?;
    let problems = match kind {
        _ if options.validation == Validation::Ignore => Vec::new(),
        Kind::Json => strict::of_operations(&bytes, &body),
        Kind::Merge | Kind::Strategic | Kind::Apply => repeated.problems().collect(),
    };
    Ok(Patch { kind, body, lines: repeated.lines, problems, force, options })
}

fn patch_error(error: &PatchError) -> ApiError {
    match error {
        PatchError::Malformed { message } => ApiError::bad_request(message),
        PatchError::TooLarge { message } => ApiError::too_large(message),
        PatchError::DoesNotApply { message } => ApiError::new(Reason::Invalid, message),
    }
}

fn apply_to(gvk: (&str, &str, &str), current: &Value, patch: &Patch) -> Result<Value, ApiError> {
    let result = match patch.kind {
        Kind::Json => json_patch(current, &patch.body),
        Kind::Strategic => match schema::of(gvk.0, gvk.1, gvk.2) {
            Some(ty) => strategic_merge_patch(ty, current, &patch.body),
            None => return Err(ApiError::unsupported_media_type(&OFFERED[..2])),
        },
        Kind::Merge | Kind::Apply => merge_patch(current, &patch.body),
    };
    result.map_err(|error| patch_error(&error))
}

/// The patched object must still be one of its kind; what is wrong is blamed on the patch. Upstream's error names no object.
fn checked(shape: Shape<'_>, object: &mut Value, patch: &Patch, warnings: &mut Vec<String>) -> Result<(), ApiError> {
    let (group, version, kind) = shape.gvk;
    set_type(object, group, version, kind)?;
    // A refusal shows the object with what was not to be in it.
    let shows_object = patch.options.validation == Validation::Strict && patch.kind != Kind::Strategic;
    let whole = shows_object.then(|| object.clone());
    let unknown = unknown_fields(shape, object);
    let checked = unknown.and_then(|unknown| {
        let problems = patch.problems.iter().cloned().chain(unknown_fields_told(&unknown));
        strictness(problems.collect(), patch.options.validation, warnings)
    });
    checked.map_err(|why| {
        let shown = match patch.kind {
            Kind::Strategic => strict::go_text(&patch.body),
            Kind::Json | Kind::Merge | Kind::Apply => whole.as_ref().unwrap_or(object).to_string(),
        };
        ApiError::invalid("", "", vec![FieldError::invalid(&FieldPath::new("patch"), shown, why)])
    })
}

fn patched(
    context: &Context,
    patch: &Patch,
    current: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<Change, ApiError> {
    let current = current.ok_or_else(|| context.not_found())?;
    let mut object = apply_to(context.resource.gvk(), current, patch)?;
    checked(context.shape(), &mut object, patch, warnings)?;
    Ok(if patch.names_revision() { Change::update(object) } else { Change::of_current(object) })
}

fn applied(
    context: &Context,
    patch: &Patch,
    current: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<Change, ApiError> {
    if current.is_none() && !context.subresource.is_empty() {
        return Err(context.not_found());
    }
    let uid = text(&patch.body, "uid");
    if current.is_none() && !uid.is_empty() {
        let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
        return Err(ApiError::conflict(&context.resource.qualified_name(), &context.info.name, why));
    }
    let (resource, custom) = (context.resource, context.custom.as_deref());
    let writer = writer(resource, custom, context.subresource, &patch.options.manager, context.server.env.now());
    let as_stored = custom.map(|custom| {
        // Who owns what is written down in the version that is stored, whichever a client speaks.
        let stored = |object: &Value| {
            let mut object = object.clone();
            custom.to_stored(&mut object);
            object
        };
        (current.map(stored), stored(&patch.body))
    });
    let (live, config) = match &as_stored {
        Some((live, config)) => (live.as_ref(), config),
        None => (current, &patch.body),
    };
    let mut object =
        apply::apply(ApplyRequest { writer, live, config, force: patch.force }).map_err(|error| apply_error(&error))?;
    if let Some(lines) = &patch.lines {
        let why = strict::of_conversion(lines);
        strictness(vec![why.clone()], patch.options.validation, warnings)
            .map_err(|_| ApiError::bad_request(format!("error strict decoding YAML: {why}")))?;
    }
    // An apply that creates takes its name from the URL.
    metadata_mut(&mut object).entry("name").or_insert_with(|| context.info.name.as_str().into());
    let basis = if patch.names_revision() { Basis::Client } else { Basis::Current };
    Ok(Change { object, tracking: Tracking::Applied, basis })
}

fn apply_error(error: &ApplyError) -> ApiError {
    match error {
        ApplyError::Malformed { message } => ApiError::bad_request(message),
        // Upstream has no reason for it, and says 500.
        ApplyError::Untyped { message } => ApiError::new(Reason::Unknown, message),
        ApplyError::Conflicts { conflicts } => {
            let cause = |conflict: &apply::Conflict| Cause {
                reason: "FieldManagerConflict".into(),
                message: format!("conflict with {}", conflict.manager),
                field: conflict.field.clone(),
            };
            ApiError::apply_conflict(conflicts.iter().map(cause).collect(), error.to_string())
        }
    }
}

impl Patch {
    /// True where the patch itself says which revision it is for.
    fn names_revision(&self) -> bool {
        match self.kind {
            Kind::Json => self.body.as_array().into_iter().flatten().any(|operation| {
                operation["path"] == "/metadata/resourceVersion"
                    && operation["op"] != "remove"
                    && operation["op"] != "test"
            }),
            _ => self.body["metadata"]["resourceVersion"].as_str().is_some_and(|revision| !revision.is_empty()),
        }
    }
}
