use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use jiff::Timestamp;

use super::files::Directory;
use super::{CertificateAuthority, FrontProxy, Identity, Leaf, PkiError, Purpose, Subject, inspect};
use crate::tokens::SigningKey;

/// The name under which the API server calls nodes.
pub const KUBELET_CLIENT_NAME: &str = "kube-apiserver-kubelet-client";
/// The group that nodes let in; it has no rights at the API server itself.
pub const KUBELET_CLIENT_GROUP: &str = "knarr:apiserver";

/// What the API server is reached by.
#[derive(Clone, Debug)]
pub struct ServerNames {
    pub node_name: String,
    pub cluster_domain: String,
    /// The first address of the service range: the `kubernetes` Service.
    pub service_address: IpAddr,
    pub host_addresses: Vec<IpAddr>,
    /// Further names and addresses that the user asked for.
    pub extra: Vec<String>,
}

impl ServerNames {
    fn identity(&self) -> Identity {
        let domain = &self.cluster_domain;
        let mut dns_names: BTreeSet<String> =
            ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned).into();
        dns_names.insert(format!("kubernetes.default.svc.{domain}"));
        dns_names.insert(self.node_name.to_lowercase());
        let mut addresses: BTreeSet<IpAddr> =
            [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into(), self.service_address].into();
        addresses.extend(&self.host_addresses);
        for extra in &self.extra {
            match extra.parse() {
                Ok(address) => addresses.insert(address),
                Err(_) => dns_names.insert(extra.clone()),
            };
        }
        Identity {
            subject: Subject::new("kube-apiserver", None),
            purpose: Purpose::Serving,
            dns_names: dns_names.into_iter().collect(),
            addresses: addresses.into_iter().collect(),
        }
    }

    fn kubelet(&self) -> Identity {
        Identity {
            subject: Subject::node(&self.node_name),
            purpose: Purpose::Serving,
            dns_names: vec![self.node_name.to_lowercase()],
            addresses: self.host_addresses.iter().copied().chain([Ipv4Addr::LOCALHOST.into()]).collect(),
        }
    }
}

/// Everything that the server's process needs to prove who it is and to check who others are.
pub struct Pki {
    pub authority: CertificateAuthority,
    pub front_proxy: FrontProxy,
    /// What the API server serves with.
    pub server: Leaf,
    /// A client certificate in `system:masters`.
    pub admin: Leaf,
    /// What the API server calls nodes with.
    pub kubelet_client: Leaf,
    /// Signs service account tokens.
    pub service_account_key: SigningKey,
}

impl Pki {
    /// Reads a directory, and makes what it lacks.
    pub fn open(path: &Path, names: &ServerNames, now: Timestamp) -> Result<Self, PkiError> {
        let directory = Directory::open(path)?;
        let authority = open_authority(&directory, "ca", "kubernetes", now)?;
        let front_proxy = FrontProxy::open(path, now)?;
        let Leaves { server, admin, kubelet_client, kubelet: _ } = Leaves::open(path, names, &authority, now)?;
        let service_account_key = open_signing_key(&directory)?;
        Ok(Self { authority, front_proxy, server, admin, kubelet_client, service_account_key })
    }

    /// The certificates of one node: with the first it calls the API, with the second it serves its own.
    pub fn node(&self, name: &str, addresses: &[IpAddr], now: Timestamp) -> Result<(Leaf, Leaf), PkiError> {
        let client = self.authority.issue(&Identity::client(Subject::node(name)), now)?;
        let serving = self.authority.issue(
            &Identity {
                subject: Subject::node(name),
                purpose: Purpose::Serving,
                dns_names: vec![name.to_lowercase()],
                addresses: addresses.to_vec(),
            },
            now,
        )?;
        Ok((client, serving))
    }
}

/// What ends within a year, and is renewed.
pub(super) struct Leaves {
    pub server: Leaf,
    pub admin: Leaf,
    pub kubelet_client: Leaf,
    /// What the node in the server's own process serves with.
    pub kubelet: Leaf,
}

impl Leaves {
    /// Reads what is there and still good for a while, and makes the rest.
    pub(super) fn open(
        path: &Path,
        names: &ServerNames,
        authority: &CertificateAuthority,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let directory = Directory::open(path)?;
        let open = |name, identity: &Identity| open_leaf(&directory, name, identity, authority, now);
        let admin = Subject::new("kubernetes-admin", Some("system:masters"));
        let caller = Subject::new(KUBELET_CLIENT_NAME, Some(KUBELET_CLIENT_GROUP));
        Ok(Self {
            server: open("apiserver", &names.identity())?,
            admin: open("admin", &Identity::client(admin))?,
            kubelet_client: open("apiserver-kubelet-client", &Identity::client(caller))?,
            kubelet: open("kubelet", &names.kubelet())?,
        })
    }
}

/// Reads the authority of a name, or makes one where there is none.
pub(super) fn open_authority(
    directory: &Directory<'_>,
    name: &str,
    common_name: &str,
    now: Timestamp,
) -> Result<CertificateAuthority, PkiError> {
    let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
    match (directory.read(&certificate)?, directory.read(&key)?) {
        (Some(certificate), Some(key)) => {
            CertificateAuthority::from_pem(&certificate, &key).map_err(|error| error.in_directory(directory.path()))
        }
        // Making a new authority beside half an old one would silently cut off everyone who trusts the old.
        (Some(_), None) => Err(PkiError::damaged(directory.path_of(&key).display().to_string(), "it is missing")),
        (None, _) => {
            let authority = CertificateAuthority::generate(common_name, now)?;
            directory.write(&key, authority.key_pem())?;
            directory.write(&certificate, authority.certificate_pem())?;
            Ok(authority)
        }
    }
}

pub(super) fn open_leaf(
    directory: &Directory<'_>,
    name: &str,
    identity: &Identity,
    authority: &CertificateAuthority,
    now: Timestamp,
) -> Result<Leaf, PkiError> {
    if let Some(leaf) = directory.read_leaf(name)?
        && inspect::is_current(&leaf, identity, authority, now)
    {
        return Ok(leaf);
    }
    let leaf = authority.issue(identity, now)?;
    directory.write_leaf(name, &leaf)?;
    Ok(leaf)
}

fn open_signing_key(directory: &Directory<'_>) -> Result<SigningKey, PkiError> {
    let damaged = |e| PkiError::damaged(directory.path_of("sa.key").display().to_string(), e);
    if let Some(pem) = directory.read("sa.key")? {
        return SigningKey::from_pem(&pem).map_err(damaged);
    }
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|source| PkiError::Generate { what: "the service account signing key".into(), source })?;
    let pem = key.serialize_pem();
    directory.write("sa.key", &pem)?;
    SigningKey::from_pem(&pem).map_err(damaged)
}
