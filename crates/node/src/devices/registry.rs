//! Where plugins register, and what each says from then on.

use std::{
    fs, io,
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use knarr_api::meta::names::qualified_name;
use knarr_grpc::{
    client::Failure,
    code,
    server::{Reply, Status},
    socket::Socket,
};
use prost::Message;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Devices, DevicesError, GRACE,
    plugin::Plugin,
    protocol::{Empty, ListAndWatchResponse, RegisterRequest, SOCKET, VERSION},
};

const FIND_LIMIT: Duration = Duration::from_secs(10);
/// Between two attempts to find a plugin again.
const RECONNECT: Duration = Duration::from_secs(1);

impl Devices {
    /// Takes the socket that plugins register at. What former sockets there are goes, by which plugins see that they have
    /// to register again.
    pub fn bind(self: &Arc<Self>) -> Result<impl Future<Output = ()> + Send + use<>, DevicesError> {
        let path = self.socket(SOCKET);
        // Those of another node are none of ours.
        if UnixStream::connect(&path).is_err() {
            clear(&self.dir).map_err(|source| DevicesError::Folder { path: self.dir.clone(), source })?;
        }
        let socket = Socket::bind(&path)?;
        let devices = self.clone();
        let serving = socket.serve(move |method, bytes| {
            let devices = devices.clone();
            async move { devices.answer(&method, bytes).await }
        });
        Ok(serving)
    }

    async fn answer(self: Arc<Self>, method: &str, bytes: Bytes) -> Result<Reply, Status> {
        if method != "v1beta1.Registration/Register" {
            return Err(Status { code: code::UNIMPLEMENTED, message: format!("unknown method {method}") });
        }
        let request = RegisterRequest::decode(bytes)
            .map_err(|error| Status { code: code::INTERNAL, message: error.to_string() })?;
        let RegisterRequest { resource_name, endpoint, .. } = request.clone();
        match self.register(request).await {
            Ok(()) => {
                tracing::info!(resource = resource_name, endpoint, "a device plugin has registered");
                Ok(Reply::one(&Empty {}))
            }
            Err(message) => {
                tracing::warn!(resource = resource_name, endpoint, message, "a device plugin cannot register");
                Err(Status { code: code::UNKNOWN, message })
            }
        }
    }

    async fn register(self: Arc<Self>, request: RegisterRequest) -> Result<(), String> {
        let RegisterRequest { version, endpoint, resource_name: resource } = request;
        if version != VERSION {
            return Err(format!(
                "requested API version {version:?} is not supported by kubelet. Supported version is [{VERSION:?}]"
            ));
        }
        if !is_extended(&resource) {
            return Err(format!("the ResourceName {resource:?} is invalid"));
        }
        if endpoint.contains('/') || endpoint == SOCKET {
            return Err(format!("the endpoint {endpoint:?} is not the name of a socket beside {SOCKET}"));
        }
        let plugin =
            self.find(&endpoint).await.map_err(|failure| format!("failed to dial device plugin: {failure}"))?;
        let (epoch, is_new) = {
            let mut state = self.state();
            state.forgotten.remove(&resource);
            let is_new = state.ledger.resources.insert(resource.clone());
            let known = state.resources.entry(resource.clone()).or_default();
            known.epoch += 1;
            (known.epoch, is_new)
        };
        if is_new {
            self.save(&self.turn.lock().await).await.map_err(|error| error.to_string())?;
        }
        self.spawn(self.clone().follow(resource, endpoint, epoch, Arc::new(plugin)));
        Ok(())
    }

    /// A plugin may register a moment before it answers.
    async fn find(&self, endpoint: &str) -> Result<Plugin, Failure> {
        let until = Instant::now() + FIND_LIMIT;
        loop {
            match Plugin::connect(&self.socket(endpoint)).await {
                Err(Failure::Unsent(_)) if Instant::now() < until => sleep(Duration::from_millis(100)).await,
                found => return found,
            }
        }
    }

    /// Listens to a plugin until it is gone for good or registers again.
    async fn follow(self: Arc<Self>, resource: String, endpoint: String, epoch: u64, mut plugin: Arc<Plugin>) {
        let mut gone_at = Instant::now() + GRACE;
        loop {
            let mut has_spoken = false;
            let why = match plugin.list_and_watch().await {
                Ok(mut lists) => loop {
                    match lists.next::<ListAndWatchResponse>().await {
                        Ok(list) if self.list(&resource, epoch, &plugin, &list.devices) => has_spoken = true,
                        Ok(_) => return,
                        Err(failure) => break failure,
                    }
                },
                Err(failure) => failure,
            };
            if !self.lose(&resource, epoch) {
                return;
            }
            if has_spoken {
                gone_at = Instant::now() + GRACE;
                tracing::warn!(resource, endpoint, %why, "a device plugin is gone");
            }
            match timeout_at(gone_at, self.find_again(&endpoint)).await {
                Ok(found) => plugin = found,
                Err(_) => return self.forget(resource, epoch).await,
            }
        }
    }

    /// A plugin whose connection was lost may still be there, and see no reason to register again.
    async fn find_again(&self, endpoint: &str) -> Arc<Plugin> {
        loop {
            sleep(RECONNECT).await;
            if let Ok(plugin) = Plugin::connect(&self.socket(endpoint)).await {
                return Arc::new(plugin);
            }
        }
    }
}

/// The names of the API server's own resources are not for plugins, nor is what no quota could name.
fn is_extended(name: &str) -> bool {
    name.contains('/')
        && !name.contains("kubernetes.io/")
        && !name.starts_with("requests.")
        && qualified_name(&format!("requests.{name}")).is_empty()
}

fn clear(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name() != SOCKET && entry.file_type()?.is_socket() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
