//! WebSockets to a pod: a channel byte before every message, as `v5.channel.k8s.io` has it.
//! (<https://kubernetes.io/docs/concepts/workloads/pods/>, KEP-4006)

use futures::{SinkExt, StreamExt, stream::SplitSink, stream::SplitStream};
use http::{Request, header};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use serde_json::{Value, json};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::Role,
    },
};

use crate::{
    api::Api,
    error::{Error, Result},
    fail,
};

pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
pub const ERROR: u8 = 3;
pub const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// How many bytes go into one message.
pub const BUFFER: usize = 32 * 1024;

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// The half that writes.
pub struct Sender(SplitSink<Socket, Message>);
/// The half that reads.
pub struct Receiver(SplitStream<Socket>);

/// Opens a connection; `protocols` are the subprotocols that are understood, best first.
pub async fn connect(api: &Api, path: &str, protocols: &str) -> Result<(Sender, Receiver)> {
    let key = generate_key();
    let request = Request::get(path)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, &key)
        .header(header::SEC_WEBSOCKET_PROTOCOL, protocols)
        .body(Body::empty())
        .map_err(|error| fail!("the request cannot be made: {error}"))?;
    let response = api.send(request).await.map_err(|error| match error {
        Error::Status(_) => fail!("unable to upgrade connection: {}", error.message()),
        other => other,
    })?;
    let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT).and_then(|value| value.to_str().ok());
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS
        || accepted != Some(&derive_accept_key(key.as_bytes()))
    {
        return Err(fail!("unable to upgrade connection: the server answered {}", response.status()));
    }
    let upgraded =
        hyper::upgrade::on(response).await.map_err(|error| fail!("unable to upgrade connection: {error}"))?;
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
    let (sender, receiver) = socket.split();
    Ok((Sender(sender), Receiver(receiver)))
}

impl Sender {
    pub async fn send(&mut self, channel: u8, bytes: &[u8]) -> Result<()> {
        let mut message = Vec::with_capacity(bytes.len() + 1);
        message.push(channel);
        message.extend_from_slice(bytes);
        self.0.send(Message::binary(message)).await.map_err(lost)
    }

    /// Says that nothing more will come on a channel.
    pub async fn close(&mut self, channel: u8) -> Result<()> {
        self.send(CLOSE, &[channel]).await
    }

    pub async fn resize(&mut self, width: u16, height: u16) -> Result<()> {
        self.send(RESIZE, json!({"Width": width, "Height": height}).to_string().as_bytes()).await
    }
}

impl Receiver {
    /// The next message and its channel; `None` when the other side has said all.
    pub async fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        loop {
            match self.0.next().await {
                None | Some(Ok(Message::Close(_))) => return Ok(None),
                Some(Ok(Message::Binary(bytes))) => {
                    if let Some((channel, rest)) = bytes.split_first() {
                        return Ok(Some((*channel, rest.to_vec())));
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(error)),
            }
        }
    }
}

fn lost(error: tokio_tungstenite::tungstenite::Error) -> Error {
    fail!("error reading from error stream: {error}")
}

/// How a command in a container ended, from the status that is the last word.
pub fn outcome(status: &[u8]) -> Result<()> {
    let status: Value = match serde_json::from_slice(status) {
        Ok(status) => status,
        Err(_) => return Err(fail!("{}", String::from_utf8_lossy(status))),
    };
    if status["status"] == "Success" {
        return Ok(());
    }
    let causes = status["details"]["causes"].as_array();
    let code = causes.into_iter().flatten().find(|cause| cause["reason"] == "ExitCode");
    match code.and_then(|cause| cause["message"].as_str()?.parse::<u8>().ok()) {
        Some(code) => {
            eprintln!("command terminated with exit code {code}");
            Err(Error::Exit(code))
        }
        None => Err(fail!("{}", status["message"].as_str().unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_come_out_of_the_last_word() {
        let failed = json!({"status": "Failure", "reason": "NonZeroExitCode", "message": "x",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}});
        assert!(outcome(br#"{"status": "Success"}"#).is_ok());
        assert_eq!(outcome(failed.to_string().as_bytes()).map_err(|e| e.exit_code()), Err(3));
        assert_eq!(
            outcome(br#"{"status": "Failure", "message": "gone"}"#).map_err(|e| e.to_string()),
            Err("gone".into())
        );
    }
}
