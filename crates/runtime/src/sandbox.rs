//! A sandbox as the runtime knows it, and the files it is made of.

use std::{collections::BTreeMap, fs, io, net::IpAddr, path::Path};

use knarr_cri::{
    NetworkRequest, PortMapping,
    v1::{NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxState, Protocol, UserNamespace},
};
use knarr_os::users::IdBlock;

use crate::{
    config::Config,
    records::SandboxMeta,
    shim::spec::{BindMount, SandboxSpec},
};

#[derive(Clone, Debug)]
pub struct Sandbox {
    pub config: PodSandboxConfig,
    pub meta: SandboxMeta,
}

impl Sandbox {
    pub fn state(&self) -> PodSandboxState {
        if self.meta.ready { PodSandboxState::SandboxReady } else { PodSandboxState::SandboxNotready }
    }

    fn namespaces(&self) -> NamespaceOption {
        let linux = self.config.linux.as_ref();
        let options = linux.and_then(|l| l.security_context.as_ref()?.namespace_options.clone());
        // A config that says nothing means namespaces of the pod's own, and a PID namespace for each container.
        options.unwrap_or(NamespaceOption { pid: NamespaceMode::Container.into(), ..NamespaceOption::default() })
    }

    pub fn has_own_network(&self) -> bool {
        self.namespaces().network() != NamespaceMode::Node
    }

    /// The host's users that are the pod's, where it has any of its own: one block of them, from the root on.
    pub fn users(&self) -> Result<Option<IdBlock>, String> {
        let Some(UserNamespace { uids, gids, .. }) =
            self.namespaces().userns_options.filter(|users| users.mode() == NamespaceMode::Pod)
        else {
            return Ok(None);
        };
        let refused = |why: &str| Err(format!("the pod's user namespace cannot be made: {why}"));
        match (uids.as_slice(), uids == gids) {
            (_, false) => refused("user and group mappings have to be the same"),
            ([one], true) if one.container_id == 0 && one.host_id > 0 && one.length > 0 => {
                Ok(Some(IdBlock { host_id: one.host_id, length: one.length }))
            }
            _ => refused("one mapping is wanted, of the container's 0 to users that are not the host's root"),
        }
    }

    /// What its shim is told.
    pub fn shim_spec(&self, config: &Config) -> SandboxSpec {
        let run = config.sandbox_run_dir(&self.meta.id);
        let namespaces = self.namespaces();
        let own_ipc = namespaces.ipc() != NamespaceMode::Node;
        SandboxSpec {
            id: self.meta.id.clone(),
            hostname: self.hostname(),
            netns: self.has_own_network().then(|| run.join("netns")),
            shm: own_ipc.then(|| run.join("shm")),
            shared_pid: namespaces.pid() == NamespaceMode::Pod,
            sysctls: self.config.linux.as_ref().map(|l| l.sysctls.clone()).unwrap_or_default(),
            // One that cannot be was refused before anything was made.
            users: self.users().unwrap_or_default(),
            shim_cgroup: config.cgroup("shims"),
        }
    }

    fn hostname(&self) -> String {
        let name = self.config.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default();
        // The kernel takes 64 bytes at most.
        let chosen = if self.config.hostname.is_empty() { name } else { self.config.hostname.clone() };
        chosen.chars().take(64).collect()
    }

    /// Refuses what this runtime cannot make, before anything of it is made.
    pub fn check(&self) -> Result<(), String> {
        if self.users()?.is_some() && !knarr_os::users::are_possible() {
            let needs = "Linux 6.3 and user.max_user_namespaces above 0 are needed";
            return Err(format!("user namespaces are asked for, which this host cannot make ({needs})"));
        }
        self.check_sysctls()
    }

    /// Refuses kernel parameters that would change the host and not the pod alone.
    fn check_sysctls(&self) -> Result<(), String> {
        let namespaces = self.namespaces();
        let (own_net, own_ipc) = (self.has_own_network(), namespaces.ipc() != NamespaceMode::Node);
        let sysctls = self.config.linux.as_ref().map(|l| l.sysctls.clone()).unwrap_or_default();
        for name in sysctls.keys() {
            let ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."].iter().any(|p| name.starts_with(p));
            let allowed = (name.starts_with("net.") && own_net) || (ipc && own_ipc);
            if !allowed || name.contains("..") || name.contains('/') {
                return Err(format!(
                    "the kernel parameter {name} is not of a namespace the pod has to itself, so it would change the host"
                ));
            }
        }
        Ok(())
    }

    pub fn network_request(&self, config: &Config) -> NetworkRequest {
        let metadata = self.config.metadata.clone().unwrap_or_default();
        let ports = self.config.port_mappings.iter().filter(|p| p.host_port > 0);
        NetworkRequest {
            sandbox_id: self.meta.id.clone(),
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            netns: config.sandbox_run_dir(&self.meta.id).join("netns"),
            port_mappings: ports
                .map(|p| PortMapping {
                    protocol: match p.protocol() {
                        Protocol::Tcp => "TCP",
                        Protocol::Udp => "UDP",
                        Protocol::Sctp => "SCTP",
                    },
                    container_port: p.container_port as u16,
                    host_port: p.host_port as u16,
                    host_ip: p.host_ip.parse().ok(),
                })
                .collect(),
        }
    }

