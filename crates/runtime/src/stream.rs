//! Streams into containers. The processes read and write the very pipes made here: the shim passes them on and no
//! byte goes through it, so an `exec` costs the same whatever it prints.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures::FutureExt;
use knarr_cri::{
    CriError, ExecSession, Result, StreamService, TerminalSize, Tunnel,
    v1::{AttachRequest, ExecRequest, ExecSyncResponse},
};
use knarr_os::{fds, pipe::Pipe};
use tokio::{
    io::{AsyncReadExt, AsyncWrite},
    sync::mpsc,
};

use crate::{
    client::{self, Connection},
    convert,
    runtime::EmbeddedRuntime,
    shim::protocol::{Reply, Request},
};

/// The most of each stream that `exec_sync` keeps; a probe that prints more is cut.
const SYNC_OUTPUT_BYTES: u64 = 16 << 20;

/// Input to a container that was attached to: its end is told to the shim, for containers that end with it.
struct AttachedInput {
    pipe: Pipe,
    /// Dropped with the input; whoever waits on the other end then tells the shim.
    _end: tokio::sync::oneshot::Sender<()>,
}

impl AsyncWrite for AttachedInput {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn failed(error: io::Error) -> CriError {
    CriError::internal("cannot make the streams", error)
}

/// A pair of ends: the process's and ours.
fn pipe_for(wanted: bool, process_reads: bool) -> Result<(Option<OwnedFd>, Option<Pipe>)> {
    if !wanted {
        return Ok((None, None));
    }
    let (reader, writer) = fds::pipe().map_err(failed)?;
    let (theirs, ours) = if process_reads { (reader, writer) } else { (writer, reader) };
    Ok((Some(theirs), Some(Pipe::new(ours).map_err(failed)?)))
}

fn exit_code(mut connection: Connection) -> futures::future::BoxFuture<'static, Result<i32>> {
    async move {
        loop {
            match connection.next().await {
                Ok(Reply::ExecExited { code }) => return Ok(code),
                Ok(_) => {}
                Err(e) => return Err(CriError::internal("the process's end was not told", e)),
            }
        }
    }
    .boxed()
}

/// Sizes sent to the terminal until the sender is dropped.
fn resize_with(mut apply: impl FnMut(TerminalSize) + Send + 'static) -> mpsc::Sender<TerminalSize> {
    let (sender, mut receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Some(size) = receiver.recv().await {
            apply(size);
        }
    });
    sender
}

impl EmbeddedRuntime {
    /// Starts a process in a container; gives its streams and the connection on which its end is told.
    async fn start_exec(&self, request: ExecRequest) -> Result<(ExecSession, Connection)> {
        let ExecRequest { container_id: id, cmd, tty, stdin, stdout, stderr } = request;
        if cmd.is_empty() {
            return Err(CriError::InvalidArgument { message: "exec needs a command".into() });
        }
        let (sandbox, _) = self.running(&id)?;
        let piped = !tty;
        let (their_in, our_in) = pipe_for(stdin && piped, true)?;
        let (their_out, our_out) = pipe_for(stdout && piped, false)?;
        let (their_err, our_err) = pipe_for(stderr && piped, false)?;
        let theirs = [their_in, their_out, their_err];
        let carried: Vec<BorrowedFd<'_>> = theirs.iter().flatten().map(AsFd::as_fd).collect();
        let spec = self.config.container_dir(&id).join(crate::container::SPEC_FILE);
        let request = Request::Exec {
            id: id.clone(),
            spec,
            args: cmd,
            terminal: tty,
            stdin: theirs[0].is_some(),
            stdout: theirs[1].is_some(),
            stderr: theirs[2].is_some(),
        };
        let refused = || convert::shim_error("container", &id);
        let mut connection = Connection::open(&self.config.sandbox_run_dir(&sandbox)).await.map_err(refused())?;
        connection.send(&request, &carried).await.map_err(refused())?;
        loop {
            match connection.answer().await.map_err(refused())? {
                Reply::Started { .. } => break,
                Reply::Attached => {}
                other => {
                    return Err(CriError::Internal { message: format!("the pod's shim said {other:?}"), source: None });
                }
            }
        }
        let mut session = ExecSession {
            stdin: our_in.map(|p| Box::new(p) as _),
            stdout: our_out.map(|p| Box::new(p) as _),
            stderr: our_err.map(|p| Box::new(p) as _),
            resize: None,
            exit: futures::future::ready(Ok(0)).boxed(),
        };
        if let Some(master) = connection.carried.pop().filter(|_| tty) {
            let sizes = master.try_clone().map_err(failed)?;
            let pipe = Pipe::new(master).map_err(failed)?;
            session.stdin = stdin.then(|| Box::new(pipe.clone()) as _);
            session.stdout = Some(Box::new(pipe));
            session.resize = Some(resize_with(move |size| {
                let _ = knarr_os::pty::resize(&sizes, size.width, size.height);
            }));
        }
        Ok((session, connection))
    }

