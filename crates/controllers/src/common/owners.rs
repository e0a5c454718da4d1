//! Which owners a changed object concerns: its controller, the one it had before, and, of an orphan, all that select it.

use knarr_api::selector::LabelSelector;
use knarr_client::{Informer, ObjectKey, WorkQueue, informer::Object, meta};

use super::selector;
use crate::Error;

/// Puts the controllers of one kind of each object that changes into a queue, the one it has and the one it had.
pub fn feed<K: Object<DynamicType = ()>>(queue: &WorkQueue<ObjectKey>, objects: &Informer<K>, kind: &'static str) {
    objects.feed(queue, move |change| {
        let sides = [&change.old, &change.new].into_iter().flatten();
        let owners = sides.filter_map(|object| {
            let owner = meta::controller_of(object.meta()).filter(|owner| owner.kind == kind)?;
            Some(ObjectKey::new(meta::namespace(object.meta()), owner.name.clone()))
        });
        let mut keys: Vec<_> = owners.collect();
        keys.dedup();
        keys
    });
}

/// Puts every owner into a queue that may adopt an object which nobody controls.
pub fn feed_by_orphans<K, O>(
    queue: &WorkQueue<ObjectKey>,
    objects: &Informer<K>,
    owners: &Informer<O>,
    selector_of: fn(&O) -> Result<LabelSelector, Error>,
) where
    K: Object<DynamicType = ()>,
    O: Object<DynamicType = ()>,
{
    let owners = owners.clone();
    objects.feed(queue, move |change| {
        let object = change.latest().meta();
        if change.is_deletion() || meta::controller_of(object).is_some() {
            return Vec::new();
        }
        let selects = |owner: &O| selector_of(owner).is_ok_and(|wanted| selector::matches(&wanted, object));
        let owners = owners.in_namespace(meta::namespace(object));
        owners.iter().filter(|owner| selects(owner)).map(|owner| ObjectKey::of(&**owner)).collect()
    });
}
