//! The pod network that the runtime asks for, made by plugins.

use std::{io, path::Path};

use async_trait::async_trait;
use knarr_cri::{CriError, NetworkAddress, NetworkRequest, PodNetwork, Result};
use serde_json::{Map, Value, json};

use crate::{
    Config,
    attachment::{Attachment, INTERFACE, addresses},
    cache::Cache,
    config::{NetworkList, kind},
    plugin::{self, Call, PluginError},
};

/// Brings the pod's loopback device up; no configuration names it.
const LOOPBACK: &str = "loopback";

pub struct CniNetwork {
    config: Config,
    cache: Cache,
}

fn noting(error: io::Error) -> CriError {
    CriError::internal("what the network plugins made cannot be noted", error)
}

fn plugins_failed(error: PluginError) -> CriError {
    CriError::Internal { message: error.to_string(), source: None }
}

impl CniNetwork {
    /// Takes over what is attached. What the host lost meanwhile, at a restart, is undone, and the plugins are told what
    /// there still is, where they can clear away the rest.
    pub async fn open(config: Config) -> Result<Self> {
        let cache = Cache::open(&config.cache_dir).map_err(noting)?;
        let network = Self { config, cache };
        let mut kept = Vec::new();
        for attachment in network.cache.all().map_err(noting)? {
            if attachment.netns.exists() {
                kept.push(attachment);
            } else if let Err(error) = undo(&network.cache, &attachment).await {
                tracing::warn!(sandbox = attachment.container_id, %error, "a lost pod's network is not undone yet");
            }
        }
        if let Err(error) = network.clear_away(&kept).await {
            tracing::warn!(%error, "the network plugins could not clear away what nobody has any more");
        }
        Ok(network)
    }

    fn load(&self) -> Result<NetworkList> {
        NetworkList::load(&self.config.conf_dir).map_err(|error| CriError::Unavailable {
            // containerd's words, which the node's condition repeats.
            message: format!("Network plugin returns error: cni plugin not initialized: {error}"),
        })
    }

    async fn clear_away(&self, kept: &[Attachment]) -> Result<()> {
        let Ok(network) = self.load() else { return Ok(()) };
        if network.disable_gc || !network.has("1.1.0") {
            return Ok(());
        }
        let valid: Vec<_> =
            kept.iter().map(|kept| json!({"containerID": kept.container_id, "ifname": INTERFACE})).collect();
        for plugin in &network.plugins {
            let mut config = plugin.clone();
            config.extend([
                ("cniVersion".to_owned(), json!(network.cni_version)),
                ("name".to_owned(), json!(network.name)),
                ("cni.dev/valid-attachments".to_owned(), json!(valid)),
            ]);
            let call = Call { bin_dir: &self.config.bin_dir, command: "GC", environment: &[] };
            plugin::run(&call, kind(plugin), &Value::Object(config)).await.map_err(plugins_failed)?;
        }
        Ok(())
    }
}

/// Undoes one pod's attachment by its note, whatever the configuration is by now.
pub async fn detach(cache_dir: &Path, sandbox_id: &str) -> Result<()> {
    if !cache_dir.exists() {
        return Ok(());
    }
    let cache = Cache::open(cache_dir).map_err(noting)?;
    match cache.get(sandbox_id).map_err(noting)? {
        Some(attachment) => undo(&cache, &attachment).await,
        None => Ok(()),
    }
}

/// Undoes all that is noted in a directory, for a reset: its pods are gone.
pub async fn reset(cache_dir: &Path) -> Result<()> {
    if !cache_dir.exists() {
        return Ok(());
    }
    let cache = Cache::open(cache_dir).map_err(noting)?;
    for attachment in cache.all().map_err(noting)? {
        undo(&cache, &attachment).await?;
    }
    Ok(())
}

async fn call(
    attachment: &Attachment,
    command: &'static str,
    plugin: &Map<String, Value>,
    previous: Option<&Value>,
) -> std::result::Result<Value, PluginError> {
    let environment = attachment.environment(INTERFACE);
    let call = Call { bin_dir: &attachment.bin_dir, command, environment: &environment };
    plugin::run(&call, kind(plugin), &attachment.config(plugin, previous)).await
}

async fn loopback(attachment: &Attachment) -> std::result::Result<(), PluginError> {
    let environment = attachment.environment("lo");
    let call = Call { bin_dir: &attachment.bin_dir, command: "ADD", environment: &environment };
    let config = json!({"cniVersion": attachment.network.cni_version, "name": "cni-loopback", "type": LOOPBACK});
    plugin::run(&call, LOOPBACK, &config).await.map(drop)
}

