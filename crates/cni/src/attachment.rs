//! One pod's attachment: what every plugin of the list is told, and what came of it.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use knarr_cri::{NetworkAddress, NetworkRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::NetworkList;

/// The pod's interface.
pub const INTERFACE: &str = "eth0";

/// All that the undoing needs, however the configuration may have changed since.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    pub container_id: String,
    pub netns: PathBuf,
    pub args: String,
    pub port_mappings: Vec<Value>,
    pub bin_dir: PathBuf,
    pub network: NetworkList,
    /// Of the last plugin; none until all were called.
    pub result: Option<Value>,
}

impl Attachment {
    pub fn new(request: &NetworkRequest, network: NetworkList, bin_dir: &Path) -> Self {
        let NetworkRequest { sandbox_id, namespace, name, uid, netns, port_mappings } = request;
        let port_mappings = port_mappings.iter().map(|port| {
            json!({
                "hostPort": port.host_port,
                "containerPort": port.container_port,
                "protocol": port.protocol.to_lowercase(),
                "hostIP": port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            })
        });
        Self {
            container_id: sandbox_id.clone(),
            netns: netns.clone(),
            args: format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};\
                 K8S_POD_INFRA_CONTAINER_ID={sandbox_id};K8S_POD_UID={uid}"
            ),
            port_mappings: port_mappings.collect(),
            bin_dir: bin_dir.to_owned(),
            network,
            result: None,
        }
    }

    /// What plugins read from their environment. A namespace that is gone is not named.
    pub fn environment(&self, interface: &str) -> Vec<(&'static str, String)> {
        let netns = if self.netns.exists() { self.netns.display().to_string() } else { String::new() };
        vec![
            ("CNI_CONTAINERID", self.container_id.clone()),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", interface.to_owned()),
            ("CNI_ARGS", self.args.clone()),
        ]
    }

    /// A plugin's configuration, with what it is told of this attachment.
    pub fn config(&self, plugin: &Map<String, Value>, previous: Option<&Value>) -> Value {
        let mut config = plugin.clone();
        config.insert("cniVersion".to_owned(), json!(self.network.cni_version));
        config.insert("name".to_owned(), json!(self.network.name));
        if let Some(previous) = previous {
            config.insert("prevResult".to_owned(), previous.clone());
        }
        let capabilities = config.remove("capabilities").unwrap_or_default();
        if capabilities["portMappings"] == json!(true) && !self.port_mappings.is_empty() {
            config.insert("runtimeConfig".to_owned(), json!({"portMappings": self.port_mappings}));
        }
        Value::Object(config)
    }
}

/// The pod's addresses of a result: those of interfaces in the pod, or of none in particular.
pub fn addresses(result: &Value) -> NetworkAddress {
    let inside = |ip: &Value| {
        let interface = ip["interface"].as_u64().and_then(|at| result["interfaces"].get(usize::try_from(at).ok()?));
        interface.is_none_or(|interface| interface["sandbox"].as_str().is_some_and(|sandbox| !sandbox.is_empty()))
    };
    let ips = result["ips"].as_array().into_iter().flatten().filter(|ip| inside(ip));
    let ips = ips.filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse::<IpAddr>().ok());
    NetworkAddress { ips: ips.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment() -> Attachment {
        let network = json!({"cniVersion": "1.0.0", "name": "n", "plugins": []});
        let ports = [knarr_cri::PortMapping { protocol: "TCP", container_port: 80, host_port: 8080, host_ip: None }];
        let request = NetworkRequest {
            sandbox_id: "s".into(),
            namespace: "d".into(),
            name: "p".into(),
            uid: "u".into(),
            netns: "/nowhere".into(),
            port_mappings: ports.to_vec(),
        };
        Attachment::new(&request, serde_json::from_value(network).unwrap(), Path::new("/nowhere"))
    }

    #[test]
    fn plugins_are_told_what_they_can_do_something_with() {
        let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}]);
        let plain = json!({"type": "a", "cniVersion": "1.0.0", "name": "n"});
        let able = json!({"type": "a", "cniVersion": "1.0.0", "name": "n", "prevResult": {"ips": []},
            "runtimeConfig": {"portMappings": ports}});
        for (plugin, previous, expected) in [
            (json!({"type": "a"}), None, plain.clone()),
            (json!({"type": "a", "capabilities": {"portMappings": false}}), None, plain),
            (json!({"type": "a", "capabilities": {"portMappings": true}}), Some(json!({"ips": []})), able),
        ] {
            let config = attachment().config(plugin.as_object().unwrap(), previous.as_ref());
            assert_eq!(config, expected);
        }
        let netns = attachment().environment(INTERFACE).into_iter().find(|(key, _)| *key == "CNI_NETNS");
        assert_eq!(netns, Some(("CNI_NETNS", String::new())));
    }

    #[test]
    fn the_pods_addresses_are_those_inside() {
        let result = json!({
            "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/run/netns/a"}],
            "ips": [
                {"address": "10.1.0.2/24", "interface": 1},
                {"address": "10.1.0.1/24", "interface": 0},
                {"address": "fd00::2/64"},
            ],
        });
        let expected: Vec<IpAddr> = vec!["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        assert_eq!(addresses(&result).ips, expected);
        assert!(addresses(&Value::Null).ips.is_empty());
    }
}
