//! The controllers of a cluster: each watches what it is named after and brings what is towards what is wished.
//!
//! A controller is a folder: `mod.rs` says why it exists and wires it, `plan.rs` decides (pure functions over
//! observed objects), `tests.rs` shows. A controller knows the API and nothing else: neither the others, nor the
//! store, nor the API server. [`spawn_all`] starts them under supervision.

mod address_repair;
mod attach_detach;
mod certificates;
mod common;
mod control_plane;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod endpoints;
mod endpointslice;
mod endpointslice_mirroring;
mod ephemeral_volume;
mod garbage;
mod horizontal_pod_autoscaler;
mod ingress;
mod job;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod pod_gc;
mod replicaset;
mod resource_claim;
mod resource_quota;
mod role_aggregation;
mod root_ca;
mod service_cidr;
mod service_lb;
mod serviceaccount;
mod statefulset;
mod token_cleaner;
mod trust_bundle;
mod ttl_after_finished;
mod volume_binder;
mod volume_expand;
mod volume_protection;

use std::{sync::Arc, time::Duration};

pub use certificates::{CertificateAuthority, Requested as RequestedCertificate};
use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::ReplicationController};
use knarr_api::cidr::Ipv4Cidr;
use knarr_client::{Clock, Informers, Recorder, supervise};
pub use service_lb::{AddressPool, PoolError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the controllers are given.
pub struct Config {
    /// Makes the client that a controller writes with, from its upstream name (`replicaset-controller`), so that
    /// it can run under `system:serviceaccount:kube-system:NAME`.
    pub client_for: Arc<dyn Fn(&'static str) -> kube::Client + Send + Sync>,
    /// Shared with the scheduler and whoever else is in this process.
    pub informers: Informers,
    pub clock: Clock,
    pub cancel: CancellationToken,
    /// What goes into each namespace's `kube-root-ca.crt`, and into the API server's ClusterTrustBundle.
    pub root_ca_pem: String,
    /// Signs the certificate requests that were approved.
    pub authority: Arc<dyn CertificateAuthority>,
    /// How long a node may say nothing before its pods are taken for lost.
    pub node_monitor_grace: Duration,
    /// The node in the server's own process, where there is one.
    pub control_plane_node: Option<String>,
    /// How often each HorizontalPodAutoscaler looks at its metrics; upstream's default is 15 s.
    pub autoscaler_period: Duration,
    /// Whether the nodes have the built-in Ingress.
    pub ingress: bool,
    /// What Services' addresses are taken from: the range of the default ServiceCIDR.
    pub service_cidr: String,
    /// What the nodes' pod ranges are cut out of.
    pub pod_cidr: Ipv4Cidr,
    /// The addresses for Services of type LoadBalancer; `None`: those of the nodes.
    pub load_balancer_pool: Option<AddressPool>,
}

/// What one controller is given.
#[derive(Clone)]
pub(crate) struct Context {
    pub client: kube::Client,
    pub informers: Informers,
    pub recorder: Recorder,
    pub clock: Clock,
    /// Ends this run of the controller.
    pub cancel: CancellationToken,
}

/// Starts all controllers. They end when `cancel` of the configuration is cancelled; the set is done when all have.
pub fn spawn_all(config: Config) -> JoinSet<()> {
    spawn(config, |_| true)
}

/// Starts those controllers whose names are wanted; each is asked about once.
pub fn spawn(config: Config, wanted: impl FnMut(&'static str) -> bool) -> JoinSet<()> {
    let root_ca_pem: Arc<str> = config.root_ca_pem.as_str().into();
    let bundle_pem = root_ca_pem.clone();
    let authority = config.authority.clone();
    let control_plane = config.control_plane_node.clone();
    let nodes = node_lifecycle::Settings { grace: config.node_monitor_grace, local: control_plane.clone() };
    let autoscaler_period = config.autoscaler_period;
    let service_cidr = config.service_cidr.clone();
    let (pod_cidr, pool) = (config.pod_cidr, config.load_balancer_pool.clone());
    let mut tasks = JoinSet::new();
    let mut start = Starter { config: &config, wanted, tasks: &mut tasks };
    start.controller(deployment::NAME, deployment::run);
    start.controller(replicaset::REPLICA_SETS, replicaset::run::<ReplicaSet>);
    start.controller(replicaset::REPLICATION_CONTROLLERS, replicaset::run::<ReplicationController>);
    start.controller(daemonset::NAME, daemonset::run);
    start.controller(statefulset::NAME, statefulset::run);
    start.controller(job::NAME, job::run);
    start.controller(cronjob::NAME, cronjob::run);
    start.controller(horizontal_pod_autoscaler::NAME, move |context| {
        horizontal_pod_autoscaler::run(context, autoscaler_period)
    });
    start.controller(ttl_after_finished::NAME, ttl_after_finished::run);
    start.controller(disruption::NAME, disruption::run);
    start.controller(pod_gc::NAME, pod_gc::run);
    start.controller(endpointslice::NAME, endpointslice::run);
    start.controller(endpoints::NAME, endpoints::run);
    start.controller(endpointslice_mirroring::NAME, endpointslice_mirroring::run);
    start.controller(namespace::NAME, namespace::run);
    start.controller(serviceaccount::NAME, serviceaccount::run);
    start.controller(root_ca::NAME, move |context| root_ca::run(context, root_ca_pem.clone()));
    start.controller(trust_bundle::NAME, move |context| trust_bundle::run(context, bundle_pem.clone()));
    start.controller(resource_quota::NAME, resource_quota::run);
    start.controller(role_aggregation::NAME, role_aggregation::run);
    start.controller(certificates::NAME, move |context| certificates::run(context, authority.clone()));
    start.controller(node_lifecycle::NAME, move |context| node_lifecycle::run(context, nodes.clone()));
    start.controller(control_plane::NAME, move |context| control_plane::run(context, control_plane.clone()));
    start.controller(token_cleaner::NAME, token_cleaner::run);
    start.controller(node_ipam::NAME, move |context| node_ipam::run(context, pod_cidr));
    start.controller(garbage::NAME, garbage::run);
    if config.ingress {
        start.controller(ingress::NAME, ingress::run);
    }
    start.controller(attach_detach::NAME, attach_detach::run);
    start.controller(volume_binder::NAME, volume_binder::run);
    start.controller(volume_expand::NAME, volume_expand::run);
    start.controller(volume_protection::CLAIMS, volume_protection::run_claims);
    start.controller(volume_protection::VOLUMES, volume_protection::run_volumes);
    start.controller(volume_protection::ATTRIBUTES, volume_protection::run_attributes);
    start.controller(ephemeral_volume::NAME, ephemeral_volume::run);
    start.controller(resource_claim::NAME, resource_claim::run);
    start.controller(service_cidr::NAME, service_cidr::run);
    start.controller(service_cidr::DEFAULT, move |context| service_cidr::run_default(context, service_cidr.clone()));
    start.controller(address_repair::NAME, address_repair::run);
    start.controller(service_lb::NAME, move |context| service_lb::run(context, pool.clone()));
    tasks
}

struct Starter<'a, W> {
    config: &'a Config,
    wanted: W,
    tasks: &'a mut JoinSet<()>,
}

impl<W: FnMut(&'static str) -> bool> Starter<'_, W> {
    fn controller<F, Fut>(&mut self, name: &'static str, run: F)
    where
        F: Fn(Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        if !(self.wanted)(name) {
            return;
        }
        let Config { client_for, informers, clock, cancel, .. } = self.config;
        let client = client_for(name);
        let recorder = Recorder::new(client.clone(), name, "", *clock, cancel.clone());
        let (informers, clock, cancel) = (informers.clone(), *clock, cancel.clone());
        self.tasks.spawn(async move {
            supervise::keep_running(name, &cancel, || {
                let cancel = cancel.child_token();
                let context = Context {
                    client: client.clone(),
                    informers: informers.clone(),
                    recorder: recorder.clone(),
                    clock,
                    cancel: cancel.clone(),
                };
                let running = run(context);
                // Whatever ends a run, its queues and handlers end with it.
                async move {
                    let _ends = cancel.drop_guard();
                    running.await;
                }
            })
            .await;
        });
    }
}

/// Why a reconciliation failed; the object is named by the worker that logs it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{what} failed")]
    Api {
        what: &'static str,
        #[source]
        source: kube::Error,
    },
    #[error("the object's {field} cannot be read: {message}")]
    Malformed { field: &'static str, message: String },
    #[error("{0}")]
    NotYet(&'static str),
}

impl Error {
    pub fn api(what: &'static str) -> impl Fn(kube::Error) -> Self {
        move |source| Self::Api { what, source }
    }
}
