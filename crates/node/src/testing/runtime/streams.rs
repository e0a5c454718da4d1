//! Commands, and connections to ports.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use knarr_cri::{CriError, ExecSession, Result, StreamService, Tunnel, v1::*};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use super::FakeRuntime;

fn says(exit: i32, output: String) -> ExecSession {
    let (near, mut far) = tokio::io::duplex(1024);
    tokio::spawn(async move {
        let _ = far.write_all(output.as_bytes()).await;
    });
    ExecSession {
        stdin: None,
        stdout: Some(Box::new(near)),
        stderr: None,
        resize: Some(mpsc::channel(1).0),
        exit: Box::pin(async move { Ok(exit) }),
    }
}

#[async_trait]
impl StreamService for FakeRuntime {
    /// `cat` gives back what it is sent and ends with its input, `sleep` never ends; everything else is as
    /// `answer_command` says.
    async fn exec(&self, request: ExecRequest) -> Result<ExecSession> {
        let (exit, output) = self.state().commands.get(&request.cmd[0]).cloned().unwrap_or_default();
        if request.cmd[0] == "cat" {
            let (near, far) = tokio::io::duplex(1024);
            let (mut reader, mut writer) = tokio::io::split(far);
            let echo = tokio::spawn(async move {
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
            let (reader, writer) = tokio::io::split(near);
            return Ok(ExecSession {
                stdin: Some(Box::new(writer)),
                stdout: Some(Box::new(reader)),
                stderr: None,
                resize: None,
                exit: Box::pin(async move {
                    let _ = echo.await;
                    Ok(0)
                }),
            });
        }
        if request.cmd[0] == "sleep" {
            let (near, mut far) = tokio::io::duplex(1);
            let sleepers = self.state().sleepers.clone();
            sleepers.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                // Ends when the session is dropped.
                let _ = far.read(&mut [0]).await;
                sleepers.fetch_sub(1, Ordering::Relaxed);
            });
            let exit = Box::pin(std::future::pending());
            return Ok(ExecSession { stdin: None, stdout: Some(Box::new(near)), stderr: None, resize: None, exit });
        }
        Ok(says(exit, output))
    }

    /// The container says what `answer_command` has for `attach`, and ends.
    async fn attach(&self, _: AttachRequest) -> Result<ExecSession> {
        let (exit, output) = self.state().commands.get("attach").cloned().unwrap_or_default();
        Ok(says(exit, output))
    }

    /// A server that says everything twice in upper case, or refuses at port 1.
    async fn port_forward(&self, _: &str, port: u16) -> Result<Tunnel> {
        if port == 1 {
            return Err(CriError::Unavailable { message: "connection refused".to_owned() });
        }
        let (near, mut far) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            let mut buffer = vec![0; 1024];
            while let Ok(count @ 1..) = far.read(&mut buffer).await {
                let _ = far.write_all(&buffer[..count].to_ascii_uppercase().repeat(2)).await;
            }
        });
        Ok(Box::new(near))
    }
}
