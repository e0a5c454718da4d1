//! A driver of devices (DRA), as a vendor would write it. It asks the API what a claim was given, and describes that to the runtime in a file (CDI).

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::Request;
use serde_json::json;
use tokio::{net::UnixListener, runtime::Runtime};

use crate::{
    Clients,
    vendor::{self, fields, nested, text},
};

/// Where runtimes look for what devices bring.
const CDI_DIR: &str = "/var/run/cdi";

/// Its devices are all `/dev/zero` of the host, each with its name in a variable. Ends when it is dropped.
pub struct Driver {
    shared: Arc<Shared>,
    sockets: [PathBuf; 2],
    _runtime: Runtime,
}

struct Shared {
    name: &'static str,
    endpoint: PathBuf,
    clients: Clients,
    calls: Mutex<Vec<String>>,
}

impl Driver {
    /// `kubelet_dir` is where the node looks for plugins.
    pub fn start(kubelet_dir: &Path, name: &'static str, clients: Clients) -> Result<Self> {
        let own = kubelet_dir.join("plugins").join(name);
        fs::create_dir_all(&own)?;
        fs::create_dir_all(CDI_DIR)?;
        let endpoint = own.join("dra.sock");
        let registration = kubelet_dir.join("plugins_registry").join(format!("{name}-reg.sock"));
        let sockets = [endpoint.clone(), registration];
        let shared = Arc::new(Shared { name, endpoint, clients, calls: Mutex::default() });
        let runtime = Runtime::new()?;
        for socket in &sockets {
            let listener = runtime.block_on(async { UnixListener::bind(socket) });
            let listener = listener.context(socket.display().to_string())?;
            let shared = shared.clone();
            runtime.spawn(vendor::serve(listener, move |request, respond| shared.clone().answer(request, respond)));
        }
        Ok(Self { shared, sockets, _runtime: runtime })
    }

    /// What it was asked for, in order.
    pub fn calls(&self) -> Vec<String> {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for socket in &self.sockets {
            let _ = fs::remove_file(socket);
        }
        for entry in fs::read_dir(CDI_DIR).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(self.shared.name) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let _ = fs::remove_dir(self.shared.endpoint.with_file_name(""));
        let _ = fs::remove_dir(CDI_DIR);
    }
}

impl Shared {
    async fn answer(self: Arc<Self>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Result<()> {
        let (method, message) = vendor::read(request).await?;
        // kubectl takes its time.
        let reply = tokio::task::spawn_blocking(move || self.reply(&method, &message)).await?;
        let mut answer = vendor::begin(&mut respond)?;
        match reply {
            Ok(reply) => {
                answer.send_data(vendor::framed(&reply), false)?;
                vendor::end(answer, "0", "")
            }
            Err(error) => vendor::end(answer, "2", &format!("{error:#}")),
        }
    }

    fn reply(&self, method: &str, message: &[u8]) -> Result<Vec<u8>> {
        let claims: Vec<[String; 3]> = fields(message).into_iter().map(|(_, claim)| claim_of(&claim)).collect();
        let told = |call: String| self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        match method {
            "GetInfo" => {
                let endpoint = self.endpoint.to_string_lossy();
                Ok([text(1, "DRAPlugin"), text(2, self.name), text(3, &endpoint), text(4, "v1.DRAPlugin")].concat())
            }
            "NotifyRegistrationStatus" => {
                told(if message == [8, 1] { "registered".to_owned() } else { format!("refused {message:?}") });
                Ok(Vec::new())
            }
            "NodePrepareResources" => {
                let mut answer = Vec::new();
                for [namespace, uid, name] in &claims {
                    let device = self.prepare(namespace, name, uid)?;
                    told(format!("prepare {device}"));
                    let id = format!("{}/device={uid}", self.name);
                    let given = [text(1, "r"), text(2, "node-1"), text(3, &device), text(4, &id)].concat();
                    answer.extend(nested(1, &[text(1, uid), nested(2, &nested(1, &given))].concat()));
                }
                Ok(answer)
            }
            "NodeUnprepareResources" => {
                let mut answer = Vec::new();
                for [_, uid, name] in &claims {
                    let file = self.file(uid);
                    told(format!("unprepare {}", if file.exists() { "what it had" } else { name }));
                    let _ = fs::remove_file(file);
                    answer.extend(nested(1, &[text(1, uid), nested(2, &[])].concat()));
                }
                Ok(answer)
            }
            other => anyhow::bail!("nobody calls {other}"),
        }
    }

    fn prepare(&self, namespace: &str, name: &str, uid: &str) -> Result<String> {
        let claim = self.clients.get(&format!("resourceclaim/{name} -n {namespace}"))?;
        let result = &claim["status"]["allocation"]["devices"]["results"][0];
        let device = result["device"].as_str().context("the claim has nothing")?.to_owned();
        let edits = json!({
            "env": [format!("BERTH={device}")],
            "deviceNodes": [{"path": "/dev/berth", "hostPath": "/dev/zero"}],
            "mounts": [{"hostPath": CDI_DIR, "containerPath": "/berths", "options": ["ro", "nosuid", "bind"]}],
        });
        let spec = json!({"cdiVersion": "0.6.0", "kind": format!("{}/device", self.name),
            "devices": [{"name": uid, "containerEdits": edits}]});
        fs::write(self.file(uid), spec.to_string())?;
        Ok(device)
    }

    fn file(&self, uid: &str) -> PathBuf {
        Path::new(CDI_DIR).join(format!("{}-{uid}.json", self.name))
    }
}

/// Namespace, uid and name.
fn claim_of(message: &[u8]) -> [String; 3] {
    let mut claim = [const { String::new() }; 3];
    for (number, value) in fields(message) {
        if let Some(part) = claim.get_mut(usize::from(number).wrapping_sub(1)) {
            *part = String::from_utf8_lossy(&value).into_owned();
        }
    }
    claim
}
