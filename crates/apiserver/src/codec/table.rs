//! Objects as rows of a Table, as `kubectl get` prints them.
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables>)

use std::borrow::Borrow;

use bytes::Bytes;
use jiff::Timestamp;
use knarr_api::{print, registry::Resource};

use super::{accept::IncludeObject, respond};
use crate::contract::Stored;

/// A Table of the objects; `meta` is the list's own metadata.
pub fn of<S: Borrow<Stored>>(
    resource: &'static Resource,
    items: &[S],
    meta: &str,
    version: &'static str,
    include: IncludeObject,
    now: Timestamp,
) -> Bytes {
    let columns: Vec<_> = print::columns(resource).iter().map(print::Column::to_value).collect();
    let columns = serde_json::to_string(&columns).unwrap_or_default();
    let mut out = format!(
        r#"{{"kind":"Table","apiVersion":"meta.k8s.io/{version}","metadata":{meta},"columnDefinitions":{columns},"rows":["#
    );
    for (at, item) in items.iter().enumerate() {
        let stored = item.borrow();
        if at > 0 {
            out.push(',');
        }
        let object = stored.value();
        let cells = print::row(resource, &object, now);
        out.push_str(r#"{"cells":"#);
        out.push_str(&serde_json::to_string(&cells).unwrap_or_default());
        if let Some(conditions) = print::row_conditions(resource, &object) {
            out.push_str(r#","conditions":"#);
            out.push_str(&conditions.to_string());
        }
        out.push_str(r#","object":"#);
        match include {
            IncludeObject::None => out.push_str("null"),
            IncludeObject::Metadata => {
                let metadata = respond::metadata(&stored.json);
                out.push_str(&format!(
                    r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/{version}","metadata":{metadata}}}"#
                ));
            }
            IncludeObject::Object => out.push_str(&String::from_utf8_lossy(&stored.json)),
        }
        out.push('}');
    }
    out.push_str("]}\n");
    out.into()
}
