//! Whom the server knows beside its own certificates and tokens, as the command line says.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result};
use knarr_apiserver::{
    Env,
    aggregation::RequestHeaders,
    authn::{Oidc, OidcConfig, TokenFile},
    contract::Authenticator,
};

use crate::cli::AuthArgs;

/// Those that are asked after client certificates, in order: a file of tokens, then an identity provider.
pub fn authenticators(args: &AuthArgs, env: &Env) -> Result<Vec<Arc<dyn Authenticator>>> {
    let mut all: Vec<Arc<dyn Authenticator>> = Vec::new();
    if let Some(path) = &args.token_auth_file {
        all.push(Arc::new(TokenFile::read(path)?));
    }
    if let Some(issuer) = &args.oidc_issuer_url {
        let authorities = args.oidc_ca_file.as_ref().map(std::fs::read_to_string).transpose();
        let config = OidcConfig {
            issuer_url: issuer.clone(),
            client_id: args.oidc_client_id.clone().unwrap_or_default(),
            username_claim: args.oidc_username_claim.clone(),
            username_prefix: args.oidc_username_prefix.clone(),
            groups_claim: args.oidc_groups_claim.clone().unwrap_or_default(),
            groups_prefix: args.oidc_groups_prefix.clone().unwrap_or_default(),
            required_claims: args.oidc_required_claim.iter().cloned().collect::<BTreeMap<_, _>>(),
            authorities: authorities.context("the file of --oidc-ca-file cannot be read")?,
            signing_algorithms: args.oidc_signing_algs.clone(),
        };
        all.push(Arc::new(Oidc::new(config, env.clone())?));
    }
    Ok(all)
}

/// Who stands for front proxies (PEM), and the headers that these speak in. This server's own authority is always among
/// them: by it other servers know this one.
pub fn front_proxies(args: &AuthArgs, own: &str) -> Result<(String, RequestHeaders)> {
    let Some(path) = &args.requestheader_client_ca_file else {
        return Ok((own.to_owned(), RequestHeaders::default()));
    };
    let theirs = std::fs::read_to_string(path).context("the file of --requestheader-client-ca-file cannot be read")?;
    let mut allowed_names = args.requestheader_allowed_names.clone();
    if !allowed_names.is_empty() {
        allowed_names.extend(RequestHeaders::default().allowed_names);
    }
    let headers = RequestHeaders {
        allowed_names,
        username: args.requestheader_username_headers.clone(),
        uid: args.requestheader_uid_headers.clone(),
        group: args.requestheader_group_headers.clone(),
        extra_prefix: args.requestheader_extra_headers_prefix.clone(),
    };
    Ok((format!("{}\n{}", theirs.trim_end(), own), headers))
}
