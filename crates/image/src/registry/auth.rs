//! Answers a registry's challenge: `Basic`, or `Bearer` with a token from the place it names
//! (distribution project, "Token Authentication" and "OAuth2 Token Authentication").

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use reqwest::Response;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use serde::Deserialize;

use super::{Session, error_message};
use crate::{Credential, Error};

/// What the token specification says for tokens that do not say it themselves.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// A token is not used when it is about to expire on the way.
const SAFETY_MARGIN: Duration = Duration::from_secs(5);
const MAX_TOKENS: usize = 1024;

/// Who asks for what, where.
type Key = (String, String, &'static str, String);

/// `Authorization` values that worked out, until they expire.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<HashMap<Key, (String, Instant)>>);

impl Tokens {
    pub(super) fn get(&self, session: &Session<'_>) -> Option<String> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, expires) = tokens.get(&key(session))?;
        (Instant::now() < *expires).then(|| value.clone())
    }

    fn put(&self, session: &Session<'_>, value: String, lifetime: Duration) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if tokens.len() >= MAX_TOKENS {
            tokens.retain(|_, (_, expires)| *expires > now);
        }
        if tokens.len() >= MAX_TOKENS {
            tokens.clear();
        }
        tokens.insert(key(session), (value, now + lifetime.saturating_sub(SAFETY_MARGIN)));
    }

    fn forget(&self, session: &Session<'_>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key(session));
    }
}

fn key(session: &Session<'_>) -> Key {
    let identity = session.credential.map_or_else(String::new, |credential| {
        format!(
            "{}\0{}\0{:?}",
            credential.username, credential.password, credential.identity_token
        )
    });
    (
        session.base.clone(),
        session.repository.clone(),
        session.actions,
        identity,
    )
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    parameters: HashMap<String, String>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

impl Session<'_> {
    /// Reads the challenge of a 401 and gets ready to repeat the request. That the credentials are wrong shows here or in
    /// the answer to the repetition.
    pub(super) async fn authorise(&self, response: Response) -> Result<(), Error> {
        self.client.tokens.forget(self);
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let challenges: Vec<Challenge> = headers
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(parse_challenges)
            .collect();
        let of = |scheme: &str| {
            challenges
                .iter()
                .find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme))
        };
        if let Some(bearer) = of("bearer") {
            let (token, lifetime) = self.fetch_token(bearer).await?;
            self.client.tokens.put(self, format!("Bearer {token}"), lifetime);
            return Ok(());
        }
        match (of("basic"), self.credential) {
            (Some(_), Some(credential)) if !credential.username.is_empty() => {
                self.client
                    .tokens
                    .put(self, basic(credential), Duration::from_secs(3600));
                Ok(())
            }
            _ => Err(self.unauthorized(&error_message(response).await)),
        }
    }

    async fn fetch_token(&self, challenge: &Challenge) -> Result<(String, Duration), Error> {
        let parameter = |name: &str| challenge.parameters.get(name).map(String::as_str).unwrap_or_default();
        let realm = parameter("realm");
        if !realm.starts_with("https://") && !realm.starts_with("http://") {
            return Err(self.unauthorized(&format!("the registry names no usable token server ({realm:?})")));
        }
        if self.credential.is_some() && realm.starts_with("http://") && self.base.starts_with("https://") {
            return Err(self.unauthorized(&format!(
                "its token server {realm} would get the credentials in the clear"
            )));
        }
        let wanted = format!("repository:{}:{}", self.repository, self.actions);
        let mut query = vec![("service", parameter("service")), ("scope", wanted.as_str())];
        // One challenge may name several, as for a blob that is mounted from another repository; servers read one each.
        let asked = parameter("scope").split(' ').filter(|scope| *scope != wanted);
        query.extend(asked.map(|scope| ("scope", scope)));
        query.retain(|(_, value)| !value.is_empty());
        let http = self.http(realm)?;
        let refresh = self
            .credential
            .and_then(|credential| credential.identity_token.as_deref());
        let request = if let Some(refresh) = refresh {
            query.extend([
                ("grant_type", "refresh_token"),
                ("client_id", "catamaran"),
                ("refresh_token", refresh),
            ]);
            http.post(realm)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(encode(&query))
        } else {
            let separator = if realm.contains('?') { '&' } else { '?' };
            let request = http.get(format!("{realm}{separator}{}", encode(&query)));
            match self.credential {
                Some(credential) => request.header(AUTHORIZATION, basic(credential)),
                None => request,
            }
        };
        let response = request.send().await.map_err(|error| self.network(error))?;
        if response.status().is_client_error() {
            return Err(self.unauthorized(&error_message(response).await));
        }
        let response = self.success(response).await?;
        let bytes = self.body(response, 1 << 20).await?;
        let json = |source| Error::Json {
            what: format!("{}: token of registry {}", self.what, self.registry),
            source,
        };
        let answer: TokenAnswer = serde_json::from_slice(&bytes).map_err(json)?;
        let token = if answer.token.is_empty() {
            answer.access_token
        } else {
            answer.token
        };
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(self.unauthorized("the token server gave no usable token"));
        }
        Ok((token, answer.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs)))
    }
}

fn basic(credential: &Credential) -> String {
    let pair = format!("{}:{}", credential.username, credential.password);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

fn encode(pairs: &[(&str, &str)]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
                byte => {
                    let _ = write!(text, "%{byte:02X}");
                }
            }
        }
    }
    text
}

/// Parses `Scheme key=value, key="quoted", Scheme2 …` (RFC 9110, section 11.6.1).
fn parse_challenges(text: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',', '\t']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if let Some(value) = after.strip_prefix('=') {
            let (value, after) = parameter_value(value);
            if let Some(challenge) = challenges.last_mut() {
                challenge.parameters.insert(word.to_ascii_lowercase(), value);
            }
            rest = after;
        } else {
            challenges.push(Challenge {
                scheme: word.to_owned(),
                parameters: HashMap::new(),
            });
            rest = after;
        }
        let trimmed = rest.trim_start_matches([' ', ',', '\t']);
        rest = if trimmed.len() == rest.len() && word.is_empty() {
            ""
        } else {
            trimmed
        };
    }
    challenges
}

fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([',', ' ']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, character)| character)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_in_the_wild() {
        let parsed = parse_challenges(
            r#"Bearer realm="https://auth.example/token?x=1",service="r, \"q\"",scope="repository:a/b:pull", Basic realm=x"#,
        );
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[0].parameters["realm"], "https://auth.example/token?x=1");
        assert_eq!(parsed[0].parameters["service"], "r, \"q\"");
        assert_eq!(
            (parsed[1].scheme.as_str(), parsed[1].parameters["realm"].as_str()),
            ("Basic", "x")
        );
        assert_eq!(
            encode(&[("scope", "repository:a/b:pull,push")]),
            "scope=repository%3Aa%2Fb%3Apull%2Cpush"
        );
    }

    #[test]
    fn strange_challenges_end() {
        use proptest::prelude::*;
        proptest!(|(text in r#"[a-zA-Z=," \\]{0,40}"#)| {
            let _ = parse_challenges(&text);
        });
    }
}
