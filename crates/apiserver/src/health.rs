//! `/healthz`, `/livez` and `/readyz`, which anybody may ask, and `/version`.
//! (<https://kubernetes.io/docs/reference/using-api/health-checks/>)

use http::StatusCode;
use serde_json::json;

use crate::{codec::respond, contract::Response, route::Query};

/// Says what is wrong, if anything.
pub type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

const ENDPOINTS: [&str; 3] = ["/healthz", "/livez", "/readyz"];

pub fn is_public(path: &str) -> bool {
    ENDPOINTS
        .iter()
        .any(|endpoint| path.strip_prefix(endpoint).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// The body of `/version`.
pub fn version() -> Vec<u8> {
    let platform = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35", "gitVersion": knarr_api::version::GIT_VERSION,
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc", "platform": platform,
    })
    .to_string()
    .into_bytes()
}

pub struct Health {
    checks: Vec<(&'static str, Check)>,
}

impl Health {
    pub fn new(checks: Vec<(&'static str, Check)>) -> Self {
        Self { checks }
    }

    /// `/readyz`, `/readyz?verbose`, `/readyz?exclude=x`, `/readyz/x`. A server that answers is alive; whether it is
    /// ready is what the checks say.
    pub fn answer(&self, path: &str, query: &Query) -> Response {
        let path = path.trim_end_matches('/');
        let (endpoint, only) = match path[1..].split_once('/') {
            Some((endpoint, only)) => (endpoint, Some(only)),
            None => (&path[1..], None),
        };
        let asks_all = endpoint == "readyz";
        let excluded: Vec<&str> = query.all("exclude").collect();
        let ping: Check = Box::new(|| Ok(()));
        let ping = ("ping", ping);
        let mut lines = String::new();
        let mut failed = Vec::new();
        let mut found = false;
        for (name, check) in std::iter::once(&ping).chain(self.checks.iter().filter(|_| asks_all)) {
            if only.is_some_and(|only| only != *name) {
                continue;
            }
            found = true;
            if excluded.contains(name) {
                lines.push_str(&format!("[+]{name} excluded: ok\n"));
            } else if let Err(reason) = check() {
                tracing::debug!(check = name, reason, "a health check failed");
                failed.push(*name);
                lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
            } else {
                lines.push_str(&format!("[+]{name} ok\n"));
            }
        }
        if !found {
            return respond::text(StatusCode::NOT_FOUND, "404 page not found\n");
        }
        if !failed.is_empty() {
            lines.push_str(&format!("{endpoint} check failed\n"));
            return respond::text(StatusCode::INTERNAL_SERVER_ERROR, lines);
        }
        if query.find("verbose").is_some() {
            lines.push_str(&format!("{endpoint} check passed\n"));
            return respond::text(StatusCode::OK, lines);
        }
        respond::text(StatusCode::OK, "ok")
    }
}
