use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::OidcConfig;
use crate::contract::UserInfo;

/// Clocks of providers and servers differ; a token may be this much ahead of its time.
const LEEWAY_SECONDS: f64 = 300.0;

pub fn check_times(claims: &Value, now: Timestamp) -> Result<(), String> {
    // Seconds since 1970 are exact in a double for ages to come.
    let now = now.as_second() as f64;
    let ends = claims["exp"].as_f64().ok_or("token has no expiry")?;
    if now > ends {
        return Err(format!("token is expired (Token Expiry: {ends})"));
    }
    match claims["nbf"].as_f64() {
        Some(begins) if now + LEEWAY_SECONDS < begins => {
            Err(format!("current time {now} before the nbf (not before) time: {begins}"))
        }
        _ => Ok(()),
    }
}

pub fn check_audience(claims: &Value, client: &str) -> Result<(), String> {
    let audiences = strings(&claims["aud"]).unwrap_or_default();
    if audiences.iter().any(|audience| audience == client) {
        return Ok(());
    }
    Err(format!("expected audience {client:?} got {audiences:?}"))
}

/// Whom the claims name, by the rules of the options.
pub fn user(config: &OidcConfig, claims: &Value) -> Result<UserInfo, String> {
    let claim = config.username_claim.as_str();
    let name = claims[claim].as_str().ok_or_else(|| format!("parse username claims {claim:?}: claim not present"))?;
    if claim == "email"
        && let Some(verified) = claims.get("email_verified")
        && *verified != true
    {
        // Without the claim a provider is taken at its word, as upstream takes it.
        return Err("email not verified".into());
    }
    for (claim, wanted) in &config.required_claims {
        match claims[claim].as_str() {
            None => return Err(format!("required claim {claim} not present in ID token")),
            Some(found) if found != wanted => {
                return Err(format!("required claim {claim} value does not match. Got = {found}, want = {wanted}"));
            }
            Some(_) => {}
        }
    }
    let prefix = match config.username_prefix.as_deref() {
        Some("-") => String::new(),
        Some(prefix) => prefix.to_owned(),
        None if claim == "email" => String::new(),
        None => format!("{}#", config.issuer_url),
    };
    let mut extra = BTreeMap::new();
    if let Some(id) = claims["jti"].as_str().filter(|id| !id.is_empty()) {
        extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![format!("JTI={id}")]);
    }
    Ok(UserInfo { name: format!("{prefix}{name}"), groups: groups(config, claims)?, extra, ..UserInfo::default() })
}

fn groups(config: &OidcConfig, claims: &Value) -> Result<Vec<String>, String> {
    let claim = config.groups_claim.as_str();
    if claim.is_empty() {
        return Ok(Vec::new());
    }
    match claims.get(claim) {
        // A provider may keep long lists elsewhere, where they would have to be fetched with every token.
        None if claims["_claim_names"].get(claim).is_some() => {
            Err(format!("groups claim {claim:?} is distributed; have the provider put it into the token"))
        }
        None => Ok(Vec::new()),
        Some(found) => {
            let groups =
                strings(found).ok_or_else(|| format!("parse groups claim {claim:?}: not a list of strings"))?;
            Ok(groups.into_iter().map(|group| format!("{}{group}", config.groups_prefix)).collect())
        }
    }
}

/// One string, or a list of them.
fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(all) => all.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}
