//! The `Accept` header: JSON, YAML or protobuf, and the object itself, a Table of it, or only its metadata.
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources>)

use http::{HeaderMap, header};
use knarr_api::{
    protobuf::{self, Encoder},
    registry::Resource,
    status::ApiError,
};

use crate::route::Query;

/// What rows of a Table carry beside their cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeObject {
    None,
    Metadata,
    Object,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The object or list as it is.
    Whole,
    Table {
        version: &'static str,
        include: IncludeObject,
    },
    /// PartialObjectMetadata, or a list of them.
    Metadata {
        version: &'static str,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// The representation that a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    pub form: Form,
    pub encoding: Encoding,
    pub pretty: bool,
}

const OFFERED: [&str; 3] = ["application/json", "application/yaml", protobuf::MEDIA_TYPE];

impl Accept {
    pub const JSON: Self = Self { form: Form::Whole, encoding: Encoding::Json, pretty: false };

    /// The first clause that can be served, best quality first. What is asked about is no resource where there is none:
    /// the documents of discovery. `has_forms`: there are tables and metadata of it beside the object itself.
    pub fn negotiate(
        headers: &HeaderMap,
        query: &Query,
        resource: Option<&'static Resource>,
        has_forms: bool,
    ) -> Result<Self, ApiError> {
        let pretty = query.flag("pretty") || (query.find("pretty").is_none() && is_read_by_a_person(headers));
        let mut clauses: Vec<(u32, &str)> = Vec::new();
        for header in headers.get_all(header::ACCEPT) {
            let header = header.to_str().unwrap_or_default();
            clauses.extend(
                header
                    .split(',')
                    .map(str::trim)
                    .filter(|clause| !clause.is_empty())
                    .map(|clause| (quality(clause), clause)),
            );
        }
        if clauses.is_empty() {
            return Ok(Self { pretty, ..Self::JSON });
        }
        clauses.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
        let mut offers = clauses
            .iter()
            .filter_map(|(_, clause)| Self::clause(clause, query, resource))
            .filter(|offer| has_forms || offer.as_ref().is_ok_and(|offer| offer.form == Form::Whole));
        let offered = if has_messages(resource) { &OFFERED[..] } else { &OFFERED[..2] };
        let chosen = offers.next().ok_or_else(|| ApiError::not_acceptable(offered))??;
        Ok(Self { pretty, ..chosen })
    }

    fn clause(clause: &str, query: &Query, resource: Option<&'static Resource>) -> Option<Result<Self, ApiError>> {
        let mut parts = clause.split(';').map(str::trim);
        let encoding = match parts.next()? {
            "*/*" | "application/*" | "application/json" => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            protobuf::MEDIA_TYPE => Encoding::Protobuf,
            _ => return None,
        };
        let (mut kind, mut group, mut version) = ("", "", "");
        for part in parts {
            match part.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
                Some(("as", value)) => kind = value,
                Some(("g", value)) => group = value,
                Some(("v", value)) => version = value,
                _ => {}
            }
        }
        let version = match version {
            "v1" => "v1",
            "v1beta1" => "v1beta1",
            _ if kind.is_empty() => "v1",
            _ => return None,
        };
        let form = match kind {
            "" => Form::Whole,
            _ if group != "meta.k8s.io" => return None,
            "Table" => match include_object(query) {
                Ok(include) => Form::Table { version, include },
                Err(error) => return Some(Err(error)),
            },
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Form::Metadata { version },
            _ => return None,
        };
        // A Table has no message. Metadata has one whatever it is of, a custom resource's too.
        let is_written = match form {
            _ if encoding != Encoding::Protobuf => true,
            Form::Whole => has_messages(resource),
            Form::Table { .. } => false,
            Form::Metadata { .. } => true,
        };
        is_written.then_some(Ok(Self { form, encoding, pretty: false }))
    }
}

fn has_messages(resource: Option<&'static Resource>) -> bool {
    resource.is_none_or(|resource| {
        let (group, version, kind) = resource.gvk();
        Encoder::of(group, version, kind).is_some()
    })
}

fn include_object(query: &Query) -> Result<IncludeObject, ApiError> {
    match query.get("includeObject") {
        "" | "Metadata" => Ok(IncludeObject::Metadata),
        "None" => Ok(IncludeObject::None),
        "Object" => Ok(IncludeObject::Object),
        other => {
            Err(ApiError::bad_request(format!("unrecognized includeObject value: {}", knarr_api::field::quote(other))))
        }
    }
}

/// In thousandths; 1000 where nothing is said.
fn quality(clause: &str) -> u32 {
    let q = clause.split(';').skip(1).find_map(|part| part.trim().strip_prefix("q="));
    q.and_then(|q| q.trim().parse::<f32>().ok()).map_or(1000, |q| (q.clamp(0.0, 1.0) * 1000.0) as u32)
}

fn is_read_by_a_person(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|start| agent.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Encoding::{Json, Protobuf, Yaml};

    const PODS: (&str, &str, &str) = ("", "v1", "pods");
    const METRICS: (&str, &str, &str) = ("metrics.k8s.io", "v1beta1", "pods");

    fn check(
        (group, version, plural): (&str, &str, &str),
        accept: &str,
        query: &str,
        expected: Option<(Form, Encoding)>,
    ) {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(header::ACCEPT, accept.parse().unwrap());
        }
        let resource = knarr_api::registry::by_plural(group, version, plural);
        let actual = Accept::negotiate(&headers, &Query::parse(Some(query)), Some(resource.unwrap()), true);
        assert_eq!(actual.ok().map(|accept| (accept.form, accept.encoding)), expected, "{accept}");
    }

    #[test]
    fn the_best_clause_that_can_be_served_wins() {
        let table = |include| Form::Table { version: "v1", include };
        let metadata = Form::Metadata { version: "v1" };
        let rows = [
            ("", "", Some((Form::Whole, Json))),
            ("*/*", "", Some((Form::Whole, Json))),
            ("application/json;q=0.5, application/yaml", "", Some((Form::Whole, Yaml))),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                "",
                Some((table(IncludeObject::Metadata), Json)),
            ),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io",
                "includeObject=Object",
                Some((table(IncludeObject::Object), Json)),
            ),
            ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", "", Some((Form::Whole, Json))),
            ("application/json;stream=watch", "", Some((Form::Whole, Json))),
            ("text/html", "", None),
            ("application/vnd.kubernetes.protobuf", "", Some((Form::Whole, Protobuf))),
            ("application/vnd.kubernetes.protobuf;stream=watch", "", Some((Form::Whole, Protobuf))),
            ("application/vnd.kubernetes.protobuf,application/json", "", Some((Form::Whole, Protobuf))),
            ("application/vnd.kubernetes.protobuf;q=0.5,application/json", "", Some((Form::Whole, Json))),
            (
                "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json;as=Table;g=meta.k8s.io;v=v1",
                "",
                Some((table(IncludeObject::Metadata), Json)),
            ),
            ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1", "", None),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                "",
                Some((metadata, Protobuf)),
            ),
        ];
        for (accept, query, expected) in rows {
            check(PODS, accept, query, expected);
        }
    }

    #[test]
    fn a_kind_without_a_message_is_json_or_its_metadata() {
        check(METRICS, "application/vnd.kubernetes.protobuf", "", None);
        check(METRICS, "application/vnd.kubernetes.protobuf,application/json", "", Some((Form::Whole, Json)));
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        check(METRICS, metadata, "", Some((Form::Metadata { version: "v1" }, Protobuf)));
    }
}
