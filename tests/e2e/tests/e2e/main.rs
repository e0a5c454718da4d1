//! Whole-cluster tests: one cluster for all that can share it, then those that want one of their own.

#![allow(clippy::disallowed_methods)]

mod basics;
mod clients;
mod config;
mod deployments;
mod lifecycle;
mod nodes;
mod pods;
mod services;
mod storm;
mod wishes;
mod workloads;

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use knarr_e2e::{Cluster, host, load};
use libtest_mimic::{Arguments, Failed, Trial};

/// A test on the cluster that all share; it works in a namespace of its own.
type Shared = fn(&Cluster) -> Result<()>;
/// A test that makes and ends clusters itself.
type Alone = fn() -> Result<()>;

fn main() -> ExitCode {
    match load::play_if_asked() {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => {}
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    }
    if let Err(error) = host::enter() {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    let mut arguments = Arguments::from_args();
    // One cluster has one network: tests go one after another.
    arguments.test_threads = Some(1);
    let cluster: Arc<Mutex<Option<Cluster>>> = Arc::default();
    let shared = [
        basics::tests(),
        deployments::tests(),
        workloads::tests(),
        services::tests(),
        pods::tests(),
        config::tests(),
        clients::tests(),
        wishes::tests(),
    ]
    .into_iter()
    .flatten()
    .map(|(name, test)| {
        let cluster = cluster.clone();
        Trial::test(name, move || with_cluster(&cluster, test))
    });
    let end = {
        let cluster = cluster.clone();
        Trial::test("the_shared_cluster_ends", move || {
            drop(cluster.lock().unwrap_or_else(PoisonError::into_inner).take());
            Ok(())
        })
    };
    let alone = [lifecycle::tests(), nodes::tests(), storm::tests()].into_iter().flatten().map(|(name, test)| {
        let cluster = cluster.clone();
        Trial::test(name, move || {
            drop(cluster.lock().unwrap_or_else(PoisonError::into_inner).take());
            test().map_err(|error| Failed::from(format!("{error:?}")))
        })
    });
    let trials: Vec<Trial> = shared.chain([end]).chain(alone).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(cluster.lock().unwrap_or_else(PoisonError::into_inner).take());
    conclusion.exit_code()
}

fn with_cluster(cluster: &Mutex<Option<Cluster>>, test: Shared) -> Result<(), Failed> {
    let mut cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
    let mut run = || {
        if cluster.is_none() {
            let mut fresh = Cluster::new()?;
            fresh.start()?;
            *cluster = Some(fresh);
        }
        cluster.as_ref().map_or(Ok(()), test)
    };
    run().map_err(|error| Failed::from(format!("{error:?}")))
}
