//! What goes wrong, and when: the server is killed, controllers and scheduler are restarted one by one, nodes fall
//! silent.

use std::{sync::Arc, time::Duration};

use knarr_apiserver::{authn, contract::UserInfo};
use knarr_client::{Clock, Informers};
use knarr_controllers::{CertificateAuthority, RequestedCertificate};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    chance::{Chance, Dice},
    link::{Link, Way},
    node,
    site::Site,
};

pub const NODES: usize = 3;
/// At most so long between two misfortunes, and as long do they last.
const BETWEEN: Duration = Duration::from_secs(20);
const DOWN: Duration = Duration::from_secs(5);
/// Longer than the control plane waits for a node's sign of life.
const SILENT: Duration = Duration::from_secs(150);

/// A part that can be killed and started again by itself.
struct Part {
    name: &'static str,
    running: Option<Life>,
}

struct Life {
    cancel: CancellationToken,
    task: AbortHandle,
}

/// Certificates are no part of a simulation; nobody asks for one.
struct Nobody;

impl CertificateAuthority for Nobody {
    fn read(&self, _: &[u8]) -> Result<RequestedCertificate, String> {
        Err("there is no authority in a simulation".into())
    }

    fn sign(&self, _: &[u8], _: &[String], _: Duration) -> Result<String, String> {
        Err("there is no authority in a simulation".into())
    }
}

/// Everything of a cluster but the server.
pub struct Parts {
    chance: Chance,
    clock: Clock,
    site: Arc<Site>,
    informers: Informers,
    parts: Vec<Part>,
    ways: Vec<Way>,
}

impl Parts {
    pub fn start(chance: &Chance, clock: Clock, site: &Arc<Site>) -> Self {
        let dice = chance.dice("informers");
        let user = authn::component("system:kube-controller-manager");
        let watching = Link { site: site.clone(), user, way: Way::rough(dice.clone()) }.client("informers");
        let informers = Informers::seeded(watching, CancellationToken::new(), dice.seed());
        let ways = (0..NODES).map(|index| Way::rough(chance.dice(&format!("way of n{index}")))).collect();
        let parts = Vec::new();
        let mut all = Self { chance: chance.clone(), clock, site: site.clone(), informers, parts, ways };
        let mut names = vec![knarr_scheduler::NAME];
        let config = all.controllers(CancellationToken::new());
        drop(knarr_controllers::spawn(config, |name| {
            names.push(name);
            false
        }));
        all.parts = names.into_iter().map(|name| Part { name, running: None }).collect();
        (0..all.parts.len()).for_each(|index| all.revive(index));
        for (index, way) in (0..).zip(all.ways.clone()) {
            let groups = vec!["system:nodes".to_owned(), "system:authenticated".to_owned()];
            let user = UserInfo { name: format!("system:node:n{index}"), groups, ..UserInfo::default() };
            let client = Link { site: site.clone(), user, way }.client("hollow-node");
            let dice = chance.dice(&format!("n{index}"));
            tokio::spawn(node::run(index, client, clock, dice, CancellationToken::new()));
        }
        all
    }

    fn controllers(&self, cancel: CancellationToken) -> knarr_controllers::Config {
        let (site, chance) = (self.site.clone(), self.chance.clone());
        let client_for = move |name: &'static str| {
            let way = Way::rough(chance.dice(name));
            Link { site: site.clone(), user: authn::controller(name), way }.client(name)
        };
        knarr_controllers::Config {
            client_for: Arc::new(client_for),
            informers: self.informers.clone(),
            clock: self.clock,
            cancel,
            root_ca_pem: include_str!("authority.pem").into(),
            authority: Arc::new(Nobody),
            node_monitor_grace: Duration::from_secs(40),
            control_plane_node: None,
            autoscaler_period: Duration::from_secs(15),
            ingress: true,
            service_cidr: "10.96.0.0/16".into(),
            pod_cidr: "10.244.0.0/16".parse().expect("a constant"),
            load_balancer_pool: None,
        }
    }

    fn revive(&mut self, index: usize) {
        let cancel = CancellationToken::new();
        let name = self.parts[index].name;
        let task = if name == knarr_scheduler::NAME {
            tokio::spawn(knarr_scheduler::run(self.scheduler(cancel.clone()))).abort_handle()
        } else {
            let mut controller: JoinSet<()> =
                knarr_controllers::spawn(self.controllers(cancel.clone()), |other| other == name);
            tokio::spawn(async move { while controller.join_next().await.is_some() {} }).abort_handle()
        };
        self.parts[index].running = Some(Life { cancel, task });
    }

    fn scheduler(&self, cancel: CancellationToken) -> knarr_scheduler::Config {
        let user = authn::component("system:kube-scheduler");
        let dice = self.chance.dice("scheduler");
        let client = Link { site: self.site.clone(), user, way: Way::rough(dice.clone()) }.client("scheduler");
        knarr_scheduler::Config {
            client,
            informers: self.informers.clone(),
            clock: self.clock,
            cancel,
            seed: dice.seed(),
        }
    }

    /// As a panic does: what was under way is dropped wherever it stood.
    fn kill(&mut self, index: usize) {
        if let Some(Life { cancel, task }) = self.parts[index].running.take() {
            task.abort();
            cancel.cancel();
        }
    }

    /// One misfortune after the other, until dropped; none in a gentle run.
    pub async fn rage(&mut self, dice: &Dice, is_gentle: bool) {
        if is_gentle {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(dice.time(BETWEEN)).await;
            match dice.below(4) {
                0 => {
                    self.site.kill();
                    tokio::time::sleep(dice.time(DOWN)).await;
                    self.site.start().await;
                }
                1 | 2 => {
                    let index = dice.below(self.parts.len());
                    self.kill(index);
                    tokio::time::sleep(dice.time(DOWN)).await;
                    self.revive(index);
                }
                _ => {
                    let way = dice.pick(&self.ways).clone();
                    let silent = dice.time(SILENT);
                    way.set_cut(true);
                    tokio::spawn(async move {
                        tokio::time::sleep(silent).await;
                        way.set_cut(false);
                    });
                }
            }
        }
    }

    /// Whatever is down comes back.
    pub async fn mend(&mut self) {
        if self.site.reach().is_none() {
            self.site.start().await;
        }
        for index in 0..self.parts.len() {
            if self.parts[index].running.is_none() {
                self.revive(index);
            }
        }
        self.ways.iter().for_each(|way| way.set_cut(false));
    }
}
