//! Putting a server together.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use knarr_api::registry::Resource;
use knarr_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use super::{Inner, compaction, local::LocalService, lookup::ServerLookup};
use crate::{
    aggregation::{self, Aggregation},
    audit::Auditor,
    cache::Caches,
    contract::{
        Admission, Attributes, Authenticator, Authorizer, Body, Decision, Lookup, ObjectSource, Response,
        SubresourceHandler, UserInfo,
    },
    custom::{self, Catalogue},
    discovery::Discovery,
    env::Env,
    fairness::{self, Fairness},
    health::{Check, Health},
    metrics::{Metrics, Reading},
    openapi::OpenApi,
    pki::ProxyIdentity,
    policy::{self, Policies},
    security::Security,
    webhook::Webhooks,
};

/// Answers a path that is no resource, such as `/openid/v1/jwks`.
#[async_trait]
pub trait PathHandler: Send + Sync + 'static {
    fn paths(&self) -> &'static [&'static str];
    async fn handle(&self, request: http::Request<Body>) -> Response;
}

/// What decides beside the generic path, each list in the order of asking.
#[derive(Default)]
pub struct Plugins {
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    pub authorizers: Vec<Arc<dyn Authorizer>>,
    pub admission: Vec<Arc<dyn Admission>>,
    pub subresources: Vec<Arc<dyn SubresourceHandler>>,
    pub paths: Vec<Arc<dyn PathHandler>>,
    /// Group versions whose objects are not in the store.
    pub sources: Vec<Arc<dyn ObjectSource>>,
    by_subresource: HashMap<&'static str, Arc<dyn SubresourceHandler>>,
}

impl Plugins {
    /// Lets everybody do everything: for tests, behind a socket that nobody else can reach.
    pub fn permissive() -> Self {
        Self { authorizers: vec![Arc::new(AllowAll)], ..Self::default() }
    }

    /// The handler of a resource or subresource that the generic path does not serve.
    pub(crate) fn handler(&self, resource: &Resource, subresource: &str) -> Option<Arc<dyn SubresourceHandler>> {
        if self.by_subresource.is_empty() {
            return None;
        }
        // `pods/exec`, `deployments.apps/scale`, and `tokenreviews.authentication.k8s.io` for a whole resource.
        let mut name = resource.qualified_name();
        if !subresource.is_empty() {
            name.push('/');
            name.push_str(subresource);
        }
        self.by_subresource.get(name.as_str()).cloned()
    }

    /// What makes up the objects of a resource, where that is not the store.
    pub(crate) fn source(&self, resource: &Resource) -> Option<Arc<dyn ObjectSource>> {
        self.sources.iter().find(|source| source.serves() == (resource.group, resource.version)).cloned()
    }

    fn index(&mut self) {
        for handler in &self.subresources {
            for name in handler.serves() {
                self.by_subresource.insert(*name, handler.clone());
            }
        }
    }
}

