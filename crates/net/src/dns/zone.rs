//! The names of the cluster, as a pure function of the catalog.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{CNAME, NS, PTR, SOA, SRV, TXT},
};
use rand::seq::SliceRandom as _;

use crate::{
    Config, Ipv4Cidr,
    services::{Catalog, Endpoint, ServiceView},
};

/// How long answers may be kept: short, because endpoints come and go.
const TTL_S: u32 = 5;
const SCHEMA_VERSION: &str = "1.1.0";

pub enum Answer {
    Records {
        answers: Vec<Record>,
        additionals: Vec<Record>,
    },
    /// The name stands for another one.
    Alias {
        record: Box<Record>,
        target: Name,
    },
    /// The name exists, without records of this type.
    NoData,
    NoSuchName,
    /// Not all of the cluster is known yet.
    NotReady,
    /// Not a name of the cluster.
    Foreign,
}

pub struct Zone {
    catalog: Arc<Catalog>,
    /// Such as `cluster.local.`
    apex: Name,
    labels: Vec<String>,
    server: Ipv4Addr,
    /// Whose reverse names are ours: nobody else knows these addresses.
    ranges: [Ipv4Cidr; 2],
}

/// A question about one name of ours.
struct Question<'a> {
    name: &'a Name,
    kind: RecordType,
}

impl Zone {
    pub fn new(config: &Config, catalog: Arc<Catalog>) -> Self {
        let domain = config.cluster_domain.trim_matches('.').to_ascii_lowercase();
        let labels: Vec<_> = domain.split('.').map(str::to_owned).collect();
        let mut apex = Name::from_labels(labels.iter().map(String::as_bytes)).unwrap_or_else(|_| Name::root());
        apex.set_fqdn(true);
        Self { catalog, apex, labels, server: config.cluster_dns, ranges: [config.service_cidr, config.cluster_cidr] }
    }

