//! A cluster under a load generator: any program that is called as `PROGRAM KUBECONFIG CASE [key=value ...]` and ends
//! with an error where a request failed. `KLOAD` names it.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use knarr_e2e::{Cluster, image::BUSYBOX};

use crate::cluster::footprint;

/// Each case with what is not the generator's own default.
const CASES: [(&str, &[&str]); 11] = [
    ("ready", &[]),
    ("create", &["kind=pod", "n=4000"]),
    ("create", &["kind=pod", "c=1", "n=500"]),
    ("create", &["kind=configmap", "n=4000"]),
    ("get", &["n=20000"]),
    ("list", &[]),
    ("watch", &["w=100"]),
    ("apply", &[]),
    ("schedule", &[]),
    ("deploy", &[]),
    ("podstart", &[]),
];

pub fn run() -> Result<()> {
    let generator = PathBuf::from(std::env::var_os("KLOAD").context("KLOAD names no load generator")?);
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    for (case, arguments) in CASES {
        let mut command = Command::new(&generator);
        command.arg(cluster.kubeconfig()).arg(case).args(arguments);
        if case == "podstart" {
            command.arg(format!("image={BUSYBOX}"));
        }
        let status = command.status().with_context(|| format!("cannot run {}", generator.display()))?;
        ensure!(status.success(), "{case} failed");
    }
    footprint("after the load", &cluster)?;
    cluster.reset()?;
    Ok(())
}
