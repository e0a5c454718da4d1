//! `spec.healthCheckNodePort`: tells load balancers outside of the cluster whether this node has an endpoint of a
//! Service that is served on its endpoints' nodes only (`externalTrafficPolicy: Local`).

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use knarr_client::ObjectKey;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::timeout,
};

/// Askers of one port at a time; more wait until one is answered.
const MAX_CONCURRENT: usize = 64;
const MAX_REQUEST_BYTES: usize = 8 << 10;
const PATIENCE: Duration = Duration::from_secs(5);

/// The ports, and what is said on them.
#[derive(Default)]
pub struct HealthPorts {
    wanted: BTreeMap<ObjectKey, (u16, usize)>,
    served: BTreeMap<u16, Port>,
}

struct Port {
    service: ObjectKey,
    /// How many ready endpoints are on this node.
    count: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HealthPorts {
    /// A Service's port, and how many ready endpoints it has on this node; `None` where it has no port.
    pub fn set(&mut self, service: &ObjectKey, wanted: Option<(u16, usize)>) {
        match wanted {
            Some(wanted) => drop(self.wanted.insert(service.clone(), wanted)),
            None => drop(self.wanted.remove(service)),
        }
    }

    /// Serves the ports that are wanted, and no others. One that cannot be had is tried again at the next call.
    pub async fn serve(&mut self) {
        let wanted = &self.wanted;
        self.served.retain(|number, port| wanted.get(&port.service).is_some_and(|(wanted, _)| wanted == number));
        for (service, (number, count)) in wanted {
            if let Some(port) = self.served.get(number) {
                port.count.send_replace(*count);
                continue;
            }
            match TcpListener::bind((Ipv4Addr::UNSPECIFIED, *number)).await {
                Ok(listener) => {
                    let (sender, now) = watch::channel(*count);
                    let task = tokio::spawn(serve(listener, service.clone(), now));
                    self.served.insert(*number, Port { service: service.clone(), count: sender, task });
                }
                Err(error) => tracing::warn!(port = number, %service, %error, "no health check on this node"),
            }
        }
    }
}

async fn serve(listener: TcpListener, service: ObjectKey, count: watch::Receiver<usize>) {
    let (permits, service) = (Arc::new(Semaphore::new(MAX_CONCURRENT)), Arc::new(service));
    while let Ok(permit) = permits.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (service, count) = (service.clone(), count.clone());
                tokio::spawn(async move {
                    // Whoever goes away in the middle has no need of an answer.
                    let _ = timeout(PATIENCE, answer(stream, &service, &count)).await;
                    drop(permit);
                });
            }
            // Out of files, above all; the next try must not come at once.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, service: &ObjectKey, count: &watch::Receiver<usize>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        if request.len() > MAX_REQUEST_BYTES || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let response = response(service, *count.borrow());
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// As kube-proxy answers, to every path.
fn response(service: &ObjectKey, count: usize) -> String {
    let status = if count > 0 { "200 OK" } else { "503 Service Unavailable" };
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {:?},\n\t\t\"name\": {:?}\n\t}},\n\t\"localEndpoints\": {count},\n\t\
         \"serviceProxyHealthy\": true\n}}",
        service.namespace, service.name
    );
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n\
         X-Load-Balancing-Endpoint-Weight: {count}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_says_how_many_there_are() {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
        let service = ObjectKey::new("shop", "web");
        let ask = async || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, free)).await?;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let mut ports = HealthPorts::default();
        ports.set(&service, Some((free, 2)));
        ports.serve().await;
        let answer = ask().await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let expected = "{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t},\n\t\
                        \"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": true\n}";
        assert_eq!(body, expected);
        ports.set(&service, Some((free, 0)));
        ports.serve().await;
        assert!(ask().await.unwrap().starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        ports.set(&service, None);
        ports.serve().await;
        // The task that held the port ends at its next step.
        while ask().await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