    pub fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        let question = Question { name, kind };
        let labels: Vec<_> = name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
        if let Some(below) = labels.strip_suffix(&self.labels[..]) {
            let below: Vec<_> = below.iter().map(String::as_str).collect();
            return self.answer_below(&question, &below);
        }
        if labels.last().is_some_and(|label| label == "arpa") {
            return self.answer_reverse(&question);
        }
        Answer::Foreign
    }

    /// What goes with every "no": the zone's own record.
    pub fn soa(&self) -> Record {
        let soa = SOA::new(self.below(&["ns", "dns"]), self.below(&["hostmaster"]), 1, 7200, 1800, 86400, TTL_S);
        Record::from_rdata(self.apex.clone(), TTL_S, RData::SOA(soa))
    }

    fn answer_below(&self, question: &Question<'_>, labels: &[&str]) -> Answer {
        match labels {
            [] => self.answer_apex(question),
            ["dns-version"] => question.only(RecordType::TXT, RData::TXT(TXT::new(vec![SCHEMA_VERSION.into()]))),
            ["ns", "dns"] => question.addresses([IpAddr::V4(self.server)]),
            ["dns" | "svc" | "pod"] => Answer::NoData,
            [address, _, "pod"] => match dashed_address(address) {
                Some(ip) => question.addresses([ip]),
                None => Answer::NoSuchName,
            },
            [.., "svc" | "pod"] if !self.catalog.is_complete() => Answer::NotReady,
            [namespace, "svc" | "pod"] if self.catalog.has_namespace(namespace) => Answer::NoData,
            [name, namespace, "svc"] => self.with_service(namespace, name, |view| self.answer_service(question, view)),
            [protocol, name, namespace, "svc"] if protocol.starts_with('_') => {
                self.with_service(namespace, name, |_| Answer::NoData)
            }
            [endpoint, name, namespace, "svc"] => {
                self.with_service(namespace, name, |view| answer_endpoint(question, view, endpoint))
            }
            [port, protocol, name, namespace, "svc"] => {
                self.with_service(namespace, name, |view| match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
                    (Some(port), Some(protocol)) => self.answer_port(question, view, port, protocol),
                    _ => Answer::NoSuchName,
                })
            }
            _ => Answer::NoSuchName,
        }
    }

    fn with_service(&self, namespace: &str, name: &str, then: impl FnOnce(&ServiceView) -> Answer) -> Answer {
        self.catalog.get(namespace, name).map_or(Answer::NoSuchName, |view| then(&view))
    }

    fn answer_apex(&self, question: &Question<'_>) -> Answer {
        match question.kind {
            RecordType::SOA => records(vec![self.soa()]),
            _ => question.only(RecordType::NS, RData::NS(NS(self.below(&["ns", "dns"])))),
        }
    }

    fn answer_service(&self, question: &Question<'_>, view: &ServiceView) -> Answer {
        if let Some(target) = view.external_name.as_deref().and_then(absolute) {
            let record = Box::new(question.record(RData::CNAME(CNAME(target.clone()))));
            return Answer::Alias { record, target };
        }
        if question.kind == RecordType::SRV {
            return self.answer_ports(question, view, |_, _| true);
        }
        if view.headless {
            let mut ips: Vec<_> = published(view).map(|endpoint| endpoint.ip).collect();
            ips.sort_unstable();
            ips.dedup();
            #[allow(clippy::disallowed_methods)] // spreads clients; nothing is decided by it
            ips.shuffle(&mut rand::rng());
            return if ips.is_empty() { Answer::NoSuchName } else { question.addresses(ips) };
        }
        question.addresses(view.cluster_ips.iter().copied())
    }

    fn answer_port(&self, question: &Question<'_>, view: &ServiceView, port: &str, protocol: &str) -> Answer {
        let Some(protocol) = crate::protocol_number(&protocol.to_ascii_uppercase()) else { return Answer::NoSuchName };
        let wanted = |name: &str, number: u8| name == port && number == protocol;
        let exists = view.ports.iter().any(|port| wanted(&port.name, port.protocol));
        match question.kind {
            _ if !exists => Answer::NoSuchName,
            RecordType::SRV => self.answer_ports(question, view, wanted),
            _ => Answer::NoData,
        }
    }

    /// SRV records of the ports that are wanted, with the addresses of their targets.
    fn answer_ports(&self, question: &Question<'_>, view: &ServiceView, wanted: impl Fn(&str, u8) -> bool) -> Answer {
        let (mut answers, mut additionals) = (Vec::new(), Vec::new());
        let mut add = |port: u16, target: Name, ips: &[IpAddr]| {
            answers.push(question.record(RData::SRV(SRV::new(0, 100, port, target.clone()))));
            let known: &[Record] = &additionals;
            let new: Vec<_> =
                ips.iter().map(|ip| address_record(&target, *ip)).filter(|r| !known.contains(r)).collect();
            additionals.extend(new);
        };
        if view.headless {
            for endpoint in published(view) {
                for port in endpoint.ports.iter().filter(|port| wanted(&port.name, port.protocol)) {
                    add(port.port, self.endpoint_name(view, endpoint), &[endpoint.ip]);
                }
            }
        } else {
            for port in view.ports.iter().filter(|port| wanted(&port.name, port.protocol)) {
                add(port.port, self.service_name(view), &view.cluster_ips);
            }
        }
        if answers.is_empty() { Answer::NoData } else { Answer::Records { answers, additionals } }
    }

    fn answer_reverse(&self, question: &Question<'_>) -> Answer {
        let Some(ip) = question.name.parse_arpa_name().ok().filter(|net| net.prefix_len() == net.max_prefix_len())
        else {
            return Answer::Foreign;
        };
        let ip = ip.addr();
        let ours = matches!(ip, IpAddr::V4(v4) if self.ranges.iter().any(|range| range.contains(v4)));
        let views = self.catalog.by_ip(ip);
        let service = views.iter().find(|view| view.cluster_ips.contains(&ip)).map(|view| self.service_name(view));
        let names: Vec<_> = match service {
            Some(name) => vec![name],
            None => {
                let endpoint = |view: &Arc<ServiceView>| {
                    let endpoint = published(view).find(|endpoint| endpoint.ip == ip)?;
                    Some(self.endpoint_name(view, endpoint))
                };
                views.iter().filter_map(endpoint).collect()
            }
        };
        match (names.is_empty(), question.kind) {
            (false, RecordType::PTR) => {
                records(names.into_iter().map(|name| question.record(RData::PTR(PTR(name)))).collect())
            }
            (false, _) => Answer::NoData,
            (true, _) if !ours => Answer::Foreign,
            (true, _) if !self.catalog.is_complete() => Answer::NotReady,
            (true, _) => Answer::NoSuchName,
        }
    }

    fn service_name(&self, view: &ServiceView) -> Name {
        self.below(&[&view.key.name, &view.key.namespace, "svc"])
    }

    fn endpoint_name(&self, view: &ServiceView, endpoint: &Endpoint) -> Name {
        self.below(&[&endpoint_label(endpoint), &view.key.name, &view.key.namespace, "svc"])
    }

    fn below(&self, labels: &[&str]) -> Name {
        let labels = labels.iter().copied().chain(self.labels.iter().map(String::as_str)).map(str::as_bytes);
        let mut name = Name::from_labels(labels).unwrap_or_else(|_| self.apex.clone());
        name.set_fqdn(true);
        name
    }
}

