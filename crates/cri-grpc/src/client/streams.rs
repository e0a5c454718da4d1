//! Streams: the runtime answers with URLs, at which they are.

use std::time::Duration;

use async_trait::async_trait;
use knarr_cri::{
    ExecSession, Result, StreamService, Tunnel,
    v1::{AttachRequest, AttachResponse, ExecRequest, ExecResponse, PortForwardRequest, PortForwardResponse},
};
use knarr_streaming::{client, session::Streams};

use super::Remote;

const LIMIT: Duration = Duration::from_secs(120);

#[async_trait]
impl StreamService for Remote {
    async fn exec(&self, request: ExecRequest) -> Result<ExecSession> {
        let ExecRequest { stdin, stdout, stderr, tty, .. } = request;
        // A terminal has one output only.
        let stderr = stderr && !tty;
        let subject = Some(("container", request.container_id.as_str()));
        let request = &ExecRequest { stderr, ..request.clone() };
        let ExecResponse { url } = self.connection.call("RuntimeService/Exec", request, LIMIT, subject).await?;
        client::exec(&url, Streams { stdin, stdout, stderr, tty }).await
    }

    async fn attach(&self, request: AttachRequest) -> Result<ExecSession> {
        let AttachRequest { stdin, stdout, stderr, tty, .. } = request;
        let stderr = stderr && !tty;
        let subject = Some(("container", request.container_id.as_str()));
        let request = &AttachRequest { stderr, ..request.clone() };
        let AttachResponse { url } = self.connection.call("RuntimeService/Attach", request, LIMIT, subject).await?;
        client::exec(&url, Streams { stdin, stdout, stderr, tty }).await
    }

    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<Tunnel> {
        let request = PortForwardRequest { pod_sandbox_id: sandbox_id.to_owned(), port: vec![i32::from(port)] };
        let subject = Some(("sandbox", sandbox_id));
        let answer = self.connection.call("RuntimeService/PortForward", &request, LIMIT, subject).await?;
        let PortForwardResponse { url } = answer;
        client::port_forward(&url, port).await
    }
}
