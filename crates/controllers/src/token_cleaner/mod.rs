//! Removes bootstrap tokens that have expired.
//! (<https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/#token-management-with-kubeadm>)

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use knarr_api::bootstrap_token::{NAMESPACE, SECRET_TYPE, is_expired};
use knarr_client::{ObjectKey, Outcome, WorkQueue, call, informer::Scope, worker};
use kube::api::DeleteParams;

use crate::{Context, Error};

pub const NAME: &str = "token-cleaner";
const WORKERS: usize = 1;
/// A clock that is set anew must not make it miss an end for long.
const LOOK: Duration = Duration::from_secs(600);

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let scope = Scope { namespace: Some(NAMESPACE.to_owned()), ..Scope::fields(format!("type={SECRET_TYPE}")) };
    let secrets = context.informers.with_params::<Secret>(scope);
    if !secrets.synced().await {
        return;
    }
    secrets.feed_keys(&queue);
    worker::run(NAME, queue, WORKERS, move |key: ObjectKey| {
        let (context, secrets) = (context.clone(), secrets.clone());
        async move {
            let Some(secret) = secrets.get(&key.namespace, &key.name) else { return Ok::<_, Error>(Outcome::Done) };
            let Some(left) = left(&secret, context.clock.now()) else { return Ok(Outcome::Done) };
            if !left.is_zero() {
                return Ok(Outcome::After(left.min(LOOK)));
            }
            let deleted = call::delete(&context.client, &*secret, DeleteParams::default()).await;
            deleted.map_err(Error::api("removing an expired bootstrap token"))?;
            Ok(Outcome::Done)
        }
    })
    .await;
}

/// What is left of the token's life: nothing where it is over, `None` where it never ends.
fn left(secret: &Secret, now: Timestamp) -> Option<Duration> {
    let expiration = secret.data.as_ref()?.get("expiration")?;
    let text = std::str::from_utf8(&expiration.0).unwrap_or("not even text");
    if is_expired(Some(text), now) {
        return Some(Duration::ZERO);
    }
    let ends: Timestamp = text.parse().ok()?;
    // Rounded up: what is looked at too early is looked at again.
    Some(Duration::try_from(ends.duration_since(now)).ok()? + Duration::from_millis(100))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn what_is_left() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("2026-01-01T00:00:01Z", Some(Duration::from_millis(1100))),
            ("2025-01-01T00:00:01Z", Some(Duration::ZERO)),
            ("soon", Some(Duration::ZERO)),
            ("", None),
        ] {
            let data = [("expiration".to_owned(), ByteString(text.as_bytes().to_vec()))].into();
            let secret = Secret { data: Some(data), ..Secret::default() };
            assert_eq!(left(&secret, now), expected, "{text}");
        }
        assert_eq!(left(&Secret::default(), now), None);
    }
}
