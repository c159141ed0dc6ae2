//! Talks to registries (OCI distribution-spec 1.1, docker registry HTTP API v2).
//!
//! [`Client`] belongs to a store and remembers tokens; a [`Session`] is one repository seen with one credential. A request
//! goes out without credentials first, answers the challenge once (auth.rs), and is repeated while the failure looks
//! passing: 429, 5xx, broken connections. Bodies are resumed where they broke off (transfer.rs).

mod auth;
mod transfer;

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};

use self::auth::Tokens;
use crate::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::reference::{DEFAULT_REGISTRY, host_of, is_loopback};
use crate::{Credential, Digest, Error, Options};

const DOCKER_API_HOST: &str = "registry-1.docker.io";
const USER_AGENT: &str = concat!("catamaran/", env!("CARGO_PKG_VERSION"));
/// A registry may ask for more patience than a pod start has.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(20);
/// Connecting again at once rarely helps; the caller has a back-off of its own.
const CONNECT_ATTEMPTS: u32 = 2;
const MAX_ERROR_BODY: usize = 16 * 1024;
const DIGEST_HEADER: &str = "docker-content-digest";

#[derive(Debug)]
pub(crate) struct Client {
    options: Options,
    verified: OnceLock<reqwest::Client>,
    unverified: OnceLock<reqwest::Client>,
    tokens: Tokens,
    /// Loopback registries, once it is known which scheme they speak.
    schemes: Mutex<HashMap<String, &'static str>>,
}

/// One repository of one registry, seen by one identity.
#[derive(Debug, Clone)]
pub(crate) struct Session<'a> {
    client: &'a Client,
    /// The image in error messages.
    what: String,
    /// As in the image's name.
    registry: String,
    repository: String,
    base: String,
    credential: Option<&'a Credential>,
    actions: &'static str,
}

/// A manifest or index as the registry gave it, verified.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: Option<String>,
    pub(crate) digest: Digest,
}

impl Client {
    pub(crate) fn new(options: &Options) -> Client {
        Client {
            options: options.clone(),
            verified: OnceLock::new(),
            unverified: OnceLock::new(),
            tokens: Tokens::default(),
            schemes: Mutex::default(),
        }
    }

    /// Opens a repository for `actions` (`pull` or `pull,push`). Finds out how the registry is spoken to, no more.
    pub(crate) async fn session<'a>(
        &'a self,
        what: &str,
        registry: &str,
        repository: &str,
        credential: Option<&'a Credential>,
        actions: &'static str,
    ) -> Result<Session<'a>, Error> {
        if let Some(helper) = credential.and_then(Credential::helper) {
            return Err(Error::CredentialHelper {
                registry: registry.to_owned(),
                helper: helper.to_owned(),
            });
        }
        let host = if registry == DEFAULT_REGISTRY {
            DOCKER_API_HOST
        } else {
            registry
        };
        let scheme = self.scheme(host).await?;
        Ok(Session {
            client: self,
            what: what.to_owned(),
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            base: format!("{scheme}://{host}"),
            credential,
            actions,
        })
    }

    async fn scheme(&self, host: &str) -> Result<&'static str, Error> {
        let configured = |hosts: &[String]| hosts.iter().any(|known| known == host || known == host_of(host));
        if configured(&self.options.plain_http_hosts) {
            return Ok("http");
        }
        if !is_loopback(host) || configured(&self.options.insecure_tls_hosts) {
            return Ok("https");
        }
        if let Some(scheme) = self.schemes.lock().unwrap_or_else(PoisonError::into_inner).get(host) {
            return Ok(scheme);
        }
        // A TLS server answers plain HTTP with 400 or with bytes that are no HTTP.
        let answer = self.http("http", host)?.get(format!("http://{host}/v2/")).send().await;
        let scheme = match answer {
            Ok(answer) if answer.status() == StatusCode::BAD_REQUEST => "https",
            Ok(_) => "http",
            Err(error) if error.is_connect() || error.is_timeout() => return Ok("http"),
            Err(_) => "https",
        };
        self.schemes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(host.to_owned(), scheme);
        Ok(scheme)
    }

    /// The HTTP client for a host; certificates are loaded when the first of them is needed.
    fn http(&self, scheme: &str, host: &str) -> Result<&reqwest::Client, Error> {
        let insecure = self
            .options
            .insecure_tls_hosts
            .iter()
            .any(|known| known == host || known == host_of(host));
        let verify = scheme == "https" && !insecure;
        let cell = if verify { &self.verified } else { &self.unverified };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let client = self.build(verify)?;
        Ok(cell.get_or_init(|| client))
    }

    fn build(&self, verify: bool) -> Result<reqwest::Client, Error> {
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(self.options.connect_timeout)
            .read_timeout(self.options.read_timeout);
        if !verify {
            // Plain HTTP may redirect to HTTPS storage; what arrives is verified by digest.
            builder = builder.tls_danger_accept_invalid_certs(true);
        } else if let Some(path) = &self.options.ca_file {
            let pem = std::fs::read(path).map_err(|source| Error::io("read", path, source))?;
            let roots = reqwest::Certificate::from_pem_bundle(&pem).map_err(Error::HttpClient)?;
            builder = builder.tls_certs_only(roots);
        }
        builder.build().map_err(Error::HttpClient)
    }
}

