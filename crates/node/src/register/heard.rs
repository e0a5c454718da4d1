//! What the runtime last said of itself, which stands for a while: one that is started anew is back within seconds, and
//! a node that is told to be unready meanwhile would lose its pods' traffic for nothing.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use knarr_cri::v1::StatusResponse;

use super::object::Standing;

/// As kubelets have it.
const STANDS_FOR: SignedDuration = SignedDuration::from_secs(30);

#[derive(Default)]
pub struct Heard(Mutex<Last>);

#[derive(Default)]
struct Last {
    word: Option<(Standing, Timestamp)>,
    /// Told once, and not at every look.
    is_silent: bool,
}

impl Heard {
    /// How the runtime stands after it was asked.
    pub fn standing(&self, answer: knarr_cri::Result<StatusResponse>, now: Timestamp) -> Standing {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let error = match answer {
            Ok(answer) => {
                let standing = Standing::of(answer);
                *last = Last { word: Some((standing.clone(), now)), is_silent: false };
                return standing;
            }
            Err(error) => error,
        };
        if !std::mem::replace(&mut last.is_silent, true) {
            tracing::warn!(%error, "the container runtime does not say how it is");
        }
        match &last.word {
            Some((standing, at)) if now.duration_since(*at) < STANDS_FOR => standing.clone(),
            Some((standing, _)) => {
                Standing { not_ready: Some("container runtime is down".to_owned()), ..standing.clone() }
            }
            None => {
                let why = "container runtime status check may not have completed yet";
                Standing { not_ready: Some(why.to_owned()), ..Standing::default() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use knarr_cri::{
        CriError,
        v1::{RuntimeCondition, RuntimeStatus},
    };

    use super::*;

    #[test]
    fn a_runtime_may_be_away_for_a_moment() {
        let at = |seconds: i64| Timestamp::from_second(1_000 + seconds).unwrap();
        let gone = || Err(CriError::Unavailable { message: "connection refused".into() });
        let well = || {
            let condition = |name: &str| RuntimeCondition { r#type: name.into(), status: true, ..Default::default() };
            let conditions = vec![condition("RuntimeReady"), condition("NetworkReady")];
            Ok(StatusResponse { status: Some(RuntimeStatus { conditions }), ..StatusResponse::default() })
        };
        let heard = Heard::default();
        let says = |answer, seconds| heard.standing(answer, at(seconds)).not_ready;
        let unknown = "container runtime status check may not have completed yet";
        assert_eq!(says(gone(), 0).as_deref(), Some(unknown));
        assert_eq!(says(well(), 1), None);
        assert_eq!(says(gone(), 30), None);
        assert_eq!(says(gone(), 31).as_deref(), Some("container runtime is down"));
        assert_eq!(says(well(), 40), None);
    }
}
