use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use knarr_api::field::{FieldError, FieldPath};
use knarr_api::registry::Resource;
use knarr_api::status::ApiError;
use serde_json::{Value, json};

use super::ledger::{Claim, Ledger, claims, owner_of, port_number};
use super::{AddressRange, PortRange};
use crate::Env;
use crate::builtin;
use crate::contract::{Admission, AdmissionRequest, Lookup, Operation, Stage};
use crate::json::{copy, items, items_mut, text};

/// Where Services get their addresses and ports from.
#[derive(Clone, Copy, Debug)]
pub struct ServiceRanges {
    pub addresses: AddressRange,
    pub node_ports: PortRange,
}

/// Gives Services their cluster address, node ports and health check port.
pub struct ServiceAllocation {
    lookup: Arc<dyn Lookup>,
    ranges: ServiceRanges,
    env: Env,
    ledger: Mutex<Ledger>,
}

/// A claim of the user's own that somebody else has, and where in the object it stands.
struct Taken {
    holder: Holder,
    error: FieldError,
}

enum Holder {
    /// `namespace/name` of a Service.
    Service(String),
    /// An IPAddress of this name, whoever it is for.
    Address(String),
}

enum Refusal {
    Taken(Taken),
    Invalid(FieldError),
    Full(&'static str),
}

impl ServiceAllocation {
    pub fn new(lookup: Arc<dyn Lookup>, ranges: ServiceRanges, env: Env) -> Self {
        let ledger = Mutex::new(Ledger::new(ranges.addresses));
        Self { lookup, ranges, env, ledger }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills a Service in under one lock: two requests never see the same address as free.
    fn allocate(&self, service: &mut Value, old: Option<&Value>, owner: &str, keep: bool) -> Result<(), Refusal> {
        let mut ledger = self.ledger();
        ledger.refresh(&*self.lookup);
        let mut fresh = Vec::new();
        let mut allocation = Allocation { plugin: self, ledger: &ledger, owner, fresh: &mut fresh };
        allocation.cluster_address(service, old)?;
        allocation.node_ports(service)?;
        allocation.health_check_port(service)?;
        if keep {
            for claim in fresh {
                ledger.reserve(claim, owner);
            }
        }
        Ok(())
    }

    /// The cache may still show what has been deleted, and that acknowledged.
    async fn is_gone(&self, holder: &Holder, claim_of: &Value) -> bool {
        let holder = match holder {
            Holder::Service(holder) => holder,
            Holder::Address(name) => {
                return matches!(self.lookup.get_fresh(builtin::ip_addresses(), "", name).await, Ok(None));
            }
        };
        let Some((namespace, name)) = holder.split_once('/') else { return false };
        // One that was never shown is on its way to the store.
        let was_shown = self.lookup.get(builtin::services(), namespace, name).is_some();
        let is_gone = match self.lookup.get_fresh(builtin::services(), namespace, name).await {
            Ok(None) => was_shown,
            Ok(Some(found)) => {
                let found = claims(&found.value());
                !claims(claim_of).iter().any(|claim| found.contains(claim))
            }
            Err(_) => false,
        };
        if is_gone {
            self.ledger().drop_holder(holder);
        }
        is_gone
    }
}

struct Allocation<'a> {
    plugin: &'a ServiceAllocation,
    ledger: &'a Ledger,
    owner: &'a str,
    fresh: &'a mut Vec<Claim>,
}

impl Allocation<'_> {
    fn cluster_address(&mut self, service: &mut Value, old: Option<&Value>) -> Result<(), Refusal> {
        let spec = &mut service["spec"];
        if spec["type"] == "ExternalName" {
            return Ok(());
        }
        self.families(spec)?;
        let given = match text(&spec["clusterIP"]) {
            "" => text(&spec["clusterIPs"][0]).to_owned(),
            given => given.to_owned(),
        };
        if given == "None" {
            spec["clusterIP"] = "None".into();
            spec["clusterIPs"] = json!(["None"]);
            return Ok(());
        }
        let address = if given.is_empty() {
            let is_taken = |address| self.ledger.is_taken(Claim::Address(address)) || self.has_object(address);
            let picked = self.ledger.ranges.pick(self.plugin.env.random(), is_taken);
            picked.ok_or(Refusal::Full("failed to allocate a serviceIP: range is full"))?
        } else {
            // What is no address at all, validation says in its own words.
            let Ok(address) = given.parse::<IpAddr>() else { return Ok(()) };
            let is_own = old.is_some_and(|old| old["spec"]["clusterIP"] == given.as_str());
            self.claim_address(address, &given, is_own)?;
            address
        };
        self.fresh.push(Claim::Address(address));
        spec["clusterIP"] = address.to_string().into();
        spec["clusterIPs"] = json!([address]);
        Ok(())
    }

