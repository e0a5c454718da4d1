//! Nodes and namespaces.

use knarr_api::quantity::Quantity;
use serde_json::Value;

use super::{Page, limits, or_none, show, time};
use crate::{
    api::Query,
    cx::{Cx, dig, dig_str, items},
    error::Result,
};

pub async fn node(cx: &Cx, page: &mut Page, object: &Value) -> Result<()> {
    page.name(object);
    let prefix = "node-role.kubernetes.io/";
    let labels = dig(object, "metadata.labels").as_object();
    let roles: Vec<&str> = labels.into_iter().flatten().filter_map(|(key, _)| key.strip_prefix(prefix)).collect();
    page.field(0, "Roles", or_none(&roles.join(",")));
    page.labels_and_annotations(object);
    page.field(0, "CreationTimestamp", time(dig(object, "metadata.creationTimestamp")));
    let taints: Vec<String> = items(dig(object, "spec.taints"))
        .map(|taint| match dig_str(taint, "value") {
            "" => format!("{}:{}", dig_str(taint, "key"), dig_str(taint, "effect")),
            value => format!("{}={value}:{}", dig_str(taint, "key"), dig_str(taint, "effect")),
        })
        .collect();
    page.list(0, "Taints", &taints);
    page.field(0, "Unschedulable", dig(object, "spec.unschedulable") == true);
    lease(cx, page, dig_str(object, "metadata.name")).await;
    let status = &object["status"];
    page.timed_conditions(object, "LastHeartbeatTime");
    page.line(0, "Addresses:");
    for address in items(&status["addresses"]) {
        page.field(1, dig_str(address, "type"), dig_str(address, "address"));
    }
    for (label, field) in [("Capacity", "capacity"), ("Allocatable", "allocatable")] {
        page.line(0, format_args!("{label}:"));
        for (name, amount) in status[field].as_object().into_iter().flatten() {
            page.field(1, name, show(amount));
        }
    }
    page.line(0, "System Info:");
    let info = &status["nodeInfo"];
    for (label, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
    ] {
        page.field(1, label, dig_str(info, field));
    }
    page.some(1, "Kube-Proxy Version", &info["kubeProxyVersion"]);
    page.some(0, "PodCIDR", dig(object, "spec.podCIDR"));
    if dig(object, "spec.podCIDRs").is_array() {
        page.field(0, "PodCIDRs", items(dig(object, "spec.podCIDRs")).map(show).collect::<Vec<_>>().join(","));
    }
    page.some(0, "ProviderID", dig(object, "spec.providerID"));
    pods(cx, page, object).await
}

async fn lease(cx: &Cx, page: &mut Page, node: &str) {
    page.line(0, "Lease:");
    let Ok(api) = cx.api().await else { return };
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node}");
    let Ok(lease) = api.get(&path).await else {
        return page.line(1, "Failed to get lease");
    };
    let spec = &lease["spec"];
    let or_unset = |value: String| if value.is_empty() { "<unset>".to_owned() } else { value };
    page.field(1, "HolderIdentity", or_unset(show(&spec["holderIdentity"])));
    page.field(1, "AcquireTime", time(&spec["acquireTime"]));
    page.field(1, "RenewTime", time(&spec["renewTime"]));
}

/// What a pod asks for: its containers together, or an init container that asks for more.
fn asked(pod: &Value, kind: &str, resource: &str) -> Quantity {
    let of = |container: &Value| Quantity::or_zero(&container["resources"][kind][resource]);
    let larger = |a: Quantity, b: Quantity| if b > a { b } else { a };
    let mut sum = items(dig(pod, "spec.containers")).map(of).fold(Quantity::ZERO, |a, b| a + b);
    let (mut beside, mut most) = (Quantity::ZERO, Quantity::ZERO);
    for container in items(dig(pod, "spec.initContainers")) {
        if container["restartPolicy"] == "Always" {
            beside = beside + of(container);
            sum = sum + of(container);
            most = larger(most, beside);
        } else {
            most = larger(most, beside + of(container));
        }
    }
    larger(sum, most) + Quantity::or_zero(&pod["spec"]["overhead"][resource])
}