impl Question<'_> {
    fn record(&self, data: RData) -> Record {
        Record::from_rdata(self.name.clone(), TTL_S, data)
    }

    fn only(&self, kind: RecordType, data: RData) -> Answer {
        if self.kind == kind { records(vec![self.record(data)]) } else { Answer::NoData }
    }

    /// Those of the asked family.
    fn addresses(&self, ips: impl IntoIterator<Item = IpAddr>) -> Answer {
        let wanted = |ip: &IpAddr| match self.kind {
            RecordType::A => ip.is_ipv4(),
            RecordType::AAAA => ip.is_ipv6(),
            _ => false,
        };
        let answers: Vec<_> = ips.into_iter().filter(wanted).map(|ip| address_record(self.name, ip)).collect();
        if answers.is_empty() { Answer::NoData } else { records(answers) }
    }
}

fn answer_endpoint(question: &Question<'_>, view: &ServiceView, label: &str) -> Answer {
    let found: Vec<_> = published(view).filter(|e| endpoint_label(e) == label).map(|e| e.ip).collect();
    if found.is_empty() { Answer::NoSuchName } else { question.addresses(found) }
}

/// The endpoints that have a name: the ready ones, or all where the Service says so.
fn published(view: &ServiceView) -> impl Iterator<Item = &Endpoint> {
    view.endpoints.iter().filter(|endpoint| endpoint.ready || view.publish_not_ready)
}

/// The pod's hostname, or its address with dashes.
fn endpoint_label(endpoint: &Endpoint) -> String {
    match &endpoint.hostname {
        Some(hostname) => hostname.to_ascii_lowercase(),
        None => endpoint.ip.to_string().replace(['.', ':'], "-"),
    }
}

/// `10-244-0-7` or `fd00--7`.
fn dashed_address(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse().ok().map(IpAddr::V4);
    v4.or_else(|| label.replace('-', ":").parse().ok().map(IpAddr::V6))
}

fn address_record(name: &Name, ip: IpAddr) -> Record {
    let data = match ip {
        IpAddr::V4(ip) => RData::A(ip.into()),
        IpAddr::V6(ip) => RData::AAAA(ip.into()),
    };
    Record::from_rdata(name.clone(), TTL_S, data)
}

fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_str_relaxed(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn records(answers: Vec<Record>) -> Answer {
    Answer::Records { answers, additionals: Vec::new() }
}
