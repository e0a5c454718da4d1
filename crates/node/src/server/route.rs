//! Paths.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::{Body, Inner, Refusal, cadvisor, exec, logs, pages, portforward, stats, summary, text};

/// Where a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub namespace: String,
    pub pod: String,
    pub container: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    Health,
    Pods,
    RunningPods,
    Config,
    Metrics,
    ContainerMetrics,
    ProbeMetrics,
    ResourceMetrics,
    Stats,
    Logs(Place),
    Exec(Place),
    Attach(Place),
    PortForward { namespace: String, pod: String },
}

pub fn parse(path: &str) -> Option<Path> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let place = |namespace: &str, pod: &str, container: &str| Place {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container: container.to_owned(),
    };
    // Some clients put the pod's UID between name and container.
    Some(match parts[..] {
        ["healthz"] => Path::Health,
        ["pods"] => Path::Pods,
        ["runningpods"] => Path::RunningPods,
        ["configz"] => Path::Config,
        ["metrics"] => Path::Metrics,
        ["metrics", "cadvisor"] => Path::ContainerMetrics,
        ["metrics", "probes"] => Path::ProbeMetrics,
        ["metrics", "resource"] => Path::ResourceMetrics,
        ["stats", "summary"] => Path::Stats,
        ["containerLogs", ns, pod, container] => Path::Logs(place(ns, pod, container)),
        ["exec", ns, pod, container] | ["exec", ns, pod, _, container] => Path::Exec(place(ns, pod, container)),
        ["attach", ns, pod, container] | ["attach", ns, pod, _, container] => Path::Attach(place(ns, pod, container)),
        ["portForward", ns, pod] | ["portForward", ns, pod, _] => {
            Path::PortForward { namespace: ns.to_owned(), pod: pod.to_owned() }
        }
        _ => return None,
    })
}

pub async fn route(server: &Arc<Inner>, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let path = parse(request.uri().path()).ok_or_else(|| Refusal::not_found("404 page not found"))?;
    let get = request.method() == Method::GET;
    let stream = get || request.method() == Method::POST;
    match path {
        Path::Health if get => Ok(text(StatusCode::OK, "ok")),
        Path::Pods if get => Ok(pages::pods(server)),
        Path::RunningPods if get => pages::running_pods(server).await,
        Path::Config if get => Ok(pages::configz(server)),
        Path::Metrics if get => pages::metrics(server).await,
        Path::ContainerMetrics if get => Ok(cadvisor::metrics(server).await),
        Path::ProbeMetrics if get => Ok(text(StatusCode::OK, server.ctx.probes.page())),
        Path::ResourceMetrics if get => Ok(stats::resource_metrics(server).await),
        Path::Stats if get => summary::summary(server, request.uri().query().unwrap_or_default()).await,
        Path::Logs(place) if get => logs::serve(server, &place, request).await,
        Path::Exec(place) if stream => exec::exec(server, &place, request).await,
        Path::Attach(place) if stream => exec::attach(server, &place, request).await,
        Path::PortForward { namespace, pod } if stream => portforward::serve(server, &namespace, &pod, request).await,
        _ => Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")),
    }
}
