use super::*;

#[test]
fn every_row_of_the_file_is_served() {
    let file = include_str!("../../data/resources-1.36.tsv");
    assert_eq!(builtins().len(), file.lines().filter(|l| !l.is_empty()).count() - 1);
    let pods = by_plural("", "v1", "pods").unwrap();
    assert_eq!(pods.gvk(), ("", "v1", "Pod"));
    assert_eq!(pods.short_names, ["po"]);
    assert_eq!(pods.categories, ["all"]);
    assert!(pods.namespaced && pods.allows(Verb::DeleteCollection));
    let eviction = pods.subresource("eviction").unwrap();
    assert_eq!((eviction.group, eviction.version, eviction.kind), ("policy", "v1", "Eviction"));
    assert_eq!(eviction.verbs, [Verb::Create]);
}

#[test]
fn names_are_upstreams() {
    for (group, version, kind, qualified, api_version, storage) in [
        ("", "v1", "Pod", "pods", "v1", "pods"),
        ("apps", "v1", "Deployment", "deployments.apps", "apps/v1", "deployments.apps"),
        ("events.k8s.io", "v1", "Event", "events.events.k8s.io", "events.k8s.io/v1", "events"),
        (
            "autoscaling",
            "v1",
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers.autoscaling",
            "autoscaling/v1",
            "horizontalpodautoscalers.autoscaling",
        ),
    ] {
        let row = by_kind(group, version, kind).unwrap();
        assert_eq!(row.qualified_name(), qualified);
        assert_eq!(row.api_version(), api_version);
        assert_eq!(row.storage, storage);
        assert_eq!(row.stored_as().storage, storage);
    }
    assert!(by_kind("apps", "v2", "Deployment").is_none());
}

#[test]
fn subresources_with_no_group_of_their_own_have_their_parents() {
    let status = by_plural("apps", "v1", "deployments").unwrap().subresource("status").unwrap();
    assert_eq!((status.group, status.version, status.kind), ("apps", "v1", "Deployment"));
}