    /// Runs a command and collects what it says. One that takes too long is killed.
    pub(crate) async fn exec_to_end(
        &self,
        id: &str,
        cmd: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecSyncResponse> {
        let request =
            ExecRequest { container_id: id.to_owned(), cmd, stdout: true, stderr: true, ..ExecRequest::default() };
        let (session, mut connection) = self.start_exec(request).await?;
        let collect = |stream: Option<knarr_cri::OutputStream>| async move {
            let mut bytes = Vec::new();
            if let Some(stream) = stream {
                let _ = stream.take(SYNC_OUTPUT_BYTES).read_to_end(&mut bytes).await;
            }
            bytes
        };
        let stdout = tokio::spawn(collect(session.stdout));
        let stderr = tokio::spawn(collect(session.stderr));
        let ended = async {
            loop {
                match connection.next().await {
                    Ok(Reply::ExecExited { code }) => return Ok(code),
                    Ok(_) => {}
                    Err(e) => return Err(CriError::internal("the process's end was not told", e)),
                }
            }
        };
        let outcome = match timeout {
            Some(limit) => tokio::time::timeout(limit, ended).await,
            None => Ok(ended.await),
        };
        let Ok(exit_code) = outcome else {
            let _ = connection.send(&Request::KillExec, &[]).await;
            stdout.abort();
            stderr.abort();
            let seconds = timeout.unwrap_or_default().as_secs();
            return Err(CriError::DeadlineExceeded { what: format!("command in container {id}"), seconds });
        };
        // What the process left running may hold its streams open for ever.
        let rest = Duration::from_secs(2);
        let finish = |task: tokio::task::JoinHandle<Vec<u8>>| async move {
            let abort = task.abort_handle();
            let bytes = tokio::time::timeout(rest, task).await;
            abort.abort();
            bytes.ok().and_then(std::result::Result::ok).unwrap_or_default()
        };
        let (stdout, stderr) = futures::join!(finish(stdout), finish(stderr));
        Ok(ExecSyncResponse { stdout, stderr, exit_code: exit_code? })
    }
}

#[async_trait]
impl StreamService for EmbeddedRuntime {
    async fn exec(&self, request: ExecRequest) -> Result<ExecSession> {
        let (session, connection) = self.start_exec(request).await?;
        Ok(ExecSession { exit: exit_code(connection), ..session })
    }

    async fn attach(&self, request: AttachRequest) -> Result<ExecSession> {
        let AttachRequest { container_id: id, stdin, tty, stdout, stderr } = request;
        let (sandbox, _) = self.running(&id)?;
        let run = self.config.sandbox_run_dir(&sandbox);
        let (their_out, our_out) = pipe_for(stdout || tty, false)?;
        let (their_err, our_err) = pipe_for(stderr && !tty, false)?;
        let carried: Vec<BorrowedFd<'_>> = [&their_out, &their_err].into_iter().flatten().map(AsFd::as_fd).collect();
        let refused = || convert::shim_error("container", &id);
        let mut connection = Connection::open(&run).await.map_err(refused())?;
        let request =
            Request::Attach { id: id.clone(), stdin, stdout: their_out.is_some(), stderr: their_err.is_some() };
        connection.send(&request, &carried).await.map_err(refused())?;
        connection.answer().await.map_err(refused())?;
        let mut input = None;
        if let Some(fd) = connection.carried.pop().filter(|_| stdin) {
            let (end, ended) = tokio::sync::oneshot::channel::<()>();
            input = Some(Box::new(AttachedInput { pipe: Pipe::new(fd).map_err(failed)?, _end: end }) as _);
            let (run, id) = (run.clone(), id.clone());
            tokio::spawn(async move {
                let _ = ended.await;
                let _ = client::tell(&run, &Request::DetachInput { id }).await;
            });
        }
        let resize = tty.then(|| {
            let (run, id) = (run.clone(), id.clone());
            resize_with(move |TerminalSize { width, height }| {
                let (run, id) = (run.clone(), id.clone());
                tokio::spawn(async move { client::tell(&run, &Request::Resize { id, width, height }).await });
            })
        });
        let subscribed = self.state().containers.get(&id).map(|c| c.exit.subscribe());
        let mut exit = subscribed.ok_or_else(|| CriError::NotFound { what: "container", id: id.clone() })?;
        let ended = async move {
            let ended = exit.wait_for(Option::is_some).await.map(|e| e.as_ref().map_or(255, |e| e.code));
            ended.map_err(|_| CriError::NotFound { what: "container", id })
        };
        Ok(ExecSession {
            stdin: input,
            stdout: our_out.map(|p| Box::new(p) as _),
            stderr: our_err.map(|p| Box::new(p) as _),
            resize,
            exit: ended.boxed(),
        })
    }

    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<Tunnel> {
        let sandbox = self.sandbox(sandbox_id)?;
        if !sandbox.meta.ready {
            return Err(CriError::FailedPrecondition { message: format!("sandbox {sandbox_id:?} is not running") });
        }
        let run = self.config.sandbox_run_dir(sandbox_id);
        let mut refusal = None;
        for v6 in [false, true] {
            match connect(&run, port, v6).await {
                Ok(stream) => return Ok(Box::new(stream)),
                Err(e) => refusal = refusal.or(Some(e)),
            }
        }
        let why = refusal.unwrap_or_default();
        Err(CriError::Unavailable { message: format!("cannot connect to port {port} in the pod: {why}") })
    }
}

async fn connect(run: &std::path::Path, port: u16, v6: bool) -> std::result::Result<tokio::net::TcpStream, String> {
    /// A listener on the loopback device that does not answer by then never will.
    const ANSWER_WITHIN: Duration = Duration::from_secs(10);
    let mut connection = Connection::open(run).await.map_err(|e| e.to_string())?;
    connection.send(&Request::Connect { port, v6 }, &[]).await.map_err(|e| e.to_string())?;
    connection.answer().await.map_err(|e| e.to_string())?;
    let socket = connection.carried.pop().ok_or("the pod's shim sent no socket")?;
    let stream = tokio::net::TcpStream::from_std(std::net::TcpStream::from(socket)).map_err(|e| e.to_string())?;
    let connected = tokio::time::timeout(ANSWER_WITHIN, stream.writable()).await;
    connected.map_err(|_| "no answer".to_owned())?.map_err(|e| e.to_string())?;
    match stream.take_error() {
        Ok(None) => Ok(stream),
        Ok(Some(e)) | Err(e) => Err(e.to_string()),
    }
}