    /// The files containers are shown unless the pod mounts something else there.
    pub fn mounts(&self, config: &Config) -> Vec<BindMount> {
        let run = config.sandbox_run_dir(&self.meta.id);
        let mount =
            |name: &str| BindMount { mapped: true, ..BindMount::new(run.join(name), Path::new("/etc").join(name)) };
        let mut mounts: Vec<BindMount> = ["hostname", "hosts", "resolv.conf"].map(mount).to_vec();
        if self.namespaces().ipc() == NamespaceMode::Node {
            mounts.push(BindMount::new("/dev/shm", "/dev/shm"));
        }
        mounts
    }

    /// Writes the files that do not depend on the pod's address.
    pub fn write_files(&self, run: &Path) -> io::Result<()> {
        fs::write(run.join("hostname"), format!("{}\n", self.hostname()))?;
        fs::write(run.join("resolv.conf"), self.resolv_conf())?;
        self.write_hosts(run, &[])
    }

    /// A pod's own names and, in the host's network, the host's.
    pub fn write_hosts(&self, run: &Path, ips: &[IpAddr]) -> io::Result<()> {
        let mut text = match self.has_own_network() {
            false => fs::read_to_string("/etc/hosts").unwrap_or_default(),
            true => "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned(),
        };
        for ip in ips {
            text.push_str(&format!("{ip}\t{}\n", self.hostname()));
        }
        fs::write(run.join("hosts"), text)
    }

    fn resolv_conf(&self) -> String {
        let Some(dns) = self
            .config
            .dns_config
            .as_ref()
            .filter(|d| !d.servers.is_empty() || !d.searches.is_empty() || !d.options.is_empty())
        else {
            return fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        };
        let mut text: String = dns.servers.iter().map(|s| format!("nameserver {s}\n")).collect();
        for (key, values) in [("search", &dns.searches), ("options", &dns.options)] {
            if !values.is_empty() {
                text.push_str(&format!("{key} {}\n", values.join(" ")));
            }
        }
        text
    }
}

/// Sandboxes by id.
pub type Sandboxes = BTreeMap<String, Sandbox>;

#[cfg(test)]
mod tests {
    use knarr_cri::v1::{DnsConfig, LinuxPodSandboxConfig};

    use super::*;

    fn sandbox(config: PodSandboxConfig) -> Sandbox {
        let meta = SandboxMeta { id: "s".into(), created_at_ns: 0, ready: true, ips: vec![], cgroup: "k/p".into() };
        Sandbox { config, meta }
    }

    #[test]
    fn resolv_conf_says_what_the_pod_asked_for() {
        let dns = DnsConfig {
            servers: vec!["10.96.0.10".into()],
            searches: vec!["a.svc".into(), "svc".into()],
            options: vec!["ndots:5".into()],
        };
        let s = sandbox(PodSandboxConfig { dns_config: Some(dns), ..Default::default() });
        assert_eq!(s.resolv_conf(), "nameserver 10.96.0.10\nsearch a.svc svc\noptions ndots:5\n");
    }

    #[test]
    fn a_hostname_has_as_many_letters_as_the_kernel_takes() {
        for (letters, kept) in [(63, 63), (64, 64), (65, 64)] {
            let s = sandbox(PodSandboxConfig { hostname: "a".repeat(letters), ..Default::default() });
            assert_eq!(s.hostname().len(), kept);
        }
    }

    #[test]
    fn a_pod_has_one_block_of_users_of_its_own() {
        use knarr_cri::v1::{IdMapping, LinuxSandboxSecurityContext};
        let ids = |container_id, host_id, length| IdMapping { host_id, container_id, length };
        let own = |uids: &[IdMapping], gids: &[IdMapping]| {
            let users = UserNamespace { mode: NamespaceMode::Pod.into(), uids: uids.to_vec(), gids: gids.to_vec() };
            let options = NamespaceOption { userns_options: Some(users), ..Default::default() };
            let security = LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
            let linux = LinuxPodSandboxConfig { security_context: Some(security), ..Default::default() };
            sandbox(PodSandboxConfig { linux: Some(linux), ..Default::default() }).users()
        };
        let (good, other) = (ids(0, 65_536, 65_536), ids(0, 131_072, 65_536));
        assert_eq!(own(&[good], &[good]), Ok(Some(IdBlock { host_id: 65_536, length: 65_536 })));
        assert_eq!(sandbox(PodSandboxConfig::default()).users(), Ok(None));
        for (uids, gids, why) in [
            (&[good][..], &[other][..], "have to be the same"),
            (&[], &[], "one mapping"),
            (&[good, other], &[good, other], "one mapping"),
            (&[ids(1, 65_536, 1)], &[ids(1, 65_536, 1)], "one mapping"),
            (&[ids(0, 0, 65_536)], &[ids(0, 0, 65_536)], "not the host's root"),
        ] {
            assert!(own(uids, gids).unwrap_err().contains(why), "{uids:?} {gids:?}");
        }
    }

    #[test]
    fn only_the_pods_own_kernel_parameters_may_change() {
        for (name, ok) in [
            ("net.core.somaxconn", true),
            ("kernel.shm_rmid_forced", true),
            ("vm.swappiness", false),
            ("net./../vm.x", false),
        ] {
            let linux =
                LinuxPodSandboxConfig { sysctls: [(name.to_owned(), "1".to_owned())].into(), ..Default::default() };
            let s = sandbox(PodSandboxConfig { linux: Some(linux), ..Default::default() });
            assert_eq!(s.check_sysctls().is_ok(), ok, "{name}");
        }
    }
}
