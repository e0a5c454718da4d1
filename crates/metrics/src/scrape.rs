//! Asking the nodes.

use std::time::Duration;

use futures::StreamExt as _;
use http::Request;
use http_body_util::{BodyExt as _, Limited};
use knarr_client::meta;

use crate::{Known, Metrics, page};

/// How soon a node is asked again that was asked once: people wait for the first answer.
const SECOND_LOOK: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(5);
/// How many nodes are asked at a time.
const CONCURRENCY: usize = 16;
/// Room for some thousand containers.
const MAX_PAGE_BYTES: usize = 8 << 20;

#[derive(Debug, thiserror::Error)]
enum ScrapeError {
    #[error("the node's metrics cannot be asked for")]
    Request(#[from] http::Error),
    #[error("the node's metrics cannot be had")]
    Api(#[from] kube::Error),
    #[error("the node answered {0}")]
    Refused(http::StatusCode),
    #[error("the node's metrics broke off or are longer than {MAX_PAGE_BYTES} bytes")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the node did not answer within {} s", DEADLINE.as_secs())]
    Late,
}

pub async fn run(metrics: &Metrics, known: &Known, client: &kube::Client, period: Duration) {
    loop {
        let names: Vec<String> = known.nodes.list().iter().map(|node| meta::name(&node.metadata).to_owned()).collect();
        metrics.samples().retain(|name| names.iter().any(|known| known == name));
        let mut wait = if names.is_empty() { period.min(SECOND_LOOK) } else { period };
        let asked = futures::stream::iter(names).map(|name| {
            let client = client.clone();
            async move {
                let answer = ask(&client, &name).await;
                (name, answer)
            }
        });
        let mut answers = asked.buffer_unordered(CONCURRENCY);
        while let Some((name, answer)) = answers.next().await {
            match answer {
                Ok(text) => {
                    metrics.samples().note(&name, page::parse(&text, known.now_ms()));
                    if metrics.samples().is_half_known(&name) {
                        wait = period.min(SECOND_LOOK);
                    }
                }
                // Nodes come and go; whoever asks for their metrics sees that there are none.
                Err(error) => tracing::debug!(node = %name, error = &error as &dyn std::error::Error, "no metrics"),
            }
        }
        tokio::time::sleep(wait).await;
    }
}

async fn ask(client: &kube::Client, node: &str) -> Result<String, ScrapeError> {
    let request = Request::get(format!("/api/v1/nodes/{node}/proxy/metrics/resource"));
    let request = request.body(kube::client::Body::empty())?;
    let read = async {
        let response = client.send(request).await?;
        if !response.status().is_success() {
            return Err(ScrapeError::Refused(response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_PAGE_BYTES).collect().await.map_err(ScrapeError::Body)?;
        Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
    };
    tokio::time::timeout(DEADLINE, read).await.map_err(|_| ScrapeError::Late)?
}
