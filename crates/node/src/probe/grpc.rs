//! The gRPC health protocol (`grpc.health.v1.Health/Check`): one call with one string in and one enum out.

use std::time::Duration;

use knarr_client::dial;
use knarr_grpc::{
    client::{self, Service},
    code,
};
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

/// A container answers in a few bytes, and may be nobody's friend.
const ANSWER_BYTES: usize = 10 << 10;
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
    let address = format!("{host}:{port}");
    let stream = dial::connect(host, port)
        .await
        .map_err(|error| format!("error: failed to connect service at {address}: {}", dialled(&address, &error)))?;
    let mut server = client::over(stream)
        .await
        .map_err(|error| format!("error: failed to connect service at {address}: {error}"))?;
    let (origin, agent) = (format!("http://{address}"), format!("kube-probe/{}", crate::API_MINOR));
    let health = Service { origin: &origin, package: "grpc.health.v1", metadata: &[("user-agent", &agent)] };
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = client::call_stranger(&mut server, health, "Health/Check", &request, ANSWER_BYTES).await;
    answer.map(|answer: HealthCheckResponse| answer.status).map_err(|failure| match failure.code() {
        code::UNIMPLEMENTED => format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            failure.message()
        ),
        _ => format!("error: health rpc failed: {failure}"),
    })
}
