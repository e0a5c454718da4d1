//! Removing everything the runtime ever made, and nothing else, whatever state a crash has left it in.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use knarr_cri::v1::PodSandboxConfig;
use knarr_os::{Context, Result, cgroup::Cgroups, mount};

use crate::{
    client,
    config::Config,
    lifecycle::end_cgroup,
    records::{self, SandboxMeta},
    sandbox::Sandbox,
    shim::protocol::Request,
};

/// Ends every shim and container, gives back network attachments, mounts and control groups, and removes the data and
/// run directories. No runtime may be open on them.
pub async fn reset(config: &Config) -> Result<()> {
    for sandbox in sandboxes(config) {
        if sandbox.has_own_network()
            && let Err(e) = config.network.del(&sandbox.network_request(config)).await
        {
            tracing::warn!(sandbox = sandbox.meta.id, error = %e, "the pod's network attachment is not removed");
        }
    }
    for id in names(&config.run_dir.join("sandboxes")) {
        // One that does not answer is killed with its control group below.
        let run = config.sandbox_run_dir(&id);
        let told = client::tell(&run, &Request::Shutdown);
        let _ = tokio::time::timeout(Duration::from_secs(5), told).await;
    }
    let cgroups = Cgroups::detect()?;
    end_cgroup(&cgroups, &config.cgroup("")).await?;
    cgroups.remove_root(&config.cgroup(""))?;
    for directory in [&config.run_dir, &config.data_dir] {
        if let Ok(real) = fs::canonicalize(directory) {
            mount::unmount_below(&real)?;
            fs::remove_dir_all(&real).os("remove", real.display())?;
        }
    }
    Ok(())
}

fn sandboxes(config: &Config) -> Vec<Sandbox> {
    let records = records::load_all::<PodSandboxConfig, SandboxMeta>(&config.data_dir.join("sandboxes"));
    records.unwrap_or_default().into_iter().map(|(config, meta)| Sandbox { config, meta }).collect()
}

fn names(directory: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(directory) else { return BTreeSet::new() };
    entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect()
}
