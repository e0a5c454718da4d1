//! APIServices for what this server answers by itself: one for each group version of CustomResourceDefinitions, made
//! and removed with them, and the condition of every local one.

use std::collections::BTreeSet;

use knarr_api::status::ApiError;
use serde_json::Value;

use super::{
    available::change_status,
    priorities::{MANAGED, local_service, name},
};
use crate::{authn::server_itself, builtin, contract::Lookup, custom::set_condition, json::text, server::Inner};

/// Makes the objects agree with what is served; everything is looked at each time.
pub async fn round(server: &Inner) -> Result<(), ApiError> {
    let snapshot = server.catalogue.now();
    let wanted: BTreeSet<(&str, &str)> =
        snapshot.customs().map(|custom| (custom.resource.group, custom.resource.version)).collect();
    let user = server_itself();
    let resource = builtin::api_services();
    server.caches.fresh().await?;
    let mut there = BTreeSet::new();
    for stored in server.lookup.list(resource, "") {
        let object = stored.value();
        let spec = &object["spec"];
        let key = (text(&spec["group"]), text(&spec["version"]));
        let is_managed = object["metadata"]["labels"][MANAGED] == "true";
        if is_managed && !wanted.contains(&key) {
            match server.lookup.delete(&user, resource, "", stored.name(), serde_json::json!({})).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => continue,
            }
        }
        there.insert(stored.name().to_owned());
        let made = local_service(key.0, key.1, "true");
        if is_managed && *spec != made["spec"] {
            let restore = &mut |object: &mut Value| {
                object["spec"] = made["spec"].clone();
                Ok(())
            };
            server.lookup.modify(&user, resource, "", "", stored.name(), restore).await?;
        }
        if !spec["service"].is_object() {
            mark_local(server, stored.name(), &object).await?;
        }
    }
    for (group, version) in wanted {
        let name = name(group, version);
        if there.contains(&name) {
            continue;
        }
        match server.lookup.create(&user, resource, local_service(group, version, "true")).await {
            Ok(made) => mark_local(server, &name, &made).await?,
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn mark_local(server: &Inner, name: &str, object: &Value) -> Result<(), ApiError> {
    let conditions = crate::json::items(&object["status"]["conditions"]);
    let is_said = |one: &Value| (text(&one["type"]), text(&one["status"]), text(&one["reason"])) == LOCAL;
    if conditions.iter().any(is_said) {
        return Ok(());
    }
    let now = server.env.now();
    let set = |object: &mut Value| {
        if !object["spec"]["service"].is_object() {
            let (kind, word, reason) = LOCAL;
            set_condition(&mut object["status"], kind, word, reason, LOCAL_MESSAGE, now);
        }
        Ok(())
    };
    change_status(server, name, set).await
}

const LOCAL: (&str, &str, &str) = ("Available", "True", "Local");
const LOCAL_MESSAGE: &str = "Local APIServices are always available";
