//! The Secrets that Ingresses name: each is watched by itself, since a node may read no others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Secret;
use knarr_client::{Informer, Informers, ObjectKey, informer::Scope};
use rustls::{ServerConfig, sign::CertifiedKey};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    table::Tls,
    tls::{self, Certificates, TlsError},
};

/// Each takes a watch; who needs more has outgrown one proxy.
const MAX_SECRETS: usize = 1000;

pub struct Secrets {
    informers: Informers,
    changed: Arc<Notify>,
    cancel: CancellationToken,
    watched: BTreeMap<ObjectKey, Watched>,
    certificates: Arc<Certificates>,
    tls: Arc<ServerConfig>,
    /// What is wrong with which Secret, so that it is said once.
    complaints: BTreeMap<ObjectKey, String>,
}

struct Watched {
    secret: Informer<Secret>,
    _ends: DropGuard,
}

impl Secrets {
    pub fn new(informers: Informers, changed: Arc<Notify>, cancel: CancellationToken) -> Result<Self, TlsError> {
        let certificates = Arc::new(Certificates::new()?);
        let tls = Arc::new(tls::server_config(certificates.clone())?);
        let (watched, complaints) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { informers, changed, cancel, watched, certificates, tls, complaints })
    }

    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.tls.clone()
    }

    /// Watches the Secrets that are named now, and shows the certificates that are known of them.
    pub fn follow(&mut self, wanted: &BTreeSet<Tls>) {
        let names: BTreeSet<&ObjectKey> = wanted.iter().map(|tls| &tls.secret).take(MAX_SECRETS).collect();
        self.watched.retain(|key, _| names.contains(key));
        self.complaints.retain(|key, _| names.contains(key));
        for key in names {
            if !self.watched.contains_key(key) {
                let watched = self.watch(key);
                self.watched.insert(key.clone(), watched);
            }
        }
        let mut by_host: HashMap<String, Arc<CertifiedKey>> = HashMap::new();
        for Tls { secret, hosts } in wanted {
            let Some(certificate) = self.certificate(secret) else { continue };
            let all = [String::new()];
            for host in if hosts.is_empty() { &all[..] } else { hosts } {
                by_host.entry(host.clone()).or_insert_with(|| certificate.clone());
            }
        }
        self.certificates.set(by_host);
    }

    fn watch(&self, key: &ObjectKey) -> Watched {
        let cancel = self.cancel.child_token();
        let scope =
            Scope { namespace: Some(key.namespace.clone()), ..Scope::fields(format!("metadata.name={}", key.name)) };
        let path = format!("/api/v1/namespaces/{}/secrets", key.namespace);
        let secret = self.informers.private::<Secret>(path, scope, cancel.clone());
        let changed = self.changed.clone();
        secret.on_change_until(&cancel, move |_| changed.notify_one());
        Watched { secret, _ends: cancel.drop_guard() }
    }

    fn certificate(&mut self, key: &ObjectKey) -> Option<Arc<CertifiedKey>> {
        let watched = self.watched.get(key)?;
        let secret = watched.secret.get(&key.namespace, &key.name)?;
        match tls::read(&secret) {
            Ok(certificate) => {
                self.complaints.remove(key);
                Some(Arc::new(certificate))
            }
            Err(error) => {
                let message = error.to_string();
                if self.complaints.insert(key.clone(), message.clone()).as_ref() != Some(&message) {
                    tracing::warn!(secret = %key, error = &error as &dyn std::error::Error, "no certificate");
                }
                None
            }
        }
    }
}
