//! Certificates of authorities for projected volumes, out of ClusterTrustBundles.
//! (<https://kubernetes.io/docs/concepts/storage/projected-volumes/#clustertrustbundle>)

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{
    api::{certificates::v1beta1::ClusterTrustBundle, core::v1::ClusterTrustBundleProjection},
    serde_json,
};
use knarr_api::{pem, selector::LabelSelector};

/// One file's content: each certificate once, in the order of their bytes, whichever bundles they are from.
pub fn anchors(
    source: &ClusterTrustBundleProjection,
    bundles: Option<&[Arc<ClusterTrustBundle>]>,
) -> Result<Vec<u8>, String> {
    let bundles = bundles.ok_or("ClusterTrustBundle informer has not yet synced")?;
    let wanted: Vec<_> = match (&source.name, &source.signer_name) {
        (Some(name), _) => bundles.iter().filter(|bundle| bundle.metadata.name.as_ref() == Some(name)).collect(),
        (None, Some(signer)) => {
            let wrong = |error: &dyn std::fmt::Display| format!("while parsing label selector: {error}");
            // None selects nothing, an empty one everything.
            let selector = serde_json::to_value(&source.label_selector).map_err(|error| wrong(&error))?;
            let selector = LabelSelector::from_value(&selector).map_err(|error| wrong(&error))?;
            let is_selected = |bundle: &ClusterTrustBundle| {
                let labels = bundle.metadata.labels.as_ref();
                bundle.spec.signer_name.as_ref() == Some(signer)
                    && selector.matches(|key| labels.and_then(|labels| labels.get(key)).map(String::as_str))
            };
            bundles.iter().filter(|bundle| is_selected(bundle)).collect()
        }
        (None, None) => return Err("ClusterTrustBundle projection requires either name or signerName to be set".into()),
    };
    if wanted.is_empty() && source.optional != Some(true) {
        return Err(match &source.name {
            Some(name) => {
                format!("while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io {name:?} not found")
            }
            None => "combination of signerName and labelSelector matched zero ClusterTrustBundles".into(),
        });
    }
    let anchors: BTreeSet<Vec<u8>> =
        wanted.iter().flat_map(|bundle| pem::blocks(&bundle.spec.trust_bundle)).map(|block| block.bytes).collect();
    Ok(anchors.iter().map(|anchor| pem::encode("CERTIFICATE", anchor)).collect::<String>().into_bytes())
}
