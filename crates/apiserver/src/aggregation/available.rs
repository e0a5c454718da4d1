//! Whether the server behind an APIService answers. One task for each APIService with a Service: it checks, writes the
//! condition, takes in what the server says of itself, and waits until something changed or time has passed.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use serde_json::Value;
use tokio::{sync::watch, time::Instant};

use super::{Route, backend, documents};
use crate::{
    authn::server_itself,
    builtin,
    contract::Lookup,
    custom::set_condition,
    json::{items, text},
    server::Inner,
};

/// A server that answers is asked again after this long, and what it says of itself is read again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
const READ_AGAIN: Duration = Duration::from_secs(60);
/// How long is waited after a check that failed, doubled with every further one.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
const PATIENCE: Duration = Duration::from_secs(5);
/// Each attempt may meet another endpoint; one that succeeds is enough.
const ATTEMPTS: usize = 5;

/// What a check found, as the condition `Available` has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Self {
        Self { status: "False", reason, message }
    }
}

/// What a verdict depends on beside the server itself.
#[derive(PartialEq)]
struct Inputs {
    spec: Value,
    service: u64,
    slices: Vec<u64>,
}

impl Inputs {
    fn read(lookup: &dyn Lookup, route: &Route) -> Self {
        let service = lookup.get(builtin::services(), &route.namespace, &route.service);
        Self {
            spec: route.spec.clone(),
            service: service.map_or(0, |service| service.resource_version),
            slices: slices(lookup, route).into_iter().map(|(revision, _)| revision).collect(),
        }
    }
}

fn slices(lookup: &dyn Lookup, route: &Route) -> Vec<(u64, Value)> {
    let is_of = |labels: &[(Box<str>, Box<str>)]| {
        labels.iter().any(|(key, value)| &**key == "kubernetes.io/service-name" && **value == *route.service)
    };
    let all = lookup.list(builtin::endpoint_slices(), &route.namespace);
    let own = all.iter().filter(|stored| is_of(&stored.labels));
    own.map(|stored| (stored.resource_version, stored.value())).collect()
}

/// Keeps one APIService's status true until it is gone, or names no Service any more.
pub async fn keep(server: Weak<Inner>, name: String, mut changed: watch::Receiver<u64>) {
    let mut retry_after = RETRY_AFTER.0;
    let mut read_at: Option<Instant> = None;
    loop {
        let Some(alive) = server.upgrade() else { return };
        changed.mark_unchanged();
        let Some(route) = alive.aggregation.named(&name) else { return };
        let inputs = Inputs::read(&*alive.lookup, &route);
        let verdict = check(&alive, &route).await;
        let well = verdict.status == "True";
        if !well {
            alive.aggregation.documents.mark_stale(&route);
        } else if read_at.is_none_or(|at| at.elapsed() >= READ_AGAIN) {
            read_at = read(&alive, &route).await.then(Instant::now);
        }
        if let Err(error) = write(&alive, &name, &verdict).await {
            tracing::debug!(service = name, error = error.message(), "an APIService's status could not be written");
        }
        let shutdown = alive.shutdown.clone();
        drop(alive);
        let settled = well && read_at.is_some();
        let patience = if settled { LOOK_AGAIN } else { retry_after };
        retry_after = if settled { RETRY_AFTER.0 } else { (retry_after * 2).min(RETRY_AFTER.1) };
        tokio::select! {
            () = tokio::time::sleep(patience) => {}
            stays = until_different(&server, &name, &inputs, &mut changed) => if !stays { return },
            () = shutdown.cancelled() => return,
        }
    }
}

/// Returns once a verdict would have another ground; false where there is nothing more to judge.
async fn until_different(
    server: &Weak<Inner>,
    name: &str,
    inputs: &Inputs,
    changed: &mut watch::Receiver<u64>,
) -> bool {
    while changed.changed().await.is_ok() {
        let Some(server) = server.upgrade() else { return false };
        let route = server.aggregation.named(name);
        if route.is_none_or(|route| Inputs::read(&*server.lookup, &route) != *inputs) {
            return true;
        }
    }
    false
}