/// The authorisers are asked in order until one has an opinion.
#[async_trait]
impl Authorizer for Plugins {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let mut reasons = Vec::new();
        for authorizer in &self.authorizers {
            match authorizer.authorize(attributes).await {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }
}

impl From<Security> for Plugins {
    fn from(security: Security) -> Self {
        let Security { authenticator, authorizer, admission, subresources, paths } = security;
        Self {
            authenticators: vec![authenticator],
            authorizers: vec![authorizer],
            admission,
            subresources,
            paths,
            ..Self::default()
        }
    }
}

struct AllowAll;

#[async_trait]
impl Authorizer for AllowAll {
    async fn authorize(&self, _: &Attributes<'_>) -> Decision {
        Decision::Allow
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the API server could not read the store")]
    Store(#[source] StoreError),
}

type MakePlugins = Box<dyn FnOnce(Arc<dyn Lookup>) -> Plugins + Send>;

pub struct ApiServerBuilder {
    store: Arc<dyn Store>,
    env: Env,
    plugins: Option<MakePlugins>,
    checks: Vec<(&'static str, Check)>,
    readings: Vec<Reading>,
    address: Option<String>,
    shutdown: CancellationToken,
    front_proxy: Option<Arc<ProxyIdentity>>,
    audit: Option<Arc<Auditor>>,
}

impl ApiServerBuilder {
    /// Time and randomness; the host's where this is not called.
    pub fn env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// What authenticates, authorises, admits and serves subresources. It is made when the caches are loaded, and
    /// is handed what it may ask of the server.
    pub fn plugins(mut self, make: impl FnOnce(Arc<dyn Lookup>) -> Plugins + Send + 'static) -> Self {
        self.plugins = Some(Box::new(make));
        self
    }

    /// One line of `/readyz`; an error says what is missing.
    pub fn check(mut self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.checks.push((name, Box::new(check)));
        self
    }

    /// One line of `/metrics` about the process.
    pub fn reading(mut self, reading: Reading) -> Self {
        self.readings.push(reading);
        self
    }

    /// Where clients reach the server, as `host:port`: discovery tells it.
    pub fn address(mut self, address: impl ToString) -> Self {
        self.address = Some(address.to_string());
        self
    }

    /// Aggregates other API servers: this one shows them `identity`. Without it nobody keeps APIServices.
    pub fn aggregate(mut self, identity: ProxyIdentity) -> Self {
        self.front_proxy = Some(Arc::new(identity));
        self
    }

    /// Logs requests as a policy says; none are logged where this is not called.
    pub fn audit(mut self, auditor: Auditor) -> Self {
        self.audit = Some(Arc::new(auditor));
        self
    }

    /// Ends watches and lets connections drain when it is cancelled.
    pub fn shutdown(mut self, shutdown: CancellationToken) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Loads the store. After this the server answers, through [`ApiServer::local`] and [`ApiServer::serve`].
    pub async fn start(self) -> Result<ApiServer, StartError> {
        let Self { store, env, plugins, mut checks, readings, address, shutdown, front_proxy, audit } = self;
        let caches = Caches::start(store.clone()).await.map_err(StartError::Store)?;
        let fed = caches.clone();
        let store_check: Check = Box::new(move || if fed.is_fed() { Ok(()) } else { Err("it has stopped".into()) });
        checks.push(("store", store_check));
        let lookup = Arc::new(ServerLookup::new(caches.clone()));
        let mut plugins = match plugins {
            Some(make) => make(lookup.clone()),
            None => Plugins::permissive(),
        };
        plugins.index();
        let catalogue = Arc::new(Catalogue::default());
        let aggregation = Aggregation::new(&caches, front_proxy);
        let webhooks = Webhooks::new(lookup.clone(), env.clone());
        let fairness = Fairness::default();
        let metrics = Metrics::new(readings, fairness.readings(), store.clone());
        let inner = Arc::new(Inner {
            store,
            caches,
            catalogue,
            plugins,
            lookup: lookup.clone(),
            env,
            metrics,
            health: Health::new(checks),
            discovery: Discovery::at(address),
            openapi: OpenApi::default(),
            aggregation,
            event_leases: Default::default(),
            twins: Default::default(),
            webhooks,
            policies: Policies::new(lookup.clone()),
            audit,
            fairness,
            // A child: a server that is dropped ends its own tasks and nobody else's.
            shutdown: shutdown.child_token(),
        });
        lookup.attach(&inner);
        tokio::spawn(compaction::run(inner.store.clone(), inner.shutdown.clone()));
        custom::start(&inner).await;
        aggregation::start(&inner);
        fairness::start(&inner);
        policy::start(&inner);
        Ok(ApiServer { inner })
    }
}

/// A running API server; clones are handles to the same one.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) inner: Arc<Inner>,
}

impl ApiServer {
    pub fn builder(store: Arc<dyn Store>) -> ApiServerBuilder {
        ApiServerBuilder {
            store,
            env: Env::host(),
            plugins: None,
            checks: Vec::new(),
            readings: Vec::new(),
            address: None,
            shutdown: CancellationToken::new(),
            front_proxy: None,
            audit: None,
        }
    }

    /// A service in this process that speaks as `user`: no socket, no TLS, the same authorisation and admission.
    pub fn local(&self, user: UserInfo) -> LocalService {
        LocalService::new(self.inner.clone(), user)
    }

    /// Reads from the caches and writes through the generic path, for parts of the server itself.
    pub fn lookup(&self) -> Arc<dyn Lookup> {
        self.inner.lookup.clone()
    }

    /// Resolves once the server was told to stop.
    pub fn shutdown_token(&self) -> CancellationToken {
        self.inner.shutdown.clone()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.caches.stop();
        self.shutdown.cancel();
    }
}
