//! The loop that makes what is served out of the definitions that there are. It takes no "what changed": each round
//! reads all definitions, decides about them and makes the catalogue, the caches and the statuses agree.
//!
//! A definition is served before its status says `Established`, so that whoever waited for that finds it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use knarr_api::{custom::Definition, status::ApiError};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    Custom, cleanup,
    names::{self, ESTABLISHED},
    resource::Lifetime,
};
use crate::{
    authn::server_itself,
    builtin,
    cache::{Start, Topic, Watcher},
    contract::{Lookup, Stored},
    json::{items, name, text},
    server::Inner,
};

/// How long is waited after a round that failed, doubled with every further one, and how often everything is looked at
/// anyway.
const RETRY_AFTER: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// A definition as it was last seen.
struct Known {
    revision: u64,
    object: Arc<Value>,
}

/// A definition that is served.
#[derive(Clone)]
struct Served {
    basis: Basis,
    lifetime: Arc<Lifetime>,
    versions: Vec<Arc<Custom>>,
}

/// What a definition was made from.
#[derive(Clone)]
struct Basis {
    object: Arc<Value>,
    names: Value,
}

impl Basis {
    fn uid(&self) -> &str {
        text(&self.object["metadata"]["uid"])
    }

    /// True where both mean the same. A deletion raises the generation, too, and changes nothing of that.
    fn same(&self, other: &Self) -> bool {
        self.uid() == other.uid()
            && self.names == other.names
            && (Arc::ptr_eq(&self.object, &other.object) || self.object["spec"] == other.object["spec"])
    }
}

#[derive(Default)]
struct Establisher {
    known: BTreeMap<String, Known>,
    /// By the definition's name.
    served: BTreeMap<String, Served>,
    /// By uid.
    cleaning: BTreeMap<String, JoinHandle<()>>,
}

/// Serves what is established already, and goes on from there in a task of its own.
pub async fn start(server: &Arc<Inner>) {
    let mut establisher = Establisher::default();
    let definitions = server.caches.of(builtin::custom_resource_definitions());
    let start = Start::Now { snapshot: false };
    // There is a cache of every built-in that can be watched, and a start from now on cannot be too old.
    let Some(Ok(watcher)) = definitions.map(|cache| cache.watch(start, Topic::Everything, |_| true)) else { return };
    let well = establisher.round(server).await;
    tokio::spawn(run(Arc::downgrade(server), establisher, watcher, server.shutdown.clone(), well));
}

async fn run(
    server: Weak<Inner>,
    mut establisher: Establisher,
    mut watcher: Watcher,
    shutdown: CancellationToken,
    mut well: bool,
) {
    let mut retry_after = RETRY_AFTER;
    loop {
        let patience = if well { LOOK_AGAIN } else { retry_after };
        tokio::select! {
            woken = watcher.wait() => if !woken { return },
            () = tokio::time::sleep(patience) => {}
            () = shutdown.cancelled() => return,
        }
        watcher.skip();
        let Some(server) = server.upgrade() else { return };
        well = establisher.round(&server).await;
        retry_after = if well { RETRY_AFTER } else { (retry_after * 2).min(LOOK_AGAIN) };
    }
}

