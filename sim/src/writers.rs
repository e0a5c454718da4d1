//! Clients that write as fast as they can and remember what they were answered: what was acknowledged must be there,
//! and a read that follows must see it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use knarr_client::{call, errors};

use crate::{chance::Dice, truth::Truth};

const NAMESPACE: &str = "default";
const COUNTER: &str = "counter";
const FIELD: &str = "n";
const PAUSE: Duration = Duration::from_secs(3);

/// Several count on one object, each with what it read; of two that read the same only one may win.
#[derive(Default)]
pub struct Counter {
    tried: AtomicU64,
    acknowledged: AtomicU64,
    /// The rest had no answer, and may have happened.
    refused: AtomicU64,
}

impl Counter {
    /// Counts until it is dropped.
    pub async fn count(self: Arc<Self>, client: kube::Client, truth: Arc<Truth>, dice: Dice) {
        loop {
            if let Err(error) = self.once(&client, &truth).await
                && is_refusal(&error)
            {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(dice.time(PAUSE)).await;
        }
    }

    async fn once(&self, client: &kube::Client, truth: &Truth) -> Result<(), kube::Error> {
        let Some(there) = read(client).await else { return Ok(()) };
        self.tried.fetch_add(1, Ordering::Relaxed);
        let written = match there {
            None => call::create(client, &counter(1, None)).await?,
            Some(there) => {
                let next = value(&there) + 1;
                call::replace(client, &counter(next, there.metadata.resource_version)).await?
            }
        };
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        let revision = revision(&written);
        truth.acknowledged(format!("configmaps/{NAMESPACE}/{COUNTER}"), revision);
        if let Some(Some(again)) = read(client).await
            && self::revision(&again) < revision
        {
            truth.violated(format!("a read after the write {revision} saw {}", self::revision(&again)));
        }
        Ok(())
    }

    /// Says what is wrong with the final count.
    pub fn judge(&self, truth: &Truth) -> Option<String> {
        let object = truth.get(&format!("configmaps/{NAMESPACE}/{COUNTER}"));
        let there = object.map_or(0, |object| object["data"][FIELD].as_str().and_then(|n| n.parse().ok()).unwrap_or(0));
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        let most = self.tried.load(Ordering::Relaxed) - self.refused.load(Ordering::Relaxed);
        let is_right = (acknowledged..=most).contains(&there);
        (!is_right).then(|| format!("{acknowledged} to {most} increments were made, and the counter says {there}"))
    }
}

/// The outer `None` says that there was no answer.
async fn read(client: &kube::Client) -> Option<Option<ConfigMap>> {
    call::get::<ConfigMap>(client, NAMESPACE, COUNTER).await.ok()
}

fn counter(n: u64, resource_version: Option<String>) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(COUNTER.into()),
            namespace: Some(NAMESPACE.into()),
            resource_version,
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(FIELD.to_owned(), n.to_string())])),
        ..ConfigMap::default()
    }
}

fn value(counter: &ConfigMap) -> u64 {
    counter.data.as_ref().and_then(|data| data.get(FIELD)?.parse().ok()).unwrap_or(0)
}

fn revision(counter: &ConfigMap) -> u64 {
    counter.metadata.resource_version.as_ref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// The server said that it did not happen.
fn is_refusal(error: &kube::Error) -> bool {
    errors::code(error).is_some_and(|code| code < 500)
}
