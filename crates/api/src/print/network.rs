use serde_json::Value;

use super::{
    AGE, Column, NAME, Printer,
    format::{self, NONE, UNSET},
};
use crate::value::{int, is_set, items, text};

pub(super) static SERVICE: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Type", "How the service is exposed."),
        Column::text("Cluster-IP", "Its address inside the cluster."),
        Column::text("External-IP", "Its addresses outside the cluster."),
        Column::text("Port(s)", "Its ports, each with its node port."),
        AGE,
        Column::text("Selector", "The labels of the pods behind it.").wide(),
    ],
    cells: |object, now| {
        let spec = &object["spec"];
        vec![
            format::name(object),
            format::string(&spec["type"]),
            format::or(&spec["clusterIPs"][0], format::or(&spec["clusterIP"], NONE)).into(),
            external_ip(object).into(),
            ports(&spec["ports"]).into(),
            format::age(object, now),
            format::labels(&spec["selector"]).into(),
        ]
    },
};

fn external_ip(service: &Value) -> String {
    let spec = &service["spec"];
    let given: Vec<String> = items(&spec["externalIPs"]).iter().map(|ip| text(ip).to_owned()).collect();
    match text(&spec["type"]) {
        "ClusterIP" | "NodePort" => format::join_or_none(&given),
        "LoadBalancer" => {
            let mut all = balancers(&service["status"]);
            all.extend(given);
            if all.is_empty() { "<pending>".into() } else { all.join(",") }
        }
        "ExternalName" => text(&spec["externalName"]).to_owned(),
        _ => format::UNKNOWN.into(),
    }
}

/// Addresses or names of the load balancers in front.
fn balancers(status: &Value) -> Vec<String> {
    items(&status["loadBalancer"]["ingress"])
        .iter()
        .map(|one| format::or(&one["ip"], text(&one["hostname"])).to_owned())
        .filter(|one| !one.is_empty())
        .collect()
}

/// `80/TCP`, or `80:30080/TCP` with a node port.
fn ports(ports: &Value) -> String {
    let one = |port: &Value| match int(&port["nodePort"]) {
        0 => format!("{}/{}", int(&port["port"]), text(&port["protocol"])),
        node => format!("{}:{node}/{}", int(&port["port"]), text(&port["protocol"])),
    };
    format::join_or_none(&items(ports).iter().map(one).collect::<Vec<_>>())
}

pub(super) static ENDPOINTS: Printer = Printer {
    columns: &[NAME, Column::text("Endpoints", "Addresses and ports that are ready."), AGE],
    cells: |object, now| {
        let mut list = Vec::new();
        for subset in items(&object["subsets"]) {
            let ports = items(&subset["ports"]);
            for address in items(&subset["addresses"]).iter().map(|address| text(&address["ip"])) {
                let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
                if ports.is_empty() {
                    list.push(address.to_owned());
                }
                list.extend(ports.iter().map(|port| format!("{host}:{}", int(&port["port"]))));
            }
        }
        vec![format::name(object), format::first_three(&list, NONE).into(), format::age(object, now)]
    },
};

pub(super) static ENDPOINT_SLICE: Printer = Printer {
    columns: &[
        NAME,
        Column::text("AddressType", "The kind of its addresses."),
        Column::text("Ports", "Its ports."),
        Column::text("Endpoints", "Its addresses."),
        AGE,
    ],
    cells: |object, now| {
        let ports: Vec<String> =
            items(&object["ports"]).iter().map(|port| format::scalar(&port["port"], "*")).collect();
        let addresses: Vec<String> = items(&object["endpoints"])
            .iter()
            .flat_map(|endpoint| items(&endpoint["addresses"]))
            .map(|address| text(address).to_owned())
            .collect();
        vec![
            format::name(object),
            format::string(&object["addressType"]),
            format::first_three(&ports, UNSET).into(),
            format::first_three(&addresses, UNSET).into(),
            format::age(object, now),
        ]
    },
};

pub(super) static INGRESS: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Class", "The class of controllers that serve it."),
        Column::text("Hosts", "The hosts of its rules."),
        Column::text("Address", "Where it can be reached."),
        Column::text("Ports", "Where it listens."),
        AGE,
    ],
    cells: |object, now| {
        let spec = &object["spec"];
        let hosts: Vec<String> = items(&spec["rules"])
            .iter()
            .map(|rule| text(&rule["host"]).to_owned())
            .filter(|host| !host.is_empty())
            .collect();
        vec![
            format::name(object),
            format::or(&spec["ingressClassName"], NONE).into(),
            format::first_three(&hosts, "*").into(),
            balancers(&object["status"]).join(",").into(),
            if items(&spec["tls"]).is_empty() { "80" } else { "80, 443" }.into(),
            format::age(object, now),
        ]
    },
};

pub(super) static INGRESS_CLASS: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Controller", "The controller that serves this class."),
        Column::text("Parameters", "An object with more settings."),
        AGE,
    ],
    cells: |object, now| {
        let parameters = &object["spec"]["parameters"];
        let shown = match is_set(parameters) {
            false => NONE.to_owned(),
            true => {
                let group = text(&parameters["apiGroup"]);
                let dot = if group.is_empty() { "" } else { "." };
                format!("{}{dot}{group}/{}", text(&parameters["kind"]), text(&parameters["name"]))
            }
        };
        vec![
            format::name(object),
            format::string(&object["spec"]["controller"]),
            shown.into(),
            format::age(object, now),
        ]
    },
};

pub(super) static NETWORK_POLICY: Printer = Printer {
    columns: &[NAME, Column::text("Pod-Selector", "The pods that it applies to."), AGE],
    cells: |object, now| {
        let selector = format::selector(&object["spec"]["podSelector"]);
        vec![format::name(object), selector.into(), format::age(object, now)]
    },
};

pub(super) static IP_ADDRESS: Printer = Printer {
    columns: &[NAME, Column::text("ParentRef", "The object that holds the address.")],
    cells: |object, _| {
        let parent = &object["spec"]["parentRef"];
        if !is_set(parent) {
            return vec![format::name(object), NONE.into()];
        }
        let resource = [text(&parent["resource"]), text(&parent["group"])].join(".").to_lowercase();
        let parts = [resource.trim_end_matches('.'), text(&parent["namespace"]), text(&parent["name"])];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        vec![format::name(object), parts.join("/").into()]
    },
};

pub(super) static SERVICE_CIDR: Printer = Printer {
    columns: &[NAME, Column::text("CIDRs", "The ranges of addresses."), AGE],
    cells: |object, now| {
        let cidrs: Vec<&str> = items(&object["spec"]["cidrs"]).iter().map(text).collect();
        vec![format::name(object), cidrs.join(",").into(), format::age(object, now)]
    },
};
