//! `knarr reset`: ends the process and the pods, and removes all that Knarr made on this host, and nothing else.

use std::{
    collections::BTreeSet,
    fs,
    io::{ErrorKind, IsTerminal, Write},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use knarr_cri::{NetworkAddress, NetworkRequest, PodNetwork};

use super::down;
use crate::{
    agent,
    cli::ResetArgs,
    datadir::{DataDir, Running},
    kubeconfig,
    say::say,
};

pub async fn run(args: ResetArgs) -> Result<bool> {
    let ResetArgs { data, yes } = args;
    if !rustix::process::geteuid().is_root() {
        bail!("knarr reset removes mounts, links and control groups and needs root: run it with sudo");
    }
    let data = DataDir::at(&data.data_dir)?;
    let (ours, others) = data.entries()?;
    check_is_ours(&data, &ours, &others)?;
    if !yes && !ours.is_empty() && !confirmed(&data)? {
        say!("nothing was removed");
        return Ok(false);
    }
    down::force(&data).await?;
    // Held until the end, so that nobody starts in what is being removed.
    let lock = if ours.is_empty() { None } else { Some(data.lock(&Running::command())?) };
    // What is in the kernel is found by its names, so this works where files are gone already.
    remove_from_kernel(&data).await?;
    forget_contexts(&data)?;
    if lock.is_some() {
        remove_files(&data)?;
    }
    drop(lock);
    match (ours.is_empty(), others.is_empty()) {
        (true, _) => {
            say!("there is no cluster in {}; what one may have left on this host is gone", data.root().display())
        }
        (false, true) => say!("removed {} and all that was made from it", data.root().display()),
        (false, false) => {
            say!("removed the cluster in {}, and left what is not of it: {}", data.root().display(), others.join(", "));
        }
    }
    Ok(true)
}

/// A mistyped directory must not cost anybody their files. One that half is gone of already is ours by its record,
/// or by having nothing else in it.
fn check_is_ours(data: &DataDir, ours: &[String], others: &[String]) -> Result<()> {
    let recorded = ours.iter().any(|name| name == "cluster.json");
    if !recorded && !others.is_empty() {
        bail!("{} does not look like a data directory of Knarr; nothing was removed", data.root().display());
    }
    Ok(())
}

async fn remove_from_kernel(data: &DataDir) -> Result<()> {
    let record = data.record().ok().flatten();
    let kubelet_dir = record.as_ref().and_then(|record| record.kubelet_dir.clone());
    if let Some(runtime) = record.and_then(|record| record.runtime) {
        let remote = agent::remote(&runtime.parse()?, data.root())
            .await
            .with_context(|| format!("{runtime} has this cluster's pods: start it, then try again"))?;
        remote.clear().await.context("not all pods could be removed")?;
    }
    let config = agent::runtime_config(data.root(), Arc::new(Detached { cni_dir: agent::cni_dir(data.root()) }))?;
    let run_dir = config.run_dir.clone();
    knarr_runtime::reset(&config).await.context("not all containers could be removed")?;
    knarr_cni::reset(&agent::cni_dir(data.root())).await.context("not all of the pods' network could be undone")?;
    if let Some(dir) = &kubelet_dir {
        let staged_dir = data.root().join("node/csi");
        let done = knarr_node::reset_drivers(dir, &agent::pod_dir(data.root()), &staged_dir);
        done.context("not all volumes of CSI drivers could be removed")?;
    }
    for dir in [agent::pod_dir(data.root()), agent::volume_dir(data.root())] {
        knarr_node::reset(&dir).context("not all volumes could be removed")?;
    }
    // What plugins left in them is theirs.
    for dir in kubelet_dir.iter().flat_map(|dir| knarr_node::plugin_dirs(dir).into_iter().chain([dir.clone()])) {
        let _ = fs::remove_dir(dir);
    }
    let root = data.root().to_owned();
    tokio::task::spawn_blocking(move || knarr_net::reset(&root))
        .await?
        .context("not all of the network could be removed")?;
    let _ = fs::remove_dir_all(&run_dir);
    // Only where no other cluster of this host has something in it.
    let _ = run_dir.parent().map(fs::remove_dir);
    Ok(())
}

/// Takes the context out of every file that it was merged into. A record that cannot be read is no reason to stop:
/// it goes with the rest.
fn forget_contexts(data: &DataDir) -> Result<()> {
    let recorded = data.record().ok().flatten().map(|record| record.kubeconfigs).unwrap_or_default();
    let paths: BTreeSet<PathBuf> = recorded.into_iter().chain(kubeconfig::default_path()).collect();
    paths.iter().try_for_each(|path| kubeconfig::remove_from(path, &data.admin_kubeconfig()))
}

/// The directory itself goes too, unless something else is in it or mounted on it. The record goes last: by it a
/// reset that was cut short knows the directory again.
fn remove_files(data: &DataDir) -> Result<()> {
    let (ours, _) = data.entries()?;
    let (record, rest): (Vec<&String>, Vec<&String>) = ours.iter().partition(|name| *name == "cluster.json");
    for path in rest.into_iter().chain(record).map(|name| data.root().join(name)) {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    let _ = fs::remove_dir(data.root());
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

/// While everything goes, sandboxes need not be detached one by one: the whole network is removed afterwards. But what
/// plugins made only they can undo, and some only while the pod's namespace is there.
struct Detached {
    cni_dir: PathBuf,
}

#[async_trait]
impl PodNetwork for Detached {
    async fn add(&self, _: &NetworkRequest) -> knarr_cri::Result<NetworkAddress> {
        Err(knarr_cri::CriError::Unavailable { message: "the node is being reset".into() })
    }

    async fn del(&self, request: &NetworkRequest) -> knarr_cri::Result<()> {
        knarr_cni::detach(&self.cni_dir, &request.sandbox_id).await
    }

    async fn status(&self) -> knarr_cri::Result<()> {
        Ok(())
    }
}
