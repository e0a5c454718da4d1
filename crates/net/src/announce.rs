//! Answers for load balancers' addresses. A controller chooses, for each Service that has an address from the pool,
//! the node that answers for it, and writes that on the Service; that node takes the address on its own link (the
//! kernel then answers ARP for it on the uplink) and tells the neighbours. Everyone else takes it off.

pub mod silence;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Service;
use knarr_client::Informers;
use knarr_os::{arp, net::Links};
use tokio::{sync::Notify, time::Instant};

use crate::{
    base::Base,
    config::gateway,
    error::{During, NetworkError, Result},
    names::NODE_LINK,
    ways,
};

/// The node that answers for a Service's address.
const ANNOUNCED_BY: &str = "knarr.dev/load-balancer-node";
/// How long after it was taken an address is announced: packets get lost, and switches learn late.
const REPEAT_AFTER: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// And from then on, for neighbours that were away.
const REPEAT_EVERY: Duration = Duration::from_secs(30);
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Runs until the informers are cancelled.
pub async fn watch(informers: Informers, base: Arc<Base>) {
    let services = informers.of::<Service>();
    let wake = Arc::new(Notify::new());
    let woken = wake.clone();
    let cancel = informers.cancellation().child_token();
    let _ends = cancel.clone().drop_guard();
    let me = base.config.node_name.clone();
    services.on_change_until(&cancel, move |change| {
        let ours = |service: &Option<Arc<Service>>| service.as_deref().map(|service| addresses(service, &me));
        if ours(&change.old).unwrap_or_default() != ours(&change.new).unwrap_or_default() {
            wake.notify_one();
        }
    });
    // What a former process announced stays until it is known whose it is now.
    if !services.synced().await {
        return;
    }
    let mut announced = BTreeMap::new();
    loop {
        let me = &*base.config.node_name;
        let wanted: BTreeSet<_> = services.list().iter().flat_map(|service| addresses(service, me)).collect();
        let (base, mut known) = (base.clone(), std::mem::take(&mut announced));
        let pass = move || hold(&base, &wanted).and_then(|()| tell(&base.links, &wanted, &mut known)).map(|()| known);
        let pause = match tokio::task::spawn_blocking(pass).await.unwrap_or(Err(NetworkError::WorkerGone)) {
            Ok(known) => {
                announced = known;
                let next = announced.values().map(|turn| turn.next).min();
                next.map_or(REPEAT_EVERY, |next| next.saturating_duration_since(Instant::now()))
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "load balancers' addresses are not announced; trying again");
                RETRY_AFTER
            }
        };
        let _ = tokio::time::timeout(pause, woken.notified()).await;
    }
}

/// The addresses of a Service that this node answers for.
fn addresses(service: &Service, me: &str) -> Vec<Ipv4Addr> {
    let chosen = service.metadata.annotations.as_ref().and_then(|all| all.get(ANNOUNCED_BY));
    let kind = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
    if chosen.is_none_or(|chosen| chosen != me) || kind != Some("LoadBalancer") {
        return Vec::new();
    }
    let balancer = service.status.iter().flat_map(|status| &status.load_balancer);
    let ingress = balancer.flat_map(|balancer| balancer.ingress.iter().flatten());
    ingress.filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect()
}

/// Makes the addresses of the node's link those that are wanted, beside the two it always has.
fn hold(base: &Base, wanted: &BTreeSet<Ipv4Addr>) -> Result<()> {
    // Until the node has its range, its own address could not be told from one to be taken off.
    let Some(ranges) = base.ranges() else {
        return if wanted.is_empty() { Ok(()) } else { Err(NetworkError::NoRange) };
    };
    let links = &base.links;
    let index = links.get(NODE_LINK).during("looking for the node's link")?.index;
    let own = [gateway(&ranges.node), base.config.cluster_dns];
    let all = links.addresses().during("listing addresses")?;
    let held: BTreeSet<_> = all
        .iter()
        .filter_map(|(link, ip, _)| match ip {
            std::net::IpAddr::V4(ip) if *link == index && !own.contains(ip) => Some(*ip),
            _ => None,
        })
        .collect();
    for ip in held.difference(wanted) {
        tracing::info!(%ip, "another node answers for this address from now on");
        links.remove_address(index, (*ip).into(), 32).during("giving up a load balancer's address")?;
    }
    // Where it is an address of the host itself, the host answers for it already.
    let is_hosts = |ip: &Ipv4Addr| all.iter().any(|(link, found, _)| *link != index && *found == *ip);
    let missing: Vec<_> = wanted.difference(&held).filter(|ip| !is_hosts(ip)).collect();
    for ip in &missing {
        tracing::info!(%ip, "this node answers for this address from now on");
    }
    let take = links.change(|changes| missing.iter().for_each(|ip| changes.add_address(index, (**ip).into(), 32)));
    take.during("taking a load balancer's address")
}

/// When an address is announced next.
struct Turn {
    since: Instant,
    next: Instant,
}

/// Announces each address that is due.
fn tell(links: &Links, wanted: &BTreeSet<Ipv4Addr>, turns: &mut BTreeMap<Ipv4Addr, Turn>) -> Result<()> {
    let now = Instant::now();
    turns.retain(|ip, _| wanted.contains(ip));
    let uplinks = ways::uplinks(links)?;
    let all = links.list().during("listing links")?;
    for ip in wanted {
        let turn = turns.entry(*ip).or_insert(Turn { since: now, next: now });
        if turn.next > now {
            continue;
        }
        let link = match ways::link_to(&uplinks, *ip) {
            None => links.default_route_link().during("looking for the default route")?,
            near => near,
        };
        let uplink = all.iter().find(|found| Some(found.index) == link);
        if let Some(uplink) = uplink.filter(|_| turn.since == now) {
            warn_of_silence(&uplink.name, *ip);
        }
        if let Some((uplink, mac)) = uplink.and_then(|uplink| Some((uplink, uplink.mac?)))
            && let Err(error) = arp::announce(uplink.index, mac, *ip)
        {
            tracing::warn!(%ip, %error, link = uplink.name, "the address could not be announced");
        }
        let repeat = REPEAT_AFTER.iter().map(|pause| turn.since + *pause).find(|at| *at > now);
        turn.next = repeat.unwrap_or(now + REPEAT_EVERY);
    }
    Ok(())
}

/// Said when an address is taken: from outside it would only look as if nobody were there. A setting that cannot be
/// read is no reason to announce nothing.
fn warn_of_silence(link: &str, ip: Ipv4Addr) {
    if silence::is_silent(link).unwrap_or(false) {
        tracing::warn!(
            %ip,
            link,
            "the link does not answer for the load balancer's address: set net.ipv4.conf.all.arp_ignore and that of \
             the link to 0"
        );
    }
}

#[cfg(test)]
mod tests;
