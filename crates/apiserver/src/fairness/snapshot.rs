//! What all requests are sorted by, at one moment: the FlowSchemas in order, each with its level. It never changes; when
//! an object does, another takes its place, and levels that stay are the same ones with the same seats.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use http::HeaderValue;
use knarr_api::strategy::flow::{CATCH_ALL, EXEMPT, fixed_level, fixed_schema};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    borrow::Terms,
    counters::Counters,
    level::{Level, LevelConfig},
    queues::Queuing,
    rules::{PolicyRule, SchemaSpec},
};
use crate::{
    contract::UserInfo,
    json::{name, text},
    route::RequestInfo,
};

/// Seats of the whole server: upstream's `--max-requests-inflight` and `--max-mutating-requests-inflight` together.
pub const TOTAL_SEATS: u32 = 600;

#[derive(Debug)]
enum Distinguisher {
    None,
    User,
    Namespace,
}

/// A FlowSchema whose level exists.
pub struct Schema {
    pub name: Box<str>,
    precedence: i64,
    by: Distinguisher,
    rules: Vec<PolicyRule>,
    pub level: Arc<Level>,
    pub counters: Arc<Counters>,
    pub uid: Option<HeaderValue>,
    pub level_uid: Option<HeaderValue>,
}

impl Schema {
    fn covers(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        self.rules.iter().any(|rule| rule.covers(user, info))
    }

    /// Which of the schema's flows a request belongs to.
    pub fn flow(&self, user: &UserInfo, info: &RequestInfo) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        match self.by {
            Distinguisher::None => {}
            Distinguisher::User => user.name.hash(&mut hasher),
            Distinguisher::Namespace => info.namespace.hash(&mut hasher),
        }
        hasher.finish()
    }

    pub fn labels(&self) -> [(&'static str, &str); 2] {
        [("priority_level", &self.level.name), ("flow_schema", &self.name)]
    }

    pub fn labels_and<'a>(&'a self, key: &'static str, value: &'a str) -> [(&'static str, &'a str); 3] {
        let [level, schema] = self.labels();
        [level, schema, (key, value)]
    }
}

/// A level with what it was configured by.
#[derive(Clone)]
pub struct Configured {
    pub level: Arc<Level>,
    pub config: LevelConfig,
    uid: Option<HeaderValue>,
}

#[derive(Default)]
pub struct Snapshot {
    schemas: Vec<Arc<Schema>>,
    levels: BTreeMap<Box<str>, Configured>,
}

impl Snapshot {
    /// From the objects that there are. What the server cannot do without is imagined where it is missing, and levels
    /// of `before` are taken over.
    pub fn build(before: &Self, schemas: &[Value], levels: &[Value]) -> Self {
        let mut snapshot = Self { schemas: Vec::new(), levels: configured(before, levels) };
        let shares: u64 = snapshot.levels.values().map(|one| u64::from(one.config.terms.shares)).sum();
        for Configured { level, config, .. } in snapshot.levels.values() {
            level.configure(*config, config.terms.bounds(TOTAL_SEATS, shares));
        }
        let known: BTreeMap<(&str, &str), &Arc<Counters>> =
            before.schemas.iter().map(|one| ((&*one.level.name, &*one.name), &one.counters)).collect();
        let mandatory = |name: &&str| !schemas.iter().any(|schema| self::name(schema) == *name);
        let imagined = [EXEMPT, CATCH_ALL].into_iter().filter(mandatory);
        let imagined = imagined.map(|name| json!({"metadata": {"name": name}, "spec": fixed_schema(name)}));
        for object in schemas.iter().cloned().chain(imagined) {
            snapshot.schemas.extend(snapshot.schema(&object, &known).map(Arc::new));
        }
        snapshot.schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        snapshot
    }

