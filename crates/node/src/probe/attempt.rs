//! One question to a container, by whichever way the probe names.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{ContainerPort, Probe};
use knarr_client::dial;
use knarr_cri::{CriError, RuntimeService, v1::ExecSyncRequest};

use super::{
    grpc,
    http::{self, Get, dialled},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// Good enough, but worth an event.
    Warning(String),
    Failure(String),
    /// It could not even be asked.
    Unknown(String),
}

/// Whom to ask.
#[derive(Clone)]
pub struct Target {
    pub runtime: Arc<dyn RuntimeService>,
    pub container_id: String,
    pub pod_ip: String,
    pub ports: Option<Vec<ContainerPort>>,
}

impl Target {
    pub async fn attempt(&self, probe: &Probe, timeout: Duration) -> Outcome {
        if let Some(action) = &probe.exec {
            return self.exec(action.command.clone().unwrap_or_default(), timeout).await;
        }
        if let Some(action) = &probe.http_get {
            return match Get::from_action(action, self.ports.as_ref(), &self.pod_ip, "kube-probe") {
                Ok(get) => http_outcome(get, timeout).await,
                Err(message) => Outcome::Unknown(message),
            };
        }
        if let Some(action) = &probe.tcp_socket {
            let host = action.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| self.pod_ip.clone());
            return match http::port(&action.port, self.ports.as_ref()) {
                Ok(port) => tcp(&host, port, timeout).await,
                Err(message) => Outcome::Unknown(message),
            };
        }
        if let Some(action) = &probe.grpc {
            let Ok(port) = u16::try_from(action.port) else {
                return Outcome::Unknown(format!("invalid port number: {}", action.port));
            };
            let service = action.service.as_deref().unwrap_or_default();
            return grpc::check(&self.pod_ip, port, service, timeout).await;
        }
        Outcome::Unknown("missing probe handler".to_owned())
    }

    async fn exec(&self, cmd: Vec<String>, timeout: Duration) -> Outcome {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let shown = cmd.join(" ");
        let request = ExecSyncRequest { container_id: self.container_id.clone(), cmd, timeout: seconds };
        // The runtime keeps the time; a second more is for one that does not.
        match tokio::time::timeout(timeout + Duration::from_secs(1), self.runtime.exec_sync(request)).await {
            Ok(Ok(response)) if response.exit_code == 0 => Outcome::Success,
            Ok(Ok(response)) => {
                let mut output = response.stdout;
                output.extend_from_slice(&response.stderr);
                Outcome::Failure(String::from_utf8_lossy(&output).into_owned())
            }
            Ok(Err(CriError::DeadlineExceeded { .. })) | Err(_) => {
                Outcome::Failure(format!("command timed out: {shown:?} timed out after {}s", timeout.as_secs()))
            }
            Ok(Err(error)) => Outcome::Unknown(error.to_string()),
        }
    }
}

async fn http_outcome(get: Get, timeout: Duration) -> Outcome {
    match get.send(timeout).await {
        Err(message) => Outcome::Failure(message),
        Ok(answer) if answer.elsewhere.is_some() => {
            Outcome::Warning("Probe terminated redirects, Response body: ".to_owned() + &answer.body)
        }
        Ok(answer) if (200..400).contains(&answer.status) => Outcome::Success,
        Ok(answer) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", answer.status)),
    }
}

async fn tcp(host: &str, port: u16, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, dial::connect(host, port)).await {
        Ok(Ok(_)) => Outcome::Success,
        Ok(Err(error)) => Outcome::Failure(dialled(&format!("{host}:{port}"), &error)),
        Err(_) => Outcome::Failure(format!("dial tcp {host}:{port}: i/o timeout")),
    }
}
