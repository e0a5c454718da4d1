//! Brings the parts of one cluster's security together: who asks, may they, what is made of it.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::Env;
use crate::admission::{self, PodSecurityConfig};
use crate::alloc::{ServiceAllocation, ServiceRanges};
use crate::authn::{BootstrapTokens, ClientCertificates, Union};
use crate::authz::{ClusterAuthorizer, Rbac};
use crate::contract::{Admission, Authenticator, Authorizer, Lookup, SubresourceHandler};
use crate::proxy::Dialer;
use crate::server::PathHandler;
use crate::subresources::{self, Parts};
use crate::tokens::{IssuerDiscovery, TokenIssuer, TokenReviewer};

/// What the parts are made from.
pub struct SecurityConfig {
    pub issuer: Arc<TokenIssuer>,
    /// TLS towards nodes, with the API server's client certificate.
    pub node_tls: ClientConfig,
    pub ranges: ServiceRanges,
    /// Asked after client certificates and before service account tokens; empty for most clusters.
    pub further_authenticators: Vec<Arc<dyn Authenticator>>,
    /// What the administrator has said of the PodSecurity plugin.
    pub pod_security: PodSecurityConfig,
    pub env: Env,
}

/// The implementations behind the contract.
#[derive(Clone)]
pub struct Security {
    pub authenticator: Arc<dyn Authenticator>,
    pub authorizer: Arc<dyn Authorizer>,
    pub admission: Vec<Arc<dyn Admission>>,
    pub subresources: Vec<Arc<dyn SubresourceHandler>>,
    /// What is served beside resources: how to verify this cluster's tokens.
    pub paths: Vec<Arc<dyn PathHandler>>,
}

impl Security {
    pub fn new(config: SecurityConfig, lookup: &Arc<dyn Lookup>) -> Self {
        let SecurityConfig { issuer, node_tls, ranges, further_authenticators, pod_security, env } = config;
        let tokens = Arc::new(TokenReviewer::new(issuer.clone(), lookup.clone(), env.clone()));
        let rbac = Arc::new(Rbac::new(lookup.clone()));
        let authorizer: Arc<dyn Authorizer> = Arc::new(ClusterAuthorizer::new(lookup.clone(), rbac.clone()));

        let mut authenticators: Vec<Arc<dyn Authenticator>> = vec![Arc::new(ClientCertificates::new(env.clone()))];
        let mut others = further_authenticators;
        others.push(Arc::new(BootstrapTokens::new(lookup.clone(), env.clone())));
        authenticators.extend(others.iter().cloned());
        authenticators.push(tokens.clone());

        let mut plugins = admission::plugins(lookup, &authorizer, &rbac, &tokens, pod_security, &env);
        plugins.push(Arc::new(ServiceAllocation::new(lookup.clone(), ranges, env.clone())));

        let parts = Parts { authorizer: authorizer.clone(), rbac, tokens, others, dialer: Dialer::new(node_tls), env };
        Self {
            authenticator: Arc::new(Union::new(authenticators)),
            authorizer,
            admission: plugins,
            subresources: subresources::handlers(parts),
            paths: vec![Arc::new(IssuerDiscovery(issuer))],
        }
    }
}
