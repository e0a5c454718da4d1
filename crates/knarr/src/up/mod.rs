//! `knarr up` and `knarr server`: server and node in one process. Starts the parts in the order in which they need
//! each other, shows how far it is, and keeps them until it is told to stop.

mod kubeconfigs;

use std::{path::PathBuf, sync::Arc};

use anyhow::{Result, bail};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{
    agent::{self, NodeConfig},
    cli::{ControlArgs, NodeArgs, ServerArgs, UpArgs},
    datadir::DataDir,
    kubeconfig, log,
    say::say,
    server::{self, ServerConfig},
    start::{self, API, CONTROL, NETWORK, NODE, RUNTIME, detach, preflight, progress::Progress},
};

use kubeconfigs::Kubeconfigs;

/// Everything that the parts are told.
struct Config {
    server: ServerConfig,
    node: NodeConfig,
    /// Where the context is merged into; `None` where it goes into no file but the administrator's own.
    kubeconfig: Option<PathBuf>,
    /// Others are expected to join, and are told how.
    is_joined: bool,
}

/// A cluster for the user of this machine.
pub fn run(args: UpArgs) -> Result<()> {
    let UpArgs { data, kubeconfig, control, node, detach } = args;
    log::to_stderr();
    preflight::check_root()?;
    let kubeconfig = kubeconfig.map(std::path::absolute).transpose()?.or_else(kubeconfig::default_path);
    let config = Config::new(DataDir::at(&data.data_dir)?, kubeconfig, control, node, false)?;
    if detach && !detach::is_child() {
        return detach::run(&config.node, &config.ports());
    }
    config.run()
}

/// A cluster that other machines join.
pub fn run_server(args: ServerArgs) -> Result<()> {
    let ServerArgs { data, kubeconfig, control, node } = args;
    log::to_stderr();
    preflight::check_root()?;
    let kubeconfig = kubeconfig.map(std::path::absolute).transpose()?;
    Config::new(DataDir::at(&data.data_dir)?, kubeconfig, control, node, true)?.run()
}

impl Config {
    fn new(
        data: DataDir,
        kubeconfig: Option<PathBuf>,
        control: ControlArgs,
        node: NodeArgs,
        is_joined: bool,
    ) -> Result<Self> {
        if data.identity().exists() {
            bail!(
                "{} belongs to an agent, which joined another server's cluster: choose another --data-dir, or remove it \
                 with `knarr reset`",
                data.root().display()
            );
        }
        let node = NodeConfig { pod_cidr: Some(control.pod_cidr), ..NodeConfig::new(data, node, None)? };
        let server = ServerConfig::new(&node, control)?;
        Ok(Self { server, node, kubeconfig, is_joined })
    }

    fn ports(&self) -> [(u16, &'static str); 2] {
        [(self.server.port, "--port"), (self.node.port, "--node-port")]
    }

    fn run(self) -> Result<()> {
        preflight::check(&self.node, &self.ports())?;
        let (node, port) = (self.node.clone(), self.server.port);
        start::keep(&node, Some(port), None, self.serve())
    }

    async fn serve(self) -> Result<()> {
        let stop = CancellationToken::new();
        let progress = Progress::new(&[API, CONTROL, NETWORK, RUNTIME, NODE]);
        let started = {
            let start = self.start(&progress, &stop);
            tokio::select! {
                started = start => started.map(Some),
                () = progress.animate() => Ok(None),
                () = start::interrupted() => Ok(None),
            }
        };
        let (agent, next) = match started {
            Ok(Some(Started { agent, next })) => (agent, next),
            unstarted => {
                stop.cancel();
                return unstarted.map(drop);
            }
        };
        self.announce(&progress, &next);
        detach::ready();
        let log = self.node.data.log();
        tokio::select! {
            () = start::interrupted() => {}
            ended = agent.ended() => bail!("{ended}"),
            () = log::keep_small(&log), if detach::is_child() => {}
        }
        stop.cancel();
        agent.finish().await;
        Ok(())
    }

    async fn start(&self, progress: &Progress, stop: &CancellationToken) -> Result<Started> {
        let begun = Timestamp::now();
        let listener = preflight::bind(self.server.port, "--port").await?;
        let server = Arc::new(server::start(&self.server, listener, stop).await?);
        self.write_record()?;
        let own = self.node.data.admin_kubeconfig();
        let ca_pem = server.authority.certificate_pem();
        let kubeconfigs = Arc::new(Kubeconfigs::new(own, self.kubeconfig.clone(), self.server.port, ca_pem));
        let next = kubeconfigs.write(&server.admin)?;
        server.keep_certificates(Arc::new(move |admin| kubeconfigs.renew(admin)), stop);
        progress.ready(API);
        server.keep_control(&self.server, stop);
        progress.ready(CONTROL);
        let access = server.access(&self.node)?;
        let client = access.client.clone();
        let agent = agent::start(&self.node, access, progress, stop).await?;
        start::wait_for_node(client, &self.node.name, begun).await?;
        progress.ready(NODE);
        Ok(Started { agent, next })
    }

    /// Notes what a later start and a reset have to know. The store is there by now, so that from here on a missing one
    /// is a loss.
    fn write_record(&self) -> Result<()> {
        let mut record = self.node.new_record();
        record.kubeconfigs.extend(self.node.record.iter().flat_map(|before| before.kubeconfigs.clone()));
        record.kubeconfigs.extend(self.kubeconfig.clone());
        record.write(&self.node.data.record_file())
    }

    fn announce(&self, progress: &Progress, next: &str) {
        let NodeConfig { name, ip, data, .. } = &self.node;
        let seconds = progress.elapsed().as_secs_f64();
        say!("\n{} in {seconds:.2} s on {name} ({ip})\n\n  {next}\n", detach::READY);
        if self.is_joined {
            say!(
                "To add a machine, see what to type there:\n\n  knarr token create --data-dir {}\n",
                data.root().display()
            );
        }
    }
}

/// A cluster that runs.
struct Started {
    agent: agent::Agent,
    /// What to type next.
    next: String,
}
