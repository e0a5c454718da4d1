//! Whole-cluster tests: one cluster of one node for all that can share it, one of five for those that want several,
//! then those that want one of their own.

#![allow(clippy::disallowed_methods)]

mod autoscaling;
mod basics;
mod block;
mod charts;
mod churn;
mod cli;
mod clients;
mod config;
mod csi;
mod custom;
mod deployments;
mod devices;
mod dra;
mod elsewhere;
mod endings;
mod escapes;
mod examples;
mod fields;
mod five;
mod full_disk;
mod ingress;
mod kubectl;
mod lifecycle;
mod local;
mod mounted;
mod nodes;
mod pods;
mod probes;
mod readme;
mod registry;
mod resized;
mod scheduling;
mod services;
mod shutdown;
mod static_pods;
mod storage;
mod storm;
mod users;
mod wishes;
mod workloads;

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use knarr_e2e::{Clients, Cluster, Local, command::Said, host, load};
use libtest_mimic::{Arguments, Failed, Trial};

/// A test on the cluster that all share; it works in a namespace of its own.
type Shared = fn(&Cluster) -> Result<()>;
/// A test on the five nodes that all share; it works in a namespace of its own, and leaves nodes as it found them.
type OnFive = fn(&Local) -> Result<()>;
/// A test on those five nodes that would hold on any cluster.
type OnNodes = fn(&Clients) -> Result<()>;
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
    let one = Slot::<Cluster>::default();
    let five = Slot::<Local>::default();
    let shared = [
        basics::tests(),
        cli::tests(),
        deployments::tests(),
        workloads::tests(),
        services::tests(),
        pods::tests(),
        probes::tests(),
        endings::tests(),
        mounted::tests(),
        resized::tests(),
        config::tests(),
        clients::tests(),
        custom::tests(),
        autoscaling::tests(),
        wishes::tests(),
        escapes::tests(),
        fields::tests(),
        storage::tests(),
        block::tests(),
        kubectl::tests(),
        charts::tests(),
    ];
    let shared = shared.into_iter().flatten().map(|(name, test)| {
        let one = one.clone();
        Trial::test(name, move || on(&one, start_one, test))
    });
    let on_five = [
        ingress::on_five(),
        local::on_five(),
        five::on_five(),
        scheduling::on_five(),
        examples::on_five(),
        charts::on_five(),
    ];
    let on_five = on_five.into_iter().flatten().map(|(name, test)| {
        let five = five.clone();
        Trial::test(name, move || on(&five, start_five, test))
    });
    let on_nodes =
        [workloads::on_nodes(), mounted::on_nodes(), storage::on_nodes(), config::on_nodes(), autoscaling::on_nodes()];
    let on_nodes = on_nodes.into_iter().flatten().map(|(name, test)| {
        let five = five.clone();
        Trial::test(name, move || on(&five, start_five, |five| test(five)))
    });
    let end_one = end("the_shared_cluster_ends", &one, Cluster::reset);
    let end_five = end("the_shared_nodes_end", &five, |five| five.delete());
    let alone = [
        ingress::tests(),
        lifecycle::tests(),
        local::tests(),
        five::tests(),
        full_disk::tests(),
        elsewhere::tests(),
        nodes::tests(),
        devices::tests(),
        dra::tests(),
        readme::tests(),
        registry::tests(),
        static_pods::tests(),
        shutdown::tests(),
        storm::tests(),
        users::tests(),
        churn::tests(),
        storage::alone(),
        csi::tests(),
    ];
    let alone = alone.into_iter().flatten().map(|(name, test)| {
        let (one, five) = (one.clone(), five.clone());
        Trial::test(name, move || {
            drop((take(&one), take(&five)));
            test().map_err(|error| Failed::from(format!("{error:?}")))
        })
    });
    let trials: Vec<Trial> =
        shared.chain([end_one]).chain(on_five).chain(on_nodes).chain([end_five]).chain(alone).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop((take(&one), take(&five)));
    conclusion.exit_code()
}

/// What several tests share, made for the first of them.
type Slot<T> = Arc<Mutex<Option<T>>>;

fn start_one() -> Result<Cluster> {
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    Ok(cluster)
}

fn start_five() -> Result<Local> {
    // Autoscalers need not be waited for longer than their work takes.
    let quick = ["--", "--metric-resolution", "1s", "--horizontal-pod-autoscaler-sync-period", "1s"];
    Local::create("five", 5, &quick)
}

fn take<T>(slot: &Slot<T>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn end<T: Send + 'static>(name: &str, slot: &Slot<T>, act: fn(&mut T) -> Result<Said>) -> Trial {
    let slot = slot.clone();
    Trial::test(name, move || {
        let Some(mut shared) = take(&slot) else { return Ok(()) };
        let said = act(&mut shared).map_err(|error| format!("{error:?}"))?;
        if said.code == 0 { Ok(()) } else { Err(said.all().into()) }
    })
}

fn on<T>(slot: &Slot<T>, start: fn() -> Result<T>, test: impl Fn(&T) -> Result<()>) -> Result<(), Failed> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    let mut run = || {
        if slot.is_none() {
            *slot = Some(start()?);
        }
        slot.as_ref().map_or(Ok(()), &test)
    };
    run().map_err(|error| Failed::from(format!("{error:?}")))
}
