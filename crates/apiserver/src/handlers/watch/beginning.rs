//! Where a watch begins and how long it lasts, from its query.
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-watch>)

use std::time::Duration;

use knarr_api::{
    field::{FieldError, FieldPath},
    status::ApiError,
};

use crate::{
    cache::Start,
    handlers::{
        Context,
        options::{self, invalid_options},
    },
    route::Query,
};

/// Watches end by themselves after half an hour to an hour, so that they spread over servers.
const DEFAULT_TIMEOUT_SECONDS: u64 = 1_800;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    pub start: Start,
    /// Ends the initial objects with a bookmark that says so.
    pub mark_initial: bool,
}

impl Beginning {
    /// `None` in place of the revision is the newest that any write was answered with.
    pub fn of(query: &Query) -> Result<(Self, Option<u64>), ApiError> {
        let errors = forbidden(query);
        if !errors.is_empty() {
            return Err(invalid_options("ListOptions", errors));
        }
        let revision = options::revision(query)?;
        // Without a place to begin at, a watch begins with what is there, and says where that ends.
        let wants_initial = match query.find("sendInitialEvents") {
            Some(_) => query.flag("sendInitialEvents"),
            None => revision.is_none_or(|revision| revision == 0),
        };
        let start = match (wants_initial, revision) {
            (true, _) => Start::Now { snapshot: true },
            (false, None | Some(0)) => Start::Now { snapshot: false },
            (false, Some(revision)) => Start::After(revision),
        };
        Ok((Self { start, mark_initial: wants_initial && query.flag("allowWatchBookmarks") }, revision))
    }

    pub async fn wait(context: &Context) -> Result<Self, ApiError> {
        let (beginning, revision) = Self::of(&context.query)?;
        let caches = &context.server.caches;
        match revision {
            None => drop(caches.fresh().await?),
            // A revision that is not there yet is waited for, so that nothing before it is ever sent.
            Some(revision) => caches.at_least(revision).await?,
        }
        Ok(beginning)
    }
}

fn forbidden(query: &Query) -> Vec<FieldError> {
    let path = FieldPath::new("resourceVersionMatch");
    let matching = query.get("resourceVersionMatch");
    let has_initial = query.find("sendInitialEvents").is_some();
    let rows = [
        (
            has_initial && matching != "NotOlderThan",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            !has_initial && !matching.is_empty(),
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
    ];
    let mut errors: Vec<FieldError> =
        rows.iter().filter(|(wrong, _)| *wrong).map(|(_, why)| FieldError::forbidden(&path, *why)).collect();
    if !matching.is_empty() && matching != "NotOlderThan" {
        errors.push(FieldError::not_supported(&path, matching, &["NotOlderThan"]));
    }
    if !matching.is_empty() && !query.get("continue").is_empty() {
        let why = "resourceVersionMatch is forbidden when continue is provided";
        errors.push(FieldError::forbidden(&path, why));
    }
    errors
}

pub(super) fn timeout(context: &Context) -> Result<Duration, ApiError> {
    let asked = match context.query.get("timeoutSeconds") {
        "" => 0,
        text => text
            .parse::<u64>()
            .map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?,
    };
    let seconds = match asked {
        0 => DEFAULT_TIMEOUT_SECONDS + context.server.env.random() % DEFAULT_TIMEOUT_SECONDS,
        asked => asked.min(24 * 3_600),
    };
    Ok(Duration::from_secs(seconds))
}
