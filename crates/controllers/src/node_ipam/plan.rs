//! Which range a node gets. Pure.

use knarr_api::cidr::Ipv4Cidr;

/// The length of a node's range, where the cluster's is not shorter itself: room for 253 pods.
const NODE_PREFIX: u8 = 24;

/// The first range after the `cursor`th that overlaps none which is taken; with the cursor for the next search, so
/// that a range is not used again while peers may still send to its former node.
pub fn next(cluster: &Ipv4Cidr, taken: &[Ipv4Cidr], cursor: u32) -> Option<(Ipv4Cidr, u32)> {
    let prefix = cluster.prefix().max(NODE_PREFIX);
    let count = 1_u32 << u32::from(prefix - cluster.prefix()).min(31);
    let size = 1_u32 << (32 - u32::from(prefix)).min(31);
    (0..count).find_map(|step| {
        let index = cursor.wrapping_add(step) % count;
        let range = Ipv4Cidr::new(cluster.nth(index * size)?, prefix)?;
        let is_free = !taken.iter().any(|other| other.overlaps(&range));
        is_free.then_some((range, (index + 1) % count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_go_round() {
        let range = |text: &str| text.parse::<Ipv4Cidr>().unwrap();
        for (cluster, taken, cursor, expected) in [
            ("10.244.0.0/16", &[][..], 0, Some(("10.244.0.0/24", 1))),
            ("10.244.0.0/16", &["10.244.0.0/24"], 0, Some(("10.244.1.0/24", 2))),
            ("10.244.0.0/16", &["10.244.0.0/24"], 7, Some(("10.244.7.0/24", 8))),
            ("10.244.0.0/16", &[], 255, Some(("10.244.255.0/24", 0))),
            // Somebody else's ranges need not be of our length, nor in our order.
            ("10.244.0.0/22", &["10.244.0.0/23", "10.244.3.128/25", "10.9.0.0/24"], 3, Some(("10.244.2.0/24", 3))),
            ("10.244.0.0/23", &["10.244.1.0/24", "10.244.0.64/26"], 0, None),
            ("10.244.9.0/26", &[], 4, Some(("10.244.9.0/26", 0))),
            ("10.244.9.0/26", &["10.244.9.0/26"], 0, None),
        ] {
            let taken: Vec<_> = taken.iter().map(|text| range(text)).collect();
            let expected = expected.map(|(text, cursor)| (range(text), cursor));
            assert_eq!(next(&range(cluster), &taken, cursor), expected, "{cluster} without {taken:?} from {cursor}");
        }
    }
}
