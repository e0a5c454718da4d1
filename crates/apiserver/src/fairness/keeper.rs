//! The task that follows FlowSchemas and PriorityLevelConfigurations. It takes no "what changed": each round reads all of
//! them, makes the snapshot that requests are sorted by, and puts right what is not as it must be: the condition that says
//! whether a schema's level exists, and the objects that the server brings along, which come back when they are deleted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::Duration,
};

use futures::future::join_all;
use knarr_api::{registry::Resource, status::ApiError, time};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    borrow::{Claim, divide},
    demand::{Observed, smoothed},
    snapshot::Snapshot,
};
use crate::{
    authn::server_itself,
    bootstrap::flow_control,
    builtin,
    cache::{Start, Topic, Watcher},
    contract::Lookup,
    json::{items, list_mut, name, text},
    server::Inner,
};

/// How often seats are lent anew.
const LEND_EVERY: Duration = Duration::from_secs(10);
/// Rounds keep a distance, so that a fight with another writer costs little.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(100);
const RETRY_AFTER: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Keeper {
    /// What each level wanted in the last period.
    wants: BTreeMap<Box<str>, (Observed, f64)>,
    /// Objects of the server's own that were there once. What never was is for the bootstrap to make.
    seen: BTreeSet<(&'static str, String)>,
}

/// Sorts by what is there already, and goes on from there in a task of its own.
pub fn start(server: &Arc<Inner>) {
    let watch = |resource| {
        let cache = server.caches.of(resource)?;
        cache.watch(Start::Now { snapshot: false }, Topic::Everything, |_| true).ok()
    };
    // There is a cache of every built-in that can be watched, and a start from now on cannot be too old.
    let (Some(schemas), Some(levels)) = (watch(builtin::flow_schemas()), watch(builtin::priority_levels())) else {
        return;
    };
    let mut keeper = Keeper::default();
    keeper.rebuild(server);
    tokio::spawn(run(Arc::downgrade(server), keeper, [schemas, levels], server.shutdown.clone()));
}

async fn run(server: Weak<Inner>, mut keeper: Keeper, watchers: [Watcher; 2], shutdown: CancellationToken) {
    let [mut schemas, mut levels] = watchers;
    let mut lend_at = Instant::now() + LEND_EVERY;
    // The statuses of what was there at the start are still to be looked at.
    let mut look_at = Instant::now();
    loop {
        let mut look = true;
        tokio::select! {
            woken = schemas.wait() => if !woken { return },
            woken = levels.wait() => if !woken { return },
            () = sleep_until(look_at) => {}
            () = sleep_until(lend_at) => look = false,
            () = shutdown.cancelled() => return,
        }
        for watcher in [&mut schemas, &mut levels] {
            look |= watcher.skip();
        }
        let Some(server) = server.upgrade() else { return };
        if Instant::now() >= lend_at {
            keeper.lend(&server.fairness.snapshot.load(), true);
            lend_at = Instant::now() + LEND_EVERY;
        }
        if look {
            let well = keeper.round(&server).await;
            look_at = Instant::now() + if well { LOOK_AGAIN } else { RETRY_AFTER };
            drop(server);
            sleep(BETWEEN_ROUNDS).await;
        }
    }
}

fn read(server: &Inner, resource: &'static Resource) -> Vec<Value> {
    server.lookup.list(resource, "").iter().map(|stored| stored.value()).collect()
}

impl Keeper {
    /// True where all is as it must be afterwards.
    async fn round(&mut self, server: &Arc<Inner>) -> bool {
        let schemas = self.rebuild(server);
        let restored = self.restore(server).await;
        let snapshot = server.fairness.snapshot.load_full();
        let told = tell(server, &snapshot, &schemas).await;
        restored.and(told).inspect_err(|error| tracing::debug!(error = error.message(), "flow control waits")).is_ok()
    }

    /// Makes the snapshot and answers with the schemas that it was made from.
    fn rebuild(&mut self, server: &Inner) -> Vec<Value> {
        let (schemas, levels) = (read(server, builtin::flow_schemas()), read(server, builtin::priority_levels()));
        let before = server.fairness.snapshot.load_full();
        let snapshot = Snapshot::build(&before, &schemas, &levels);
        self.lend(&snapshot, false);
        server.fairness.snapshot.store(Arc::new(snapshot));
        schemas
    }

    /// Divides the seats by what was wanted; after a period by what was wanted in it.
    fn lend(&mut self, snapshot: &Snapshot, ended: bool) {
        let mut before = std::mem::take(&mut self.wants);
        let mut claims = Vec::new();
        for one in snapshot.configured() {
            let bounds = one.level.bounds();
            let nominal = f64::from(bounds.nominal);
            // A new level has its own seats until it is known what it wants.
            let new = || (Observed { average: nominal, deviation: 0.0, highest: nominal }, nominal);
            let (mut observed, mut wanted) = before.remove(&one.level.name).unwrap_or_else(new);
            if ended {
                observed = one.level.take_demand();
                wanted = smoothed(wanted, observed);
            }
            self.wants.insert(one.level.name.clone(), (observed, wanted));
            claims.push(Claim { bounds, exempt: one.config.exempt, observed, wanted });
        }
        for (one, seats) in snapshot.configured().zip(divide(&claims)) {
            one.level.set_seats(one.config.exempt, seats);
        }
    }

    /// Brings back what the server brings along, where it was deleted, and its spec, where it is the server's.
    async fn restore(&mut self, server: &Inner) -> Result<(), ApiError> {
        let user = server_itself();
        let mut outcome = Ok(());
        for (resource, wanted) in flow_control::all() {
            let key = (resource.plural, name(&wanted).to_owned());
            let restored = match server.lookup.get(resource, "", &key.1) {
                Some(found) => {
                    let repaired = flow_control::repair(&mut found.value(), &wanted);
                    self.seen.insert(key.clone());
                    if !repaired {
                        continue;
                    }
                    let mut change = |found: &mut Value| {
                        flow_control::repair(found, &wanted);
                        Ok(())
                    };
                    server.lookup.modify(&user, resource, "", "", &key.1, &mut change).await.map(drop)
                }
                None if self.seen.contains(&key) => server.lookup.create(&user, resource, wanted).await.map(drop),
                None => continue,
            };
            // Somebody else may have made or deleted it meanwhile; the next round sees that.
            if let Err(error) = restored
                && !error.is_already_exists()
                && !error.is_not_found()
            {
                outcome = Err(error);
            }
        }
        outcome
    }
}

/// Says of each schema whether its level exists.
async fn tell(server: &Inner, snapshot: &Snapshot, schemas: &[Value]) -> Result<(), ApiError> {
    let now = time::seconds(server.env.now());
    let user = server_itself();
    let wrong = schemas.iter().filter_map(|schema| Some((name(schema), dangling(snapshot, schema)?)));
    let writes = wrong.map(|(name, condition)| {
        let (lookup, user, now) = (&server.lookup, &user, &now);
        async move {
            let mut change = |schema: &mut Value| {
                set_condition(schema, &condition, now);
                Ok(())
            };
            let written = lookup.modify(user, builtin::flow_schemas(), "status", "", name, &mut change).await;
            written.map(drop).or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
        }
    });
    join_all(writes).await.into_iter().collect()
}

/// The condition that a schema should have, where it has another.
fn dangling(snapshot: &Snapshot, schema: &Value) -> Option<Value> {
    let level = text(&schema["spec"]["priorityLevelConfiguration"]["name"]);
    let begin = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    let (status, reason, message) = match snapshot.has_level(level) {
        true => ("False", "Found", format!("{begin} and it exists")),
        false => ("True", "NotFound", format!("{begin} but there is no such object")),
    };
    let wanted = json!({ "type": "Dangling", "status": status, "reason": reason, "message": message });
    let found = items(&schema["status"]["conditions"]).iter().find(|condition| condition["type"] == "Dangling");
    let same = |found: &Value| ["status", "reason", "message"].iter().all(|key| found[*key] == wanted[*key]);
    (!found.is_some_and(same)).then_some(wanted)
}

/// Sets one condition and leaves those of others alone.
fn set_condition(schema: &mut Value, condition: &Value, now: &str) {
    if !schema["status"].is_object() {
        schema["status"] = json!({});
    }
    let conditions = list_mut(&mut schema["status"], "conditions");
    let mut condition = condition.clone();
    condition["lastTransitionTime"] = now.into();
    match conditions.iter_mut().find(|one| one["type"] == condition["type"]) {
        Some(one) => *one = condition,
        None => conditions.push(condition),
    }
}
