use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use knarr_api::status::ApiError;
use serde_json::Value;

use super::{denied, is_main, is_pod_creation};
use crate::builtin;
use crate::contract::{Admission, AdmissionRequest, Lookup, Operation};
use crate::derived::Derived;
use crate::json::{copy, name, text};

const DEFAULT_POLICY: &str = "PreemptLowerPriority";

struct Class {
    name: String,
    value: i64,
    is_default: bool,
    policy: String,
}

/// Turns the name of a PriorityClass into the numbers that the scheduler goes by.
pub struct Priority {
    lookup: Arc<dyn Lookup>,
    classes: Mutex<Derived<Class>>,
}

impl Priority {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup, classes: Mutex::new(Derived::new(builtin::priority_classes(), "", class)) }
    }

    fn find(&self, wanted: impl Fn(&Class) -> bool) -> Option<Arc<Class>> {
        let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        classes.refresh(&*self.lookup);
        // The lowest of several defaults: adding one by mistake must not raise everybody.
        classes.iter().filter(|class| wanted(class)).min_by_key(|class| class.value).cloned()
    }

    async fn by_name(&self, wanted: &str) -> Result<Option<Arc<Class>>, ApiError> {
        if let Some(found) = self.find(|class| class.name == wanted) {
            return Ok(Some(found));
        }
        let fresh = self.lookup.get_fresh(builtin::priority_classes(), "", wanted).await?;
        Ok(fresh.and_then(|stored| class(&stored.value())).map(Arc::new))
    }

    async fn admit_pod(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let wanted = text(&request.object["spec"]["priorityClassName"]).to_owned();
        let class = match wanted.as_str() {
            "" => self.find(|class| class.is_default),
            wanted => {
                let found = self.by_name(wanted).await?;
                if found.is_none() {
                    return Err(denied(request, format!("no PriorityClass with name {wanted} was found")));
                }
                found
            }
        };
        let (value, policy) = class.as_ref().map_or((0, DEFAULT_POLICY), |c| (c.value, c.policy.as_str()));

        let spec = &request.object["spec"];
        if let Some(given) = spec["priority"].as_i64().filter(|given| *given != value) {
            let why = format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
                 controller computed {value} from the given PriorityClass name"
            );
            return Err(denied(request, why));
        }
        if let Some(given) = spec["preemptionPolicy"].as_str().filter(|given| *given != policy) {
            let why = format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
                 controller computed {policy} from the given PriorityClass name"
            );
            return Err(denied(request, why));
        }
        let spec = &mut request.object["spec"];
        spec["priority"] = value.into();
        spec["preemptionPolicy"] = policy.into();
        if let (true, Some(class)) = (wanted.is_empty(), &class) {
            spec["priorityClassName"] = class.name.as_str().into();
        }
        Ok(())
    }
}

fn class(object: &Value) -> Option<Class> {
    Some(Class {
        name: name(object).to_owned(),
        value: object["value"].as_i64()?,
        is_default: object["globalDefault"].as_bool().unwrap_or(false),
        policy: object["preemptionPolicy"].as_str().unwrap_or(DEFAULT_POLICY).to_owned(),
    })
}

#[async_trait]
impl Admission for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if is_pod_creation(request) && request.object["spec"].is_object() {
            return self.admit_pod(request).await;
        }
        if is_main(request, "", "pods") && request.operation == Operation::Update {
            // Clients of old versions send pods back without the fields they do not know.
            let Some(old) = request.old else { return Ok(()) };
            for field in ["priority", "preemptionPolicy"] {
                if request.object["spec"].is_object() && request.object["spec"][field].is_null() {
                    copy(&mut request.object["spec"], &old["spec"], field);
                }
            }
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        let is_write = matches!(request.operation, Operation::Create | Operation::Update);
        if !is_write || !is_main(request, "scheduling.k8s.io", "priorityclasses") {
            return Ok(());
        }
        if request.object["globalDefault"] != true {
            return Ok(());
        }
        let own = name(&request.object);
        match self.find(|class| class.is_default && class.name != own) {
            Some(other) => {
                let other = &other.name;
                let why = format!("PriorityClass {other} is already marked as default. Only one default can exist");
                Err(denied(request, why))
            }
            None => Ok(()),
        }
    }
}
