//! The ServiceCIDR of the range that the server was started with: it is made anew where somebody deleted it, and a range
//! of its name that is another is told of.

use k8s_openapi::{
    api::networking::v1::{ServiceCIDR, ServiceCIDRSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_client::{ObjectKey, Outcome, WorkQueue, call, errors, worker};

use super::plan::{self, Condition};
use crate::{Context, Error};

pub const NAME: &str = "kubernetes-service-cidr-controller";
const OBJECT: &str = "kubernetes";
const IS_READY: Condition =
    Condition { is_ready: true, reason: "", message: "Kubernetes default Service CIDR is ready" };

pub async fn run(context: Context, range: String) {
    let queue = WorkQueue::new(context.cancel.clone());
    let cidrs = context.informers.of::<ServiceCIDR>();
    if !cidrs.synced().await {
        return;
    }
    cidrs.feed(&queue, |change| Some(ObjectKey::of(&**change.latest())).filter(|key| key.name == OBJECT));
    // Where it is missing nothing tells of it.
    queue.add(ObjectKey::new("", OBJECT));
    worker::run(NAME, queue, 1, move |key| {
        let (context, range, cidr) = (context.clone(), range.clone(), cidrs.get("", &key.name));
        async move {
            match cidr {
                Some(cidr) => check(&context, &cidr, &range).await,
                None => make(&context, range).await,
            }
        }
    })
    .await;
}

async fn make(context: &Context, range: String) -> Result<Outcome, Error> {
    let cidr = ServiceCIDR {
        metadata: ObjectMeta { name: Some(OBJECT.to_owned()), ..ObjectMeta::default() },
        spec: Some(ServiceCIDRSpec { cidrs: Some(vec![range]) }),
        status: None,
    };
    match call::create(&context.client, &cidr).await {
        Err(error) if !errors::is_already_exists(&error) => Err(Error::api("making the default ServiceCIDR")(error)),
        _ => Ok(Outcome::Done),
    }
}

async fn check(context: &Context, cidr: &ServiceCIDR, range: &str) -> Result<Outcome, Error> {
    if plan::is_deleted(cidr) {
        return Ok(Outcome::Done);
    }
    let has = cidr.spec.as_ref().and_then(|spec| spec.cidrs.clone()).unwrap_or_default();
    if has != [range] {
        let has = has.join(" ");
        let message =
            format!("The default ServiceCIDR [{has}] does not match the controller flag configurations [{range}]");
        context.recorder.warning(cidr, "KubernetesDefaultServiceCIDRInconsistent", message);
        return Ok(Outcome::Done);
    }
    let mut conditions = cidr.status.iter().flat_map(|status| status.conditions.iter().flatten());
    match conditions.find(|condition| condition.type_ == plan::READY) {
        // Whoever said so has to take it back.
        Some(said) if said.status == "False" => {
            let message = format!("Configuration matches, but {}", said.message);
            context.recorder.warning(cidr, &said.reason, message);
        }
        Some(said) if said.status == "True" => {}
        _ => super::write(context, cidr, &IS_READY).await?,
    }
    Ok(Outcome::Done)
}
