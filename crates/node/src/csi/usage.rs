//! What a driver says of how full a volume is.

use std::time::Duration;

use knarr_csi::messages::{NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, UsageUnit};

use super::{Csi, Record, record};
use crate::volume::Usage;

/// Whoever asks wants to know it now.
const LIMIT: Duration = Duration::from_secs(10);

impl Csi {
    /// What drivers brought to a pod. Blocking.
    pub fn brought(&self, uid: &str) -> Vec<Record> {
        let records = record::of_pod(&self.pod_dir(uid)).unwrap_or_default();
        records.into_iter().map(|(_, record)| record).collect()
    }

    /// How full a volume is; `None` where its driver does not measure, or does not answer.
    pub async fn usage(&self, record: &Record) -> Option<Usage> {
        let driver = self.driver(&record.driver_name)?;
        let asked = async {
            if !driver.capabilities().await?.measures {
                return Ok(None);
            }
            let staged = record::read(&self.staged_record(&record.driver_name, &record.volume_handle)).ok().flatten();
            let request = NodeGetVolumeStatsRequest {
                volume_id: record.volume_handle.clone(),
                volume_path: record.path.to_string_lossy().into_owned(),
                staging_target_path: staged
                    .map(|staged| staged.path.to_string_lossy().into_owned())
                    .unwrap_or_default(),
            };
            driver.call(&request).await.map(Some)
        };
        match tokio::time::timeout(LIMIT, asked).await {
            Ok(Ok(answer)) => answer.map(|answer| of(&answer)),
            Ok(Err(error)) => {
                tracing::debug!(volume = record.volume_handle, %error, "a driver does not say how full a volume is");
                None
            }
            Err(_) => None,
        }
    }
}

fn of(answer: &NodeGetVolumeStatsResponse) -> Usage {
    let mut usage = Usage::default();
    let number = |value: i64| u64::try_from(value).ok();
    for part in &answer.usage {
        let (total, free, used) = match UsageUnit::try_from(part.unit) {
            Ok(UsageUnit::Bytes) => (&mut usage.capacity, &mut usage.available, &mut usage.used),
            Ok(UsageUnit::Inodes) => (&mut usage.inodes, &mut usage.inodes_free, &mut usage.inodes_used),
            _ => continue,
        };
        (*total, *free, *used) = (number(part.total), number(part.available), number(part.used));
    }
    usage
}
