//! `exec` and `attach`: from an upgraded connection to a process and back.

use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use knarr_cri::{ExecSession, OutputStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, watch},
};

use crate::{
    Body, Refusal,
    channels::{self, Channel, Out, Remote},
    dialect::{self, Dialect},
    query::flag,
    spdy, upgrade,
};

/// A process may leave others behind that hold its output open; after its own end they get this long to write.
const LINGER: Duration = Duration::from_millis(500);
const STREAMS_LIMIT: Duration = Duration::from_secs(30);

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl Streams {
    pub fn from_query(query: &[(String, String)]) -> Result<Self, Refusal> {
        // The node's own names first, then those of the API, which a proxy passes on as they are.
        let any = |one: &str, other: &str| flag(query, one) || flag(query, other);
        let tty = flag(query, "tty");
        let wanted = Self {
            stdin: any("stdin", "input"),
            stdout: any("stdout", "output"),
            // A terminal has one output only.
            stderr: any("stderr", "error") && !tty,
            tty,
        };
        if !(wanted.stdin || wanted.stdout || wanted.stderr) {
            return Err(Refusal::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
        }
        Ok(wanted)
    }

    /// How many SPDY streams the client opens: one for each, one for the error, one for sizes with a terminal.
    pub fn count(self, dialect: Dialect) -> usize {
        let sizes = self.tty && dialect.has_resize();
        1 + [self.stdin, self.stdout, self.stderr, sizes].into_iter().filter(|is_asked| *is_asked).count()
    }
}

/// Whoever attaches sees a container come to its end, whatever its exit code: that is in the pod's status. To kubectl
/// a code would be a connection that broke, and it would print everything once more, from the logs.
pub fn without_code(session: ExecSession) -> ExecSession {
    let exit = session.exit;
    ExecSession { exit: Box::pin(async move { exit.await.map(|_| 0) }), ..session }
}

/// Upgrades the connection, then begins the session: a client that cannot speak our protocols runs nothing.
pub fn connect<F, Fut>(
    request: Request<Incoming>,
    streams: Streams,
    trouble: &'static str,
    begin: F,
) -> Result<Response<Body>, Refusal>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = knarr_cri::Result<ExecSession>> + Send,
{
    let headers = request.headers();
    match upgrade::kind(headers)? {
        upgrade::Kind::WebSocket => {
            let (protocol, dialect) = upgrade::socket_protocol(headers, &dialect::SOCKET)?;
            let (response, socket) = upgrade::websocket(request, protocol)?;
            tokio::spawn(async move {
                match socket.await {
                    Ok(socket) => {
                        let (remote, carry) = channels::over_socket(socket, dialect, streams);
                        tokio::join!(carry, session(begin().await, remote, trouble));
                    }
                    Err(error) => tracing::debug!(%error, "a client went away while its connection was upgraded"),
                }
            });
            Ok(response)
        }
        upgrade::Kind::Spdy => {
            let (protocol, dialect) = upgrade::spdy_protocol(headers, &dialect::SPDY)?;
            let (response, io) = upgrade::spdy(request, protocol);
            tokio::spawn(async move {
                let io = match io.await {
                    Ok(io) => io,
                    Err(error) => {
                        return tracing::debug!(%error, "a client went away while its connection was upgraded");
                    }
                };
                let (opened, incoming) = mpsc::channel(8);
                let talk = async {
                    let remote = channels::over_spdy(incoming, dialect, streams);
                    // Without all its streams there is nothing to begin with.
                    if let Ok(Some(remote)) = tokio::time::timeout(STREAMS_LIMIT, remote).await {
                        session(begin().await, remote, trouble).await;
                    }
                };
                let (served, ()) = tokio::join!(spdy::serve(io, opened), talk);
                if let Err(error) = served {
                    tracing::debug!(%error, "a SPDY connection broke");
                }
            });
            Ok(response)
        }
    }
}

/// Carries bytes between the client and the process until the process ends or the client hangs up.
async fn session(begun: knarr_cri::Result<ExecSession>, remote: Remote, trouble: &str) {
    let Remote { mut stdin, mut resize, out } = remote;
    let ExecSession { stdin: to_process, stdout, stderr, resize: to_terminal, exit } = match begun {
        Ok(session) => session,
        Err(error) => return out.finish(&channels::failure(&format!("{trouble}: {error}"))).await,
    };
    let input = tokio::spawn(async move {
        let Some(mut to_process) = to_process else { return };
        while let Some(bytes) = stdin.recv().await {
            if to_process.write_all(&bytes).await.is_err() || to_process.flush().await.is_err() {
                return;
            }
        }
        // The end of input; a process that is gone does not need to hear it.
        let _ = to_process.shutdown().await;
    });
    let sizes = tokio::spawn(async move {
        let Some(to_terminal) = to_terminal else { return };
        while let Some(size) = resize.recv().await {
            if to_terminal.send(size).await.is_err() {
                return;
            }
        }
    });
    let (ended, has_ended) = watch::channel(false);
    let outputs = async {
        tokio::join!(
            pump(stdout, Channel::Stdout, &out, has_ended.clone()),
            pump(stderr, Channel::Stderr, &out, has_ended.clone()),
        )
    };
    let exited = async {
        let code = exit.await;
        ended.send_replace(true);
        code
    };
    let code = tokio::select! {
        (code, _) = async { tokio::join!(exited, outputs) } => Some(code),
        () = out.closed() => None,
    };
    input.abort();
    sizes.abort();
    match code {
        Some(Ok(code)) => out.finish(&channels::exit_status(code)).await,
        Some(Err(error)) => out.finish(&channels::failure(&format!("{trouble}: {error}"))).await,
        None => {}
    }
}

async fn pump(stream: Option<OutputStream>, channel: Channel, out: &Out, mut ended: watch::Receiver<bool>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let read = if *ended.borrow_and_update() {
            match tokio::time::timeout(LINGER, stream.read(&mut buffer)).await {
                Ok(read) => read,
                Err(_) => return,
            }
        } else {
            tokio::select! {
                read = stream.read(&mut buffer) => read,
                _ = ended.changed() => continue,
            }
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                if !out.send(channel, &buffer[..count]).await {
                    return;
                }
            }
        }
    }
}
