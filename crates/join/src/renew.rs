//! New certificates in time, while everything goes on.

use std::{net::IpAddr, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use knarr_client::Clock;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    Identity, JoinError,
    identity::{CLIENT, SERVING},
    keys::Swap,
    request::{self, Use},
};

/// Clocks are set and machines sleep: what is far away is looked at again.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// What is renewed, and for whom.
pub struct Renewal {
    pub identity: Arc<Identity>,
    pub node_name: String,
    pub machine: String,
    /// What the node's own port is reached by, beside the name.
    pub addresses: Vec<IpAddr>,
    pub clock: Clock,
    pub seed: u64,
}

/// Renews both certificates until cancelled, each when 70 to 90 % of its time are over, as kubelets do. The one for
/// serving is asked for at once where there is none, or where the node has other addresses by now.
pub async fn keep_current(renewal: Renewal, cancel: CancellationToken) {
    let random = SmallRng::seed_from_u64(renewal.seed);
    let both =
        async { tokio::join!(renewal.keep(Use::Client, random.clone()), renewal.keep(renewal.serving(), random)) };
    tokio::select! {
        _ = both => {}
        () = cancel.cancelled() => {}
    }
}

impl Renewal {
    fn serving(&self) -> Use {
        Use::Serving { names: vec![self.node_name.clone()], addresses: self.addresses.clone() }
    }

    async fn keep(&self, of: Use, mut random: SmallRng) {
        let mut pause = FIRST_PAUSE;
        let mut share = random.random_range(0.7..0.9);
        loop {
            let left = self.left(&of, share);
            if !left.is_zero() {
                sleep(left.min(LONGEST_SLEEP)).await;
                continue;
            }
            match self.renew(&of).await {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    share = random.random_range(0.7..0.9);
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a certificate of this node is not there yet; will retry"
                    );
                    sleep(pause.mul_f64(1.0 + random.random::<f64>())).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    fn swap(&self, of: &Use) -> &Swap {
        match of {
            Use::Client => &self.identity.client_key,
            Use::Serving { .. } => &self.identity.serving_key,
        }
    }

    /// How long what is there will do.
    fn left(&self, of: &Use, share: f64) -> Duration {
        let swap = self.swap(of);
        if let Use::Serving { names, addresses } = of
            && !swap.is_for(names, addresses)
        {
            return Duration::ZERO;
        }
        let due = swap.validity().map(|(from, until)| due(from, until, share));
        due.and_then(|due| Duration::try_from(due.duration_since(self.clock.now())).ok()).unwrap_or_default()
    }

    /// Asks for a new certificate, keeps it, and shows it from then on.
    async fn renew(&self, of: &Use) -> Result<(), JoinError> {
        let identity = &self.identity;
        let leaf = request::request(&identity.client(), &self.node_name, &self.machine, of).await?;
        let name = if *of == Use::Client { CLIENT } else { SERVING };
        identity.files.write_leaf(name, &leaf)?;
        self.swap(of).set(&leaf)?;
        if *of == Use::Client {
            identity.https().renew().await;
        }
        tracing::info!(certificate = name, "renewed");
        Ok(())
    }
}

/// When so much of a certificate's time is over.
fn due(from: Timestamp, until: Timestamp, share: f64) -> Timestamp {
    let life = until.duration_since(from).as_secs_f64();
    from.saturating_add(SignedDuration::from_secs_f64(life * share)).unwrap_or(until)
}

#[cfg(test)]
mod tests {
    use super::due;

    #[test]
    fn renewed_well_before_the_end() {
        let time = |text: &str| text.parse().unwrap();
        let (from, until) = (time("2026-01-01T00:00:00Z"), time("2026-01-11T00:00:00Z"));
        assert_eq!(due(from, until, 0.7), time("2026-01-08T00:00:00Z"));
        assert_eq!(due(from, until, 0.9), time("2026-01-10T00:00:00Z"));
    }
}
