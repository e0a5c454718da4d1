//! When an indexed Job has succeeded although not all of its indexes have. Pure.
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/job/#success-policy>)

use k8s_openapi::api::batch::v1::JobSpec;

use super::{
    indexes::{self, Indexes},
    plan::completions,
};

/// The first rule that is met.
pub fn met(spec: &JobSpec, completed: &Indexes) -> Option<usize> {
    spec.success_policy.as_ref()?.rules.iter().position(|rule| {
        let wanted = rule.succeeded_indexes.as_ref().map(|text| indexes::parse(text, completions(spec)));
        let done = wanted.as_ref().map_or(completed.len(), |wanted| wanted.intersection(completed).count());
        match (rule.succeeded_count, wanted) {
            (Some(count), _) => done >= count.max(0) as usize,
            (None, Some(wanted)) => done >= wanted.len(),
            (None, None) => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules() {
        for (rules, completed, expected) in [
            (json!([{"succeededIndexes": "0,2-3"}]), "0,2", None),
            (json!([{"succeededIndexes": "0,2-3"}]), "0,2-4", Some(0)),
            (json!([{"succeededCount": 3}]), "1,5", None),
            (json!([{"succeededCount": 2}]), "1,5", Some(0)),
            (
                json!([{"succeededIndexes": "0", "succeededCount": 1}, {"succeededIndexes": "4-7", "succeededCount": 2}]),
                "5,7",
                Some(1),
            ),
        ] {
            let spec = json!({"completions": 9, "successPolicy": {"rules": rules}, "template": {}});
            let spec: JobSpec = serde_json::from_value(spec).unwrap();
            assert_eq!(met(&spec, &indexes::parse(completed, 9)), expected, "{rules} {completed}");
        }
    }
}