async fn read(server: &Inner, route: &Route) -> bool {
    let before = server.aggregation.documents.now().get(&route.group, &route.version).cloned();
    match documents::fetch(server, route, before.as_deref()).await {
        Ok(document) => {
            let same = before.as_ref().is_some_and(|before| {
                (&before.discovery, &before.v3_hash, &before.v2_hash)
                    == (&document.discovery, &document.v3_hash, &document.v2_hash)
            });
            if !same {
                server.aggregation.documents.put(route, document);
            }
            true
        }
        Err(why) => {
            tracing::debug!(service = route.name, why, "an API server says nothing of what it serves");
            server.aggregation.documents.mark_stale(route);
            false
        }
    }
}

async fn write(server: &Inner, name: &str, verdict: &Verdict) -> Result<(), knarr_api::status::ApiError> {
    let now = server.env.now();
    let Verdict { status, reason, message } = verdict;
    let set = |object: &mut Value| {
        if object["spec"]["service"].is_object() {
            set_condition(&mut object["status"], "Available", status, reason, message, now);
        }
        Ok(())
    };
    change_status(server, name, set).await
}

/// Writes a status where that changes it.
pub async fn change_status(
    server: &Inner,
    name: &str,
    mut set: impl FnMut(&mut Value) -> Result<(), knarr_api::status::ApiError> + Send,
) -> Result<(), knarr_api::status::ApiError> {
    let resource = builtin::api_services();
    let Some(found) = server.lookup.get_fresh(resource, "", name).await? else { return Ok(()) };
    let before = found.value();
    let mut after = before.clone();
    set(&mut after)?;
    if before == after {
        return Ok(());
    }
    server.lookup.modify(&server_itself(), resource, "status", "", name, &mut set).await.map(drop)
}

async fn check(server: &Inner, route: &Route) -> Verdict {
    let listed = listening(&*server.lookup, route);
    if let Err(verdict) = listed {
        return verdict;
    }
    let mut attempts: FuturesUnordered<_> = (0..ATTEMPTS).map(|_| attempt(server, route)).collect();
    let mut last = String::new();
    while let Some(outcome) = attempts.next().await {
        match outcome {
            Ok(()) => {
                return Verdict { status: "True", reason: "Passed", message: "all checks passed".into() };
            }
            Err(why) => last = why,
        }
    }
    Verdict::no("FailedDiscoveryCheck", last)
}

/// Whether there is a Service, and somebody behind its port.
fn listening(lookup: &dyn Lookup, route: &Route) -> Result<(), Verdict> {
    let Route { namespace, service: name, port, .. } = route;
    let Some(stored) = lookup.get(builtin::services(), namespace, name) else {
        return Err(Verdict::no("ServiceNotFound", format!("service/{name} in {namespace:?} is not present")));
    };
    let service = stored.value();
    if text(&service["spec"]["type"]) != "ClusterIP" {
        return Ok(());
    }
    let ports = items(&service["spec"]["ports"]);
    let Some(found) = ports.iter().find(|one| one["port"].as_u64() == Some(u64::from(*port))) else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Err(Verdict::no("ServicePortError", message));
    };
    let slices = slices(lookup, route);
    if slices.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Err(Verdict::no("EndpointsNotFound", message));
    }
    let port_name = text(&found["name"]);
    let serves = |slice: &Value| {
        let ready = items(&slice["endpoints"]).iter().any(|endpoint| endpoint["conditions"]["ready"] != false);
        let is_port = |port: &Value| text(&port["name"]) == port_name && !port["port"].is_null();
        ready && items(&slice["ports"]).iter().any(is_port)
    };
    if !slices.iter().any(|(_, slice)| serves(slice)) {
        let message = format!(
            "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
        );
        return Err(Verdict::no("MissingEndpoints", message));
    }
    Ok(())
}

async fn attempt(server: &Inner, route: &Route) -> Result<(), String> {
    let path = route.path();
    let url = format!("https://{}:{}{path}", route.host(), route.port);
    let asked = backend::get(&*server.lookup, route, &server.env, &path, "application/json", PATIENCE).await;
    let why = match asked {
        Ok(answer) if answer.status.is_success() => return Ok(()),
        Ok(answer) => format!("bad status from {url}: {}", answer.status.as_u16()),
        Err(why) => why,
    };
    Err(format!("failing or missing response from {url}: {why}"))
}

/// For the supervisor, which holds one of these for each APIService.
pub fn begin(server: &Arc<Inner>, name: &str, changed: watch::Receiver<u64>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(keep(Arc::downgrade(server), name.to_owned(), changed))
}
