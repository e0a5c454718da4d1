//! One plugin at its socket.

use std::{collections::BTreeSet, path::Path, time::Duration};

use knarr_grpc::{
    client::{self, Answers, Failure, Sender, Service},
    code, socket,
};
use prost::Message;
use tokio::time::timeout;

use super::protocol::{
    AllocateRequest, AllocateResponse, ContainerAllocateResponse, ContainerPreferredAllocationRequest, DeviceIds,
    DevicePluginOptions, Empty, PreferredAllocationRequest, PreferredAllocationResponse,
};

const SERVICE: Service<'static> = Service { origin: "http://localhost", package: "v1beta1", metadata: &[] };
/// For what a plugin knows without asking its devices.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// Upstream's for PreStartContainer. It has none for Allocate, and waits for a plugin that hangs for ever.
const WORK_LIMIT: Duration = Duration::from_secs(30);

pub struct Plugin {
    sender: Sender,
    options: DevicePluginOptions,
}

impl Plugin {
    /// Connects and asks what the plugin wants to be asked.
    pub async fn connect(path: &Path) -> Result<Self, Failure> {
        let sender = socket::connect(path).await?;
        let mut plugin = Self { sender, options: DevicePluginOptions::default() };
        plugin.options = plugin.call("GetDevicePluginOptions", &Empty {}, ASK_LIMIT).await?;
        Ok(plugin)
    }

    /// The lists of its devices from now on, one for each change.
    pub async fn list_and_watch(&self) -> Result<Answers, Failure> {
        client::stream(&mut self.sender.clone(), SERVICE, "DevicePlugin/ListAndWatch", &Empty {}).await
    }

    /// Which devices would go together best. A plugin need not decide, nor decide for as many as are asked for.
    pub async fn prefer(
        &self,
        available: &BTreeSet<String>,
        must_include: &BTreeSet<String>,
        size: usize,
    ) -> Result<Vec<String>, String> {
        if !self.options.get_preferred_allocation_available {
            return Ok(Vec::new());
        }
        let container = ContainerPreferredAllocationRequest {
            available_device_ids: available.iter().cloned().collect(),
            must_include_device_ids: must_include.iter().cloned().collect(),
            allocation_size: i32::try_from(size).unwrap_or(i32::MAX),
        };
        let request = PreferredAllocationRequest { container_requests: vec![container] };
        let answer: Result<PreferredAllocationResponse, _> =
            self.call("GetPreferredAllocation", &request, ASK_LIMIT).await;
        let answer =
            answer.map_err(|failure| format!("device plugin GetPreferredAllocation rpc failed with err: {failure}"))?;
        Ok(answer.container_responses.into_iter().next().unwrap_or_default().ids)
    }

    pub async fn allocate(&self, devices: &BTreeSet<String>) -> Result<ContainerAllocateResponse, String> {
        let request = AllocateRequest { container_requests: vec![ids(devices)] };
        let answer: Result<AllocateResponse, _> = self.call("Allocate", &request, WORK_LIMIT).await;
        let answer = answer.map_err(|failure| failure.to_string())?;
        let first = answer.container_responses.into_iter().next();
        first.ok_or_else(|| "no containers return in allocation response".to_owned())
    }

    pub async fn pre_start(&self, devices: &BTreeSet<String>) -> Result<(), String> {
        if !self.options.pre_start_required {
            return Ok(());
        }
        let done: Result<Empty, _> = self.call("PreStartContainer", &ids(devices), WORK_LIMIT).await;
        done.map(drop).map_err(|failure| format!("device plugin PreStartContainer rpc failed with err: {failure}"))
    }

    async fn call<A: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
        limit: Duration,
    ) -> Result<A, Failure> {
        let (mut sender, method) = (self.sender.clone(), format!("DevicePlugin/{method}"));
        let answered = timeout(limit, client::call(&mut sender, SERVICE, &method, request)).await;
        answered.unwrap_or_else(|_| {
            Err(Failure::Refused { code: code::DEADLINE_EXCEEDED, message: "context deadline exceeded".to_owned() })
        })
    }
}

fn ids(devices: &BTreeSet<String>) -> DeviceIds {
    DeviceIds { ids: devices.iter().cloned().collect() }
}
