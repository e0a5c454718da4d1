//! What one metric of an autoscaler calls for, or why it tells nothing. Pure.

use std::sync::Arc;

use k8s_openapi::{
    api::autoscaling::v2::{
        ContainerResourceMetricStatus, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus, ResourceMetricStatus,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use knarr_api::quantity::{Format, Quantity as Amount};
use knarr_client::lean::Pod;

use super::{
    Look,
    metrics::{self, PodMetrics},
    milli,
    replicas::{self, Question, Target},
};

/// What one metric calls for.
pub(super) struct Found {
    pub(super) replicas: i32,
    pub(super) name: String,
    pub(super) status: MetricStatus,
}

/// Why a metric tells nothing: as its condition says it, and in the sum of all.
pub(super) struct Unable {
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) summary: String,
}

pub(super) fn by_metric(
    look: &Look<'_>,
    metric: &MetricSpec,
    current: i32,
    pods: &[Arc<Pod>],
    found: &Result<Vec<PodMetrics>, String>,
) -> Result<Found, Unable> {
    let (reason, resource, container, target) = match (&metric.resource, &metric.container_resource) {
        (Some(source), _) => ("FailedGetResourceMetric", &source.name, None, &source.target),
        (_, Some(source)) => {
            ("FailedGetContainerResourceMetric", &source.name, Some(source.container.as_str()), &source.target)
        }
        _ => return Err(unserved(metric)),
    };
    let ask = || -> Result<(replicas::Proposal, String), String> {
        let (goal, what) = goal(target)?;
        let question =
            Question { resource, container, target: goal, tolerance: look.tolerance(), current, now: look.now };
        let unable = |error: String| format!("failed to get {resource} {what}: {error}");
        let no_metrics = |error: &String| unable(format!("unable to get metrics for resource {resource}: {error}"));
        let all = found.as_ref().map_err(no_metrics)?;
        let uses = metrics::uses(all, resource, container).map_err(|error| no_metrics(&error))?;
        let proposal = replicas::propose(question, pods, uses).map_err(unable)?;
        let name = match (goal, container) {
            (Target::AverageMilli(_), _) => format!("{resource} resource"),
            (_, None) => format!("{resource} resource utilization (percentage of request)"),
            (_, Some(_)) => format!("{resource} container resource utilization (percentage of request)"),
        };
        Ok((proposal, name))
    };
    let (proposal, name) = ask().map_err(|message| {
        let kind = if container.is_some() { "container" } else { "resource" };
        let summary = format!("failed to get {resource} {kind} metric value: {message}");
        Unable { reason, message, summary }
    })?;
    let current = MetricValueStatus {
        average_utilization: proposal.utilization,
        average_value: Some(Quantity(Amount::from_milli(proposal.average_milli, Format::DecimalSi).to_string())),
        value: None,
    };
    let mut status = MetricStatus { type_: metric.type_.clone(), ..MetricStatus::default() };
    let name_of = resource.clone();
    match container {
        None => status.resource = Some(ResourceMetricStatus { name: name_of, current }),
        Some(container) => {
            let container = container.to_owned();
            status.container_resource = Some(ContainerResourceMetricStatus { name: name_of, container, current });
        }
    }
    Ok(Found { replicas: proposal.replicas, name, status })
}

/// The target, and what it is called when it cannot be compared with anything.
fn goal(target: &MetricTarget) -> Result<(Target, &'static str), String> {
    match (&target.average_value, target.average_utilization) {
        (Some(value), _) => Ok((Target::AverageMilli(milli(value)), "usage")),
        (None, Some(share)) => Ok((Target::Utilization(share), "utilization")),
        (None, None) => Err(
            "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set"
                .into(),
        ),
    }
}

/// Metrics that others would have to serve.
fn unserved(metric: &MetricSpec) -> Unable {
    let custom =
        "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered";
    let external =
        "unable to fetch metrics from external metrics API: the server could not find the requested resource";
    let (reason, kind, name, why) = match (&metric.pods, &metric.object, &metric.external) {
        (Some(source), ..) => ("FailedGetPodsMetric", "pods", source.metric.name.as_str(), custom),
        (_, Some(source), _) => ("FailedGetObjectMetric", "object", source.metric.name.as_str(), custom),
        (_, _, Some(source)) => ("FailedGetExternalMetric", "external", source.metric.name.as_str(), external),
        _ => {
            let message = format!("unknown metric source type {:?}", metric.type_);
            return Unable { reason: "InvalidMetricSourceType", summary: message.clone(), message };
        }
    };
    let message = format!("unable to get metric {name}: {why}");
    Unable { reason, summary: format!("failed to get {kind} metric value: {message}"), message }
}
