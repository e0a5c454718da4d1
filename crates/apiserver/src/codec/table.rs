//! Objects as rows of a Table, as `kubectl get` prints them.
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables>)

use std::borrow::Borrow;

use bytes::Bytes;
use jiff::Timestamp;
use knarr_api::{
    print::{self, CustomPrinter},
    registry::Resource,
};
use serde_json::Value;

use super::{accept::IncludeObject, respond};
use crate::contract::Stored;

/// What objects of a resource look like in lists and tables.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    pub resource: &'static Resource,
    /// The columns of a custom resource are its definition's.
    pub printer: Option<&'a CustomPrinter>,
}

impl Shown<'_> {
    fn columns(&self) -> Vec<Value> {
        match self.printer {
            Some(printer) => printer.columns(),
            None => print::columns(self.resource).iter().map(print::Column::to_value).collect(),
        }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        match self.printer {
            Some(printer) => printer.row(object, now),
            None => print::row(self.resource, object, now),
        }
    }
}

/// A Table of the objects; `meta` is the list's own metadata.
pub fn of<S: Borrow<Stored>>(
    shown: Shown<'_>,
    items: &[S],
    meta: &str,
    version: &'static str,
    include: IncludeObject,
    now: Timestamp,
) -> Bytes {
    let mut out = head(&shown.columns(), meta, version);
    for (at, item) in items.iter().enumerate() {
        let stored = item.borrow();
        if at > 0 {
            out.push(',');
        }
        let object = stored.value();
        let conditions = print::row_conditions(shown.resource, &object);
        push_row(&mut out, &shown.row(&object, now), conditions.as_ref(), &stored.json, version, include);
    }
    out.push_str("]}\n");
    out.into()
}

/// A Table of one Scale.
pub fn of_scale(scale: &Value, version: &'static str, include: IncludeObject, now: Timestamp) -> Bytes {
    let columns: Vec<Value> = print::scale_columns().iter().map(print::Column::to_value).collect();
    let mut out = head(&columns, "{}", version);
    push_row(&mut out, &print::scale_row(scale, now), None, scale.to_string().as_bytes(), version, include);
    out.push_str("]}\n");
    out.into()
}

fn head(columns: &[Value], meta: &str, version: &str) -> String {
    let columns = serde_json::to_string(columns).unwrap_or_default();
    format!(
        r#"{{"kind":"Table","apiVersion":"meta.k8s.io/{version}","metadata":{meta},"columnDefinitions":{columns},"rows":["#
    )
}

fn push_row(
    out: &mut String,
    cells: &[Value],
    conditions: Option<&Value>,
    json: &[u8],
    version: &str,
    include: IncludeObject,
) {
    out.push_str(r#"{"cells":"#);
    out.push_str(&serde_json::to_string(cells).unwrap_or_default());
    if let Some(conditions) = conditions {
        out.push_str(r#","conditions":"#);
        out.push_str(&conditions.to_string());
    }
    out.push_str(r#","object":"#);
    match include {
        IncludeObject::None => out.push_str("null"),
        IncludeObject::Metadata => {
            let metadata = respond::metadata(json);
            out.push_str(&format!(
                r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/{version}","metadata":{metadata}}}"#
            ));
        }
        IncludeObject::Object => out.push_str(&String::from_utf8_lossy(json)),
    }
    out.push('}');
}
