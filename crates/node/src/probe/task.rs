//! A task for each probe of each running container.

use std::{collections::HashMap, future::Future, time::Duration};

use k8s_openapi::api::core::v1::Probe;
use tokio::{sync::mpsc, task::AbortHandle, time::Instant};
use tracing::Instrument;

use super::{Judge, Kind, Outcome, Row, Schedule, Target, Verdict};

/// A changed verdict about one run of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub container: String,
    pub container_id: String,
    pub kind: Kind,
    pub verdict: Verdict,
}

/// The probes of one pod. Dropping it ends them.
#[derive(Default)]
pub struct Probes {
    running: HashMap<(String, Kind), Running>,
}

struct Running {
    container_id: String,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tells of a failed attempt, for the event.
pub type Tell = Box<dyn Fn(Kind, &Outcome) + Send + Sync>;

/// A probe that is to be asked.
pub struct Wanted {
    pub container: String,
    pub kind: Kind,
    pub probe: Probe,
    pub target: Target,
    /// How long the container has run already, which counts towards the initial delay.
    pub running_for: Duration,
    pub tell: Tell,
    pub row: Row,
}

impl Probes {
    /// Whether this probe of this run is being asked.
    pub fn runs(&self, container: &str, kind: Kind, container_id: &str) -> bool {
        let running = self.running.get(&(container.to_owned(), kind));
        running.is_some_and(|running| running.container_id == container_id)
    }

    /// Asks a probe from now on; the same probe of an earlier run ends.
    pub fn begin(&mut self, wanted: Wanted, report: &mpsc::Sender<Report>) {
        let Wanted { container, kind, probe, target, running_for, tell, row } = wanted;
        let container_id = target.container_id.clone();
        let base =
            Report { container: container.clone(), container_id: container_id.clone(), kind, verdict: Verdict::Good };
        let report = report.clone();
        let schedule = Schedule::of(&probe);
        let timeout = schedule.timeout;
        let work = async move {
            let ask = async || {
                let asked = Instant::now();
                let step = tracing::debug_span!(target: knarr_cri::POD_START, "probe");
                let outcome = target.attempt(&probe, timeout).instrument(step).await;
                row.count(&outcome, asked.elapsed());
                outcome
            };
            run(base, schedule, running_for, ask, report, tell).await;
        };
        let task = tokio::spawn(work.in_current_span());
        self.running.insert((container, kind), Running { container_id, task: task.abort_handle() });
    }

    /// Ends probes that `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, Kind, &str) -> bool) {
        self.running.retain(|(container, kind), running| keep(container, *kind, &running.container_id));
    }
}

/// Asks at once (after the initial delay), then every period. A startup or liveness probe that failed for good
/// has nothing more to say about this run, and so has a startup probe that succeeded.
pub(super) async fn run<F, Fut>(
    base: Report,
    schedule: Schedule,
    running_for: Duration,
    mut ask: F,
    report: mpsc::Sender<Report>,
    tell: Tell,
) where
    F: FnMut() -> Fut,
    Fut: Future<Output = Outcome>,
{
    let kind = base.kind;
    let mut judge = Judge::new(kind, &schedule);
    let mut due = Instant::now() + schedule.initial_delay.saturating_sub(running_for);
    loop {
        tokio::time::sleep_until(due).await;
        let outcome = ask().await;
        if outcome != Outcome::Success {
            tell(kind, &outcome);
        }
        if let Some(verdict) = judge.hear(&outcome) {
            if report.send(Report { verdict, ..base.clone() }).await.is_err() {
                return;
            }
            if verdict == Verdict::Bad && kind != Kind::Readiness || kind == Kind::Startup {
                return;
            }
        }
        due = (due + schedule.period).max(Instant::now());
    }
}
