//! The query parameters of reads and writes, read and checked in upstream's words.

use http::{HeaderMap, header};
use knarr_api::{
    field::{FieldError, FieldPath},
    status::ApiError,
};
use serde_json::{Value, json};

use crate::{
    route::Query,
    write::{Validation, WriteOptions},
};

const MAX_MANAGER_BYTES: usize = 128;

/// True for a dry run. Upstream shows the whole list where a value of it is unknown.
pub fn dry_run(kind: &str, query: &Query) -> Result<bool, ApiError> {
    let mut errors = Vec::new();
    let asked = asks_dry_run(query, &mut errors);
    if errors.is_empty() { Ok(asked) } else { Err(invalid_options(kind, errors)) }
}

fn asks_dry_run(query: &Query, errors: &mut Vec<FieldError>) -> bool {
    let asked: Vec<&str> = query.all("dryRun").filter(|value| !value.is_empty()).collect();
    errors.extend(unknown_dry_run(&json!(asked)));
    !asked.is_empty()
}

/// What is wrong with a list of dry runs.
pub fn unknown_dry_run(asked: &Value) -> Option<FieldError> {
    let unknown = asked.as_array().into_iter().flatten().any(|one| one != "All");
    unknown.then(|| FieldError::not_supported(&FieldPath::new("dryRun"), asked.clone(), &["All"]))
}

pub fn invalid_options(kind: &str, errors: Vec<FieldError>) -> ApiError {
    ApiError::invalid(&format!("{kind}.meta.k8s.io"), "", errors)
}

/// What CreateOptions, UpdateOptions and PatchOptions share. `errors`: what is wrong already.
pub fn write_options(
    kind: &str,
    query: &Query,
    headers: &HeaderMap,
    mut errors: Vec<FieldError>,
) -> Result<WriteOptions, ApiError> {
    let manager = query.get("fieldManager");
    check_manager(manager, &mut errors);
    let dry_run = asks_dry_run(query, &mut errors);
    let validation = match query.get("fieldValidation") {
        "" | "Warn" => Validation::Warn,
        "Ignore" => Validation::Ignore,
        "Strict" => Validation::Strict,
        other => {
            let path = FieldPath::new("fieldValidation");
            errors.push(FieldError::not_supported(&path, other, &["", "Ignore", "Strict", "Warn"]));
            Validation::Strict
        }
    };
    if !errors.is_empty() {
        return Err(invalid_options(kind, errors));
    }
    let mut raw = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if dry_run {
        raw["dryRun"] = json!(["All"]);
    }
    if !manager.is_empty() {
        raw["fieldManager"] = manager.into();
    }
    if let Some(validation) = query.find("fieldValidation").filter(|text| !text.is_empty()) {
        raw["fieldValidation"] = validation.into();
    }
    let manager = if manager.is_empty() { manager_of(headers) } else { manager.to_owned() };
    Ok(WriteOptions { dry_run, validation, manager, raw })
}

fn check_manager(manager: &str, errors: &mut Vec<FieldError>) {
    let path = FieldPath::new("fieldManager");
    if manager.len() > MAX_MANAGER_BYTES {
        errors.push(FieldError::too_long(&path, MAX_MANAGER_BYTES));
    }
    for (at, odd) in manager.char_indices().filter(|(_, c)| c.is_control()) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(odd));
        errors.push(FieldError::invalid(&path, manager, why));
    }
}

/// Without a field manager it is the program's name that the user agent begins with.
fn manager_of(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let program = agent.split('/').next().unwrap_or_default();
    if program.is_empty() { "unknown".to_owned() } else { program.chars().take(MAX_MANAGER_BYTES).collect() }
}

/// DeleteOptions from the body, with what the query says where the body is silent.
pub fn merge_delete_query(options: &mut Value, query: &Query) -> Result<(), ApiError> {
    if let Some(grace) = query.find("gracePeriodSeconds").filter(|text| !text.is_empty())
        && options["gracePeriodSeconds"].is_null()
    {
        let seconds: i64 = grace
            .parse()
            .map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {grace:?}: invalid syntax")))?;
        options["gracePeriodSeconds"] = seconds.into();
    }
    for key in ["propagationPolicy", "orphanDependents"] {
        if let Some(text) = query.find(key).filter(|text| !text.is_empty())
            && options[key].is_null()
        {
            options[key] = if key == "orphanDependents" { (text == "true").into() } else { text.into() };
        }
    }
    if dry_run("DeleteOptions", query)? {
        options["dryRun"] = json!(["All"]);
    }
    Ok(())
}

/// How old a read may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As new as the last acknowledged write.
    MostRecent,
    /// Whatever the cache has.
    Any,
    NotOlderThan(u64),
    Exact(u64),
}

pub fn revision(query: &Query) -> Result<Option<u64>, ApiError> {
    match query.get("resourceVersion") {
        "" => Ok(None),
        text => match text.parse() {
            Ok(revision) => Ok(Some(revision)),
            Err(_) => {
                let why = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
                let path = FieldPath::new("resourceVersion");
                Err(invalid_options("ListOptions", vec![FieldError::invalid(&path, text, why)]))
            }
        },
    }
}

/// resourceVersion and resourceVersionMatch of a list.
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list>)
pub fn list_freshness(query: &Query, limit: usize) -> Result<Freshness, ApiError> {
    let errors = forbidden(query);
    if !errors.is_empty() {
        return Err(invalid_options("ListOptions", errors));
    }
    Ok(match (query.get("resourceVersionMatch"), revision(query)?) {
        (_, None) => Freshness::MostRecent,
        (_, Some(0)) => Freshness::Any,
        ("Exact", Some(revision)) => Freshness::Exact(revision),
        // So it was before resourceVersionMatch: a limited list of a revision is exactly that one.
        ("", Some(revision)) if limit > 0 => Freshness::Exact(revision),
        (_, Some(revision)) => Freshness::NotOlderThan(revision),
    })
}

/// What a list may not ask for.
fn forbidden(query: &Query) -> Vec<FieldError> {
    let path = FieldPath::new("resourceVersionMatch");
    let mut errors = Vec::new();
    let matching = query.get("resourceVersionMatch");
    if !matching.is_empty() {
        if query.get("resourceVersion").is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(&path, why));
        }
        if !query.get("continue").is_empty() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(FieldError::forbidden(&path, why));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            errors.push(FieldError::not_supported(&path, matching, &["Exact", "NotOlderThan", ""]));
        }
        if matching == "Exact" && query.get("resourceVersion") == "0" {
            let why = r#"resourceVersionMatch "exact" is forbidden for resourceVersion "0""#;
            errors.push(FieldError::forbidden(&path, why));
        }
    }
    if query.find("sendInitialEvents").is_some() {
        let path = FieldPath::new("sendInitialEvents");
        errors.push(FieldError::forbidden(&path, "sendInitialEvents is forbidden for list"));
    }
    errors
}
