//! A device plugin, as a vendor would write it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use h2::{RecvStream, SendStream, server::SendResponse};
use http::Request;
use tokio::{
    net::{UnixListener, UnixStream},
    runtime::Runtime,
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use crate::vendor::{self, fields, framed, nested, text, texts};

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
        let answer = move |request, respond| shared.clone().answer(request, respond);
        self.serving = Some(self.runtime.spawn(vendor::serve(listener, answer)));
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
    async fn answer(self: Arc<Self>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Result<()> {
        let (method, message) = vendor::read(request).await?;
        let mut answer = vendor::begin(&mut respond)?;
        let called = |ids: &[String]| {
            let call = format!("{method} {}", ids.join(" "));
            self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        };
        match method.as_str() {
            "ListAndWatch" => return self.list(answer).await,
            // It wants to be asked before each start.
            "GetDevicePluginOptions" => answer.send_data(framed(&[0x08, 1]), false)?,
            "Allocate" => {
                let ids = fields(&message).iter().flat_map(|(_, container)| texts(container)).collect::<Vec<_>>();
                called(&ids);
                let node = [text(1, "/dev/berth"), text(2, "/dev/fuse"), text(3, "r")].concat();
                let variable = [text(1, "BERTHS"), text(2, &ids.join(","))].concat();
                let mount = [text(1, "/berths"), text(2, &self.dir.to_string_lossy()), vec![0x18, 1]].concat();
                let container = [nested(1, &variable), nested(2, &mount), nested(3, &node)].concat();
                answer.send_data(framed(&nested(1, &container)), false)?;
            }
            "PreStartContainer" => {
                called(&texts(&message));
                answer.send_data(framed(&[]), false)?;
            }
            _ => return vendor::end(answer, "12", ""),
        }
        vendor::end(answer, "0", "")
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
