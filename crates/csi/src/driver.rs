use std::{path::PathBuf, time::Duration};

use knarr_grpc::{
    client::{Failure, Service},
    unix::{Channel, ORIGIN},
};
use prost::Message;

use crate::messages as m;

const SERVICE: Service<'static> = Service { origin: ORIGIN, package: "csi.v1", metadata: &[] };
/// As long as kubelets wait: disks are formatted meanwhile.
const LIMIT: Duration = Duration::from_secs(120);

/// A request, which says itself by which method it is made and what its answer is.
pub trait Call: Message {
    const METHOD: &'static str;
    type Answer: Message + Default;
}

/// A driver at its socket.
pub struct Driver {
    channel: Channel,
}

impl Driver {
    pub fn new(socket: PathBuf) -> Self {
        Self { channel: Channel::new(socket) }
    }

    pub async fn call<C: Call>(&self, request: &C) -> Result<C::Answer, Failure> {
        self.channel.call(SERVICE, C::METHOD, request, LIMIT).await
    }

    pub async fn capabilities(&self) -> Result<m::Capabilities, Failure> {
        let answer = self.call(&m::NodeGetCapabilitiesRequest {}).await?;
        Ok(m::Capabilities::of(&answer))
    }
}

macro_rules! calls {
    ($($method:literal $request:ident $answer:ident;)*) => {
        $(impl Call for m::$request {
            const METHOD: &'static str = concat!("Node/", $method);
            type Answer = m::$answer;
        })*
    };
}

calls! {
    "NodeGetInfo" NodeGetInfoRequest NodeGetInfoResponse;
    "NodeGetCapabilities" NodeGetCapabilitiesRequest NodeGetCapabilitiesResponse;
    "NodeStageVolume" NodeStageVolumeRequest Nothing;
    "NodeUnstageVolume" NodeUnstageVolumeRequest Nothing;
    "NodePublishVolume" NodePublishVolumeRequest Nothing;
    "NodeUnpublishVolume" NodeUnpublishVolumeRequest Nothing;
    "NodeGetVolumeStats" NodeGetVolumeStatsRequest NodeGetVolumeStatsResponse;
    "NodeExpandVolume" NodeExpandVolumeRequest NodeExpandVolumeResponse;
}
