use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls::ClientConfig;
use serde_json::Value;

use crate::{
    contract::Stored,
    json::{items, text},
    pki::{ProxyIdentity, Trust},
};

const DEFAULT_PORT: u16 = 443;

/// A group version that the server behind a Service answers.
#[derive(Debug)]
pub struct Route {
    /// Of the APIService.
    pub name: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub service: String,
    pub port: u16,
    /// As the status of the APIService has it.
    pub available: bool,
    /// Whom to trust as that server, or why there is no telling.
    pub tls: Result<Arc<ClientConfig>, String>,
    /// What all of the above was made from.
    pub spec: Value,
}

impl Route {
    /// The path below which that server answers.
    pub fn path(&self) -> String {
        match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }

    /// The name in that server's certificate.
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }
}

/// What the APIServices of one moment mean.
#[derive(Debug, Default)]
pub struct Routes {
    /// Of the cache of APIServices; part of what discovery documents are known by.
    pub generation: u64,
    /// By group and version.
    remote: BTreeMap<(String, String), Arc<Route>>,
    /// Of groups and versions in their groups, for all APIServices.
    priorities: BTreeMap<(String, String), (i64, i64)>,
}

impl Routes {
    pub fn of(services: &[Arc<Stored>], generation: u64, clients: &Clients) -> Self {
        let mut routes = Self { generation, ..Self::default() };
        for stored in services {
            let object = stored.value();
            let spec = &object["spec"];
            let key = (text(&spec["group"]).to_owned(), text(&spec["version"]).to_owned());
            let number = |key: &str| spec[key].as_i64().unwrap_or_default();
            routes.priorities.insert(key.clone(), (number("groupPriorityMinimum"), number("versionPriority")));
            if spec["service"].is_object() {
                routes.remote.insert(key, Arc::new(route(stored.name(), &object, clients)));
            }
        }
        clients.retain(routes.remote.values().map(|route| &route.spec));
        routes
    }

    pub fn find(&self, group: &str, version: &str) -> Option<&Arc<Route>> {
        if self.remote.is_empty() {
            return None;
        }
        self.remote.get(&(group.to_owned(), version.to_owned()))
    }

    pub fn remote(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.remote.values()
    }

    /// The priorities of a group version, where an APIService has them.
    pub fn priority(&self, group: &str, version: &str) -> Option<(i64, i64)> {
        self.priorities.get(&(group.to_owned(), version.to_owned())).copied()
    }
}

fn route(name: &str, object: &Value, clients: &Clients) -> Route {
    let spec = &object["spec"];
    let service = &spec["service"];
    let is_available = |condition: &Value| condition["type"] == "Available" && condition["status"] == "True";
    Route {
        name: name.to_owned(),
        group: text(&spec["group"]).to_owned(),
        version: text(&spec["version"]).to_owned(),
        namespace: text(&service["namespace"]).to_owned(),
        service: text(&service["name"]).to_owned(),
        port: service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(DEFAULT_PORT),
        available: items(&object["status"]["conditions"]).iter().any(is_available),
        tls: clients.get(spec),
        spec: spec.clone(),
    }
}

/// TLS towards other servers, made once for each way of trusting them: sessions are resumed by it.
pub struct Clients {
    identity: Option<Arc<ProxyIdentity>>,
    made: Mutex<HashMap<String, Result<Arc<ClientConfig>, String>>>,
}

impl Clients {
    pub fn new(identity: Option<Arc<ProxyIdentity>>) -> Self {
        Self { identity, made: Mutex::default() }
    }

    fn get(&self, spec: &Value) -> Result<Arc<ClientConfig>, String> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(key(spec)).or_insert_with(|| self.make(spec)).clone()
    }

    fn make(&self, spec: &Value) -> Result<Arc<ClientConfig>, String> {
        let identity = self.identity.as_ref().ok_or("this server has no certificate to show to other API servers")?;
        let bundle = BASE64_STANDARD.decode(text(&spec["caBundle"])).map_err(|e| format!("invalid caBundle: {e}"))?;
        let trust = match bundle.as_slice() {
            _ if spec["insecureSkipTLSVerify"] == true => Trust::Anyone,
            [] => Trust::System,
            bundle => Trust::Bundle(bundle),
        };
        identity.client(trust).map(Arc::new).map_err(|error| error.to_string())
    }

    fn retain<'a>(&self, specs: impl Iterator<Item = &'a Value>) {
        let wanted: std::collections::HashSet<String> = specs.map(key).collect();
        self.made.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| wanted.contains(key));
    }
}

fn key(spec: &Value) -> String {
    format!("{} {} {}", spec["insecureSkipTLSVerify"] == true, text(&spec["caBundle"]), spec["service"])
}
