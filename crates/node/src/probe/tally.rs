//! How probes went and how long they took, for `/metrics/probes`. Each probe that runs has a row, which goes with it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Kind, Outcome};
use crate::server::exposition::{self, Family};

/// The upper bounds of the histogram, in seconds: those that Prometheus' clients have by default.
const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const RESULTS: [&str; 3] = ["failed", "successful", "unknown"];

/// Whose probe it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    pub container: String,
    pub kind: Kind,
}

#[derive(Clone, Default)]
struct Counts {
    /// The row that counts here: the probe of an earlier run may end when that of the next one has begun.
    row: u64,
    results: [u64; RESULTS.len()],
    /// How many took up to each bound and longer than the one before; the last took longer than all.
    took: [u64; BOUNDS.len() + 1],
    seconds: f64,
}

/// The probes of a node.
#[derive(Default)]
pub struct Tally {
    rows: Mutex<BTreeMap<Subject, Counts>>,
    next: AtomicU64,
}

/// A probe's row; dropping it ends the row.
pub struct Row {
    tally: Arc<Tally>,
    id: u64,
    subject: Subject,
}

impl Tally {
    pub fn begin(self: &Arc<Self>, subject: Subject) -> Row {
        Row { tally: self.clone(), id: self.next.fetch_add(1, Ordering::Relaxed), subject }
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<Subject, Counts>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn page(&self) -> String {
        let help = "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.";
        let mut total = Family::counter("prober_probe_total", help);
        let help = "[ALPHA] Duration in seconds for a probe response.";
        let mut duration = Family::new("prober_probe_duration_seconds", "histogram", help);
        for (subject, counts) in self.rows().iter() {
            let own = [
                ("probe_type", subject.kind.name()),
                ("container", &*subject.container),
                ("pod", &*subject.pod),
                ("namespace", &*subject.namespace),
            ];
            let with = |more: &[(&str, &str)]| exposition::labels(&[&own, more].concat());
            for (result, count) in RESULTS.iter().zip(counts.results).filter(|(_, count)| *count > 0) {
                total.now(&with(&[("pod_uid", &subject.uid), ("result", result)]), count);
            }
            let mut up_to = 0;
            let bounds = BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(counts.took) {
                up_to += count;
                duration.part("_bucket", &with(&[("le", &bound)]), up_to);
            }
            duration.part("_sum", &with(&[]), counts.seconds);
            duration.part("_count", &with(&[]), up_to);
        }
        exposition::page([&duration, &total])
    }
}

impl Row {
    pub fn count(&self, outcome: &Outcome, took: Duration) {
        let result = match outcome {
            Outcome::Failure(_) => 0,
            Outcome::Success | Outcome::Warning(_) => 1,
            Outcome::Unknown(_) => 2,
        };
        let seconds = took.as_secs_f64();
        let mut rows = self.tally.rows();
        let counts = rows.entry(self.subject.clone()).or_default();
        if counts.row != self.id {
            *counts = Counts { row: self.id, ..Counts::default() };
        }
        counts.results[result] += 1;
        counts.took[BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len())] += 1;
        counts.seconds += seconds;
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        let mut rows = self.tally.rows();
        if rows.get(&self.subject).is_some_and(|counts| counts.row == self.id) {
            rows.remove(&self.subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_counted_while_they_run() {
        let tally = Arc::new(Tally::default());
        let text = |value: &str| value.to_owned();
        let subject = Subject {
            namespace: text("d"),
            pod: text("p"),
            uid: text("u"),
            container: text("a"),
            kind: Kind::Liveness,
        };
        let row = tally.begin(subject.clone());
        assert_eq!(tally.page(), "", "nothing was asked yet");
        row.count(&Outcome::Success, Duration::from_millis(20));
        row.count(&Outcome::Success, Duration::from_millis(300));
        row.count(&Outcome::Failure(text("no")), Duration::from_secs(11));
        let page = tally.page();
        let own = "container=\"a\",namespace=\"d\",pod=\"p\"";
        let bucket = |bound: &str| {
            let own = own.replace(",namespace", &format!(",le=\"{bound}\",namespace"));
            format!("prober_probe_duration_seconds_bucket{{{own},probe_type=\"Liveness\"}}")
        };
        for line in [
            "# TYPE prober_probe_duration_seconds histogram".to_owned(),
            format!("prober_probe_total{{{own},pod_uid=\"u\",probe_type=\"Liveness\",result=\"successful\"}} 2"),
            format!("prober_probe_total{{{own},pod_uid=\"u\",probe_type=\"Liveness\",result=\"failed\"}} 1"),
            format!("{} 0", bucket("0.01")),
            format!("{} 1", bucket("0.025")),
            format!("{} 2", bucket("10")),
            format!("{} 3", bucket("+Inf")),
            format!("prober_probe_duration_seconds_sum{{{own},probe_type=\"Liveness\"}} 11.32"),
            format!("prober_probe_duration_seconds_count{{{own},probe_type=\"Liveness\"}} 3"),
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
        }
        assert!(!page.contains("result=\"unknown\""));
        // The container runs anew.
        let next = tally.begin(subject);
        next.count(&Outcome::Unknown(text("what?")), Duration::ZERO);
        drop(row);
        let page = tally.page();
        assert!(page.contains("result=\"unknown\"} 1\n") && !page.contains("result=\"failed\""), "{page}");
        drop(next);
        assert_eq!(tally.page(), "");
    }
}
