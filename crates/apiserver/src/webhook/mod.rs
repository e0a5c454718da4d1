//! Programs that somebody else runs and that have a say here: admission webhooks, which change or refuse what is
//! written, and conversion webhooks, which bring custom resources from one version into another
//! (<https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>).
//!
//! `configuration` says who is asked about what, `review` what is sent and how the answer is read, and `client` carries
//! it. `mutating` and `validating` ask, one after the other and all at once; `conversion` is for definitions.

mod client;
mod configuration;
mod connect;
mod conversion;
mod deliver;
mod error;
mod invocation;
mod metrics;
mod mutating;
mod review;
mod target;
mod validating;

use std::sync::Arc;

use crate::{Env, contract::Lookup};

pub(crate) use conversion::Converter;
pub(crate) use metrics::WebhookMetrics;

use client::Client;
use configuration::Configurations;

/// What the server needs to ask webhooks.
pub(crate) struct Webhooks {
    configurations: Configurations,
    client: Client,
}

impl Webhooks {
    pub fn new(lookup: Arc<dyn Lookup>, env: Env) -> Self {
        Self { configurations: Configurations::new(lookup.clone()), client: Client::new(lookup, env) }
    }

    /// False where no webhook is there that changes objects.
    pub fn mutates(&self) -> bool {
        !self.configurations.mutating().all.is_empty()
    }

    /// False where no webhook is there that judges them.
    pub fn validates(&self) -> bool {
        !self.configurations.validating().all.is_empty()
    }
}
