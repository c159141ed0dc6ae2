//! A registry inside the test: as correct as told, as faulty as told.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use catamaran_image::{Digest, Options, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Anonymous,
    Basic,
    Token,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Status(u16),
    /// The connection breaks after so many bytes.
    Break(usize),
    /// One bit is wrong.
    Corrupt,
    /// Headers, then silence.
    Hang,
}

pub(crate) struct Inner {
    pub(crate) access: Access,
    pub(crate) ranges: bool,
    pub(crate) blobs: HashMap<String, Vec<u8>>,
    pub(crate) manifests: HashMap<String, (String, Vec<u8>)>,
    /// By the end of the path, used up in order.
    pub(crate) faults: HashMap<String, VecDeque<Fault>>,
    /// `METHOD path [range]`
    pub(crate) log: Vec<String>,
    address: SocketAddr,
}

#[derive(Clone)]
pub(crate) struct Fake(Arc<Mutex<Inner>>);

pub(crate) const USER: &str = "captain";
pub(crate) const PASSWORD: &str = "secret:with:colons";

impl Fake {
    pub(crate) async fn start() -> Fake {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Fake(Arc::new(Mutex::new(Inner {
            access: Access::Anonymous,
            ranges: true,
            blobs: HashMap::new(),
            manifests: HashMap::new(),
            faults: HashMap::new(),
            log: Vec::new(),
            address: listener.local_addr().unwrap(),
        })));
        let router = axum::Router::new().fallback(serve).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    pub(crate) fn with(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(crate) fn host(&self) -> String {
        self.with().address.to_string()
    }

    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host())
    }

    pub(crate) fn blob(&self, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        self.with().blobs.insert(digest.to_string(), bytes.to_vec());
        json!({"digest": digest, "size": bytes.len()})
    }

    /// Stores a manifest under a tag and its digest; returns its descriptor.
    pub(crate) fn manifest(&self, repository: &str, tag: &str, media_type: &str, document: &Value) -> Value {
        let bytes = document.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        for selector in [tag, digest.as_str()] {
            let value = (media_type.to_owned(), bytes.clone());
            self.with()
                .manifests
                .insert(format!("{repository}/manifests/{selector}"), value);
        }
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// A one-layer Linux image whose layer holds `content` in the file `/content`.
    pub(crate) fn image(&self, repository: &str, tag: &str, architecture: &str, content: &str) -> Value {
        let layer = layer(content);
        let config = json!({
            "os": "linux", "architecture": architecture,
            "config": {"Entrypoint": ["/content"], "Env": ["A=b"]},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]},
        });
        let typed = |mut descriptor: Value, media_type: &str| {
            descriptor["mediaType"] = json!(media_type);
            descriptor
        };
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": typed(self.blob(config.to_string().as_bytes()), OCI_CONFIG),
            "layers": [typed(self.blob(&layer), OCI_LAYER)],
        });
        self.manifest(repository, tag, OCI_MANIFEST, &manifest)
    }

    pub(crate) fn fault(&self, path_end: &str, faults: impl IntoIterator<Item = Fault>) {
        self.with()
            .faults
            .insert(path_end.to_owned(), faults.into_iter().collect());
    }

    /// How many requests of `method` went to paths containing `part`.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        self.with()
            .log
            .iter()
            .filter(|line| line.starts_with(method) && line.contains(part))
            .count()
    }
}

pub(crate) fn layer(content: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(content.len() as u64);
    builder.append_data(&mut header, "content", content.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}

/// A store that does not wait long.
pub(crate) fn store(change: impl FnOnce(&mut Options)) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options {
        retry_delay: std::time::Duration::from_millis(1),
        ..Options::default()
    };
    options.platform.os = "linux".into();
    options.platform.architecture = "amd64".into();
    options.platform.variant = String::new();
    change(&mut options);
    let store = Store::open(dir.path().join("images"), options).unwrap();
    (dir, store)
}