/// Each plugin adds to what those before it made.
async fn make(attachment: &Attachment) -> std::result::Result<Value, PluginError> {
    loopback(attachment).await?;
    let mut result = None;
    for plugin in &attachment.network.plugins {
        result = Some(call(attachment, "ADD", plugin, result.as_ref()).await?);
    }
    Ok(result.unwrap_or_default())
}

/// Whether what was made is still as it was.
async fn check(attachment: &Attachment, result: &Value) -> std::result::Result<(), PluginError> {
    if attachment.network.disable_check || !attachment.network.has("0.4.0") {
        return Ok(());
    }
    for plugin in &attachment.network.plugins {
        call(attachment, "CHECK", plugin, Some(result)).await?;
    }
    Ok(())
}

/// In the opposite order; plugins succeed where there is nothing to undo.
async fn undo(cache: &Cache, attachment: &Attachment) -> Result<()> {
    let previous = attachment.result.as_ref().filter(|_| attachment.network.has("0.4.0"));
    for plugin in attachment.network.plugins.iter().rev() {
        call(attachment, "DEL", plugin, previous).await.map_err(plugins_failed)?;
    }
    cache.forget(&attachment.container_id).map_err(noting)
}

#[async_trait]
impl PodNetwork for CniNetwork {
    async fn add(&self, request: &NetworkRequest) -> Result<NetworkAddress> {
        if let Some(known) = self.cache.get(&request.sandbox_id).map_err(noting)? {
            if let Some(result) = &known.result
                && check(&known, result).await.is_ok()
            {
                return Ok(addresses(result));
            }
            // Cut short, or no longer as it was made.
            undo(&self.cache, &known).await?;
        }
        let mut attachment = Attachment::new(request, self.load()?, &self.config.bin_dir);
        self.cache.note(&attachment).map_err(noting)?;
        match make(&attachment).await {
            Ok(result) => {
                let found = addresses(&result);
                attachment.result = Some(result);
                self.cache.note(&attachment).map_err(noting)?;
                Ok(found)
            }
            Err(error) => {
                if let Err(undoing) = undo(&self.cache, &attachment).await {
                    tracing::warn!(sandbox = request.sandbox_id, error = %undoing, "a network half made is not undone yet");
                }
                let message = format!("failed to setup network for sandbox \"{}\": {error}", request.sandbox_id);
                Err(CriError::Internal { message, source: None })
            }
        }
    }

    async fn del(&self, request: &NetworkRequest) -> Result<()> {
        detach(&self.config.cache_dir, &request.sandbox_id).await
    }

