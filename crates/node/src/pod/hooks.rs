//! postStart and preStop.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerPort, LifecycleHandler};
use knarr_client::dial;
use knarr_cri::{RuntimeService, v1::ExecSyncRequest};

use crate::probe::http::{self, Get};

/// Runs one hook to its end; the error is what the event says.
pub async fn run(
    runtime: &dyn RuntimeService,
    container_id: &str,
    handler: &LifecycleHandler,
    ports: Option<&Vec<ContainerPort>>,
    pod_ip: &str,
    timeout: Duration,
) -> Result<(), String> {
    if let Some(action) = &handler.exec {
        let cmd = action.command.clone().unwrap_or_default();
        let shown = cmd.join(" ");
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let request = ExecSyncRequest { container_id: container_id.to_owned(), cmd, timeout: seconds };
        let response = runtime.exec_sync(request).await.map_err(|error| error.to_string())?;
        if response.exit_code != 0 {
            let output = [response.stdout, response.stderr].concat();
            let output = String::from_utf8_lossy(&output).into_owned();
            return Err(format!("command {shown:?} exited with {}: {output}", response.exit_code));
        }
        return Ok(());
    }
    if let Some(action) = &handler.http_get {
        let get = Get::from_action(action, ports, pod_ip, "kube-lifecycle")?;
        // What the server answers is its own business; only a hook that could not be delivered fails.
        return get.send_in_any_way(timeout).await.map(drop);
    }
    if let Some(action) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0)).min(timeout)).await;
        return Ok(());
    }
    if let Some(action) = &handler.tcp_socket {
        let host = action.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| pod_ip.to_owned());
        let port = http::port(&action.port, ports)?;
        return match tokio::time::timeout(timeout, dial::connect(&host, port)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("i/o timeout".to_owned()),
        };
    }
    Err("invalid handler".to_owned())
}