    fn schema(&self, object: &Value, known: &BTreeMap<(&str, &str), &Arc<Counters>>) -> Option<Schema> {
        let spec = SchemaSpec::deserialize(&object["spec"]).ok()?;
        let SchemaSpec { matching_precedence, priority_level_configuration, distinguisher_method, rules } = spec;
        let Configured { level, uid: level_uid, .. } = self.levels.get(&*priority_level_configuration.name)?;
        let by = match distinguisher_method.as_ref().map(|method| &*method.kind) {
            Some("ByUser") => Distinguisher::User,
            Some("ByNamespace") => Distinguisher::Namespace,
            _ => Distinguisher::None,
        };
        let counters = known.get(&(&*level.name, name(object))).copied().cloned().unwrap_or_default();
        Some(Schema {
            name: name(object).into(),
            precedence: matching_precedence,
            by,
            rules,
            level: level.clone(),
            counters,
            uid: uid(object),
            level_uid: level_uid.clone(),
        })
    }

    /// The first schema that is about a request. The last one is about all there are, whatever its rules say: it
    /// is `catch-all`, or follows it.
    pub fn classify(&self, user: &UserInfo, info: &RequestInfo) -> Option<&Arc<Schema>> {
        self.schemas.iter().find(|schema| schema.covers(user, info)).or(self.schemas.last())
    }

    pub fn has_level(&self, name: &str) -> bool {
        self.levels.contains_key(name)
    }

    pub fn configured(&self) -> impl Iterator<Item = &Configured> {
        self.levels.values()
    }

    pub fn levels(&self) -> impl Iterator<Item = &Level> {
        self.levels.values().map(|one| &*one.level)
    }

    pub fn schemas(&self) -> impl Iterator<Item = &Schema> {
        self.schemas.iter().map(|schema| &**schema)
    }
}

fn uid(object: &Value) -> Option<HeaderValue> {
    let uid = text(&object["metadata"]["uid"]);
    HeaderValue::from_str(uid).ok().filter(|value| !value.is_empty())
}

fn configured(before: &Snapshot, objects: &[Value]) -> BTreeMap<Box<str>, Configured> {
    let mut all = BTreeMap::new();
    let mut add = |name: &str, spec: &Value, uid: Option<HeaderValue>| {
        let Some(config) = level_config(name, spec) else { return };
        let level = before.levels.get(name).map_or_else(|| Level::new(name), |one| one.level.clone());
        all.insert(name.into(), Configured { level, config, uid });
    };
    for name in [EXEMPT, CATCH_ALL] {
        add(name, &fixed_level(name).unwrap_or_default(), None);
    }
    for object in objects {
        add(name(object), &object["spec"], uid(object));
    }
    all
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LevelSpec {
    #[serde(rename = "type")]
    kind: String,
    exempt: Option<Part>,
    limited: Option<Part>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Part {
    nominal_concurrency_shares: u32,
    lendable_percent: u32,
    borrowing_limit_percent: Option<u32>,
    limit_response: Response,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Response {
    queuing: Option<QueuingSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct QueuingSpec {
    queues: u32,
    hand_size: usize,
    queue_length_limit: usize,
}

/// `None` for what validation would not have let through; it is as if it did not exist.
fn level_config(name: &str, spec: &Value) -> Option<LevelConfig> {
    let LevelSpec { kind, exempt, limited } = LevelSpec::deserialize(spec).ok()?;
    let is_exempt = kind == "Exempt";
    if is_exempt != (name == EXEMPT) {
        return None;
    }
    let part = if is_exempt { exempt.unwrap_or_default() } else { limited? };
    let queuing = part.limit_response.queuing.filter(|_| !is_exempt).map_or(Queuing::REJECT, |queuing| Queuing {
        queues: queuing.queues,
        hand: queuing.hand_size,
        length: queuing.queue_length_limit,
    });
    let terms = Terms {
        shares: part.nominal_concurrency_shares,
        lendable_percent: part.lendable_percent.min(100),
        borrowing_percent: part.borrowing_limit_percent,
    };
    Some(LevelConfig { exempt: is_exempt, terms, queuing })
}
