//! What a registry asks for before it answers, and the answers: a name and password as they are, or a token that another
//! server gives for them (the distribution project's token authentication).

use http_auth::{ChallengeRef, parser::ChallengeParser};
use reqwest::{
    Client, Method, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE},
};
use serde::Deserialize;

use super::{Credentials, Problem, read, status_problem};

const MAX_TOKEN_BYTES: u64 = 1 << 20;

/// What a registry wants to be shown.
pub enum Challenge {
    Basic,
    Bearer(Realm),
}

/// Where tokens are given, and for what.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Realm {
    address: String,
    service: String,
    scopes: Vec<String>,
    /// What was wrong with the token that was shown.
    pub error: String,
}

impl Challenge {
    /// The first that there is an answer to.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|text| ChallengeParser::new(text).filter_map(Result::ok)).find_map(|challenge| match challenge
            .scheme
            .to_ascii_lowercase()
            .as_str()
        {
            "basic" => Some(Self::Basic),
            "bearer" => Some(Self::Bearer(Realm::of(&challenge))),
            _ => None,
        })
    }

    /// The header that answers it.
    pub async fn answer(
        &self,
        credentials: Option<&Credentials>,
        client: &Client,
        headers: &HeaderMap,
        repository: &str,
    ) -> Result<HeaderValue, Problem> {
        match (self, credentials) {
            (Self::Basic, Some(Credentials::Basic { username, password })) => Ok(basic(username, password)),
            (Self::Basic, _) => Err(Problem::denied("authorization failed: no basic auth credentials")),
            (Self::Bearer(_), Some(Credentials::Token(token))) => bearer(token),
            (Self::Bearer(realm), _) => {
                let token = realm.token(credentials, client, headers, repository).await;
                token.map_err(|problem| problem.because("failed to authorize")).and_then(|token| bearer(&token))
            }
        }
    }
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl Realm {
    fn of(challenge: &ChallengeRef<'_>) -> Self {
        let parameter = |name: &str| {
            let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped()).unwrap_or_default()
        };
        Self {
            address: parameter("realm"),
            service: parameter("service"),
            scopes: parameter("scope").split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
            error: parameter("error"),
        }
    }

    async fn token(
        &self,
        credentials: Option<&Credentials>,
        client: &Client,
        headers: &HeaderMap,
        repository: &str,
    ) -> Result<String, Problem> {
        let url = Url::parse(&self.address)
            .map_err(|_| Problem::unavailable("no realm specified for token auth challenge"))?;
        let scopes = match self.scopes.is_empty() {
            true => vec![format!("repository:{repository}:pull")],
            false => self.scopes.clone(),
        };
        let (username, secret) = match credentials {
            Some(Credentials::Basic { username, password }) => (username.as_str(), password.as_str()),
            Some(Credentials::Identity(token)) => ("", token.as_str()),
            _ => {
                let anonymous = self.by_get(url, &scopes, None, client, headers).await;
                return anonymous.map_err(|problem| problem.because("failed to fetch anonymous token"));
            }
        };
        let outcome = match self.by_post(url.clone(), &scopes, (username, secret), client, headers).await {
            // Servers that give tokens for a GET only.
            Err((_, Some(400 | 401 | 404))) => {
                self.by_get(url, &scopes, Some((username, secret)), client, headers).await
            }
            Err((_, Some(405))) if !username.is_empty() => {
                self.by_get(url, &scopes, Some((username, secret)), client, headers).await
            }
            Err((problem, _)) => Err(problem),
            Ok(token) => Ok(token),
        };
        outcome.map_err(|problem| problem.because("failed to fetch oauth token"))
    }

    /// OAuth 2's way; also tells the status of a refusal.
    async fn by_post(
        &self,
        url: Url,
        scopes: &[String],
        (username, secret): (&str, &str),
        client: &Client,
        headers: &HeaderMap,
    ) -> Result<String, (Problem, Option<u16>)> {
        let scope = scopes.join(" ");
        let mut form = vec![("scope", scope.as_str()), ("service", &self.service), ("client_id", "knarr")];
        match username {
            "" => form.extend([("grant_type", "refresh_token"), ("refresh_token", secret)]),
            _ => form.extend([("grant_type", "password"), ("username", username), ("password", secret)]),
        }
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = client
            .post(url.clone())
            .headers(headers.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")
            .body(body);
        let response = request.send().await.map_err(|e| (Problem::transport(&e), None))?;
        let status = response.status().as_u16();
        if !response.status().is_success() {
            return Err((status_problem(&Method::POST, &url, response).await, Some(status)));
        }
        token_of(response).await.map_err(|problem| (problem, None))
    }

    async fn by_get(
        &self,
        mut url: Url,
        scopes: &[String],
        credentials: Option<(&str, &str)>,
        client: &Client,
        headers: &HeaderMap,
    ) -> Result<String, Problem> {
        if !self.service.is_empty() {
            url.query_pairs_mut().append_pair("service", &self.service);
        }
        url.query_pairs_mut().extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
        let mut request = client.get(url.clone()).headers(headers.clone());
        if let Some((username, secret)) = credentials {
            request = request.header(AUTHORIZATION, basic(username, secret));
        }
        let response = request.send().await.map_err(|e| Problem::transport(&e))?;
        match response.status().is_success() {
            true => token_of(response).await,
            false => Err(status_problem(&Method::GET, &url, response).await),
        }
    }
}

async fn token_of(response: reqwest::Response) -> Result<String, Problem> {
    let bytes = read(response, MAX_TOKEN_BYTES).await?;
    // What serde would say of it may be a part of the token.
    let token: Token =
        serde_json::from_slice(&bytes).map_err(|_| Problem::unavailable("unable to decode token response"))?;
    let given = [token.access_token, token.token].into_iter().find(|token| !token.is_empty());
    given.ok_or_else(|| Problem::unavailable("authorization server did not include a token in the response"))
}

fn basic(username: &str, password: &str) -> HeaderValue {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    // Base64 is always a header's value.
    secret(format!("Basic {encoded}")).unwrap_or_else(|| HeaderValue::from_static("Basic"))
}

fn bearer(token: &str) -> Result<HeaderValue, Problem> {
    secret(format!("Bearer {token}")).ok_or_else(|| Problem::denied("authorization failed: the token is none"))
}

fn secret(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let of = |text: &'static str| {
            Challenge::of(&[(WWW_AUTHENTICATE, HeaderValue::from_static(text))].into_iter().collect())
        };
        assert!(matches!(of("Basic realm=\"basic-realm\""), Some(Challenge::Basic)));
        assert!(matches!(of("Negotiate, Basic realm=\"x\""), Some(Challenge::Basic)));
        assert!(of("Negotiate").is_none());
        let text = r#"Bearer realm="https://auth.io/token",service="reg.io",scope="repository:a/b:pull repository:c:pull",error="insufficient_scope""#;
        let Some(Challenge::Bearer(realm)) = of(text) else { panic!("{text}") };
        let expected = Realm {
            address: "https://auth.io/token".into(),
            service: "reg.io".into(),
            scopes: vec!["repository:a/b:pull".into(), "repository:c:pull".into()],
            error: "insufficient_scope".into(),
        };
        assert_eq!(realm, expected);
    }
}