async fn pods(cx: &Cx, page: &mut Page, node: &Value) -> Result<()> {
    let name = dig_str(node, "metadata.name");
    let selector = format!("spec.nodeName={name},status.phase!=Succeeded,status.phase!=Failed");
    let list = cx.api().await?.get(&Query::default().add("fieldSelector", selector).on("/api/v1/pods")).await?;
    let pods: Vec<&Value> = items(&list["items"]).collect();
    let allocatable = |resource: &str| Quantity::or_zero(&node["status"]["allocatable"][resource]);
    let share = |amount: Quantity, resource: &str| {
        let all = allocatable(resource).milli_value();
        if all == 0 { 0 } else { (amount.milli_value() as f64 / all as f64 * 100.0) as i64 }
    };
    page.line(0, format_args!("Non-terminated Pods:\t({} in total)", pods.len()));
    page.line(1, "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge");
    page.line(1, "---------\t----\t\t------------\t----------\t---------------\t-------------\t---");
    let columns = [("requests", "cpu"), ("limits", "cpu"), ("requests", "memory"), ("limits", "memory")];
    for pod in &pods {
        let cells: Vec<String> = columns
            .iter()
            .map(|(kind, resource)| {
                let amount = asked(pod, kind, resource);
                format!("{amount} ({}%)", share(amount, resource))
            })
            .collect();
        page.line(
            1,
            format_args!(
                "{}\t{}\t\t{}\t{}",
                dig_str(pod, "metadata.namespace"),
                dig_str(pod, "metadata.name"),
                cells.join("\t"),
                knarr_api::time::age(dig(pod, "metadata.creationTimestamp"), page.now)
            ),
        );
    }
    page.line(0, "Allocated resources:\n  (Total limits may be over 100 percent, i.e., overcommitted.)");
    page.line(1, "Resource\tRequests\tLimits");
    page.line(1, "--------\t--------\t------");
    let standard = ["cpu", "memory", "ephemeral-storage"];
    let other = node["status"]["allocatable"].as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    let other = other.filter(|key| !standard.contains(key) && *key != "pods");
    for resource in standard.into_iter().chain(other) {
        let sum = |kind: &str| pods.iter().map(|pod| asked(pod, kind, resource)).fold(Quantity::ZERO, |a, b| a + b);
        let cell = |amount: Quantity| match standard.contains(&resource) || resource.starts_with("hugepages-") {
            true => format!("{amount} ({}%)", share(amount, resource)),
            false => amount.to_string(),
        };
        page.line(1, format_args!("{resource}\t{}\t{}", cell(sum("requests")), cell(sum("limits"))));
    }
    Ok(())
}

pub async fn namespace(cx: &Cx, page: &mut Page, object: &Value) -> Result<()> {
    let name = dig_str(object, "metadata.name");
    page.name(object);
    page.labels_and_annotations(object);
    page.field(0, "Status", dig_str(object, "status.phase"));
    let list = cx.api().await?.get(&format!("/api/v1/namespaces/{name}/resourcequotas")).await?;
    let quotas: Vec<&Value> = items(&list["items"]).collect();
    if quotas.is_empty() {
        page.line(0, "\nNo resource quota.");
    } else {
        page.line(0, "\nResource Quotas");
        for quota in quotas {
            limits::quota_in_namespace(page, quota);
        }
    }
    let list = cx.api().await?.get(&format!("/api/v1/namespaces/{name}/limitranges")).await?;
    let ranges: Vec<&Value> = items(&list["items"]).collect();
    if ranges.is_empty() {
        page.line(0, "\nNo LimitRange resource.");
    } else {
        page.line(0, "\nResource Limits");
        page.line(0, " Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio");
        page.line(0, " ----\t--------\t---\t---\t---------------\t-------------\t-----------------------");
        ranges.iter().for_each(|range| limits::limits(page, range, " "));
    }
    Ok(())
}
