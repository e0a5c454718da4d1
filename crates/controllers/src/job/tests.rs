use jiff::Timestamp;
use serde_json::{Value, json};

use super::{making, plan::*, *};
use crate::common::pods;

/// A Job with the pods it has made; what the plan says is done at once.
struct World {
    job: Job,
    pods: Vec<Arc<Pod>>,
    now: Timestamp,
    made: usize,
}

impl World {
    fn new(spec: Value) -> Self {
        let mut value = json!({"metadata": {"name": "j", "namespace": "d", "uid": "job"},
            "spec": {"parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
                "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}}});
        json_patch::merge(&mut value, &json!({"spec": spec}));
        let now = "2024-01-01T00:00:00Z".parse().unwrap();
        Self { job: serde_json::from_value(value).unwrap(), pods: Vec::new(), now, made: 0 }
    }

    fn step(&mut self) -> Plan {
        let plan = plan(&self.job, &self.pods, self.now);
        if let Some(status) = &plan.status {
            self.job.status = Some((**status).clone());
        }
        let is = |list: &[Arc<Pod>], pod: &Arc<Pod>| list.iter().any(|other| other.metadata.uid == pod.metadata.uid);
        for pod in &mut self.pods {
            if is(&plan.free, pod) || is(&plan.free_and_delete, pod) {
                Arc::make_mut(pod).metadata.finalizers = None;
            }
        }
        self.pods.retain(|pod| !is(&plan.free_and_delete, pod));
        for pod in &mut self.pods {
            if is(&plan.delete, pod) {
                // The node ends it.
                *pod = phase(pod, "Failed");
            }
        }
        for new in &plan.create {
            self.made += 1;
            let mut pod = (**new).clone();
            pod.metadata.uid = Some(format!("p{}", self.made));
            pod.metadata.name = Some(format!("{}{}", pod.metadata.generate_name.clone().unwrap(), self.made));
            self.pods.push(Arc::new(pods::seen(&pod)));
        }
        plan
    }

    fn settle(&mut self) -> String {
        for _ in 0..20 {
            let plan = self.step();
            if plan.status.is_none()
                && plan.create.is_empty()
                && plan.free.is_empty()
                && plan.free_and_delete.is_empty()
                && plan.delete.is_empty()
            {
                return self.show();
            }
        }
        panic!("does not settle");
    }

    /// Ends the pod that was made as number `n`.
    fn end(&mut self, n: usize, how: &str) {
        let uid = format!("p{n}");
        let pod = self.pods.iter_mut().find(|pod| pod.metadata.uid.as_ref() == Some(&uid)).unwrap();
        *pod = phase(pod, how);
        let mut value = serde_json::to_value(&**pod).unwrap();
        json_patch::merge(
            &mut value,
            &json!({"status": {"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"terminated": {"exitCode": 7, "finishedAt": self.now}}}]}}),
        );
        *pod = Arc::new(serde_json::from_value(value).unwrap());
    }

    fn failed_indexes(&self) -> String {
        self.job.status.clone().and_then(|status| status.failed_indexes).unwrap_or_default()
    }

    fn show(&self) -> String {
        let status = self.job.status.clone().unwrap_or_default();
        let conditions: Vec<_> = status
            .conditions
            .iter()
            .flatten()
            .map(|c| format!("{}={}", c.type_, c.reason.as_deref().unwrap()))
            .collect();
        let indexes = status.completed_indexes.map(|indexes| format!(" [{indexes}]")).unwrap_or_default();
        assert_eq!(status.uncounted_terminated_pods, None);
        format!(
            "active {} succeeded {} failed {}{indexes} {}",
            status.active.unwrap_or(0),
            status.succeeded.unwrap_or(0),
            status.failed.unwrap_or(0),
            conditions.join(" ")
        )
    }
}

fn phase(pod: &Pod, phase: &str) -> Arc<Pod> {
    let mut pod = pod.clone();
    pod.status.get_or_insert_default().phase = Some(phase.to_owned());
    Arc::new(pod)
}

#[test]
fn runs_until_enough_have_succeeded() {
    let mut world = World::new(json!({"parallelism": 2, "completions": 3}));
    assert_eq!(world.settle(), "active 2 succeeded 0 failed 0 ");
    world.end(1, "Succeeded");
    assert_eq!(world.settle(), "active 2 succeeded 1 failed 0 ");
    world.end(2, "Succeeded");
    assert_eq!(world.settle(), "active 1 succeeded 2 failed 0 ");
    world.end(3, "Succeeded");
    assert_eq!(
        world.settle(),
        "active 0 succeeded 3 failed 0 SuccessCriteriaMet=CompletionsReached Complete=CompletionsReached"
    );
    assert_eq!(world.made, 3);
    assert!(world.job.status.as_ref().unwrap().completion_time.is_some());
}

#[test]
fn a_finished_pod_is_in_the_status_before_its_finalizer_goes() {
    let mut world = World::new(json!({"completions": 2}));
    world.settle();
    world.end(1, "Succeeded");
    let first = plan(&world.job, &world.pods, world.now);
    let uncounted = first.status.unwrap().uncounted_terminated_pods.unwrap();
    assert_eq!(uncounted.succeeded.unwrap(), ["p1"]);
    assert_eq!(first.free.len(), 1);
    // Killed after the status was written, before the finalizer went: counted once all the same.
    let mut status = world.job.status.clone().unwrap();
    status.uncounted_terminated_pods = Some(serde_json::from_value(json!({"succeeded": ["p1"]})).unwrap());
    world.job.status = Some(status);
    assert_eq!(world.settle(), "active 1 succeeded 1 failed 0 ");
}

#[test]
fn failures_wait_longer_each_time_and_end_the_job() {
    let mut world = World::new(json!({"backoffLimit": 2}));
    world.settle();
    world.end(1, "Failed");
    assert_eq!(world.settle(), "active 0 succeeded 0 failed 1 ");
    assert_eq!(plan(&world.job, &world.pods, world.now).look_again.map(|wait| wait.as_secs()), Some(10));
    world.now += SignedDuration::from_secs(10);
    assert_eq!(world.settle(), "active 1 succeeded 0 failed 1 ");
    world.end(2, "Failed");
    world.settle();
    assert_eq!(plan(&world.job, &world.pods, world.now).look_again.map(|wait| wait.as_secs()), Some(20));
    world.now += SignedDuration::from_secs(20);
    world.settle();
    world.end(3, "Failed");
    assert_eq!(
        world.settle(),
        "active 0 succeeded 0 failed 3 FailureTarget=BackoffLimitExceeded Failed=BackoffLimitExceeded"
    );
}

#[test]
fn a_deadline_ends_what_runs() {
    let mut world = World::new(json!({"activeDeadlineSeconds": 30, "parallelism": 2, "completions": 2}));
    world.settle();
    assert!(plan(&world.job, &world.pods, world.now).look_again.is_some_and(|wait| wait.as_secs() == 30));
    world.now += SignedDuration::from_secs(30);
    assert_eq!(world.settle(), "active 0 succeeded 0 failed 2 FailureTarget=DeadlineExceeded Failed=DeadlineExceeded");
}

#[test]
fn indexes_are_each_done_once() {
    let mut world =
        World::new(json!({"completionMode": "Indexed", "parallelism": 3, "completions": 4, "backoffLimit": 9}));
    world.settle();
    let made = making::new_pod(&world.job, world.job.spec.as_ref().unwrap(), Some(1), None);
    let env = made.spec.as_ref().unwrap().containers[0].env.as_ref().unwrap();
    assert_eq!(env[0].name, "JOB_COMPLETION_INDEX");
    assert_eq!(world.pods[1].metadata.generate_name.as_deref(), Some("j-1-"));
    world.end(1, "Succeeded");
    world.end(3, "Succeeded");
    assert_eq!(world.settle(), "active 2 succeeded 2 failed 0 [0,2] ");
    world.end(2, "Failed");
    world.settle();
    world.now += SignedDuration::from_secs(60);
    assert_eq!(world.settle(), "active 2 succeeded 2 failed 1 [0,2] ");
    world.end(4, "Succeeded");
    world.end(5, "Succeeded");
    assert_eq!(
        world.settle(),
        "active 0 succeeded 4 failed 1 [0-3] SuccessCriteriaMet=CompletionsReached Complete=CompletionsReached"
    );
}

#[test]
fn suspended_it_ends_pods_without_counting_them() {
    let mut world = World::new(json!({"parallelism": 2, "completions": 2}));
    world.settle();
    world.job.spec.as_mut().unwrap().suspend = Some(true);
    assert_eq!(world.settle(), "active 0 succeeded 0 failed 0 Suspended=JobSuspended");
    world.job.spec.as_mut().unwrap().suspend = Some(false);
    assert_eq!(world.settle(), "active 2 succeeded 0 failed 0 Suspended=JobResumed");
}

#[test]
fn a_failure_policy_decides() {
    let rules = json!({"podFailurePolicy": {"rules": [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [7]}}]}});
    let mut world = World::new(rules);
    world.settle();
    world.end(1, "Failed");
    assert_eq!(world.settle(), "active 0 succeeded 0 failed 1 FailureTarget=PodFailurePolicy Failed=PodFailurePolicy");
    let rules = json!({"podFailurePolicy": {"rules": [{"action": "Ignore", "onExitCodes": {"operator": "NotIn", "values": [1]}}]}});
    let mut world = World::new(rules);
    world.settle();
    world.end(1, "Failed");
    world.now += SignedDuration::from_secs(10);
    assert_eq!(world.settle(), "active 1 succeeded 0 failed 0 ");
}

use jiff::SignedDuration;

#[test]
fn each_index_has_failures_of_its_own() {
    let spec = json!({"completionMode": "Indexed", "parallelism": 3, "completions": 3, "backoffLimit": 99,
        "backoffLimitPerIndex": 1});
    let mut world = World::new(spec.clone());
    world.settle();
    world.end(1, "Failed");
    world.end(2, "Succeeded");
    // The failed pod is held until its successor has its count.
    assert_eq!(world.settle(), "active 1 succeeded 1 failed 0 [1] ");
    assert_eq!(world.failed_indexes(), "");
    world.now += SignedDuration::from_secs(10);
    assert_eq!(world.settle(), "active 2 succeeded 1 failed 1 [1] ");
    let count = |pod: &Pod| meta::annotation(&pod.metadata, per_index::FAILURES).map(str::to_owned);
    assert_eq!(count(world.pods.last().unwrap()).as_deref(), Some("1"));
    world.end(4, "Failed");
    assert_eq!(world.settle(), "active 1 succeeded 1 failed 2 [1] ");
    assert_eq!(world.failed_indexes(), "0", "no third pod for index 0");
    world.end(3, "Succeeded");
    assert_eq!(world.settle(), "active 0 succeeded 2 failed 2 [1,2] FailureTarget=FailedIndexes Failed=FailedIndexes");

    let mut world = World::new(
        json!({"maxFailedIndexes": 0, "podFailurePolicy": {"rules": [
        {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [7]}}]}})
        .merged(spec),
    );
    world.settle();
    world.end(3, "Failed");
    assert_eq!(
        world.settle(),
        "active 0 succeeded 0 failed 3 FailureTarget=MaxFailedIndexesExceeded Failed=MaxFailedIndexesExceeded"
    );
    assert_eq!(world.failed_indexes(), "2");
}

#[test]
fn a_success_policy_ends_the_rest() {
    let mut world = World::new(json!({"completionMode": "Indexed", "parallelism": 3, "completions": 3,
        "successPolicy": {"rules": [{"succeededIndexes": "1"}]}}));
    world.settle();
    world.end(2, "Succeeded");
    assert_eq!(
        world.settle(),
        "active 0 succeeded 1 failed 0 [1] SuccessCriteriaMet=SuccessPolicy Complete=SuccessPolicy"
    );
}

trait Merged {
    fn merged(self, other: Value) -> Value;
}

impl Merged for Value {
    fn merged(mut self, other: Value) -> Value {
        json_patch::merge(&mut self, &other);
        self
    }
}
