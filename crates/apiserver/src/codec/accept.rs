//! The `Accept` header: JSON or YAML, and the object itself, a Table of it, or only its metadata.
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources>)

use http::{HeaderMap, header};
use knarr_api::status::ApiError;

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

/// The representation that a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    pub form: Form,
    pub yaml: bool,
    pub pretty: bool,
}

const OFFERED: [&str; 2] = ["application/json", "application/yaml"];

impl Accept {
    pub const JSON: Self = Self { form: Form::Whole, yaml: false, pretty: false };

    /// The first clause that can be served, best quality first. Protobuf is passed over.
    pub fn negotiate(headers: &HeaderMap, query: &Query) -> Result<Self, ApiError> {
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
        let mut offers = clauses.iter().filter_map(|(_, clause)| Self::clause(clause, query));
        let chosen = offers.next().ok_or_else(|| ApiError::not_acceptable(&OFFERED))??;
        Ok(Self { pretty, ..chosen })
    }

    fn clause(clause: &str, query: &Query) -> Option<Result<Self, ApiError>> {
        let mut parts = clause.split(';').map(str::trim);
        let yaml = match parts.next()? {
            "*/*" | "application/*" | "application/json" => false,
            "application/yaml" => true,
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
        Some(Ok(Self { form, yaml, pretty: false }))
    }
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

    #[test]
    fn the_best_clause_that_can_be_served_wins() {
        let table = |include| Form::Table { version: "v1", include };
        let rows = [
            ("", "", Some((Form::Whole, false))),
            ("*/*", "", Some((Form::Whole, false))),
            ("application/vnd.kubernetes.protobuf,application/json", "", Some((Form::Whole, false))),
            ("application/json;q=0.5, application/yaml", "", Some((Form::Whole, true))),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                "",
                Some((table(IncludeObject::Metadata), false)),
            ),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io",
                "includeObject=Object",
                Some((table(IncludeObject::Object), false)),
            ),
            ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", "", Some((Form::Whole, false))),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                "",
                Some((Form::Metadata { version: "v1" }, false)),
            ),
            ("application/json;stream=watch", "", Some((Form::Whole, false))),
            ("text/html", "", None),
            ("application/vnd.kubernetes.protobuf", "", None),
        ];
        for (accept, query, expected) in rows {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(header::ACCEPT, accept.parse().unwrap());
            }
            let actual = Accept::negotiate(&headers, &Query::parse(Some(query)));
            assert_eq!(actual.ok().map(|accept| (accept.form, accept.yaml)), expected, "{accept}");
        }
    }
}