impl Session<'_> {
    /// The registry's name as in image references.
    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    /// Fetches a manifest or index by tag or digest.
    pub(crate) async fn manifest(&self, selector: &str) -> Result<Fetched, Error> {
        let url = self.url(&format!("manifests/{selector}"));
        let accept = [
            OCI_INDEX,
            OCI_MANIFEST,
            DOCKER_INDEX,
            DOCKER_MANIFEST,
            "application/json;q=0.1",
        ]
        .join(", ");
        let response = self
            .send(Method::GET, &url, |request| request.header(ACCEPT, &accept))
            .await?;
        let response = self.success(response).await?;
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let media_type =
            header(CONTENT_TYPE.as_str()).map(|text| text.split(';').next().unwrap_or_default().trim().to_owned());
        let announced = header(DIGEST_HEADER).and_then(|text| Digest::parse(&text).ok());
        let bytes = self.body(response, self.client.options.limits.document_bytes).await?;
        let digest = Digest::of(&bytes);
        for expected in Digest::parse(selector).ok().into_iter().chain(announced) {
            if expected != digest {
                let (expected, actual) = (expected.to_string(), digest.to_string());
                return Err(Error::DigestMismatch {
                    what: format!("{}: manifest", self.what),
                    expected,
                    actual,
                });
            }
        }
        Ok(Fetched {
            bytes,
            media_type,
            digest,
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.base, self.repository)
    }

    /// Sends a request until its answer is final: authorised if asked to be, repeated while failures look passing.
    async fn send(
        &self,
        method: Method,
        url: &str,
        build: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        let mut attempt = 1;
        let mut challenged = false;
        loop {
            let mut request = build(self.http(url)?.request(method.clone(), url));
            // Uploads go where the registry says; only its own host gets to see who we are.
            if self.is_own(url)
                && let Some(authorization) = self.client.tokens.get(self)
            {
                request = request.header(AUTHORIZATION, authorization);
            }
            let wait = match request.send().await {
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && !challenged => {
                    challenged = true;
                    self.authorise(response).await?;
                    continue;
                }
                Ok(response) if is_passing(response.status()) => {
                    if attempt >= self.client.options.attempts {
                        let (status, registry) = (response.status().as_u16(), self.registry.clone());
                        return Err(Error::Busy {
                            what: self.what.clone(),
                            registry,
                            status,
                            attempts: attempt,
                        });
                    }
                    retry_after(response.headers())
                }
                Ok(response) => return Ok(response),
                Err(error) => {
                    let limit = if error.is_connect() {
                        CONNECT_ATTEMPTS
                    } else {
                        self.client.options.attempts
                    };
                    if is_tls(&error) || attempt >= limit {
                        return Err(self.network(error));
                    }
                    None
                }
            };
            tokio::time::sleep(wait.unwrap_or_else(|| self.delay(attempt))).await;
            attempt += 1;
        }
    }

    fn http(&self, url: &str) -> Result<&reqwest::Client, Error> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
        self.client
            .http(scheme, rest.split(['/', '?']).next().unwrap_or_default())
    }

    fn is_own(&self, url: &str) -> bool {
        url.strip_prefix(&self.base).is_some_and(|rest| rest.starts_with('/'))
    }

    fn delay(&self, attempt: u32) -> Duration {
        self.client.options.retry_delay * (1 << attempt.saturating_sub(1).min(4))
    }

    /// Turns an answer that is not a success into the error that it means.
    async fn success(&self, response: Response) -> Result<Response, Error> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let message = error_message(response).await;
        let what = self.what.clone();
        Err(match status {
            StatusCode::NOT_FOUND => Error::NotFound { what },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.unauthorized(&message),
            status => Error::Registry {
                what,
                registry: self.registry.clone(),
                status: status.as_u16(),
                message,
            },
        })
    }

    fn unauthorized(&self, message: &str) -> Error {
        let who = match self.credential {
            Some(Credential {
                identity_token: Some(_),
                ..
            }) => "with an identity token".to_owned(),
            Some(credential) => format!("as {:?}", credential.username),
            None => "without credentials".to_owned(),
        };
        let detail = format!(
            "registry {} denies access {who}, or has no such repository: {message}",
            self.registry
        );
        Error::Unauthorized {
            what: self.what.clone(),
            detail,
        }
    }

    fn network(&self, error: reqwest::Error) -> Error {
        let (what, registry) = (self.what.clone(), self.registry.clone());
        let source = error.without_url();
        if is_tls(&source) {
            Error::Tls { what, registry, source }
        } else if source.is_connect() || source.is_timeout() {
            Error::Unreachable { what, registry, source }
        } else {
            Error::Transfer { what, registry, source }
        }
    }

    async fn body(&self, mut response: Response, limit: u64) -> Result<Vec<u8>, Error> {
        let too_large = |actual| Error::TooLarge {
            what: self.what.clone(),
            actual,
            limit,
        };
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.network(error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Err(too_large(bytes.len() as u64));
            }
        }
        Ok(bytes)
    }
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

fn is_tls(error: &reqwest::Error) -> bool {
    std::error::Error::source(error).is_some_and(is_caused_by_tls)
}

/// An `io::Error` is no link of the chain of sources but a wrapper around what it was made from.
fn is_caused_by_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>()
        || wrapped.is_some_and(|wrapped| is_caused_by_tls(wrapped))
        || error.source().is_some_and(is_caused_by_tls)
}

/// The first of the errors that the registry lists (distribution-spec, "Error Codes"), or the beginning of its text.
async fn error_message(mut response: Response) -> String {
    let mut body = Vec::new();
    while body.len() < MAX_ERROR_BODY
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    let listed = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|value| {
            let error = value.get("errors")?.get(0)?;
            let text = |name: &str| {
                error
                    .get(name)
                    .and_then(serde_json::Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            Some(format!("{}: {}", text("code"), text("message")))
        });
    listed.unwrap_or_else(|| {
        let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() { "no message".to_owned() } else { text }
    })
}
