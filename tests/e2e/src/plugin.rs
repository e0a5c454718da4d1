//! A device plugin, as a vendor would write it: gRPC from its bytes up, so that the node's own is not tested by itself.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Request, Response};
use tokio::{
    net::{UnixListener, UnixStream},
    runtime::Runtime,
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Devices that are all `/dev/fuse` of the host, which containers have for no other reason, for reading only. Ends when it
/// is dropped.
pub struct Plugin {
    resource: &'static str,
    runtime: Runtime,
    serving: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    devices: watch::Sender<Vec<(&'static str, bool)>>,
    calls: Mutex<Vec<String>>,
}

impl Plugin {
    /// `dir` is where the node's `kubelet.sock` is.
    pub fn start(dir: &Path, resource: &'static str, devices: &[&'static str]) -> Result<Self> {
        let devices = devices.iter().map(|id| (*id, true)).collect();
        let shared =
            Arc::new(Shared { dir: dir.to_owned(), devices: watch::Sender::new(devices), calls: Mutex::default() });
        let runtime = Runtime::new()?;
        let mut plugin = Self { resource, runtime, serving: None, shared };
        plugin.serve_and_register()?;
        Ok(plugin)
    }

    /// As a plugin does that sees its socket removed: the node was started anew.
    pub fn serve_and_register(&mut self) -> Result<()> {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
        let socket = self.shared.dir.join("berth.sock");
        ensure!(!socket.exists(), "the node left {} of a former plugin", socket.display());
        let (shared, dir, resource) = (self.shared.clone(), self.shared.dir.clone(), self.resource);
        let listener = self.runtime.block_on(async { UnixListener::bind(&socket) })?;
        self.serving = Some(self.runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(shared.clone().answer(request, respond));
                    }
                });
            }
        }));
        self.runtime.block_on(async { timeout(PATIENCE, register(&dir, resource)).await })?
    }

    pub fn set_health(&self, id: &str, healthy: bool) {
        self.shared.devices.send_modify(|devices| {
            devices.iter_mut().filter(|(known, _)| *known == id).for_each(|(_, health)| *health = healthy);
        });
    }

    /// The calls that changed something, in order.
    pub fn calls(&self) -> Vec<String> {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn register(dir: &Path, resource: &str) -> Result<()> {
    let stream = UnixStream::connect(dir.join("kubelet.sock")).await.context("kubelet.sock")?;
    let (mut client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let request = Request::post("http://localhost/v1beta1.Registration/Register");
    let request = request.header("content-type", "application/grpc").header("te", "trailers").body(())?;
    let (response, mut body) = client.send_request(request, false)?;
    let message = [text(1, "v1beta1"), text(2, "berth.sock"), text(3, resource)].concat();
    body.send_data(framed(&message), true)?;
    let response = response.await?;
    let mut status = response.headers().clone();
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        let _ = body.flow_control().release_capacity(data?.len());
    }
    status.extend(body.trailers().await?.unwrap_or_default());
    if status.get("grpc-status").is_none_or(|code| code != "0") {
        bail!("the node takes no registration: {status:?}");
    }
    Ok(())
}

impl Shared {
    async fn answer(self: Arc<Self>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let method = request.uri().path().trim_start_matches("/v1beta1.DevicePlugin/").to_owned();
        // A node that went away has no use for the answer.
        let _ = self.reply(&method, request.into_body(), respond).await;
    }

    async fn reply(&self, method: &str, mut body: RecvStream, mut respond: SendResponse<Bytes>) -> Result<()> {
        let mut message = Vec::new();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            message.extend_from_slice(&data);
        }
        let message = message.get(5..).unwrap_or_default();
        let head = Response::builder().header("content-type", "application/grpc").body(())?;
        let mut answer = respond.send_response(head, false)?;
        let called = |ids: &[String]| {
            let call = format!("{method} {}", ids.join(" "));
            self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        };
        match method {
            "ListAndWatch" => return self.list(answer).await,
            // It wants to be asked before each start.
            "GetDevicePluginOptions" => answer.send_data(framed(&[0x08, 1]), false)?,
            "Allocate" => {
                let ids = strings(&strings_of(message).concat());
                called(&ids);
                let node = [text(1, "/dev/berth"), text(2, "/dev/fuse"), text(3, "r")].concat();
                let variable = [text(1, "BERTHS"), text(2, &ids.join(","))].concat();
                let mount = [text(1, "/berths"), text(2, &self.dir.to_string_lossy()), vec![0x18, 1]].concat();
                let container = [nested(1, &variable), nested(2, &mount), nested(3, &node)].concat();
                answer.send_data(framed(&nested(1, &container)), false)?;
            }
            "PreStartContainer" => {
                called(&strings(message));
                answer.send_data(framed(&[]), false)?;
            }
            _ => return end(answer, "12"),
        }
        end(answer, "0")
    }

    /// The devices as they are, and again whenever they change.
    async fn list(&self, mut answer: SendStream<Bytes>) -> Result<()> {
        let mut changes = self.devices.subscribe();
        loop {
            let devices = changes.borrow_and_update().clone();
            let health = |healthy: bool| if healthy { "Healthy" } else { "Unhealthy" };
            let each =
                devices.iter().map(|(id, healthy)| nested(1, &[text(1, id), text(2, health(*healthy))].concat()));
            answer.send_data(framed(&each.collect::<Vec<_>>().concat()), false)?;
            changes.changed().await?;
        }
    }
}

fn end(mut answer: SendStream<Bytes>, status: &str) -> Result<()> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse()?);
    Ok(answer.send_trailers(trailers)?)
}

/// A message with gRPC's head before it.
fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0][..], &length, message].concat().into()
}

/// A field of protobuf's that has a length: a text or a message. None here is longer than two bytes can say.
fn nested(number: u8, bytes: &[u8]) -> Vec<u8> {
    let (low, high) = ((bytes.len() & 0x7f) as u8, (bytes.len() >> 7) as u8);
    let length = if high == 0 { vec![low] } else { vec![low | 0x80, high] };
    [&[number << 3 | 2][..], &length, bytes].concat()
}

fn text(number: u8, text: &str) -> Vec<u8> {
    nested(number, text.as_bytes())
}

/// What is in the fields of a message that has nothing but short texts or messages.
fn strings_of(mut message: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let [_, length, rest @ ..] = message {
        let (field, next) = rest.split_at(usize::from(*length).min(rest.len()));
        found.push(field.to_vec());
        message = next;
    }
    found
}

fn strings(message: &[u8]) -> Vec<String> {
    strings_of(message).into_iter().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}
