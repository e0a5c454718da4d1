//! Endpoints on this node, and in its zone.

use super::*;

#[test]
fn local_policies_keep_to_the_node() {
    on_node(|| {
        let mut bed = Bed::new();
        let pods = bed.pods(&["here", "there"]);
        let (client, _) = pod(&bed.network, "client", 8080, Vec::new());
        let mut view = service(&addresses(&pods));
        view.endpoints[1].node = Some("node-b".into());
        view.external_local = true;
        bed.set(&view);
        for to in [(EXTERNAL_IP, 80), (NODE_IP, NODE_PORT)] {
            for _ in 0..12 {
                let answer = bed.outside.run(|| ask_tcp(to).unwrap());
                assert_eq!(answer, Answer { name: "here".into(), peer: CLIENT_IP.into() }, "{to:?}");
            }
            let names: BTreeSet<_> = (0..40).map(|_| client.run(|| ask_tcp(to).unwrap().name)).collect();
            assert_eq!(names.len(), 2, "from inside any endpoint will do");
        }
        view.internal_local = true;
        bed.set(&view);
        for _ in 0..12 {
            assert_eq!(client.run(|| ask_tcp((CLUSTER_IP, 80)).unwrap().name), "here");
        }
        // None on this node: outside is left to another node, inside has none to go to.
        view.endpoints.remove(0);
        bed.set(&view);
        let silent = |answer: std::io::Result<Answer>| {
            answer.is_err_and(|error| error.raw_os_error().is_none_or(|code| code != 111))
        };
        assert!(silent(bed.outside.run(|| ask_tcp((NODE_IP, NODE_PORT)))), "dropped, not refused");
        assert_eq!(client.run(|| ask_tcp((EXTERNAL_IP, 80)).unwrap().name), "there");
    });
}

#[test]
fn hinted_endpoints_come_first_and_local_policies_before_them() {
    on_node(|| {
        let mut bed = Bed::new();
        let pods = bed.pods(&["near", "far"]);
        let mut view = service(&addresses(&pods));
        let names = |to| (0..30).map(|_| ask_tcp(to).unwrap().name).collect::<BTreeSet<_>>().into_iter().collect();
        let mut check = |view: &ServiceView, zone: &str, expected: &[&str]| {
            bed.proxy.set_zone(Some(zone.into()));
            bed.set(view);
            for to in [(CLUSTER_IP, 80), (EXTERNAL_IP, 80), (NODE_IP, NODE_PORT)] {
                let names: Vec<String> = names(to);
                assert_eq!(names, expected, "in {zone} to {to:?}");
            }
        };
        view.endpoints[0].for_zones = vec!["zone-a".into()];
        check(&view, "zone-a", &["far", "near"]);
        view.endpoints[1].for_zones = vec!["zone-b".into()];
        check(&view, "zone-a", &["near"]);
        check(&view, "zone-b", &["far"]);
        check(&view, "zone-c", &["far", "near"]);
        view.endpoints[0].for_nodes = vec!["node-a".into()];
        view.endpoints[1].for_nodes = vec!["node-b".into()];
        check(&view, "zone-b", &["near"]);

        // What has to stay on the node stays there, whoever the endpoints are meant for.
        view.internal_local = true;
        view.endpoints[0].node = Some("node-b".into());
        bed.set(&view);
        let local: Vec<String> = names((CLUSTER_IP, 80));
        assert_eq!(local, ["far"]);
    });
}