    async fn status(&self) -> Result<()> {
        let network = self.load()?;
        if !network.has("1.1.0") {
            return Ok(());
        }
        for plugin in &network.plugins {
            let mut config = plugin.clone();
            config.extend([
                ("cniVersion".to_owned(), json!(network.cni_version)),
                ("name".to_owned(), json!(network.name)),
            ]);
            let call = Call { bin_dir: &self.config.bin_dir, command: "STATUS", environment: &[] };
            let ready = plugin::run(&call, kind(plugin), &Value::Object(config)).await;
            ready
                .map_err(|error| CriError::Unavailable { message: format!("Network plugin returns error: {error}") })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    /// Plugins that note each call, and what they are told of what was made before them.
    const SCRIPT: &str = r#"#!/bin/sh
dir=$(dirname "$0")
told=$(cat)
echo "$CNI_COMMAND $(basename "$0") $CNI_IFNAME $(echo "$told" | grep -c prevResult)" >> "$dir/calls"
if [ -e "$dir/fail-$CNI_COMMAND-$(basename "$0")" ]; then
  echo '{"cniVersion": "1.0.0", "code": 11, "msg": "no", "details": "not today"}'; exit 1
fi
[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24"}]}'
exit 0
"#;

    /// A program that is being written cannot be run, nor while a process that another test starts has it open.
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    struct Plugins(tempfile::TempDir, #[allow(dead_code)] tokio::sync::MutexGuard<'static, ()>);

    impl Plugins {
        async fn new(version: &str) -> Self {
            let turn = ONE_AT_A_TIME.lock().await;
            let dir = tempfile::tempdir().unwrap();
            for plugin in ["loopback", "first", "second"] {
                fs::write(dir.path().join(plugin), SCRIPT).unwrap();
                fs::set_permissions(dir.path().join(plugin), fs::Permissions::from_mode(0o755)).unwrap();
            }
            let plugins = Self(dir, turn);
            plugins.configure(&format!(
                r#"{{"cniVersion": "{version}", "name": "n", "plugins": [{{"type": "first"}}, {{"type": "second"}}]}}"#
            ));
            plugins
        }

        fn configure(&self, text: &str) {
            fs::create_dir_all(self.0.path().join("conf")).unwrap();
            fs::write(self.0.path().join("conf/10-n.conflist"), text).unwrap();
        }

        async fn open(&self) -> CniNetwork {
            let dir = self.0.path();
            let config = Config { conf_dir: dir.join("conf"), bin_dir: dir.to_owned(), cache_dir: dir.join("cache") };
            CniNetwork::open(config).await.unwrap()
        }

        /// The calls since the last time.
        fn calls(&self) -> Vec<String> {
            let path = self.0.path().join("calls");
            let calls = fs::read_to_string(&path).unwrap_or_default();
            let _ = fs::remove_file(path);
            calls.lines().map(str::to_owned).collect()
        }

        fn fail(&self, call: &str) {
            fs::write(self.0.path().join(format!("fail-{call}")), "").unwrap();
        }
    }

    fn request(netns: &Path) -> NetworkRequest {
        NetworkRequest {
            sandbox_id: "s1".into(),
            namespace: "d".into(),
            name: "p".into(),
            uid: "u".into(),
            netns: netns.to_owned(),
            port_mappings: Vec::new(),
        }
    }

    const ADDED: [&str; 3] = ["ADD loopback lo 0", "ADD first eth0 0", "ADD second eth0 1"];

    #[tokio::test]
    async fn plugins_are_chained_and_undone_the_other_way_round() {
        let plugins = Plugins::new("1.0.0").await;
        let network = plugins.open().await;
        let request = request(plugins.0.path());
        let added = network.add(&request).await.unwrap();
        assert_eq!(added.ips, ["10.1.0.2".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(plugins.calls(), ADDED);
        // A second time it is only looked at, also by the next process.
        let network = plugins.open().await;
        assert_eq!(network.add(&request).await.unwrap(), added);
        assert_eq!(plugins.calls(), ["CHECK first eth0 1", "CHECK second eth0 1"]);
        // What was made is undone, whatever the directory says by now.
        plugins.configure(r#"{"cniVersion": "1.0.0", "name": "other", "type": "first"}"#);
        network.del(&request).await.unwrap();
        assert_eq!(plugins.calls(), ["DEL second eth0 1", "DEL first eth0 1"]);
        network.del(&request).await.unwrap();
        assert_eq!(plugins.calls(), [""; 0]);
    }

    #[tokio::test]
    async fn what_fails_half_way_is_undone() {
        let plugins = Plugins::new("1.0.0").await;
        plugins.fail("ADD-second");
        let network = plugins.open().await;
        let error = network.add(&request(plugins.0.path())).await.unwrap_err().to_string();
        let why = "failed to setup network for sandbox \"s1\": plugin type=\"second\" failed (add): no; not today";
        assert_eq!(error, why);
        assert_eq!(plugins.calls(), [&ADDED[..], &["DEL second eth0 0", "DEL first eth0 0"]].concat());
    }

    #[tokio::test]
    async fn what_is_no_longer_as_it_was_is_made_anew() {
        let plugins = Plugins::new("1.0.0").await;
        let (network, request) = (plugins.open().await, request(plugins.0.path()));
        network.add(&request).await.unwrap();
        plugins.calls();
        plugins.fail("CHECK-first");
        network.add(&request).await.unwrap();
        let undone = ["CHECK first eth0 1", "DEL second eth0 1", "DEL first eth0 1"];
        assert_eq!(plugins.calls(), [&undone[..], &ADDED].concat());
    }

    #[tokio::test]
    async fn pods_that_the_host_lost_are_undone_and_the_rest_cleared_away() {
        let plugins = Plugins::new("1.1.0").await;
        let netns = plugins.0.path().join("netns");
        fs::write(&netns, "").unwrap();
        plugins.open().await.add(&request(&netns)).await.unwrap();
        plugins.calls();
        fs::remove_file(&netns).unwrap();
        let network = plugins.open().await;
        let undone = ["DEL second eth0 1", "DEL first eth0 1", "GC first  0", "GC second  0"];
        assert_eq!(plugins.calls(), undone);
        network.status().await.unwrap();
        assert_eq!(plugins.calls(), ["STATUS first  0", "STATUS second  0"]);
        plugins.fail("STATUS-second");
        let error = network.status().await.unwrap_err().to_string();
        assert!(
            error.starts_with("Network plugin returns error: plugin type=\"second\" failed (status): no"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn without_a_configuration_the_network_is_not_ready() {
        let plugins = Plugins::new("1.0.0").await;
        fs::remove_file(plugins.0.path().join("conf/10-n.conflist")).unwrap();
        let error = plugins.open().await.status().await.unwrap_err().to_string();
        assert!(
            error.starts_with("Network plugin returns error: cni plugin not initialized: no networks found"),
            "{error}"
        );
    }
}
