//! Which bindings of a policy are for a request, and with which parameters: the same for both kinds of policies.

use super::{
    configuration::{Binding, Bound},
    params::Param,
};
use crate::{matching::Subject, server::Inner};

impl Inner {
    /// In order, without those that are for other requests. The outer error makes the policy unusable, an inner one its
    /// binding.
    pub(super) async fn bindings<'p, P: Sync>(
        &self,
        bound: &'p Bound<P>,
        subject: &Subject<'_, '_>,
    ) -> Result<Vec<(&'p Binding, Result<Vec<Param>, String>)>, String> {
        let params = self.param_resource(bound.param_kind.as_ref())?;
        let mut found = Vec::with_capacity(bound.bindings.len());
        for binding in &bound.bindings {
            if let Some(criteria) = &binding.criteria {
                match self.matched(criteria, subject).await {
                    Ok(Some(_)) => {}
                    Ok(None) => continue,
                    Err(error) => {
                        found.push((&**binding, Err(error.message().to_owned())));
                        continue;
                    }
                }
            }
            found.push((
                &**binding,
                self.params(params.as_ref(), binding.param_ref.as_ref(), subject.namespace()).await,
            ));
        }
        Ok(found)
    }
}
