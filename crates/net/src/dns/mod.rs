//! The cluster's DNS: names of Services, their endpoints and pods from the catalog ([`zone`]), everything else from
//! the name servers of the host ([`forward`]), in this process, on the cluster DNS address.
//!
//! Source: "Kubernetes DNS-Based Service Discovery", version 1.1.0, and what CoreDNS answers where that is silent.

mod forward;
#[cfg(test)]
mod tests;
mod zone;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use hickory_proto::{
    op::{Edns, Metadata, OpCode, ResponseCode},
    rr::{DNSClass, Name, Record, RecordType},
};
use hickory_server::{
    Server,
    net::runtime::Time,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use tokio::net::{TcpListener, UdpSocket};

use crate::{
    Config,
    error::{NetworkError, Result},
    services::Catalog,
};
use forward::{Forwarder, Upstream};
#[cfg(not(fuzzing))]
use zone::{Answer, Zone};
#[cfg(fuzzing)]
pub use zone::{Answer, Zone};

const PORT: u16 = 53;
/// A TCP client that says nothing for so long is let go.
const TCP_IDLE: Duration = Duration::from_secs(10);
const TCP_PENDING_ANSWERS: usize = 32;
/// The largest datagram sent, whatever the client says it can take: what passes any network unfragmented.
const MAX_DATAGRAM_BYTES: u16 = 1232;
/// Aliases followed for one question.
const MAX_ALIASES: usize = 8;

/// The sockets, bound before anything runs so that a taken port is an error of the start.
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    pub async fn bind(address: Ipv4Addr) -> Result<Self> {
        let fail = |source| NetworkError::DnsAddress { address, source };
        let udp = UdpSocket::bind((address, PORT)).await.map_err(fail)?;
        let tcp = TcpListener::bind((address, PORT)).await.map_err(fail)?;
        Ok(Self { udp, tcp })
    }
}

/// Answers until the sockets fail; those of the address are bound where none are given.
pub async fn serve(sockets: Option<Sockets>, config: Config, catalog: Arc<Catalog>) {
    let served = async {
        let sockets = match sockets {
            Some(sockets) => sockets,
            None => Sockets::bind(config.cluster_dns).await.map_err(|error| error.to_string())?,
        };
        let mut server = Server::new(Handler {
            zone: Zone::new(&config, catalog),
            forwarder: Forwarder::new(config.resolv_conf.clone(), config.cluster_dns),
        });
        server.register_socket(sockets.udp);
        server.register_listener(sockets.tcp, TCP_IDLE, TCP_PENDING_ANSWERS);
        server.block_until_done().await.map_err(|error| error.to_string())
    };
    if let Err(error) = served.await {
        tracing::error!(error, "the DNS server ended");
    }
}

struct Handler {
    zone: Zone,
    forwarder: Forwarder,
}

/// An answer in the making.
#[derive(Debug, Default)]
struct Reply {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    additionals: Vec<Record>,
    /// Says for how long "no" holds.
    soa: Option<Record>,
}

impl Handler {
    async fn resolve(&self, question: &Name, kind: RecordType) -> Reply {
        let mut reply = Reply { authoritative: true, ..Reply::default() };
        let mut name = question.clone();
        for _ in 0..MAX_ALIASES {
            match self.zone.answer(&name, kind) {
                Answer::Records { answers, additionals } => {
                    reply.answers.extend(answers);
                    reply.additionals = additionals;
                    return reply;
                }
                Answer::Alias { record, target } => {
                    reply.answers.push(*record);
                    if kind == RecordType::CNAME {
                        return reply;
                    }
                    name = target;
                }
                Answer::NoData => return Reply { soa: Some(self.zone.soa()), ..reply },
                Answer::NoSuchName => {
                    return Reply { code: ResponseCode::NXDomain, soa: Some(self.zone.soa()), ..reply };
                }
                Answer::NotReady => return Reply { code: ResponseCode::ServFail, ..Reply::default() },
                Answer::Foreign => return self.forward(reply, name, kind).await,
            }
        }
        Reply { code: ResponseCode::ServFail, ..Reply::default() }
    }

    async fn forward(&self, mut reply: Reply, name: Name, kind: RecordType) -> Reply {
        reply.authoritative = !reply.answers.is_empty();
        match self.forwarder.lookup(name, kind).await {
            Upstream::Records(records) => reply.answers.extend(records),
            Upstream::Nothing { code, soa } => {
                reply.code = code;
                reply.soa = soa.map(|soa| *soa);
            }
        }
        reply
    }

    async fn reply_to(&self, request: &Request) -> Reply {
        let refuse = |code| Reply { code, ..Reply::default() };
        if request.metadata.op_code != OpCode::Query {
            return refuse(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else { return refuse(ResponseCode::FormErr) };
        if info.query.query_class() != DNSClass::IN {
            return refuse(ResponseCode::Refused);
        }
        // As it was written, since some clients compare the case of what comes back.
        self.resolve(&info.query.original().name, info.query.query_type()).await
    }
}

/// The question of a datagram, read as the server reads it.
#[cfg(fuzzing)]
pub fn fuzz_question(packet: &[u8]) -> Option<(Name, RecordType)> {
    let from = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let request = Request::from_bytes(packet.to_vec(), from, hickory_server::net::xfer::Protocol::Udp).ok()?;
    let info = request.request_info().ok()?;
    Some((info.query.original().name.clone(), info.query.query_type()))
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut sender: R) -> ResponseInfo {
        let reply = self.reply_to(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        metadata.recursion_available = true;
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload().clamp(512, MAX_DATAGRAM_BYTES));
            edns
        });
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let response = builder.build(metadata, &reply.answers, None, &reply.soa, &reply.additionals);
        match sender.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, client = %request.src(), "a DNS answer could not be sent");
                let mut failed = Metadata::response_from_request(&request.metadata);
                failed.response_code = ResponseCode::ServFail;
                hickory_proto::op::Header { metadata: failed, counts: Default::default() }.into()
            }
        }
    }
}
