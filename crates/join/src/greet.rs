//! The first question to a server, and what its answer tells beside the answer: whether it can be spoken to at all,
//! whose clock is wrong, and whether both are of versions that go together.

use std::time::Duration;

use http::{StatusCode, header::DATE};
use jiff::{Timestamp, fmt::rfc2822};
use knarr_client::{
    Clock,
    https::{Https, HttpsError},
};
use rustls::CertificateError;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{JoinError, USER_AGENT};

/// More than this makes certificates hold at one end and not at the other.
const MAX_SKEW_SECONDS: i64 = 60;
const PAUSE: Duration = Duration::from_millis(100);
/// How many minor versions an agent may be behind its server (<https://kubernetes.io/releases/version-skew-policy/>).
const MAX_BEHIND: u32 = 3;

/// Asks for the version. A server that cannot be reached is tried again for `patience`; all else is final.
pub async fn greet(https: &Https, server: &str, clock: Clock, patience: Duration) -> Result<StatusCode, JoinError> {
    let deadline = Instant::now() + patience;
    while let Err(error) = https.reach().await {
        let error = judge(error, server);
        if !matches!(error, JoinError::Unreachable { .. }) || Instant::now() + PAUSE > deadline {
            return Err(error);
        }
        sleep(PAUSE).await;
    }
    let request = http::Request::get("/version").body(Vec::new()).map_err(JoinError::key)?;
    let answer = https.client(USER_AGENT).send(request.map(Into::into)).await.map_err(JoinError::Api)?;
    let status = answer.status();
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
    check_clock(date, clock.now())?;
    if status == StatusCode::OK {
        let body = answer.into_body().collect_bytes().await.map_err(JoinError::Api)?;
        let version: Value = serde_json::from_slice(&body).unwrap_or_default();
        let version = version["gitVersion"].as_str().unwrap_or("an unknown version");
        check_version(knarr_api::version::GIT_VERSION, version)?;
    }
    Ok(status)
}

/// What a failed connection means to somebody who wants to join.
fn judge(source: HttpsError, server: &str) -> JoinError {
    let server = server.to_owned();
    match source.tls() {
        Some(rustls::Error::InvalidCertificate(error)) => match error {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                JoinError::WrongName { server }
            }
            _ => JoinError::WrongAuthority { server },
        },
        Some(_) => JoinError::NotAServer { server, source },
        None => match source {
            HttpsError::Url { .. } => JoinError::Address { server },
            HttpsError::Tls { .. } | HttpsError::Http { .. } => JoinError::NotAServer { server, source },
            HttpsError::Resolve { .. } | HttpsError::Connect { .. } | HttpsError::Silent { .. } => {
                JoinError::Unreachable { server, source }
            }
        },
    }
}

fn check_clock(date: Option<&str>, now: Timestamp) -> Result<(), JoinError> {
    // A server that does not say what time it is cannot be compared with.
    let Some(date) = date.and_then(|date| rfc2822::DateTimeParser::new().parse_timestamp(date).ok()) else {
        return Ok(());
    };
    let ahead = now.as_second() - date.as_second();
    if ahead.abs() > MAX_SKEW_SECONDS {
        return Err(JoinError::ClockSkew { seconds: ahead.abs(), ahead: ahead > 0 });
    }
    Ok(())
}

fn check_version(own: &str, server: &str) -> Result<(), JoinError> {
    let minor = |version: &str| -> Option<(u32, u32)> {
        let mut parts = version.trim_start_matches('v').split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let why = match (minor(own), minor(server)) {
        (Some(own), Some(server)) if own > server => {
            "an agent may not be newer than its server; update the server first"
        }
        (Some(own), Some(server)) if own.0 < server.0 || own.1 + MAX_BEHIND < server.1 => {
            "an agent may be three minor versions behind its server, and no more; update the agent"
        }
        (_, None) => "it is no API server that this agent knows",
        _ => return Ok(()),
    };
    Err(JoinError::Version { own: own.to_owned(), server: server.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        for (date, expected) in [
            (None, None),
            (Some("Thu, 01 Jan 2026 12:00:00 GMT"), None),
            (Some("Thu, 01 Jan 2026 12:01:00 GMT"), None),
            (Some("Thu, 01 Jan 2026 12:01:01 GMT"), Some((61, false))),
            (Some("Thu, 01 Jan 2026 11:00:00 GMT"), Some((3600, true))),
        ] {
            let found = match check_clock(date, now) {
                Ok(()) => None,
                Err(JoinError::ClockSkew { seconds, ahead }) => Some((seconds, ahead)),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(found, expected, "{date:?}");
        }
    }

    #[test]
    fn versions() {
        for (own, server, good) in [
            ("v1.36.2+knarr0.1.0", "v1.36.0", true),
            ("v1.36.2", "v1.39.0", true),
            ("v1.36.2", "v1.40.0", false),
            ("v1.36.2", "v1.35.9", false),
            ("v1.36.2", "an unknown version", false),
        ] {
            assert_eq!(check_version(own, server).is_ok(), good, "{own} {server}");
        }
    }
}
