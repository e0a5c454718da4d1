//! Wires the parts of a node together and runs them until told to stop.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    storage::v1::CSIDriver,
};
use knarr_client::{Recorder, informer::Scope, supervise};
use knarr_cri::{
    CriError,
    v1::{ListImagesRequest, VersionRequest},
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    cpus::{Cpus, CpusError, Topology},
    csi::{self, Csi},
    devices::{Devices, DevicesError},
    dra::Claims,
    evict::{self, Evictor},
    gc::Collector,
    images::records::PullRecords,
    logs::{Limits, Rotator},
    plugins,
    pod::{
        admit::Admitted, confine::Host, context::Context, manager::Manager, references::References, resize::Queue,
        users::UserBlocks,
    },
    provision,
    register::{self, Registrar},
    server,
    shutdown::Shutdown,
    static_pods::StaticPods,
};

const MAX_PULLS: usize = 5;
const MAX_STATUS_WRITES: usize = 32;
/// How often the claims of pods that are gone are given back, where that failed before.
const CLAIMS_PERIOD: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("cannot make {path}; check that the data directory is writable")]
    Folder { path: PathBuf, source: io::Error },
    #[error("the container runtime does not answer")]
    Runtime(#[source] CriError),
    #[error(transparent)]
    Devices(#[from] DevicesError),
    #[error(transparent)]
    Cpus(#[from] CpusError),
    #[error("cannot listen on {address}; another kubelet may run on this machine")]
    Listen { address: SocketAddr, source: io::Error },
}

/// A node agent, ready to run.
pub struct Agent {
    config: Config,
}

impl Agent {
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Runs the node until `shutdown`, and containers go on running when this returns; or until the machine goes down,
    /// and they have ended.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), AgentError> {
        let Config {
            node_name,
            node_ip,
            labels,
            taints,
            machine_identity,
            data_dir,
            pod_dir,
            volume_dir,
            kubelet_dir,
            device_plugin_dir,
            cluster_dns,
            cluster_domain,
            resolv_conf,
            machine,
            budget,
            cpus,
            eviction,
            shutdown: periods,
            power_off,
            image_gc,
            max_pods,
            pod_pids,
            unsafe_sysctls,
            informers,
            runtime,
            images,
            streams,
            listen,
            tls,
            clock,
        } = self.config;
        let (log_dir, manifest_dir) = (data_dir.join("logs"), data_dir.join("manifests"));
        let staged_dir = data_dir.join("csi");
        for path in [&pod_dir, &log_dir, &manifest_dir] {
            let made = tokio::fs::create_dir_all(path).await;
            made.map_err(|source| AgentError::Folder { path: path.clone(), source })?;
        }
        let records = data_dir.join("image_manager");
        let records =
            PullRecords::open(&records).map_err(|source| AgentError::Folder { path: records.clone(), source })?;
        let there = images.list_images(ListImagesRequest::default()).await.map_err(AgentError::Runtime)?;
        records.settle(&there.images, clock.now());
        let stop = shutdown.child_token();
        let reserved_milli = budget.system.cpu_milli + budget.kube.cpu_milli;
        let has_pods = std::fs::read_dir(&pod_dir).is_ok_and(|mut pods| pods.next().is_some());
        let topology = || Topology::read("/sys/devices/system".as_ref());
        let cpus = Cpus::open(&cpus, topology, &data_dir.join("cpu_manager_state"), reserved_milli, has_pods)?;
        let cpus = Arc::new(cpus);
        let devices = Devices::open(&device_plugin_dir, &data_dir.join("devices.json"), stop.clone())?;
        let registration = devices.bind()?;
        let version = runtime.version(VersionRequest::default()).await.map_err(AgentError::Runtime)?;
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|source| AgentError::Listen { address: listen, source })?;
        let port = listener.local_addr().map_or(listen.port(), |address| address.port());
        let prepared = data_dir.join("claims.json");
        let claims = Claims::open(informers.client().clone(), prepared.clone());
        let claims = Arc::new(claims.map_err(|source| AgentError::Folder { path: prepared, source })?);
        let client = informers.client().clone();
        let node = informers.with_params::<Node>(Scope::fields(format!("metadata.name={node_name}")));
        let pods = informers.with_params::<Pod>(Scope::fields(format!("spec.nodeName={node_name}")));
        let services = informers.of::<Service>();
        let recorder = Recorder::new(client.clone(), "kubelet", node_name.clone(), clock, stop.clone());
        let places = csi::Places { kubelet_dir: kubelet_dir.clone(), pod_dir: pod_dir.clone(), staged_dir };
        let drivers = informers.of::<CSIDriver>();
        let csi = Csi::new(node_name.clone(), places, client.clone(), node.clone(), drivers, recorder.clone(), clock);
        let csi = Arc::new(csi);
        let context = Arc::new(Context {
            csi: csi.clone(),
            node_name: node_name.clone(),
            node_ips: vec![node_ip.to_string()],
            log_dir,
            users: Arc::new(UserBlocks::new(pod_dir.clone())),
            pod_dir,
            host: Host::look(&data_dir),
            cluster_dns,
            cluster_domain,
            resolv_conf,
            client: client.clone(),
            runtime: runtime.clone(),
            images: images.clone(),
            runtime_name: version.runtime_name.clone(),
            recorder: recorder.clone(),
            references: References::new(informers.clone()),
            services: services.clone(),
            node: node.clone(),
            budget,
            eviction,
            image_gc,
            pressures: watch::Sender::default(),
            shutting_down: watch::Sender::default(),
            memory_capacity: machine.memory_bytes,
            max_pods,
            pod_pids,
            unsafe_sysctls,
            clock,
            admitted: std::sync::Mutex::new(Admitted::default()),
            resizes: Queue::default(),
            devices: devices.clone(),
            cpus: cpus.clone(),
            records,
            claims: claims.clone(),
            pulls: Semaphore::new(MAX_PULLS),
            writes: Semaphore::new(MAX_STATUS_WRITES),
            probes: Arc::default(),
            owners: std::sync::Mutex::default(),
            mirrors: std::sync::Mutex::default(),
        });
        let manager = Manager::new(context.clone());
        let registrar = Registrar {
            name: node_name.clone(),
            ip: node_ip,
            port,
            labels,
            taints,
            machine_identity,
            max_pods,
            machine: machine.clone(),
            allocatable: budget.allocatable,
            pressures: context.pressures.subscribe(),
            shutting_down: context.shutting_down.subscribe(),
            devices: devices.clone(),
            runtime_version: format!("{}://{}", version.runtime_name, version.runtime_version),
            client: client.clone(),
            runtime: runtime.clone(),
            heard: register::Heard::default(),
            images: images.clone(),
            node: node.clone(),
            recorder,
            clock,
        };
        let provisioner_informers = informers.clone();
        let provisioner = || {
            let config = provision::Config {
                node_name: node_name.clone(),
                dir: volume_dir.clone(),
                informers: provisioner_informers.clone(),
                recorder: context.recorder.for_component(provision::COMPONENT),
            };
            provision::run(config, stop.clone())
        };
        let server = server::Server::new(context.clone(), manager.clone(), streams);
        let statics = StaticPods::new(manifest_dir, context.clone(), manager.clone(), pods.clone());
        let collector = Arc::new(Collector::new(context.clone(), manager.clone()));
        let evictor = Evictor {
            ctx: context.clone(),
            manager: manager.clone(),
            collector: collector.clone(),
            meter: Arc::new(evict::Host::new(&machine)),
        };
        let ending =
            Shutdown { ctx: context.clone(), manager: manager.clone(), pods: pods.clone(), periods, told: power_off };
        let handlers = plugins::Handlers::from([
            ("DRAPlugin", claims.drivers.clone() as Arc<dyn plugins::Handler>),
            (csi::PLUGIN, csi.clone() as _),
        ]);
        let registry = plugins::Registry::new(plugins::make_dirs(&kubelet_dir), handlers);
        let rotator = Rotator { runtime: runtime.clone(), limits: Limits::default(), clock };
        let work = async {
            tokio::join!(
                registrar.run(),
                register::heartbeat(client.clone(), node_name.clone(), node, clock),
                server.serve(listener, tls, stop.clone()),
                keep(&stop, "node-events", || manager.listen(runtime.container_events())),
                follow(&stop, &manager, pods, services, &statics, &claims, &csi),
                rotator.run(),
                registration,
                keep(&stop, "node-devices", || tell_health(&devices, &manager)),
                keep(&stop, "node-processors", || tell_processors(&cpus, &manager)),
                keep(&stop, "node-evictions", || evictor.run()),
                keep(&stop, "node-garbage", || collector.run()),
                keep(&stop, "local-provisioner", provisioner),
                keep(&stop, "node-plugins", || registry.run()),
                keep(&stop, "node-drivers", || claims.drivers.tidy(&client, &node_name)),
            )
        };
        tokio::select! {
            _ = work => {}
            () = ending.run() => {}
            () = shutdown.cancelled() => {}
        }
        manager.stop();
        Ok(())
    }
}

