//! `containerLogs`.

use std::{io, path::PathBuf, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use knarr_cri::v1::{ContainerState, ContainerStatusRequest};
use knarr_streaming::{
    query::{flag, query},
    socket, upgrade,
};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::{Body, Inner, Refusal, route::Place};
use crate::{
    logs::{self, Options, StreamKind},
    pod::{containers::Containers, observe::Instance},
};

const DEPTH: usize = 8;

/// How a piece of a log becomes a message.
type Encode = fn(Bytes) -> Message;

/// A log's protocols over WebSocket: bytes as they are, or in base64.
/// (upstream: `httpstream/wsstream/stream.go`)
const SOCKET: [upgrade::Protocol<Encode>; 3] =
    [("", Message::Binary), ("binary.k8s.io", Message::Binary), ("base64.binary.k8s.io", base64)];

fn base64(bytes: Bytes) -> Message {
    Message::text(STANDARD.encode(bytes))
}

/// What is asked, and whether of the run before.
#[derive(Debug)]
pub struct Wanted {
    pub options: Options,
    pub previous: bool,
}

pub fn wanted(text: &str, now: Timestamp) -> Result<Wanted, Refusal> {
    let query = query(text);
    let value = |key: &str| query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let number = |key: &str| match value(key).filter(|text| !text.is_empty() && *text != "all") {
        None => Ok(None),
        Some(text) => match text.parse::<i64>() {
            Ok(number) if number >= 0 => Ok(Some(number)),
            _ => Err(Refusal::bad_request(format!("{key} must be a number that is not negative, not {text:?}"))),
        },
    };
    let since = match (number("sinceSeconds")?, value("sinceTime").filter(|text| !text.is_empty())) {
        (Some(seconds), _) => now.checked_sub(SignedDuration::from_secs(seconds)).ok(),
        (None, Some(text)) => Some(
            text.parse()
                .map_err(|_| Refusal::bad_request(format!("sinceTime must be an RFC 3339 time, not {text:?}")))?,
        ),
        (None, None) => None,
    };
    Ok(Wanted {
        options: Options {
            tail_lines: number("tailLines")?.and_then(|lines| u64::try_from(lines).ok()),
            since,
            timestamps: flag(&query, "timestamps"),
            limit_bytes: number("limitBytes")?.and_then(|bytes| u64::try_from(bytes).ok()),
            follow: flag(&query, "follow"),
            stream: match value("stream") {
                Some("Stdout") => Some(StreamKind::Stdout),
                Some("Stderr") => Some(StreamKind::Stderr),
                _ => None,
            },
        },
        previous: flag(&query, "previous"),
    })
}

pub async fn serve(server: &Arc<Inner>, place: &Place, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let Wanted { options, previous } = wanted(request.uri().query().unwrap_or_default(), server.ctx.now())?;
    let pod = server.find_pod(&place.namespace, &place.pod)?;
    let run = choose(server, &pod, place, previous).await?;
    let socket = match upgrade::is_websocket(request.headers()) {
        true => {
            let (protocol, encode) = upgrade::socket_protocol(request.headers(), &SOCKET)?;
            let (response, socket) = upgrade::websocket(request, protocol)?;
            Some((response, socket, encode))
        }
        false => None,
    };
    let path = if run.log_path.is_empty() {
        let file = format!("{}.log", run.restart_count);
        server.ctx.log_folder(&pod).join(&run.name).join(file)
    } else {
        PathBuf::from(&run.log_path)
    };
    let (out, lines) = mpsc::channel::<Bytes>(DEPTH);
    let (runtime, id) = (server.ctx.runtime.clone(), run.id);
    tokio::spawn(async move {
        let running = || {
            let request = ContainerStatusRequest { container_id: id.clone(), verbose: false };
            let runtime = runtime.clone();
            async move {
                let status = runtime.container_status(request).await.ok().and_then(|answer| answer.status);
                status.is_some_and(|status| status.state == ContainerState::ContainerRunning as i32)
            }
        };
        if let Err(error) = logs::stream(&path, &options, running, out.clone()).await {
            tracing::debug!(path = %path.display(), %error, "a log cannot be read");
            let message = format!("failed to read the log: {error}\n");
            let _ = out.send(Bytes::from(message)).await;
        }
    });
    if let Some((response, socket, encode)) = socket {
        tokio::spawn(async move {
            match socket.await {
                Ok(socket) => over_socket(socket, lines, encode).await,
                Err(error) => tracing::debug!(%error, "a client went away while its connection was upgraded"),
            }
        });
        return Ok(response);
    }
    let frames = stream::unfold(lines, |mut lines| async move {
        let bytes = lines.recv().await?;
        Some((Ok::<_, io::Error>(Frame::data(bytes)), lines))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    *response.status_mut() = StatusCode::OK;
    let plain = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    Ok(response)
}

/// The lines as messages, behind an empty one which says that it is they that come.
async fn over_socket(socket: upgrade::Socket, mut lines: mpsc::Receiver<Bytes>, encode: Encode) {
    let (sink, stream) = socket.split();
    let (messages, outgoing) = mpsc::channel(DEPTH);
    let encoding = async move {
        let mut next = Some(Bytes::new());
        while let Some(bytes) = next {
            if messages.send(encode(bytes)).await.is_err() {
                return;
            }
            // A log that nobody writes to is not to be followed for a client that is gone.
            next = tokio::select! {
                bytes = lines.recv() => bytes,
                () = messages.closed() => return,
            };
        }
        let _ = messages.send(socket::goodbye()).await;
    };
    tokio::join!(encoding, socket::carry(sink, outgoing, socket::ignore(stream)));
}

/// The run whose log is meant, or why there is none.
async fn choose(server: &Inner, pod: &Pod, place: &Place, previous: bool) -> Result<Instance, Refusal> {
    let (container, name) = (&place.container, &place.pod);
    let containers = Containers::of(pod);
    if containers.get(container).is_none() {
        return Err(Refusal::bad_request(format!("container {container:?} not found in pod {name:?}")));
    }
    let observed = server.observe(pod.metadata.uid.as_deref().unwrap_or_default()).await?;
    let runs = observed.containers.get(container).map_or(&[][..], Vec::as_slice);
    let status = status_of(pod, container);
    if previous {
        let last = status.and_then(|status| status.last_state.as_ref()?.terminated.as_ref()?.container_id.clone());
        let told = last.and_then(|id| runs.iter().find(|run| id.ends_with(&run.id)));
        let found = told.or_else(|| runs.iter().skip(1).find(|run| run.ended()));
        let none =
            || Refusal::bad_request(format!("previous terminated container {container:?} in pod {name:?} not found"));
        return found.cloned().ok_or_else(none);
    }
    let made = runs.iter().find(|run| run.phase != crate::pod::observe::Phase::Created);
    made.cloned().ok_or_else(|| {
        let waiting = status.and_then(|status| status.state.as_ref()?.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or("ContainerCreating");
        let why = match reason {
            "ErrImagePull" => "image can't be pulled",
            "ImagePullBackOff" => "trying and failing to pull image",
            other => other,
        };
        Refusal::bad_request(format!("container {container:?} in pod {name:?} is waiting to start: {why}"))
    })
}

fn status_of<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().find(|status| status.name == container)
}
