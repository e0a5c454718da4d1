//! A device plugin at a real socket, which does as it is told and keeps what it was asked for.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::StreamExt;
use knarr_cri::v1::{Device as DeviceNode, Mount};
use knarr_grpc::{
    client::{self, Service},
    code,
    server::{Reply, Status},
    socket::{self, Socket},
};
use prost::Message;
use tokio::{sync::watch, task::JoinHandle};

use crate::devices::protocol::*;

pub const RESOURCE: &str = "example.com/berth";

/// A plugin, for as long as it is kept.
pub struct FakePlugin {
    dir: PathBuf,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    devices: watch::Sender<Vec<Device>>,
    preferred: Vec<String>,
    asked: Mutex<Vec<String>>,
    refuses: Mutex<Option<String>>,
}

impl Drop for FakePlugin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn devices(list: &[(&str, bool)]) -> Vec<Device> {
    let health = |healthy: bool| if healthy { HEALTHY } else { "Unhealthy" }.to_owned();
    list.iter().map(|(id, healthy)| Device { id: (*id).to_owned(), health: health(*healthy) }).collect()
}

fn reply<M: Message>(message: &M) -> Result<Reply, Status> {
    Ok(Reply::one(message))
}

impl Shared {
    fn answer(self: &Arc<Self>, method: &str, bytes: Bytes) -> Result<Reply, Status> {
        let method = method.strip_prefix("v1beta1.DevicePlugin/").unwrap();
        if method == "ListAndWatch" {
            let changes = self.devices.subscribe();
            let lists = futures::stream::unfold((changes, true), |(mut changes, is_first)| async move {
                if !is_first {
                    changes.changed().await.ok()?;
                }
                let devices = changes.borrow_and_update().clone();
                Some((Ok(ListAndWatchResponse { devices }), (changes, false)))
            });
            return Ok(Reply::many(lists.boxed()));
        }
        let ask = |text: String| self.asked.lock().unwrap().push(text);
        match method {
            "GetDevicePluginOptions" => {
                reply(&DevicePluginOptions { pre_start_required: true, get_preferred_allocation_available: true })
            }
            "GetPreferredAllocation" => {
                let request = PreferredAllocationRequest::decode(bytes).unwrap().container_requests.remove(0);
                let (available, must) = (request.available_device_ids.join(" "), request.must_include_device_ids);
                ask(format!("prefer {} of {available} with {must:?}", request.allocation_size));
                let container_responses = vec![DeviceIds { ids: self.preferred.clone() }];
                reply(&PreferredAllocationResponse { container_responses })
            }
            "Allocate" => {
                let ids = AllocateRequest::decode(bytes).unwrap().container_requests.remove(0).ids.join(" ");
                ask(format!("allocate {ids}"));
                if let Some(message) = self.refuses.lock().unwrap().clone() {
                    return Err(Status { code: code::UNKNOWN, message });
                }
                let mount = |path: &str| Mount {
                    container_path: path.into(),
                    host_path: path.into(),
                    readonly: true,
                    ..Mount::default()
                };
                let node = DeviceNode {
                    container_path: "/dev/berth".into(),
                    host_path: "/dev/null".into(),
                    permissions: "rw".into(),
                };
                let container = ContainerAllocateResponse {
                    envs: BTreeMap::from([("BERTHS".into(), ids)]),
                    mounts: vec![mount("/lib/berth")],
                    devices: vec![node],
                    annotations: BTreeMap::from([("example.com/note".into(), "moored".into())]),
                    cdi_devices: Vec::new(),
                };
                reply(&AllocateResponse { container_responses: vec![container] })
            }
            "PreStartContainer" => {
                ask(format!("start {}", DeviceIds::decode(bytes).unwrap().ids.join(" ")));
                reply(&Empty {})
            }
            _ => Err(Status { code: code::UNIMPLEMENTED, message: method.to_owned() }),
        }
    }
}

impl FakePlugin {
    pub fn serve(dir: &Path, list: &[(&str, bool)], preferred: &[&str]) -> Self {
        let shared = Arc::new(Shared {
            devices: watch::Sender::new(devices(list)),
            preferred: preferred.iter().map(|id| (*id).to_owned()).collect(),
            asked: Mutex::default(),
            refuses: Mutex::default(),
        });
        let (socket, answers) = (Socket::bind(&dir.join("berth.sock")).unwrap(), shared.clone());
        let serving = socket.serve(move |method, bytes| {
            let answer = answers.answer(&method, bytes);
            async move { answer }
        });
        Self { dir: dir.to_owned(), shared, serving: tokio::spawn(serving) }
    }

    /// Serves, and registers.
    pub async fn start(dir: &Path, list: &[(&str, bool)], preferred: &[&str]) -> Self {
        let fake = Self::serve(dir, list, preferred);
        fake.register(VERSION, RESOURCE, "berth.sock").await.unwrap();
        fake
    }

    pub async fn register(&self, version: &str, resource: &str, endpoint: &str) -> Result<(), String> {
        let request = RegisterRequest {
            version: version.to_owned(),
            endpoint: endpoint.to_owned(),
            resource_name: resource.to_owned(),
        };
        let service = Service { origin: "http://localhost", package: "v1beta1", metadata: &[] };
        let mut sender = socket::connect(&self.dir.join(SOCKET)).await.map_err(|failure| failure.to_string())?;
        let answered = client::call::<Empty>(&mut sender, service, "Registration/Register", &request).await;
        answered.map(drop).map_err(|failure| failure.message().to_owned())
    }

    /// What it was asked for since it was last asked for that.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.asked.lock().unwrap())
    }

    /// Goes, and has left when this returns.
    pub async fn end(mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
    }

    /// Says from now on that there are these.
    pub fn list(&self, list: &[(&str, bool)]) {
        self.shared.devices.send_replace(devices(list));
    }

    /// Refuses to give devices from now on.
    pub fn refuse(&self, why: &str) {
        *self.shared.refuses.lock().unwrap() = Some(why.to_owned());
    }
}
