//! Who may ask, beside those whom the server made certificates and tokens for.

use std::path::PathBuf;

use clap::Args;

/// Whom the API server knows beside its own certificates and tokens; the options of kube-apiserver.
#[derive(Clone, Debug, Args)]
pub struct AuthArgs {
    /// Users by tokens: a CSV file with token, user name, user uid and, in quotes, groups
    #[arg(long, value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// The OpenID Connect provider whose ID tokens are taken (https)
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    pub oidc_issuer_url: Option<String>,
    /// Whom ID tokens must be for
    #[arg(long, value_name = "ID", requires = "oidc_issuer_url")]
    pub oidc_client_id: Option<String>,
    /// The claim that is the user's name
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    pub oidc_username_claim: String,
    /// What is put before users' names; - for nothing [default: the provider's URL and #, nothing where the claim is email]
    #[arg(long, value_name = "PREFIX", requires = "oidc_issuer_url", allow_hyphen_values = true)]
    pub oidc_username_prefix: Option<String>,
    /// The claim that lists the user's groups
    #[arg(long, value_name = "CLAIM", requires = "oidc_issuer_url")]
    pub oidc_groups_claim: Option<String>,
    /// What is put before groups' names
    #[arg(long, value_name = "PREFIX", requires = "oidc_groups_claim")]
    pub oidc_groups_prefix: Option<String>,
    /// A claim that ID tokens must have, with its value; may be given several times
    #[arg(long, value_name = "CLAIM=VALUE", requires = "oidc_issuer_url", value_parser = parse_claim)]
    pub oidc_required_claim: Vec<(String, String)>,
    /// Authorities that the provider's certificate may be of [default: those that the host trusts]
    #[arg(long, value_name = "FILE", requires = "oidc_issuer_url")]
    pub oidc_ca_file: Option<PathBuf>,
    /// How ID tokens may be signed: RS, PS or ES with 256 or 384, RS512, PS512
    #[arg(long, value_name = "ALG,...", value_delimiter = ',', default_value = "RS256")]
    pub oidc_signing_algs: Vec<String>,
    /// Authorities of front proxies, whose word is taken for who asks [default: the one in the data directory]
    #[arg(long, value_name = "FILE")]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of front proxies [default: any of those authorities']
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', requires = "requestheader_client_ca_file")]
    pub requestheader_allowed_names: Vec<String>,
    /// Headers of front proxies with the user's name
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "X-Remote-User")]
    pub requestheader_username_headers: Vec<String>,
    /// Headers of front proxies with the user's uid
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "X-Remote-Uid")]
    pub requestheader_uid_headers: Vec<String>,
    /// Headers of front proxies with the user's groups
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "X-Remote-Group")]
    pub requestheader_group_headers: Vec<String>,
    /// What front proxies' headers with more about the user begin with
    #[arg(long, value_name = "PREFIX,...", value_delimiter = ',', default_value = "X-Remote-Extra-")]
    pub requestheader_extra_headers_prefix: Vec<String>,
}

fn parse_claim(text: &str) -> Result<(String, String), String> {
    let (claim, value) = text.split_once('=').ok_or("a required claim reads CLAIM=VALUE")?;
    Ok((claim.trim().to_owned(), value.trim().to_owned()))
}