async fn serve(State(fake): State<Fake>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let headers = request.headers().clone();
    let range = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let mut inner = fake.with();
    inner
        .log
        .push(format!("{} {path} {range}", request.method()).trim().to_owned());
    if path == "/token" {
        return token(&headers, &query);
    }
    if let Some(challenge) = inner.challenge(&headers, &path) {
        return challenge;
    }
    let fault = inner
        .faults
        .iter_mut()
        .find(|(end, _)| path.ends_with(end.as_str()))
        .and_then(|(_, list)| list.pop_front());
    if let Some(Fault::Status(status)) = fault {
        return (StatusCode::from_u16(status).unwrap(), "come back later").into_response();
    }
    let Some(rest) = path.strip_prefix("/v2/") else {
        return error(StatusCode::NOT_FOUND, "NOT_FOUND");
    };
    if rest.is_empty() {
        return "{}".into_response();
    }
    if let Some((media_type, bytes)) = inner.manifests.get(rest) {
        let digest = Digest::of(bytes).to_string();
        let mut bytes = bytes.clone();
        if matches!(fault, Some(Fault::Corrupt)) {
            bytes.push(b'\n');
        }
        let headers = [("content-type", media_type.clone()), ("docker-content-digest", digest)];
        return (headers, bytes).into_response();
    }
    let blob = rest
        .split_once("/blobs/")
        .and_then(|(_, digest)| inner.blobs.get(digest))
        .cloned();
    match blob {
        Some(blob) => send_blob(blob, inner.ranges, &range, fault),
        None if rest.contains("/manifests/") => error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
        None => error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
    }
}

fn send_blob(mut blob: Vec<u8>, ranges: bool, range: &str, fault: Option<Fault>) -> Response {
    let total = blob.len();
    let start = range
        .strip_prefix("bytes=")
        .and_then(|range| range.strip_suffix('-'))
        .filter(|_| ranges);
    let start: usize = start.map_or(0, |start| start.parse().unwrap());
    if matches!(fault, Some(Fault::Corrupt)) {
        blob[total / 2] ^= 1;
    }
    let body = blob.split_off(start);
    let mut response = Response::builder().header(header::CONTENT_LENGTH, body.len());
    if start > 0 {
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {start}-{}/{total}", total - 1));
    }
    let body = match fault {
        Some(Fault::Break(length)) => {
            let pieces = [
                Ok(Bytes::from(body[..length].to_vec())),
                Err(std::io::Error::other("broken off")),
            ];
            // The pause lets the first piece leave before the error resets the connection.
            Body::from_stream(futures::stream::unfold(pieces.into_iter(), |mut pieces| async move {
                let piece = pieces.next()?;
                if piece.is_err() {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                Some((piece, pieces))
            }))
        }
        Some(Fault::Hang) => Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>()),
        _ => Body::from(body),
    };
    response.body(body).unwrap()
}

impl Inner {
    fn challenge(&self, headers: &HeaderMap, path: &str) -> Option<Response> {
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let (expected, challenge) = match self.access {
            Access::Anonymous => return None,
            Access::Basic => (basic(), "Basic realm=\"fake\"".to_owned()),
            Access::Token => {
                let repository = path
                    .trim_start_matches("/v2/")
                    .split("/manifests")
                    .next()
                    .unwrap_or_default();
                let repository = repository.split("/blobs").next().unwrap_or_default();
                let challenge = format!(
                    "Bearer realm=\"http://{}/token\",service=\"fake\",scope=\"repository:{repository}:pull\"",
                    self.address
                );
                (format!("Bearer token-for-{repository}"), challenge)
            }
        };
        if given == expected {
            return None;
        }
        let mut response = error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
        Some(response)
    }
}

fn basic() -> String {
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"))
    )
}

fn token(headers: &HeaderMap, query: &str) -> Response {
    if headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) != Some(&basic()) {
        return error(StatusCode::UNAUTHORIZED, "DENIED");
    }
    let scope = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("scope=repository%3A"))
        .unwrap_or_default();
    let repository = scope.split("%3A").next().unwrap_or_default().replace("%2F", "/");
    axum::Json(json!({"token": format!("token-for-{repository}"), "expires_in": 300})).into_response()
}

fn error(status: StatusCode, code: &str) -> Response {
    (
        status,
        axum::Json(json!({"errors": [{"code": code, "message": "says the fake"}]})),
    )
        .into_response()
}
