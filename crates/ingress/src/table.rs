//! Which backend answers a request: the rules of all Ingresses as one table. Pure.
//! (<https://kubernetes.io/docs/concepts/services-networking/ingress/#ingress-rules>)

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressBackend, IngressClass},
};
use knarr_client::{ObjectKey, meta};

/// The controller that an IngressClass names to mean this one.
pub const CONTROLLER: &str = "knarr.dev/ingress";
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// How a backend is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    #[default]
    Http1,
    /// HTTP/2 without TLS from the first byte: `appProtocol: kubernetes.io/h2c`, which gRPC needs.
    H2c,
}

/// What answers below a path. No endpoints, and the answer is 503.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backend {
    /// Named in messages only.
    pub service: String,
    pub protocol: Protocol,
    pub ready: Vec<SocketAddr>,
    /// On their way out, but still answering: asked when no other is there.
    pub leaving: Vec<SocketAddr>,
}

#[derive(Clone, Debug)]
struct Path {
    path: String,
    exact: bool,
    backend: Arc<Backend>,
}

impl Path {
    /// A prefix counts by whole elements: `/a` is one of `/a` and `/a/b` and not of `/ab`.
    fn matches(&self, path: &str) -> bool {
        if self.exact {
            return path == self.path;
        }
        let prefix = self.path.trim_end_matches('/');
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// A certificate's place, and the hosts that it is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tls {
    pub secret: ObjectKey,
    /// Empty for all that no other is for.
    pub hosts: Vec<String>,
}

/// All rules there are.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// By host: exact, `*.domain`, or empty for all. Paths in the order in which they are tried.
    hosts: HashMap<String, Vec<Path>>,
    default: Option<Arc<Backend>>,
    pub tls: BTreeSet<Tls>,
}

impl Table {
    /// The backend for a host, in lower case and without port, and a path.
    pub fn find(&self, host: &str, path: &str) -> Option<&Arc<Backend>> {
        let wildcard = host.split_once('.').map(|(_, domain)| format!("*.{domain}")).unwrap_or_default();
        let candidates = [host, wildcard.as_str(), ""].into_iter().filter_map(|host| self.hosts.get(host));
        let found = candidates.flatten().find(|rule| rule.matches(path));
        found.map(|rule| &rule.backend).or(self.default.as_ref())
    }

    /// Sends everything to one backend.
    #[cfg(test)]
    pub fn of(backend: Backend) -> Self {
        Self { default: Some(Arc::new(backend)), ..Self::default() }
    }

    /// Every endpoint that is in use.
    pub fn endpoints(&self) -> BTreeSet<SocketAddr> {
        let backends = self.hosts.values().flatten().map(|path| &path.backend).chain(&self.default);
        backends.flat_map(|backend| backend.ready.iter().chain(&backend.leaving)).copied().collect()
    }
}

/// What the table is made of.
pub struct Objects<'a> {
    pub ingresses: &'a [Arc<Ingress>],
    pub classes: &'a [Arc<IngressClass>],
    pub service: &'a dyn Fn(&ObjectKey) -> Option<Arc<Service>>,
    pub slices: &'a dyn Fn(&ObjectKey) -> Vec<Arc<EndpointSlice>>,
}

/// The names of the classes that mean this controller.
fn classes(all: &[Arc<IngressClass>]) -> BTreeSet<&str> {
    let ours = |class: &&Arc<IngressClass>| {
        class.spec.as_ref().and_then(|spec| spec.controller.as_deref()) == Some(CONTROLLER)
    };
    all.iter().filter(ours).map(|class| meta::name(&class.metadata)).collect()
}

/// Whether an Ingress is of one of these classes; by the annotation of old, too.
fn is_of(ingress: &Ingress, classes: &BTreeSet<&str>) -> bool {
    let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    named.or_else(|| meta::annotation(&ingress.metadata, CLASS_ANNOTATION)).is_some_and(|name| classes.contains(name))
}

/// Whether there is an Ingress to be served here.
pub fn is_needed(ingresses: &[Arc<Ingress>], all: &[Arc<IngressClass>]) -> bool {
    let ours = classes(all);
    ingresses.iter().any(|ingress| is_of(ingress, &ours))
}

/// The Ingresses that are served here, the oldest first: where two say different things, it is right.
fn served<'a>(objects: &Objects<'a>) -> Vec<&'a Arc<Ingress>> {
    let ours = classes(objects.classes);
    let mut served: Vec<_> = objects.ingresses.iter().filter(|ingress| is_of(ingress, &ours)).collect();
    served.sort_by_key(|ingress| {
        let created = ingress.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, ObjectKey::of(&***ingress))
    });
    served
}

