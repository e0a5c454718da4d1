//! `knarr reset`: ends the process and the pods, and removes all that Knarr made on this host, and nothing else.

use std::{
    fs,
    io::{IsTerminal, Write},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use knarr_cri::{NetworkAddress, NetworkRequest, PodNetwork};

use super::down;
use crate::{cli::ResetArgs, datadir::DataDir, kubeconfig, up};

pub async fn run(args: ResetArgs) -> Result<bool> {
    let ResetArgs { data, yes } = args;
    let data = DataDir::at(&data.data_dir)?;
    if !data.root().exists() {
        println!("there is nothing in {}", data.root().display());
        return Ok(true);
    }
    check_is_ours(&data)?;
    if !yes && !confirmed(&data)? {
        println!("nothing was removed");
        return Ok(false);
    }
    down::stop(&data).await?;
    // Held until the end, so that nobody starts in what is being removed.
    let lock = data.lock()?;
    let config = up::runtime_config(data.root(), Arc::new(Detached))?;
    let run_dir = config.run_dir.clone();
    knarr_runtime::reset(&config).await.context("not all containers could be removed")?;
    knarr_node::reset(&up::pod_dir(data.root())).context("not all volumes could be removed")?;
    let root = data.root().to_owned();
    tokio::task::spawn_blocking(move || knarr_net::reset(&root))
        .await?
        .context("not all of the network could be removed")?;
    if let Some(path) = kubeconfig::default_path() {
        kubeconfig::remove_from(&path, &data.admin_kubeconfig())?;
    }
    let _ = fs::remove_dir_all(&run_dir);
    // Only where no other cluster of this host has something in it.
    let _ = run_dir.parent().map(fs::remove_dir);
    fs::remove_dir_all(data.root()).with_context(|| format!("cannot remove {}", data.root().display()))?;
    drop(lock);
    println!("removed {} and all that was made from it", data.root().display());
    Ok(true)
}

/// A mistyped directory must not cost anybody their files.
fn check_is_ours(data: &DataDir) -> Result<()> {
    let marks = ["lock", "store", "pki"];
    let empty = fs::read_dir(data.root())?.next().is_none();
    if !empty && !marks.iter().all(|mark| data.root().join(mark).exists()) {
        bail!("{} does not look like a data directory of Knarr; nothing was removed", data.root().display());
    }
    Ok(())
}

fn confirmed(data: &DataDir) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("this removes the cluster in {} with all its data; say --yes if that is meant", data.root().display());
    }
    print!("Remove the cluster in {} with all its data? [y/N] ", data.root().display());
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// While everything goes, sandboxes need not be detached one by one: the whole network is removed afterwards.
struct Detached;

#[async_trait]
impl PodNetwork for Detached {
    async fn add(&self, _: &NetworkRequest) -> knarr_cri::Result<NetworkAddress> {
        Err(knarr_cri::CriError::Unavailable { message: "the node is being reset".into() })
    }

    async fn del(&self, _: &NetworkRequest) -> knarr_cri::Result<()> {
        Ok(())
    }

    async fn status(&self) -> knarr_cri::Result<()> {
        Ok(())
    }
}
