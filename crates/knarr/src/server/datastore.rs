//! Where the cluster's objects are kept: the data directory, or an etcd that others run.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, bail};
use knarr_store::{EmbeddedStore, EtcdStore, Store, engine::disk::DiskEngine, etcd::EtcdConfig};

use super::ServerConfig;
use crate::{
    cli::{Datastore, DatastoreArgs},
    datadir::DataDir,
};

/// What all keys of the API server begin with.
pub const PREFIX: &str = "/registry";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatastoreConfig {
    Embedded,
    Etcd {
        config: EtcdConfig,
        /// In the place of `/registry`.
        prefix: String,
    },
}

impl DatastoreConfig {
    pub fn new(args: DatastoreArgs) -> Result<Self> {
        let DatastoreArgs { datastore, etcd_cafile, etcd_certfile, etcd_keyfile, etcd_prefix } = args;
        let endpoints = match datastore {
            Datastore::Etcd(endpoints) => endpoints,
            Datastore::Embedded => {
                let files = [&etcd_cafile, &etcd_certfile, &etcd_keyfile];
                if files.into_iter().any(Option::is_some) || etcd_prefix.is_some() {
                    bail!("--etcd-cafile, --etcd-certfile, --etcd-keyfile and --etcd-prefix need --datastore etcd=...");
                }
                return Ok(Self::Embedded);
            }
        };
        let config = EtcdConfig { endpoints, ca_file: etcd_cafile, cert_file: etcd_certfile, key_file: etcd_keyfile };
        Ok(Self::Etcd { config, prefix: normal(etcd_prefix.as_deref().unwrap_or(PREFIX)) })
    }
}

/// A prefix begins with a slash and does not end in one, whichever way it was typed.
fn normal(prefix: &str) -> String {
    let parts: Vec<&str> = prefix.split('/').filter(|part| !part.is_empty()).collect();
    parts.iter().map(|part| format!("/{part}")).collect()
}

pub struct Opened {
    pub store: Arc<dyn Store>,
    /// Set where the data is etcd's.
    pub etcd: Option<EtcdStore>,
}

pub async fn open(config: &ServerConfig) -> Result<Opened> {
    let there = config.data.store().exists();
    match &config.datastore {
        DatastoreConfig::Embedded => {
            if config.is_known && !there {
                bail!(
                    "the store {} is missing: restore the data directory from a backup, name the --datastore that the \
                     cluster was in, or begin anew with `knarr reset --data-dir {}`",
                    config.data.store().display(),
                    config.data.root().display(),
                );
            }
            Ok(Opened { store: Arc::new(embedded(&config.data)?), etcd: None })
        }
        DatastoreConfig::Etcd { .. } if there => bail!(
            "the cluster of {} is in {}, and would not be in etcd: choose another --data-dir, or leave out --datastore",
            config.data.root().display(),
            config.data.store().display(),
        ),
        DatastoreConfig::Etcd { config, prefix } => {
            let etcd = EtcdStore::open(config, PREFIX, prefix.clone())?;
            etcd.revision().await.with_context(|| format!("etcd at {} is not usable", config.endpoints.join(", ")))?;
            Ok(Opened { store: Arc::new(etcd.clone()), etcd: Some(etcd) })
        }
    }
}

/// The store in a data directory.
pub fn embedded(data: &DataDir) -> Result<EmbeddedStore<DiskEngine>> {
    Ok(EmbeddedStore::open(DiskEngine::open(&data.store(), free_bytes)?)?)
}

/// What is left on the disk for this process.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_taken_however_they_are_typed() {
        for (typed, expected) in [("/registry", "/registry"), ("registry/", "/registry"), ("/", ""), ("a//b", "/a/b")] {
            assert_eq!(normal(typed), expected, "{typed}");
        }
    }

    #[test]
    fn what_has_no_meaning_for_the_embedded_store_is_refused() {
        let args = DatastoreArgs {
            datastore: Datastore::Embedded,
            etcd_cafile: None,
            etcd_certfile: None,
            etcd_keyfile: None,
            etcd_prefix: None,
        };
        assert_eq!(DatastoreConfig::new(args.clone()).unwrap(), DatastoreConfig::Embedded);
        let refused = DatastoreConfig::new(DatastoreArgs { etcd_prefix: Some("/x".into()), ..args }).unwrap_err();
        assert!(refused.to_string().contains("need --datastore etcd="), "{refused}");
    }
}
