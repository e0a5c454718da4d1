//! The query parameters of reads and writes, read and checked in upstream's words.

use http::{HeaderMap, header};
use knarr_api::status::{ApiError, Reason};
use serde_json::{Value, json};

use crate::{
    route::Query,
    write::{Validation, WriteOptions},
};

const MAX_MANAGER_BYTES: usize = 128;

pub fn dry_run(query: &Query) -> Result<bool, ApiError> {
    let mut all = query.all("dryRun").filter(|value| !value.is_empty()).peekable();
    let asked = all.peek().is_some();
    match all.find(|value| *value != "All") {
        Some(other) => {
            Err(invalid("CreateOptions", format!("dryRun: Unsupported value: {other:?}: supported values: \"All\"")))
        }
        None => Ok(asked),
    }
}

pub fn invalid(kind: &str, why: impl std::fmt::Display) -> ApiError {
    let message = format!("{kind}.meta.k8s.io \"\" is invalid: {why}");
    ApiError::new(Reason::Invalid, message).about(&format!("{kind}.meta.k8s.io"), "")
}

/// What CreateOptions, UpdateOptions and PatchOptions share.
pub fn write_options(kind: &str, query: &Query, headers: &HeaderMap) -> Result<WriteOptions, ApiError> {
    let validation = match query.get("fieldValidation") {
        "" | "Warn" => Validation::Warn,
        "Ignore" => Validation::Ignore,
        "Strict" => Validation::Strict,
        other => {
            return Err(invalid(
                kind,
                format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
                ),
            ));
        }
    };
    let dry_run = dry_run(query)?;
    let manager = query.get("fieldManager");
    if manager.len() > MAX_MANAGER_BYTES {
        return Err(invalid(kind, format!("fieldManager: Too long: may not be more than {MAX_MANAGER_BYTES} bytes")));
    }
    if let Some(odd) = manager.chars().find(|c| c.is_control()) {
        return Err(invalid(
            kind,
            format!(
                "fieldManager: Invalid value: {manager:?}: should only contain printable characters, found {odd:?}"
            ),
        ));
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
    if dry_run(query)? {
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
            Err(_) => Err(invalid(
                "ListOptions",
                format!(
                    "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
                ),
            )),
        },
    }
}

/// resourceVersion and resourceVersionMatch of a list.
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list>)
pub fn list_freshness(query: &Query, limit: usize) -> Result<Freshness, ApiError> {
    let revision = revision(query)?;
    let matching = query.get("resourceVersionMatch");
    let forbidden = |why: &str| Err(invalid("ListOptions", format!("resourceVersionMatch: Forbidden: {why}")));
    if !matching.is_empty() && !query.get("continue").is_empty() {
        return forbidden("resourceVersionMatch is forbidden when continue is provided");
    }
    match (matching, revision) {
        ("", None) => Ok(Freshness::MostRecent),
        ("", Some(0)) => Ok(Freshness::Any),
        // So it was before resourceVersionMatch: a limited list of a revision is exactly that one.
        ("", Some(revision)) if limit > 0 => Ok(Freshness::Exact(revision)),
        ("", Some(revision)) => Ok(Freshness::NotOlderThan(revision)),
        (_, None) => forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"),
        ("Exact", Some(0)) => forbidden("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\""),
        ("Exact", Some(revision)) => Ok(Freshness::Exact(revision)),
        ("NotOlderThan", Some(0)) => Ok(Freshness::Any),
        ("NotOlderThan", Some(revision)) => Ok(Freshness::NotOlderThan(revision)),
        (other, _) => Err(invalid(
            "ListOptions",
            format!(
                "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
            ),
        )),
    }
}
