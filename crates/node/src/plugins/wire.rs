//! The messages by which plugins register, and the calls.

use std::{path::Path, time::Duration};

use knarr_grpc::{
    client::{Failure, Service},
    unix::{Channel, ORIGIN},
};
use prost::Message;

use super::Plugin;

const SERVICE: Service<'static> = Service { origin: ORIGIN, package: "pluginregistration", metadata: &[] };
/// Kubelets wait no longer either.
const INFO_LIMIT: Duration = Duration::from_secs(1);
const NOTIFY_LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone, PartialEq, Message)]
pub struct InfoRequest {}

#[derive(Clone, PartialEq, Message)]
pub struct PluginInfo {
    #[prost(string, tag = "1")]
    pub r#type: String,
    #[prost(string, tag = "2")]
    pub name: String,
    /// Empty where the service is behind the socket that was asked.
    #[prost(string, tag = "3")]
    pub endpoint: String,
    #[prost(string, repeated, tag = "4")]
    pub supported_versions: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct RegistrationStatus {
    #[prost(bool, tag = "1")]
    pub plugin_registered: bool,
    #[prost(string, tag = "2")]
    pub error: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct RegistrationStatusResponse {}

/// What type of plugin there is at a socket, and what it says.
pub async fn info(channel: &Channel, socket: &Path) -> Result<(String, Plugin), Failure> {
    let info: PluginInfo = channel.call(SERVICE, "Registration/GetInfo", &InfoRequest {}, INFO_LIMIT).await?;
    let endpoint = if info.endpoint.is_empty() { socket.to_owned() } else { info.endpoint.into() };
    Ok((info.r#type, Plugin { name: info.name, endpoint, versions: info.supported_versions }))
}

/// Tells a plugin whether it was taken.
pub async fn notify(channel: &Channel, refused: Option<&str>) -> Result<(), Failure> {
    let error = refused.unwrap_or_default().to_owned();
    let status = RegistrationStatus { plugin_registered: refused.is_none(), error };
    let method = "Registration/NotifyRegistrationStatus";
    channel.call(SERVICE, method, &status, NOTIFY_LIMIT).await.map(|RegistrationStatusResponse {}| ())
}