impl Establisher {
    /// True where everything agrees afterwards.
    async fn round(&mut self, server: &Arc<Inner>) -> bool {
        match self.try_round(server).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(error = error.message(), "the definitions of custom resources could not all be served");
                false
            }
        }
    }

    async fn try_round(&mut self, server: &Arc<Inner>) -> Result<(), ApiError> {
        // Whatever was acknowledged before a definition's own change is in the caches, the last of its instances too.
        server.caches.fresh().await?;
        let objects = self.read(server);
        let all: Vec<&Value> = objects.iter().map(|object| &**object).collect();
        let decided = names::decide(&all, server.env.now());
        self.serve(server, &objects, &decided).await?;
        let mut outcome = Ok(());
        for (object, status) in all.iter().zip(&decided) {
            if object["status"] != *status
                && let Err(error) = write_status(server, object, status).await
            {
                outcome = Err(error);
            }
        }
        self.clean(server, &all);
        outcome
    }

    /// All definitions in the order of their creation; each version of one is parsed once.
    fn read(&mut self, server: &Inner) -> Vec<Arc<Value>> {
        let stored = server.lookup.list(builtin::custom_resource_definitions(), "");
        let mut before = std::mem::take(&mut self.known);
        for stored in &stored {
            let known = before.remove(stored.name()).filter(|known| known.revision == stored.resource_version);
            let known = known.unwrap_or_else(|| Known::of(stored));
            self.known.insert(stored.name().to_owned(), known);
        }
        let mut objects: Vec<Arc<Value>> = self.known.values().map(|known| known.object.clone()).collect();
        objects.sort_by(|a, b| {
            let age = |object: &Value| text(&object["metadata"]["creationTimestamp"]).to_owned();
            (age(a), name(a)).cmp(&(age(b), name(b)))
        });
        objects
    }

    /// Caches first, then the catalogue; what is no longer served goes in the opposite order.
    async fn serve(&mut self, server: &Inner, all: &[Arc<Value>], decided: &[Value]) -> Result<(), ApiError> {
        let mut next: BTreeMap<String, Served> = BTreeMap::new();
        let mut replaced = Vec::new();
        let mut changed = false;
        for (object, status) in all.iter().zip(decided).filter(|(_, status)| names::is_true(status, ESTABLISHED)) {
            let basis = Basis { object: object.clone(), names: status["acceptedNames"].clone() };
            let before = self.served.get(name(object));
            if let Some(same) = before.filter(|before| before.basis.same(&basis)) {
                next.insert(name(object).to_owned(), Served { basis, ..same.clone() });
                continue;
            }
            // Instances of another definition of this name are another lifetime's.
            let lifetime =
                before.filter(|before| before.basis.uid() == basis.uid()).map(|before| before.lifetime.clone());
            match Served::of(basis, lifetime.unwrap_or_default()) {
                Ok(served) => {
                    changed = true;
                    next.insert(name(object).to_owned(), served);
                }
                Err(why) => tracing::warn!(definition = name(object), why, "a definition cannot be understood"),
            }
        }
        for (name, before) in &self.served {
            if next.get(name).is_none_or(|next| !next.basis.same(&before.basis)) {
                changed = true;
                replaced.extend(before.versions.iter().map(|custom| custom.replaced.clone()));
            }
        }
        if !changed {
            self.served = next;
            return Ok(());
        }
        let caches =
            |served: &BTreeMap<String, Served>| -> Vec<_> { served.values().filter_map(Served::stored).collect() };
        // The new definition of a resource comes last, and is the one that counts.
        let both = [caches(&self.served), caches(&next)].concat();
        server.caches.keep_customs(&both).await?;
        server.catalogue.publish(next.values().flat_map(|served| served.versions.iter().cloned()));
        self.served = next;
        replaced.iter().for_each(CancellationToken::cancel);
        server.caches.keep_customs(&caches(&self.served)).await
    }

    /// Sees to it that every definition that is being deleted is emptied by somebody.
    fn clean(&mut self, server: &Arc<Inner>, all: &[&Value]) {
        self.cleaning.retain(|_, task| !task.is_finished());
        for object in all.iter().filter(|object| cleanup::is_due(object)) {
            let uid = text(&object["metadata"]["uid"]).to_owned();
            let served = self.served.get(name(object));
            let custom = served.and_then(|served| served.versions.first().cloned());
            let task = || tokio::spawn(cleanup::run(Arc::downgrade(server), name(object).to_owned(), custom));
            self.cleaning.entry(uid).or_insert_with(task);
        }
    }
}

impl Known {
    fn of(stored: &Stored) -> Self {
        Self { revision: stored.resource_version, object: Arc::new(stored.value()) }
    }
}

impl Served {
    fn of(basis: Basis, lifetime: Arc<Lifetime>) -> Result<Self, String> {
        let mut object = Value::clone(&basis.object);
        object["spec"]["names"] = basis.names.clone();
        let definition = Arc::new(Definition::of(&object)?);
        let versions = Custom::of(&definition, &lifetime);
        Ok(Self { basis, lifetime, versions })
    }

    /// What the cache is of; a definition that serves no version needs none.
    fn stored(&self) -> Option<(&'static knarr_api::registry::Resource, Arc<Definition>)> {
        self.versions.first().map(|custom| (custom.stored, custom.definition.clone()))
    }
}

/// Writes what was decided; conditions that others wrote meanwhile stay.
async fn write_status(server: &Arc<Inner>, object: &Value, decided: &Value) -> Result<(), ApiError> {
    let (user, resource) = (server_itself(), builtin::custom_resource_definitions());
    let uid = &object["metadata"]["uid"];
    let mut change = |object: &mut Value| {
        // A definition that took this one's name is decided about in its own round.
        if object["metadata"]["uid"] == *uid {
            object["status"]["acceptedNames"] = decided["acceptedNames"].clone();
            for condition in items(&decided["conditions"]).iter().filter(|one| one["type"] != names::TERMINATING) {
                let conditions = crate::json::list_mut(&mut object["status"], "conditions");
                match conditions.iter_mut().find(|there| there["type"] == condition["type"]) {
                    Some(there) => *there = condition.clone(),
                    None => conditions.push(condition.clone()),
                }
            }
        }
        Ok(())
    };
    let written = server.lookup.modify(&user, resource, "status", "", name(object), &mut change).await;
    match written {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
