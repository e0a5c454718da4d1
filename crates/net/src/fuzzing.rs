//! What `fuzz/` calls: DNS, from the packet to the answer.

use std::{
    net::Ipv4Addr,
    sync::{Arc, LazyLock},
};

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use crate::{
    Config,
    dns::{Answer, Zone, fuzz_question},
    services::{Catalog, ServiceView},
};

static ZONE: LazyLock<Zone> = LazyLock::new(|| {
    let catalog = Arc::new(Catalog::default());
    for (name, spec) in [
        ("web", json!({"clusterIP": "10.96.0.20", "ports": [{"name": "http", "port": 80}]})),
        ("db", json!({"clusterIP": "None", "ports": [{"name": "http", "port": 8080}]})),
        ("far", json!({"type": "ExternalName", "externalName": "host.example.org"})),
        ("circle", json!({"type": "ExternalName", "externalName": "circle.default.svc.cluster.local"})),
    ] {
        add(&catalog, name, &spec);
    }
    catalog.set_complete();
    Zone::new(&Config::new("/nowhere", "node", Ipv4Addr::LOCALHOST.into()), catalog)
});

fn add(catalog: &Catalog, name: &str, spec: &Value) {
    let service = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
    let service: Service = serde_json::from_value(service).expect("the Services above are well-formed");
    let view = ServiceView::new(&service, &[]);
    catalog.set(&view.key.clone(), Some(Arc::new(view)));
}

/// A datagram of a client's; what it asks for is looked up.
pub fn dns(packet: &[u8]) {
    let Some((name, kind)) = fuzz_question(packet) else { return };
    if let Answer::Records { answers, .. } = ZONE.answer(&name, kind) {
        answers.iter().for_each(|record| drop(record.to_string()));
    }
}

/// A Service as the API has it.
pub fn service(service: &Value) {
    if let Ok(service) = serde_json::from_value::<Service>(service.clone()) {
        ServiceView::new(&service, &[]);
    }
}