/// A pod's status says how its devices are.
async fn tell_health(devices: &Devices, manager: &Manager) {
    let mut changes = devices.subscribe();
    while changes.changed().await.is_ok() {
        devices.holders().iter().for_each(|uid| manager.wake(uid));
    }
}

/// What one pod has for itself, others have to leave.
async fn tell_processors(cpus: &Cpus, manager: &Manager) {
    let mut changes = cpus.subscribe();
    while changes.changed().await.is_ok() {
        manager.wake_all();
    }
}

/// Begins with pods once services are known, since containers get those in their environment.
async fn follow(
    stop: &CancellationToken,
    manager: &Manager,
    pods: knarr_client::Informer<Pod>,
    services: knarr_client::Informer<Service>,
    statics: &StaticPods,
    claims: &Claims,
    csi: &Csi,
) {
    statics.read_once().await;
    services.synced().await;
    let cleaning = async {
        if !pods.synced().await {
            return;
        }
        // The pods that the API knows are passed on by now or within this moment.
        for pod in pods.list() {
            manager.want_unless_mirror(pod);
        }
        if let Err(error) = manager.clear_left_overs().await {
            tracing::warn!(%error, "what runs of earlier pods could not be listed");
        }
        let tend_claims = async {
            loop {
                claims.keep_only(|uid| manager.knows(uid)).await;
                tokio::time::sleep(CLAIMS_PERIOD).await;
            }
        };
        let tend_volumes = keep(stop, "node-volumes", || csi.tidy(|uid| manager.knows(uid)));
        tokio::join!(statics.run(), tend_claims, tend_volumes);
    };
    tokio::join!(keep(stop, "node-pods", || manager.follow(pods.clone())), cleaning);
}

/// Runs something that never ends by itself, again where it crashes.
async fn keep<F, Fut>(stop: &CancellationToken, name: &str, make: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = ()>,
{
    supervise::keep_running(name, stop, make).await;
}
