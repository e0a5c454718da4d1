//! Ranges of Service addresses, and the addresses.

use super::*;

#[test]
fn ranges_and_addresses_are_checked_in_upstreams_words() {
    let rows = [
        ("ServiceCIDR", json!({}), "spec.cidrs: Required value: at least one CIDR required"),
        (
            "ServiceCIDR",
            json!({"cidrs": ["10.0.0.0/24", "fd00::/64", "10.1.0.0/24"]}),
            "spec.cidrs: Invalid value: {\"cidrs\":[\"10.0.0.0/24\",\"fd00::/64\",\"10.1.0.0/24\"]}: may only hold up to \
             2 values",
        ),
        (
            "ServiceCIDR",
            json!({"cidrs": ["10.0.0.0/24", "10.1.0.0/24"]}),
            "spec.cidrs: Invalid value: {\"cidrs\":[\"10.0.0.0/24\",\"10.1.0.0/24\"]}: may specify no more than one IP for \
             each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ),
        (
            "ServiceCIDR",
            json!({"cidrs": ["ten"]}),
            "spec.cidrs[0]: Invalid value: \"ten\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ),
        ("ServiceCIDR", json!({"cidrs": ["10.0.0.0/24", "fd00::/64"]}), ""),
        ("IPAddress", json!({}), "spec.parentRef: Required value"),
        ("IPAddress", json!({"parentRef": {"resource": "services"}}), "spec.parentRef.name: Required value"),
        (
            "IPAddress",
            json!({"parentRef": {"resource": "services", "name": "a/b"}}),
            "spec.parentRef.name: Invalid value: \"a/b\": may not contain '/'",
        ),
        ("IPAddress", json!({"parentRef": {"resource": "services", "namespace": "d", "name": "a"}}), ""),
    ];
    for (kind, spec, expected) in rows {
        let found = of_kind("networking.k8s.io", kind).validate_create(&json!({"spec": spec}));
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.join("; "), expected);
    }
}
