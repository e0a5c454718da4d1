//! Names of the world, asked of the name servers that the host uses.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use hickory_proto::{
    op::ResponseCode,
    rr::{Name, Record, RecordType},
};
use hickory_resolver::{
    TokioResolver,
    config::{ResolveHosts, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    system_conf::parse_resolv_conf,
};
use tokio::{sync::Semaphore, time::Instant};

/// Questions under way at once; more are answered "server failure", and clients ask again.
const MAX_CONCURRENT: usize = 512;
const CACHE_ENTRIES: u64 = 4096;
/// As CoreDNS does: a name that moves is found again soon, whatever its owner says.
const MAX_TTL: Duration = Duration::from_secs(30);
/// One name server's time; with two tries the client, which waits five seconds, still gets an answer.
pub(super) const TRY: Duration = Duration::from_millis(1500);
pub(super) const ALL_TRIES: Duration = Duration::from_secs(4);
/// How often the host's configuration is looked at.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// What the name servers said.
pub enum Upstream {
    Records(Vec<Record>),
    Nothing { code: ResponseCode, soa: Option<Box<Record>> },
}

pub struct Forwarder {
    path: PathBuf,
    /// Our own address, which the host may have been told to ask: never ourselves in a circle.
    own: Ipv4Addr,
    permits: Semaphore,
    current: Mutex<Option<Current>>,
}

/// The resolver for one state of the configuration file.
struct Current {
    resolver: Option<TokioResolver>,
    stamp: Option<(SystemTime, u64)>,
    checked: Instant,
}

impl Forwarder {
    pub fn new(path: PathBuf, own: Ipv4Addr) -> Self {
        Self { path, own, permits: Semaphore::new(MAX_CONCURRENT), current: Mutex::new(None) }
    }

    pub async fn lookup(&self, name: Name, kind: RecordType) -> Upstream {
        let failure = Upstream::Nothing { code: ResponseCode::ServFail, soa: None };
        let (Ok(_permit), Some(resolver)) = (self.permits.try_acquire(), self.resolver()) else { return failure };
        match tokio::time::timeout(ALL_TRIES, resolver.lookup(name, kind)).await {
            Ok(Ok(lookup)) => Upstream::Records(lookup.answers().to_vec()),
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(nothing)))) => {
                let soa = nothing.soa.map(|soa| Box::new((*soa).into_record_of_rdata()));
                Upstream::Nothing { code: nothing.response_code, soa }
            }
            Ok(Err(NetError::Dns(DnsError::ResponseCode(code)))) => Upstream::Nothing { code, soa: None },
            Ok(Err(error)) => {
                tracing::debug!(%error, "no name server answered");
                failure
            }
            Err(_) => failure,
        }
    }

    /// The resolver for the configuration as it is now; `None` where it names no server.
    fn resolver(&self) -> Option<TokioResolver> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(current) = current.as_mut()
            && (now.duration_since(current.checked) < CHECK_EVERY || self.stamp() == current.stamp)
        {
            if now.duration_since(current.checked) >= CHECK_EVERY {
                current.checked = now;
            }
            return current.resolver.clone();
        }
        let stamp = self.stamp();
        let resolver = self.build().inspect_err(|error| {
            let path = self.path.display();
            tracing::warn!(%path, %error, "no name servers for names outside of the cluster; check the file");
        });
        let fresh = current.insert(Current { resolver: resolver.ok(), stamp, checked: now });
        fresh.resolver.clone()
    }

    fn stamp(&self) -> Option<(SystemTime, u64)> {
        let metadata = fs::metadata(&self.path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }

    fn build(&self) -> Result<TokioResolver, NetError> {
        let (config, mut options) = parse_resolv_conf(fs::read(&self.path)?)?;
        let (_, _, mut servers) = config.into_parts();
        servers.retain(|server| server.ip != IpAddr::V4(self.own));
        if servers.is_empty() {
            return Err(io::Error::other("it names no server but this one").into());
        }
        options.timeout = TRY;
        options.attempts = 1;
        options.cache_size = CACHE_ENTRIES;
        options.positive_max_ttl = Some(MAX_TTL);
        options.negative_max_ttl = Some(MAX_TTL);
        options.max_active_requests = MAX_CONCURRENT;
        options.use_hosts_file = ResolveHosts::Never;
        // Datagrams that were cut short or lost are asked again by TCP.
        options.try_tcp_on_error = true;
        let config = ResolverConfig::from_name_servers(servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build()
    }
}
