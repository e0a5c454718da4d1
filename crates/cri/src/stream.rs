use async_trait::async_trait;
use futures_core::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};

use crate::{
    Result,
    v1::{AttachRequest, ExecRequest},
};

pub type InputStream = Box<dyn AsyncWrite + Send + Unpin>;
pub type OutputStream = Box<dyn AsyncRead + Send + Unpin>;
/// Bytes to and from a port inside a sandbox.
pub type Tunnel = Box<dyn AsyncDuplex>;

pub trait AsyncDuplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> AsyncDuplex for T {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// A process in a container with its streams; those that were not asked for are `None`. With a terminal,
/// `stdout` carries everything and `stderr` is `None`. Dropping the session closes stdin and leaves the
/// process to end by itself.
pub struct ExecSession {
    pub stdin: Option<InputStream>,
    pub stdout: Option<OutputStream>,
    pub stderr: Option<OutputStream>,
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    /// The exit code, once the process has ended (for `attach`: once the container has).
    pub exit: BoxFuture<'static, Result<i32>>,
}

/// The streaming half of the runtime.
#[async_trait]
pub trait StreamService: Send + Sync + 'static {
    async fn exec(&self, request: ExecRequest) -> Result<ExecSession>;
    async fn attach(&self, request: AttachRequest) -> Result<ExecSession>;
    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<Tunnel>;
}