/// Works the table out anew.
pub fn build(objects: &Objects<'_>) -> Table {
    let mut known: HashMap<(ObjectKey, String), Arc<Backend>> = HashMap::new();
    let mut table = Table::default();
    let mut hosts: BTreeMap<String, BTreeMap<(String, bool), Arc<Backend>>> = BTreeMap::new();
    for ingress in served(objects) {
        let Some(spec) = &ingress.spec else { continue };
        let namespace = meta::namespace(&ingress.metadata);
        let mut backend = |wanted: &IngressBackend| {
            let Some(service) = &wanted.service else {
                return Arc::new(Backend { service: "a resource backend".into(), ..Backend::default() });
            };
            let key = ObjectKey::new(namespace, service.name.clone());
            let port = service.port.as_ref();
            let port = port.map(|port| port.name.clone().unwrap_or_else(|| port.number.unwrap_or(0).to_string()));
            let port = port.unwrap_or_default();
            known.entry((key.clone(), port.clone())).or_insert_with(|| Arc::new(resolve(objects, &key, &port))).clone()
        };
        let own_default = spec.default_backend.as_ref().map(&mut backend);
        for rule in spec.rules.iter().flatten() {
            let paths = hosts.entry(rule.host.clone().unwrap_or_default().to_lowercase()).or_default();
            for one in rule.http.iter().flat_map(|http| &http.paths) {
                let path = one.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".into());
                let exact = one.path_type == "Exact";
                paths.entry((path, exact)).or_insert_with(|| backend(&one.backend));
            }
            // A rule for a host alone sends all of it to the Ingress's own default.
            if let (None, Some(default)) = (&rule.http, &own_default) {
                paths.entry(("/".into(), false)).or_insert_with(|| default.clone());
            }
        }
        table.default = table.default.or(own_default);
        for tls in spec.tls.iter().flatten() {
            let Some(secret) = tls.secret_name.clone() else { continue };
            let hosts = tls.hosts.iter().flatten().map(|host| host.to_lowercase()).collect();
            table.tls.insert(Tls { secret: ObjectKey::new(namespace, secret), hosts });
        }
    }
    let in_order = |paths: BTreeMap<(String, bool), Arc<Backend>>| {
        let mut paths: Vec<Path> =
            paths.into_iter().map(|((path, exact), backend)| Path { path, exact, backend }).collect();
        // The longest path first; of equals the exact one.
        paths.sort_by_key(|path| (Reverse(path.path.trim_end_matches('/').len()), !path.exact));
        paths
    };
    table.hosts = hosts.into_iter().map(|(host, paths)| (host, in_order(paths))).collect();
    table
}

fn resolve(objects: &Objects<'_>, key: &ObjectKey, wanted: &str) -> Backend {
    let mut backend = Backend { service: format!("{key}:{wanted}"), ..Backend::default() };
    let Some(service) = (objects.service)(key) else { return backend };
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let is_wanted = |port: &&ServicePort| port.name.as_deref() == Some(wanted) || port.port.to_string() == wanted;
    let Some(port) = ports.into_iter().find(is_wanted) else { return backend };
    backend.protocol = match port.app_protocol.as_deref() {
        Some("kubernetes.io/h2c") => Protocol::H2c,
        _ => Protocol::Http1,
    };
    let name = port.name.as_deref().unwrap_or_default();
    for slice in (objects.slices)(key) {
        let named = slice.ports.iter().flatten().find(|port| port.name.as_deref().unwrap_or_default() == name);
        let Some(number) = named.and_then(|port| u16::try_from(port.port?).ok()) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let addresses = endpoint.addresses.iter().filter_map(|text| text.parse().ok());
            let addresses = addresses.map(|address| SocketAddr::new(address, number));
            if conditions.ready.unwrap_or(true) {
                backend.ready.extend(addresses);
            } else if conditions.serving.unwrap_or(false) {
                backend.leaving.extend(addresses);
            }
        }
    }
    for list in [&mut backend.ready, &mut backend.leaving] {
        list.sort();
        list.dedup();
    }
    backend
}

/// The value of [`SERVICE_LABEL`], for an index.
pub fn service_of(slice: &EndpointSlice) -> Vec<String> {
    let service = meta::label(&slice.metadata, SERVICE_LABEL);
    service.map(|name| format!("{}/{name}", meta::namespace(&slice.metadata))).into_iter().collect()
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
