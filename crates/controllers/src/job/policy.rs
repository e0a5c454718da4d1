//! What a pod's failure means, where the Job's `podFailurePolicy` has a rule for it.
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy>)

use k8s_openapi::api::batch::v1::{Job, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use knarr_client::{
    lean::{ContainerStatus, Pod},
    meta,
};

use crate::common::pods;

#[derive(Debug, PartialEq)]
pub enum Meaning {
    Counts,
    /// As if it had not happened.
    Ignored,
    /// The pod's index has failed, however often it might still be tried.
    FailsIndex,
    /// The whole Job has failed; why.
    FailsJob(String),
}

pub fn meaning(job: &Job, pod: &Pod) -> Meaning {
    let policy = job.spec.as_ref().and_then(|spec| spec.pod_failure_policy.as_ref());
    let Some(policy) = policy.filter(|_| pods::phase(pod) == "Failed") else { return Meaning::Counts };
    for (index, rule) in policy.rules.iter().enumerate() {
        let Some(found) = matched(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Meaning::Ignored,
            "FailIndex" => Meaning::FailsIndex,
            "FailJob" => {
                let name = format!("{}/{}", meta::namespace(&pod.metadata), meta::name(&pod.metadata));
                Meaning::FailsJob(match found {
                    Found::Exit { container, code } => {
                        format!(
                            "Container {container} for pod {name} failed with exit code {code} matching FailJob rule at index {index}"
                        )
                    }
                    Found::Condition(kind) => {
                        format!("Pod {name} has condition {kind} matching FailJob rule at index {index}")
                    }
                })
            }
            _ => Meaning::Counts,
        };
    }
    Meaning::Counts
}

enum Found {
    Exit { container: String, code: i32 },
    Condition(String),
}

fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<Found> {
    if let Some(wanted) = &rule.on_exit_codes {
        let status = pod.status.as_ref()?;
        let statuses =
            status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
        return statuses.filter_map(|status| exit(wanted, status)).next();
    }
    let has = |kind: &str, truth: &str| pods::condition(pod, kind).is_some_and(|condition| condition.status == truth);
    let mut patterns = rule.on_pod_conditions.iter().flatten();
    let pattern = patterns.find(|pattern| has(&pattern.type_, pattern.status.as_deref().unwrap_or("True")))?;
    Some(Found::Condition(pattern.type_.clone()))
}

fn exit(wanted: &PodFailurePolicyOnExitCodesRequirement, status: &ContainerStatus) -> Option<Found> {
    let code = status.state.as_ref()?.terminated.as_ref()?.exit_code;
    let is_named = wanted.container_name.as_ref().is_none_or(|name| *name == status.name);
    let listed = wanted.values.contains(&code);
    let holds = if wanted.operator == "In" { listed } else { !listed };
    // Success is never a failure, whatever the rule says.
    (is_named && code != 0 && holds).then(|| Found::Exit { container: status.name.clone(), code })
}
