//! The ports of the host that a pod takes: of two pods that want the same, a node has room for one.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    /// What a container's port asks of the host, where it does.
    pub fn asked(port: Option<i32>, ip: Option<&str>, protocol: Option<&str>) -> Option<Self> {
        let port = port.filter(|port| *port > 0)?;
        Some(Self { ip: ip.unwrap_or_default().to_owned(), protocol: protocol.unwrap_or("TCP").to_owned(), port })
    }

    /// The wildcard address takes the port on all addresses.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let any = |ip: &str| matches!(ip, "" | "0.0.0.0" | "::");
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || any(&self.ip) || any(&other.ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_conflict_where_address_and_protocol_meet() {
        let port = |ip, protocol, number| HostPort::asked(Some(number), Some(ip), protocol).unwrap();
        let rows = [
            (port("", None, 80), port("192.0.2.1", Some("TCP"), 80), true),
            (port("192.0.2.1", None, 80), port("::", None, 80), true),
            (port("192.0.2.1", None, 80), port("192.0.2.2", None, 80), false),
            (port("", None, 80), port("", Some("UDP"), 80), false),
            (port("", None, 80), port("", None, 81), false),
        ];
        for (one, other, expected) in rows {
            assert_eq!(
                (one.conflicts_with(&other), other.conflicts_with(&one)),
                (expected, expected),
                "{one:?} {other:?}"
            );
        }
        assert_eq!([None, Some(0)].map(|port| HostPort::asked(port, None, None)), [None, None]);
    }
}
