//! Tells when CustomResourceDefinitions change, so that whoever works on all resources there are need not wait for the
//! next time that it looks for new ones.

use knarr_client::informer::Scope;

use super::trace::Trace;
use crate::Context;

const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Calls `changed` for every definition there is and for every change of one, for as long as the controllers run. A
/// definition says last that it is established, when its resources are served already.
pub fn on_change(context: &Context, changed: impl Fn() + Send + Sync + 'static) {
    let cancel = context.cancel.clone();
    let definitions = context.informers.private::<Trace>(PATH.to_owned(), Scope::metadata(), cancel.clone());
    definitions.on_change_until(&cancel, move |_| changed());
}
