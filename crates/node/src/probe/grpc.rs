//! The gRPC health protocol (`grpc.health.v1.Health/Check`), written out over HTTP/2: one unary call with one
//! string in and one enum out needs no gRPC library.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use knarr_client::dial;
use prost::Message;

use super::{Outcome, http::dialled};

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;
const STATUS_NAMES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

pub async fn check(host: &str, port: u16, service: &str, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, call(host, port, service)).await {
        Err(_) => {
            let address = format!("{host}:{port}");
            Outcome::Failure(format!(
                "timeout: failed to connect service {address:?} within {timeout:?}: context deadline exceeded"
            ))
        }
        Ok(Err(message)) => Outcome::Failure(message),
        Ok(Ok(SERVING)) => Outcome::Success,
        Ok(Ok(other)) => {
            let name = usize::try_from(other).ok().and_then(|index| STATUS_NAMES.get(index)).unwrap_or(&"UNKNOWN");
            Outcome::Failure(format!("service unhealthy (responded with {name:?})"))
        }
    }
}

async fn call(host: &str, port: u16, service: &str) -> Result<i32, String> {
    let failed = |error: h2::Error| format!("error: health rpc failed: {error}");
    let address = format!("{host}:{port}");
    let stream = dial::connect(host, port)
        .await
        .map_err(|error| format!("error: failed to connect service at {address}: {}", dialled(&address, &error)))?;
    let (client, connection) = h2::client::handshake(stream).await.map_err(failed)?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let mut client = client.ready().await.map_err(failed)?;
        let request = Request::post(format!("http://{host}:{port}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", format!("kube-probe/{}", crate::API_MINOR))
            .body(())
            .map_err(|error| error.to_string())?;
        let (response, mut body) = client.send_request(request, false).map_err(failed)?;
        body.send_data(frame(&HealthCheckRequest { service: service.to_owned() }), true).map_err(failed)?;
        let response = response.await.map_err(failed)?;
        let head_status = grpc_status(response.headers());
        let mut stream = response.into_body();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = stream.data().await {
            let chunk = chunk.map_err(failed)?;
            _ = stream.flow_control().release_capacity(chunk.len());
            bytes.extend_from_slice(&chunk);
        }
        let trailers = stream.trailers().await.map_err(failed)?;
        let status = trailers.as_ref().and_then(grpc_status).or(head_status);
        match status {
            None | Some((0, _)) => {}
            Some((12, _)) => {
                return Err(
                    "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned()
                );
            }
            Some((code, message)) => {
                return Err(format!("error: health rpc failed: rpc error: code = {code} desc = {message}"));
            }
        }
        let payload = bytes.get(5..).ok_or("error: health rpc failed: empty answer")?;
        HealthCheckResponse::decode(payload).map(|answer| answer.status).map_err(|error| error.to_string())
    };
    let answer = answer.await;
    connection.abort();
    answer
}

/// A gRPC message: not compressed, its length, then the protobuf.
fn frame(message: &impl Message) -> Bytes {
    let payload = message.encode_to_vec();
    let mut frame = BytesMut::with_capacity(payload.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(&payload);
    frame.freeze()
}

fn grpc_status(headers: &http::HeaderMap) -> Option<(i32, String)> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let message = headers.get("grpc-message").and_then(|value| value.to_str().ok()).unwrap_or_default();
    Some((code, message.to_owned()))
}
