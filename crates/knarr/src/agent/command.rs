//! `knarr agent`: the node half alone, as a member of a cluster whose server is another machine. It joins once; from
//! then on it needs neither token nor a server that is there, and looks after its pods meanwhile.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use knarr_api::bootstrap_token::JoinToken;
use knarr_client::Clock;
use knarr_join::{Identity, JoinError, Joining, Renewal, greet, join, keep_current};
use tokio_util::sync::CancellationToken;

use super::{Access, NodeConfig};
use crate::{
    cli::AgentArgs,
    datadir::DataDir,
    log,
    say::say,
    start::{self, NETWORK, NODE, RUNTIME, preflight, progress::Progress},
};

const JOINED: &str = "joined";
/// How long a start waits to hear from a server that it knows already.
const GREETING: Duration = Duration::from_secs(2);

/// Everything that an agent is told.
struct Config {
    node: NodeConfig,
    server: String,
    token: Option<String>,
    seed: u64,
}

pub fn run(args: AgentArgs) -> Result<()> {
    let AgentArgs { data, server, token, token_file, node } = args;
    log::to_stderr();
    preflight::check_root()?;
    let data = DataDir::at(&data.data_dir)?;
    if data.store().exists() {
        bail!("{} belongs to a server, which is a node already: choose another --data-dir", data.root().display());
    }
    let token = match token_file {
        Some(path) => Some(read_token(&path)?),
        None => token,
    };
    #[allow(clippy::disallowed_methods)] // the one place where an agent's randomness begins
    let seed = rand::random();
    let config = Config { node: NodeConfig::new(data, node, Some(&server))?, server, token, seed };
    preflight::check(&config.node, &[(config.node.port, "--node-port")])?;
    let (node, server) = (config.node.clone(), config.server.clone());
    start::keep(&node, None, Some(server), config.serve())
}

fn read_token(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read --token-file {}", path.display()))?;
    Ok(text.trim().to_owned())
}

impl Config {
    async fn serve(self) -> Result<()> {
        let stop = CancellationToken::new();
        let progress = Progress::new(&[JOINED, NETWORK, RUNTIME, NODE]);
        let started = tokio::select! {
            started = self.start(&progress, &stop) => started.map(Some),
            () = progress.animate() => Ok(None),
            () = start::interrupted() => Ok(None),
        };
        let (agent, client, begun) = match started {
            Ok(Some(started)) => started,
            unstarted => {
                stop.cancel();
                return unstarted.map(drop);
            }
        };
        tokio::select! {
            () = self.announce(&progress, client, begun) => {}
            () = start::interrupted() => {}
            ended = agent.ended() => bail!("{ended}"),
        }
        stop.cancel();
        agent.finish().await;
        Ok(())
    }

    async fn start(
        &self,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<(super::Agent, kube::Client, Timestamp)> {
        let begun = Timestamp::now();
        let identity = Arc::new(self.identity().await?);
        self.node.new_record().write(&self.node.data.record_file())?;
        progress.ready(JOINED);
        let client = identity.client();
        let access = Access { client: client.clone(), serving: Arc::new(identity.server_config()?) };
        let agent = super::start(&self.node, access, progress, stop).await?;
        let renewal = Renewal {
            identity,
            node_name: self.node.name.clone(),
            machine: self.node.machine_identity(),
            addresses: vec![self.node.ip],
            clock: Clock::System,
            seed: self.seed,
        };
        tokio::spawn(keep_current(renewal, stop.clone()));
        Ok((agent, client, begun))
    }

    /// Who this node is: by what it kept, or by joining now.
    async fn identity(&self) -> Result<Identity> {
        let directory = self.node.data.identity();
        let known = Identity::open(&directory, &self.server, self.seed)?;
        let token = self.token.as_deref().map(str::parse::<JoinToken>).transpose().context("--token cannot be used");
        if known.is_some()
            && let Some(record) = self.node.record.as_ref().filter(|record| record.node_name != self.node.name)
        {
            bail!(
                "this machine joined as {}, which its certificate says; leave --node-name out, or join anew after \
                 `knarr reset`",
                record.node_name
            );
        }
        let Some(identity) = known else {
            let Some(token) = token? else {
                bail!(
                    "this machine has not joined a cluster yet: give --token, as `knarr token create` on the server \
                     prints it"
                );
            };
            return self.join(&token).await;
        };
        if let Ok(Some(token)) = &token {
            identity.check_authority(token.authority, &self.server)?;
        }
        let refused = match identity.is_expired(Clock::System) {
            Ok(()) => match greet(identity.https(), &self.server, Clock::System, GREETING).await {
                Ok(status) if status == http::StatusCode::UNAUTHORIZED => JoinError::CertificateRefused,
                Ok(_) => return Ok(identity),
                Err(error @ JoinError::Unreachable { .. }) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "going on without the server");
                    return Ok(identity);
                }
                Err(error) => return Err(error.into()),
            },
            Err(expired) => expired,
        };
        // A certificate that is of no use any more is replaced like a missing one.
        match token {
            Ok(Some(token)) => {
                Identity::forget(&directory)?;
                self.join(&token).await
            }
            _ => Err(refused.into()),
        }
    }

    async fn join(&self, token: &JoinToken) -> Result<Identity> {
        let joining = Joining {
            server: &self.server,
            token,
            node_name: &self.node.name,
            machine: &self.node.machine_identity(),
            directory: &self.node.data.identity(),
            clock: Clock::System,
            seed: self.seed,
        };
        Ok(join(&joining).await?)
    }

    /// Says when the node is ready, however long that takes: its server may be away.
    async fn announce(&self, progress: &Progress, client: kube::Client, begun: Timestamp) {
        let NodeConfig { name, ip, .. } = &self.node;
        while let Err(error) = start::wait_for_node(client.clone(), name, begun).await {
            tracing::warn!("{error:#}");
            tokio::time::sleep(GREETING).await;
        }
        progress.ready(NODE);
        say!(
            "\nnode ready in {:.2} s: {name} ({ip}), of the cluster at {}\n",
            progress.elapsed().as_secs_f64(),
            self.server
        );
        std::future::pending().await
    }
}