    /// An address that the client names.
    fn claim_address(&self, address: IpAddr, given: &str, is_own: bool) -> Result<(), Refusal> {
        let path = FieldPath::new("spec");
        let path = path.child("clusterIPs");
        let invalid = |why| FieldError::invalid(&path, json!([given]), format!("failed to allocate IP {given}: {why}"));
        if !is_own && !self.ledger.ranges.contain(address) {
            let error = invalid("the provided network does not match the current range");
            return Err(Refusal::Invalid(error));
        }
        let service = self.ledger.taken_from(Claim::Address(address), self.owner);
        let holder = match service {
            Some(holder) => Holder::Service(holder.to_owned()),
            None if !is_own && self.has_object(address) => Holder::Address(address.to_string()),
            None => return Ok(()),
        };
        Err(Refusal::Taken(Taken { holder, error: invalid("provided IP is already allocated") }))
    }

    /// Others than Services may have addresses too: theirs are known by their IPAddresses alone.
    fn has_object(&self, address: IpAddr) -> bool {
        self.plugin.lookup.get(builtin::ip_addresses(), "", &address.to_string()).is_some()
    }

    /// This cluster has one family of addresses.
    fn families(&self, spec: &mut Value) -> Result<(), Refusal> {
        let family = if self.plugin.ranges.addresses.is_ipv4() { "IPv4" } else { "IPv6" };
        let root = FieldPath::new("spec");
        if spec["ipFamilyPolicy"] == "RequireDualStack" {
            let why = "this cluster is not configured for dual-stack services";
            let error = FieldError::invalid(&root.child("ipFamilyPolicy"), "RequireDualStack", why);
            return Err(Refusal::Invalid(error));
        }
        let path = root.child("ipFamilies");
        for (index, wanted) in items(&spec["ipFamilies"]).iter().enumerate() {
            if wanted != family && matches!(text(wanted), "IPv4" | "IPv6") {
                let error = FieldError::invalid(&path.index(index), wanted.clone(), "not configured on this cluster");
                return Err(Refusal::Invalid(error));
            }
        }
        if items(&spec["ipFamilies"]).is_empty() {
            spec["ipFamilies"] = json!([family]);
        }
        if spec["ipFamilyPolicy"].is_null() {
            spec["ipFamilyPolicy"] = "SingleStack".into();
        }
        Ok(())
    }

    fn node_ports(&mut self, service: &mut Value) -> Result<(), Refusal> {
        let spec = &mut service["spec"];
        if !needs_node_ports(spec) {
            return Ok(());
        }
        let ports = items_mut(spec, "ports");
        let root = FieldPath::new("spec");
        let root = root.child("ports");
        let mut own: Vec<(u16, String)> = Vec::new();
        for (index, port) in ports.iter().enumerate() {
            let Some(number) = port_number(&port["nodePort"]) else { continue };
            let protocol = text(&port["protocol"]).to_owned();
            self.claim_port(number, &root.index(index).child("nodePort"))?;
            own.push((number, protocol));
        }
        for port in ports.iter_mut().filter(|port| port.is_object() && port_number(&port["nodePort"]).is_none()) {
            // One number may serve TCP and UDP of the same port, as DNS wants it.
            let number = self.pick_port(|number| own.iter().any(|(n, _)| *n == number))?;
            own.push((number, text(&port["protocol"]).to_owned()));
            port["nodePort"] = number.into();
        }
        Ok(())
    }

    fn health_check_port(&mut self, service: &mut Value) -> Result<(), Refusal> {
        let spec = &mut service["spec"];
        if spec["type"] != "LoadBalancer" || spec["externalTrafficPolicy"] != "Local" {
            return Ok(());
        }
        let root = FieldPath::new("spec");
        match port_number(&spec["healthCheckNodePort"]) {
            Some(number) => self.claim_port(number, &root.child("healthCheckNodePort")),
            None => {
                let own: Vec<u16> = items(&spec["ports"]).iter().filter_map(|p| port_number(&p["nodePort"])).collect();
                spec["healthCheckNodePort"] = self.pick_port(|number| own.contains(&number))?.into();
                Ok(())
            }
        }
    }

