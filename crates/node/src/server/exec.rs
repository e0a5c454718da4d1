//! `exec` and `attach`.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use knarr_cri::v1::{AttachRequest, ExecRequest};
use knarr_streaming::{
    query::query,
    session::{Streams, connect, without_code},
};

use super::{Body, Inner, Refusal, route::Place};
use crate::pod::observe::Instance;

pub async fn exec(server: &Arc<Inner>, place: &Place, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let query = query(request.uri().query().unwrap_or_default());
    let streams = Streams::from_query(&query)?;
    let cmd: Vec<String> = query.iter().filter(|(key, _)| key == "command").map(|(_, value)| value.clone()).collect();
    if cmd.is_empty() {
        return Err(Refusal::bad_request("you must specify at least 1 command"));
    }
    let run = running(server, place).await?;
    let Streams { stdin, stdout, stderr, tty } = streams;
    let exec = ExecRequest { container_id: run.id, cmd, tty, stdin, stdout, stderr };
    let server = server.clone();
    let begin = move || async move { server.streams.exec(exec).await };
    connect(request, streams, "error executing command in container", begin)
}

pub async fn attach(server: &Arc<Inner>, place: &Place, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let query = query(request.uri().query().unwrap_or_default());
    let streams = Streams::from_query(&query)?;
    let run = running(server, place).await?;
    let Streams { stdin, stdout, stderr, tty } = streams;
    let attach = AttachRequest { container_id: run.id, stdin, tty, stdout, stderr };
    let server = server.clone();
    let begin = move || async move { Ok(without_code(server.streams.attach(attach).await?)) };
    connect(request, streams, "error attaching to container", begin)
}

async fn running(server: &Inner, place: &Place) -> Result<Instance, Refusal> {
    let pod = server.find_pod(&place.namespace, &place.pod)?;
    let observed = server.observe(pod.metadata.uid.as_deref().unwrap_or_default()).await?;
    let run = observed.newest(&place.container).filter(|run| run.running()).cloned();
    run.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("container not found ({:?})", place.container)))
}
