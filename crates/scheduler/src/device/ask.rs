//! What a claim asks for, read once for all nodes.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Taint, Toleration},
    resource::v1::{
        CapacityRequirements, Device, DeviceClass, DeviceConstraint, DeviceSelector, DeviceTaint, DeviceToleration,
        ResourceClaim,
    },
};
use knarr_api::{device::selector::Selector, placement, quantity::Quantity};
use knarr_client::meta;

use super::{picture::Picture, pool::Candidate};

pub struct Ask {
    pub claim: Arc<ResourceClaim>,
    pub requests: Vec<Request>,
    pub constraints: Vec<DeviceConstraint>,
}

pub struct Request {
    pub name: String,
    /// What would do, the best first; one where the request says exactly what it wants.
    pub choices: Vec<Choice>,
}

pub struct Choice {
    /// As the result names it: `request` or `request/subrequest`.
    pub name: String,
    pub class: Arc<DeviceClass>,
    pub amount: Amount,
    pub admin_access: bool,
    pub tolerations: Vec<DeviceToleration>,
    /// Of the class and of the request; each with where it stands.
    selectors: Vec<(String, Selector)>,
    capacity: Vec<(String, Quantity)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    All,
    Exactly(usize),
}

/// What both kinds of requests have.
struct Wish<'a> {
    name: String,
    class: &'a str,
    mode: Option<&'a str>,
    count: Option<i64>,
    admin_access: bool,
    selectors: Option<&'a [DeviceSelector]>,
    tolerations: Option<&'a [DeviceToleration]>,
    capacity: Option<&'a CapacityRequirements>,
}

impl Ask {
    /// An error is why no node can do it.
    pub fn of(claim: &Arc<ResourceClaim>, picture: &Picture) -> Result<Self, String> {
        let devices = claim.spec.devices.as_ref();
        let mut requests = Vec::new();
        for request in devices.iter().flat_map(|devices| devices.requests.iter().flatten()) {
            let exactly = request.exactly.iter().map(|exactly| Wish {
                name: request.name.clone(),
                class: &exactly.device_class_name,
                mode: exactly.allocation_mode.as_deref(),
                count: exactly.count,
                admin_access: exactly.admin_access.unwrap_or(false),
                selectors: exactly.selectors.as_deref(),
                tolerations: exactly.tolerations.as_deref(),
                capacity: exactly.capacity.as_ref(),
            });
            let first = request.first_available.iter().flatten().map(|sub| Wish {
                name: format!("{}/{}", request.name, sub.name),
                class: &sub.device_class_name,
                mode: sub.allocation_mode.as_deref(),
                count: sub.count,
                admin_access: false,
                selectors: sub.selectors.as_deref(),
                tolerations: sub.tolerations.as_deref(),
                capacity: sub.capacity.as_ref(),
            });
            let choices = exactly.chain(first).map(|wish| choice(wish, claim, picture)).collect::<Result<_, _>>()?;
            requests.push(Request { name: request.name.clone(), choices });
        }
        let constraints = devices.and_then(|devices| devices.constraints.clone()).unwrap_or_default();
        Ok(Self { claim: claim.clone(), requests, constraints })
    }

    pub fn name(&self) -> String {
        full_name(&self.claim)
    }
}

fn full_name(claim: &ResourceClaim) -> String {
    format!("{}/{}", meta::namespace(&claim.metadata), meta::name(&claim.metadata))
}

fn choice(wish: Wish<'_>, claim: &ResourceClaim, picture: &Picture) -> Result<Choice, String> {
    let Wish { name, class, mode, count, admin_access, selectors, tolerations, capacity } = wish;
    let claim = full_name(claim);
    let class_name = class;
    let class = picture.class(class_name);
    let class = class.ok_or_else(|| format!("request {name}: device class {class_name} does not exist"))?;
    let amount = match (mode, count) {
        (Some("All"), _) => Amount::All,
        (None | Some("ExactCount"), count) => {
            Amount::Exactly(usize::try_from(count.unwrap_or(1)).unwrap_or(usize::MAX))
        }
        (Some(other), _) => return Err(format!("claim {claim}, request {name}: unsupported count mode {other}")),
    };
    let mut compiled = Vec::new();
    let of_class = class.spec.selectors.as_deref().unwrap_or_default();
    compile(&mut compiled, &format!("class {class_name}"), of_class)?;
    compile(&mut compiled, &format!("claim {claim}"), selectors.unwrap_or_default())?;
    let capacity = capacity.iter().flat_map(|capacity| capacity.requests.iter().flatten());
    let capacity = capacity.filter_map(|(name, amount)| Some((name.clone(), amount.0.parse().ok()?))).collect();
    Ok(Choice {
        name,
        class: class.clone(),
        amount,
        admin_access,
        tolerations: tolerations.unwrap_or_default().to_vec(),
        selectors: compiled,
        capacity,
    })
}

fn compile(all: &mut Vec<(String, Selector)>, of: &str, selectors: &[DeviceSelector]) -> Result<(), String> {
    for (i, selector) in selectors.iter().enumerate() {
        let expression = selector.cel.as_ref().map(|cel| cel.expression.as_str()).unwrap_or_default();
        let selector =
            Selector::compile(expression).map_err(|why| format!("{of}: selector #{i}: CEL compile error: {why}"))?;
        all.push((format!("{of}: selector #{i}"), selector));
    }
    Ok(())
}

impl Choice {
    /// True where the device is one of those that are meant, be it free or not.
    pub fn means(&self, candidate: &Candidate<'_>) -> Result<bool, String> {
        let device = candidate.device;
        // Who gets such a device shares it, or waits for somebody to make it ready: nobody here knows how.
        let waits = device.binding_conditions.as_ref().is_some_and(|conditions| !conditions.is_empty());
        if device.allow_multiple_allocations == Some(true) || waits {
            return Ok(false);
        }
        for (of, selector) in &self.selectors {
            let subject = candidate.subject.as_ref().map_err(|why| format!("{of}: {why}"))?;
            if !selector.matches(subject).map_err(|why| format!("{of}: CEL runtime error: {why}"))? {
                return Ok(false);
            }
        }
        let has = |name: &str, amount: Quantity| {
            let capacity = device.capacity.as_ref().and_then(|all| all.get(name));
            capacity.is_some_and(|capacity| capacity.value.0.parse().is_ok_and(|there: Quantity| there >= amount))
        };
        Ok(self.capacity.iter().all(|(name, amount)| has(name, *amount)) && self.tolerates(device))
    }

    fn tolerates(&self, device: &Device) -> bool {
        let mut taints = device.taints.iter().flatten().filter(|taint| taint.effect != "None");
        let is_none = taints.clone().next().is_none();
        is_none || {
            let tolerations: Vec<Toleration> = self.tolerations.iter().map(toleration).collect();
            taints.all(|device| placement::tolerates(&tolerations, &taint(device)))
        }
    }
}

fn taint(taint: &DeviceTaint) -> Taint {
    Taint { effect: taint.effect.clone(), key: taint.key.clone(), value: taint.value.clone(), time_added: None }
}

fn toleration(toleration: &DeviceToleration) -> Toleration {
    let DeviceToleration { effect, key, operator, toleration_seconds, value } = toleration.clone();
    Toleration { effect, key, operator, toleration_seconds, value }
}