    fn claim_port(&mut self, number: u16, path: &FieldPath<'_>) -> Result<(), Refusal> {
        let range = self.plugin.ranges.node_ports;
        if let Some(holder) = self.ledger.taken_from(Claim::NodePort(number), self.owner) {
            let error = FieldError::invalid(path, number, "provided port is already allocated");
            return Err(Refusal::Taken(Taken { holder: Holder::Service(holder.to_owned()), error }));
        }
        if !range.contains(number) && !self.ledger.is_taken(Claim::NodePort(number)) {
            let why = format!("provided port is not in the valid range. The range of valid ports is {range}");
            return Err(Refusal::Invalid(FieldError::invalid(path, number, why)));
        }
        self.fresh.push(Claim::NodePort(number));
        Ok(())
    }

    fn pick_port(&mut self, is_own: impl Fn(u16) -> bool) -> Result<u16, Refusal> {
        let is_taken = |number| self.ledger.is_taken(Claim::NodePort(number)) || is_own(number);
        let picked = self.plugin.ranges.node_ports.pick(self.plugin.env.random(), is_taken);
        let number = picked.ok_or(Refusal::Full("failed to allocate a nodePort: range is full"))?;
        self.fresh.push(Claim::NodePort(number));
        Ok(number)
    }
}

fn needs_node_ports(spec: &Value) -> bool {
    spec["type"] == "NodePort" || (spec["type"] == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false)
}

/// Clients that leave out what was allocated mean to keep it.
fn carry_over(service: &mut Value, old: &Value) {
    let (spec, old) = (&mut service["spec"], &old["spec"]);
    if !spec.is_object() || spec["type"] == "ExternalName" || old["type"] == "ExternalName" {
        return;
    }
    if text(&spec["clusterIP"]).is_empty() && items(&spec["clusterIPs"]).is_empty() {
        copy(spec, old, "clusterIP");
        copy(spec, old, "clusterIPs");
    }
    if needs_node_ports(spec) && needs_node_ports(old) {
        carry_over_ports(spec, old);
    }
    let local = |spec: &Value| spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local";
    if local(spec) && local(old) && port_number(&spec["healthCheckNodePort"]).is_none() {
        copy(spec, old, "healthCheckNodePort");
    }
}

fn carry_over_ports(spec: &mut Value, old: &Value) {
    let key = |port: &Value| (text(&port["protocol"]).to_owned(), port["port"].clone());
    let used: Vec<u16> = items(&spec["ports"]).iter().filter_map(|port| port_number(&port["nodePort"])).collect();
    for port in items_mut(spec, "ports") {
        if port_number(&port["nodePort"]).is_some() {
            continue;
        }
        let before = items(&old["ports"]).iter().find(|candidate| key(candidate) == key(port));
        if let Some(number) = before.and_then(|p| port_number(&p["nodePort"])).filter(|n| !used.contains(n)) {
            port["nodePort"] = number.into();
        }
    }
}

#[async_trait]
impl Admission for ServiceAllocation {
    fn name(&self) -> &'static str {
        "ServiceAllocation"
    }

    fn stage(&self) -> Stage {
        Stage::Last
    }

    fn counts(&self, resource: &'static Resource, _namespace: &str) -> bool {
        std::ptr::eq(resource, builtin::services())
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let resource = request.resource;
        if resource.plural != "services" || !resource.group.is_empty() || !request.subresource.is_empty() {
            return Ok(());
        }
        match request.operation {
            Operation::Delete if !request.dry_run => {
                self.ledger().forget(&owner_of(request.namespace, request.name));
                return Ok(());
            }
            Operation::Create | Operation::Update if request.object["spec"].is_object() => {}
            _ => return Ok(()),
        }
        if let Some(old) = request.old {
            carry_over(&mut request.object, old);
        }
        // A Service without a name yet gets one of its own here, so that its claims are nobody else's.
        let name = match request.name {
            "" => format!("{}#{}", text(&request.object["metadata"]["generateName"]), self.env.random()),
            name => name.to_owned(),
        };
        let owner = owner_of(request.namespace, &name);
        let mut tries = 0;
        loop {
            tries += 1;
            match self.allocate(&mut request.object, request.old, &owner, !request.dry_run) {
                Ok(()) => return Ok(()),
                Err(Refusal::Taken(Taken { holder, .. }))
                    if tries <= 2 && self.is_gone(&holder, &request.object).await => {}
                Err(Refusal::Taken(Taken { error, .. }) | Refusal::Invalid(error)) => {
                    return Err(ApiError::invalid("Service", &name, vec![error]));
                }
                Err(Refusal::Full(why)) => return Err(ApiError::internal(why)),
            }
        }
    }
}
