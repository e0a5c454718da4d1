//! What is kept of the cluster and of requests to it, and where.

use std::path::PathBuf;

use clap::Args;

/// What is written down of requests to the API. Both a policy and a place are needed; without them nothing is.
#[derive(Clone, Debug, Default, Args)]
pub struct AuditArgs {
    /// An audit.k8s.io/v1 Policy: which requests are logged, and how much of them
    #[arg(long, value_name = "FILE", requires = "audit_log_path")]
    pub audit_policy_file: Option<PathBuf>,
    /// Where audit events go, one line of JSON each; - for standard output
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    pub audit_log_path: Option<PathBuf>,
    /// Begin a new audit log when the old one has this many megabytes; 0 for 100
    #[arg(long, value_name = "MB", default_value_t = 0, requires = "audit_log_path")]
    pub audit_log_maxsize: u32,
    /// How many old audit logs are kept; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0, requires = "audit_log_path")]
    pub audit_log_maxbackup: u32,
    /// For how many days old audit logs are kept; 0 for ever
    #[arg(long, value_name = "DAYS", default_value_t = 0, requires = "audit_log_path")]
    pub audit_log_maxage: u32,
}

/// Where the cluster's objects are kept.
#[derive(Clone, Debug, Args)]
pub struct DatastoreArgs {
    /// Keep the cluster's objects in the data directory, or in an etcd of yours: `embedded`, or
    /// `etcd=https://HOST:2379,...` with its endpoints
    #[arg(long, value_name = "STORE", default_value = "embedded", value_parser = parse_datastore)]
    pub datastore: Datastore,
    /// The authorities that etcd's certificates are from, in PEM
    #[arg(long, value_name = "FILE")]
    pub etcd_cafile: Option<PathBuf>,
    /// The client certificate for etcd, in PEM
    #[arg(long, value_name = "FILE")]
    pub etcd_certfile: Option<PathBuf>,
    /// The key of that certificate, in PEM
    #[arg(long, value_name = "FILE")]
    pub etcd_keyfile: Option<PathBuf>,
    /// What all keys in etcd begin with [default: /registry]
    #[arg(long, value_name = "PREFIX")]
    pub etcd_prefix: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datastore {
    Embedded,
    /// The endpoints.
    Etcd(Vec<String>),
}

fn parse_datastore(text: &str) -> Result<Datastore, String> {
    match text.split_once('=') {
        None if text == "embedded" => Ok(Datastore::Embedded),
        Some(("etcd", endpoints)) => Ok(Datastore::Etcd(endpoints.split(',').map(str::to_owned).collect())),
        _ => Err("a datastore reads embedded, or etcd=https://HOST:2379,...".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Datastore::*, parse_datastore};

    #[test]
    fn datastores() {
        let two = Etcd(vec!["https://a:2379".into(), "https://b:2379".into()]);
        for (text, expected) in [
            ("embedded", Some(Embedded)),
            ("etcd=https://a:2379,https://b:2379", Some(two)),
            ("etcd", None),
            ("sqlite=/x", None),
        ] {
            assert_eq!(parse_datastore(text).ok(), expected, "{text}");
        }
    }
}
