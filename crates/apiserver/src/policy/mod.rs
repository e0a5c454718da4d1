//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy on every write
//! (<https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>).
//!
//! `configuration` says which policies there are and where they are bound, `params` finds what a binding hands to its
//! policy and `access` who may name it, `validating` and `mutating` do what comes of it, and `status` tells what is odd about a policy. What an expression means it does not know: that is
//! `knarr_api::policy`'s. How requests are matched is `matching`'s, and webhooks are none of its business.

mod access;
mod bindings;
mod configuration;
mod metrics;
mod mutating;
mod params;
mod status;
mod validating;

use std::sync::Arc;

use knarr_api::policy::{MutatingPolicy, ValidatingPolicy};

use crate::{builtin, contract::Lookup};

use configuration::{Bound, Kept};
pub(crate) use metrics::PolicyMetrics;
pub(crate) use status::start;

/// The policies of both kinds, kept current.
pub(crate) struct Policies {
    lookup: Arc<dyn Lookup>,
    mutating: Kept<MutatingPolicy>,
    validating: Kept<ValidatingPolicy>,
}

impl Policies {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self {
            lookup,
            mutating: Kept::new(
                builtin::mutating_admission_policies(),
                builtin::mutating_admission_policy_bindings(),
                MutatingPolicy::compile,
            ),
            validating: Kept::new(
                builtin::validating_admission_policies(),
                builtin::validating_admission_policy_bindings(),
                ValidatingPolicy::compile,
            ),
        }
    }

    /// False where no policy is bound that changes objects.
    pub fn mutates(&self) -> bool {
        !self.mutating().is_empty()
    }

    /// False where no policy is bound that judges them.
    pub fn validates(&self) -> bool {
        !self.validating().is_empty()
    }

    fn mutating(&self) -> Arc<Vec<Bound<MutatingPolicy>>> {
        self.mutating.current(&*self.lookup)
    }

    fn validating(&self) -> Arc<Vec<Bound<ValidatingPolicy>>> {
        self.validating.current(&*self.lookup)
    }
}
