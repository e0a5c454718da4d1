//! What drivers are asked (`k8s.io/kubelet/pkg/apis/dra/v1`; `v1beta1` is the same under another name).

use std::{collections::HashMap, time::Duration};

use knarr_grpc::{
    client::{Failure, Service},
    unix::{Channel, ORIGIN},
};
use prost::Message;
use serde::{Deserialize, Serialize};

/// As long as kubelets wait.
const LIMIT: Duration = Duration::from_secs(45);

/// The versions that are spoken here, as drivers list theirs, and the package of each.
const VERSIONS: [(&str, &str); 2] =
    [("v1.DRAPlugin", "k8s.io.kubelet.pkg.apis.dra.v1"), ("v1beta1.DRAPlugin", "k8s.io.kubelet.pkg.apis.dra.v1beta1")];

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Claim {
    #[prost(string, tag = "1")]
    pub namespace: String,
    #[prost(string, tag = "2")]
    pub uid: String,
    #[prost(string, tag = "3")]
    pub name: String,
}

/// Of both calls.
#[derive(Clone, PartialEq, Message)]
pub struct ClaimsRequest {
    #[prost(message, repeated, tag = "1")]
    pub claims: Vec<Claim>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PrepareResponse {
    #[prost(map = "string, message", tag = "1")]
    pub claims: HashMap<String, Prepared>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Prepared {
    #[prost(message, repeated, tag = "1")]
    pub devices: Vec<Device>,
    #[prost(string, tag = "2")]
    pub error: String,
}

#[derive(Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
pub struct Device {
    /// Of the claim; none stands for all.
    #[prost(string, repeated, tag = "1")]
    pub request_names: Vec<String>,
    #[prost(string, tag = "2")]
    pub pool_name: String,
    #[prost(string, tag = "3")]
    pub device_name: String,
    #[prost(string, repeated, tag = "4")]
    pub cdi_device_ids: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct UnprepareResponse {
    #[prost(map = "string, message", tag = "1")]
    pub claims: HashMap<String, Unprepared>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Unprepared {
    #[prost(string, tag = "1")]
    pub error: String,
}

/// The package of the newest version that is spoken on both sides.
pub fn package(versions: &[String]) -> Option<&'static str> {
    let spoken = VERSIONS.iter().find(|(version, _)| versions.iter().any(|other| other == version));
    spoken.map(|(_, package)| *package)
}

/// A driver that can be asked.
pub struct Driver {
    pub channel: Channel,
    pub package: &'static str,
}

impl Driver {
    pub async fn prepare(&self, claims: Vec<Claim>) -> Result<HashMap<String, Prepared>, Failure> {
        let request = ClaimsRequest { claims };
        let method = "DRAPlugin/NodePrepareResources";
        let response: PrepareResponse = self.channel.call(self.service(), method, &request, LIMIT).await?;
        Ok(response.claims)
    }

    pub async fn unprepare(&self, claims: Vec<Claim>) -> Result<HashMap<String, Unprepared>, Failure> {
        let request = ClaimsRequest { claims };
        let method = "DRAPlugin/NodeUnprepareResources";
        let response: UnprepareResponse = self.channel.call(self.service(), method, &request, LIMIT).await?;
        Ok(response.claims)
    }

    fn service(&self) -> Service<'static> {
        Service { origin: ORIGIN, package: self.package, metadata: &[] }
    }
}
