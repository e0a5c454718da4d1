//! Calls that find an endpoint that answers: another is asked where one is gone, and nothing is sent twice that might
//! happen twice.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use knarr_grpc::{
    Metadata,
    client::{self, Answers, Failure, Sender, Service},
    code,
};
use prost::Message;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

use super::connect::Endpoint;

/// A member that has lost the others says so, where it would only be silent.
const HAS_LEADER: Metadata = &[("hasleader", "true")];

/// An etcd that has lost its leader answers again within some seconds, or says itself that it cannot.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
/// How often a call is tried beyond once at each endpoint.
const FURTHER_TRIES: usize = 2;
/// For so long after a round of endpoints without an answer nobody else begins one.
const UNREACHABLE_FOR: Duration = Duration::from_millis(200);

/// Whether a call may be sent again when nobody knows what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    Harmless,
    Never,
}

pub struct Client {
    endpoints: Vec<Endpoint>,
    /// The endpoint to ask, modulo their number.
    preferred: AtomicUsize,
    link: Mutex<Link>,
    answers: AtomicBool,
}

/// The connection that calls share.
#[derive(Default)]
struct Link {
    sender: Option<(Sender, usize)>,
    failed: Option<(Instant, String)>,
}

impl Client {
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        Self { endpoints, preferred: AtomicUsize::new(0), link: Mutex::default(), answers: AtomicBool::new(true) }
    }

    /// One call, with its retries, within a bound of time.
    pub async fn call<A: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
        repeat: Repeat,
    ) -> Result<A, Failure> {
        let mut tried = 0;
        let tries = async {
            loop {
                let (mut sender, at) = self.sender().await?;
                let failure = match client::call(&mut sender, self.service(at), method, request).await {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => failure,
                };
                tried += 1;
                if !may_repeat(&failure, repeat) || tried >= self.endpoints.len() + FURTHER_TRIES {
                    return Err(failure);
                }
                self.leave(at).await;
                sleep(PAUSE).await;
            }
        };
        let outcome = match timeout(CALL_TIMEOUT, tries).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // It took the request, perhaps, and says nothing: the next call had better ask another.
                self.leave(self.preferred.load(Ordering::Relaxed) % self.endpoints.len()).await;
                Err(Failure::Lost(format!("no answer within {CALL_TIMEOUT:?}")))
            }
        };
        let answered = !matches!(
            outcome,
            Err(Failure::Unsent(_) | Failure::Lost(_) | Failure::Refused { code: code::UNAVAILABLE, .. })
        );
        self.answers.store(answered, Ordering::Relaxed);
        outcome
    }

    fn service(&self, at: usize) -> Service<'_> {
        Service { origin: &self.endpoints[at].origin, package: "etcdserverpb", metadata: HAS_LEADER }
    }

    /// Whether the last call had an answer.
    pub fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// Opens a stream of answers on a connection of its own, so that a reader who is slow holds up nobody else.
    pub async fn open(&self, method: &str, request: &impl Message) -> Result<Answers, Failure> {
        let open = async {
            let (mut sender, at) = self.connect().await?;
            let opened = client::open(&mut sender, self.service(at), method, request).await;
            if opened.is_err() {
                self.prefer_next(at);
            }
            opened
        };
        timeout(CALL_TIMEOUT, open)
            .await
            .unwrap_or_else(|_| Err(Failure::Lost(format!("no answer within {CALL_TIMEOUT:?}"))))
    }

    async fn sender(&self) -> Result<(Sender, usize), Failure> {
        let mut link = self.link.lock().await;
        if let Some((sender, at)) = link.sender.as_ref().filter(|(sender, _)| !sender.is_closed()) {
            return Ok((sender.clone(), *at));
        }
        if let Some((when, why)) = link.failed.as_ref().filter(|(when, _)| when.elapsed() < UNREACHABLE_FOR) {
            tracing::trace!(?when, "etcd could not be reached a moment ago");
            return Err(Failure::Unsent(why.clone()));
        }
        match self.connect().await {
            Ok((sender, at)) => {
                *link = Link { sender: Some((sender.clone(), at)), failed: None };
                Ok((sender, at))
            }
            Err(failure) => {
                *link = Link { sender: None, failed: Some((Instant::now(), reason(&failure))) };
                Err(failure)
            }
        }
    }

    /// A new connection to the first endpoint that takes one.
    async fn connect(&self) -> Result<(Sender, usize), Failure> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut reasons = Vec::new();
        for at in (first..first + self.endpoints.len()).map(|at| at % self.endpoints.len()) {
            match self.endpoints[at].connect().await {
                Ok(sender) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok((sender, at));
                }
                Err(failure) => reasons.push(reason(&failure)),
            }
        }
        Err(Failure::Unsent(reasons.join("; ")))
    }

    fn prefer_next(&self, at: usize) {
        let _ =
            self.preferred.compare_exchange(at, (at + 1) % self.endpoints.len(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Lets go of the connection to an endpoint that does not answer.
    async fn leave(&self, at: usize) {
        let mut link = self.link.lock().await;
        if link.sender.as_ref().is_some_and(|(_, there)| *there == at) {
            link.sender = None;
            self.prefer_next(at);
        }
    }
}

fn may_repeat(failure: &Failure, repeat: Repeat) -> bool {
    match failure {
        Failure::Unsent(_) => true,
        Failure::Lost(_) => repeat == Repeat::Harmless,
        Failure::Refused { code, .. } => *code == code::UNAVAILABLE && repeat == Repeat::Harmless,
    }
}

fn reason(failure: &Failure) -> String {
    match failure {
        Failure::Unsent(why) | Failure::Lost(why) => why.clone(),
        Failure::Refused { message, .. } => message.clone(),
    }
}
