//! Requests that a pod's node has to answer: logs, exec, attach, port-forward.
//!
//! The node's address and port are what it says in its status; that it is that node is proved by its certificate, which
//! is checked for the node's *name*. Bodies are passed through as they come, upgraded connections byte by byte: the
//! node's agent speaks the stream protocol, not this server.

use super::query::Query;
use super::session::Session;
use crate::pki::{self, Pair};
use crate::registry::{Registry, Target};
use axum::body::Body;
use axum::response::Response;
use catamaran_api::Status;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header, request};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a node may take to answer the connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// The longest error text of a node that is passed on.
const LONGEST_ERROR: usize = 64 << 10;

/// Opens connections to nodes.
pub(crate) struct NodeDialer {
    tls: TlsConnector,
}

/// A pod's container that a stream is for.
pub(super) struct Running<'a> {
    pub(super) target: &'a Target,
    /// `exec` or `attach`.
    pub(super) verb: &'static str,
}

/// Where a node is.
pub(super) struct Place {
    node: String,
    pub(super) address: String,
    pub(super) port: u16,
}

impl NodeDialer {
    pub(crate) fn new(client: &Pair, ca_pem: &str) -> Result<Self, super::serve::Error> {
        fn bad<E: std::error::Error + Send + Sync + 'static>(error: E) -> super::serve::Error {
            super::serve::Error::Certificate(Box::new(error))
        }
        let mut roots = RootCertStore::empty();
        roots.add(pki::der(ca_pem).map_err(bad)?).map_err(bad)?;
        let chain = vec![pki::der(&client.cert_pem).map_err(bad)?];
        let key = pki::key_der(&client.key_pem).map_err(bad)?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(bad)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(bad)?;
        Ok(NodeDialer {
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// GET `pods/log`.
    pub(super) async fn logs(&self, registry: &Registry, target: &Target, query: &Query) -> Result<Response, Status> {
        let pod = pod(registry, target).await?;
        let container = container(&pod, query.get("container"))?;
        check_log_options(query)?;
        let place = place(registry, &pod, &target.name)?;
        let mut path = format!("/containerLogs/{}/{container}", below(target));
        let mut separator = '?';
        for name in [
            "follow",
            "previous",
            "sinceSeconds",
            "sinceTime",
            "tailLines",
            "limitBytes",
            "timestamps",
            "stream",
        ] {
            let value = query.get(name);
            if !value.is_empty() {
                let _ = write!(path, "{separator}{name}={}", encode(value));
                separator = '&';
            }
        }
        let request = request(&place, Method::GET, &path, Body::empty())?;
        let response = self.send(&place, request).await?;
        if response.status() != StatusCode::OK {
            return Err(node_refused(response).await);
        }
        let mut answer = Response::new(Body::new(response.into_body()));
        answer
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(answer)
    }

    /// GET or POST `pods/exec` and `pods/attach`.
    pub(super) async fn stream(
        &self,
        registry: &Registry,
        running: &Running<'_>,
        query: &Query,
        head: &request::Parts,
        body: Body,
    ) -> Result<Response, Status> {
        let target = running.target;
        let pod = pod(registry, target).await?;
        let container = container(&pod, query.get("container"))?;
        check_stream_options(running.verb, query)?;
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            .unwrap_or_default();
        if matches!(phase, "Succeeded" | "Failed") {
            return Err(Status::bad_request(format!(
                "cannot {} into a container in a completed pod; current phase is {phase}",
                running.verb
            )));
        }
        let place = place(registry, &pod, &target.name)?;
        let upgrade = head
            .extensions
            .get::<OnUpgrade>()
            .cloned()
            .filter(|_| head.headers.contains_key(header::UPGRADE))
            .ok_or_else(|| Status::bad_request("Upgrade request required"))?;
        let path = format!("/{}/{}/{container}{}", running.verb, below(target), stream_query(query));
        let mut request = request(&place, head.method.clone(), &path, body)?;
        copy_upgrade_headers(&head.headers, request.headers_mut());
        let response = self.send(&place, request).await?;
        pass_through(registry, Session::of(&head.extensions), upgrade, response).await
    }

    /// GET or POST `pods/portforward`. Whatever the client wants to upgrade to is between it and the node.
    pub(super) async fn forward(
        &self,
        registry: &Registry,
        target: &Target,
        query: &Query,
        head: &request::Parts,
        body: Body,
    ) -> Result<Response, Status> {
        let pod = pod(registry, target).await?;
        let place = place(registry, &pod, &target.name)?;
        let upgrade = head
            .extensions
            .get::<OnUpgrade>()
            .cloned()
            .filter(|_| head.headers.contains_key(header::UPGRADE))
            .ok_or_else(|| Status::bad_request("Upgrade request required"))?;
        let mut path = format!("/portForward/{}", below(target));
        for (index, port) in query.all("ports").enumerate() {
            let _ = write!(path, "{}port={}", if index == 0 { '?' } else { '&' }, encode(port));
        }
        let mut request = request(&place, head.method.clone(), &path, body)?;
        copy_upgrade_headers(&head.headers, request.headers_mut());
        let response = self.send(&place, request).await?;
        pass_through(registry, Session::of(&head.extensions), upgrade, response).await
    }

    async fn send(&self, place: &Place, request: Request<Body>) -> Result<Response<hyper::body::Incoming>, Status> {
        let connected = tokio::time::timeout(CONNECT_PATIENCE, self.connect(place)).await;
        let unreachable = |why: &str| {
            Status::internal(format!(
                "error dialing backend: node {} at {}:{}: {why}",
                place.node, place.address, place.port
            ))
        };
        let mut sender = match connected {
            Ok(Ok(sender)) => sender,
            Ok(Err(error)) => return Err(unreachable(&error.to_string())),
            Err(_) => return Err(unreachable("it does not answer")),
        };
        sender
            .send_request(request)
            .await
            .map_err(|error| unreachable(&error.to_string()))
    }

    pub(super) async fn connect(
        &self,
        place: &Place,
    ) -> Result<http1::SendRequest<Body>, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect((place.address.as_str(), place.port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(place.node.clone())?;
        let stream = self.tls.connect(name, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Lives as long as the exchange that uses it: it ends when the sender and the body are dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a connection to a node ended badly"
                );
            }
        });
        Ok(sender)
    }
}

/// Connects both ends, once the node has agreed to the upgrade.
async fn pass_through(
    registry: &Registry,
    session: Session,
    upgrade: OnUpgrade,
    mut response: Response<hyper::body::Incoming>,
) -> Result<Response, Status> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(node_refused(response).await);
    }
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    copy_upgrade_headers(response.headers(), answer.headers_mut());
    let node_side = hyper::upgrade::on(&mut response);
    // Ends when either side does; the server's end drops both.
    let stream = tunnel(upgrade, node_side);
    session.run(&mut answer, stream, registry.shutdown.clone());
    Ok(answer)
}

/// Two upgraded connections made one. What goes wrong is told to nobody: either side sees it end.
pub(crate) async fn tunnel(client: OnUpgrade, backend: OnUpgrade) {
    let joined = async {
        let (client, backend) = tokio::try_join!(client, backend)?;
        let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
        tokio::io::copy_bidirectional(&mut client, &mut backend).await?;
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    };
    if let Err(error) = joined.await {
        tracing::debug!(error = &*error, "an upgraded connection ended badly");
    }
}

async fn pod(registry: &Registry, target: &Target) -> Result<Pod, Status> {
    let record = registry.get(target).await?;
    serde_json::from_slice(&record.json()).map_err(Status::internal)
}

/// The container that is meant: the one that is named, or the only one there is.
fn container(pod: &Pod, wanted: &str) -> Result<String, Status> {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let containers: Vec<&str> = spec
        .containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    let init: Vec<&str> = spec
        .init_containers
        .iter()
        .flatten()
        .map(|container| container.name.as_str())
        .collect();
    let ephemeral = spec
        .ephemeral_containers
        .iter()
        .flatten()
        .map(|container| container.name.as_str());
    if wanted.is_empty() {
        return match (containers.as_slice(), init.as_slice()) {
            ([only], []) => Ok((*only).to_owned()),
            ([], _) => Err(Status::bad_request(format!("no containers in pod {name}"))),
            (_, init) => {
                let mut why = format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    containers.join(" ")
                );
                if !init.is_empty() {
                    let _ = write!(why, " or one of the init containers: [{}]", init.join(" "));
                }
                Err(Status::bad_request(why))
            }
        };
    }
    if containers
        .iter()
        .chain(&init)
        .copied()
        .chain(ephemeral)
        .any(|own| own == wanted)
    {
        Ok(wanted.to_owned())
    } else {
        Err(Status::bad_request(format!(
            "container {wanted} is not valid for pod {name}"
        )))
    }
}

/// The address and port of the node a pod is on.
fn place(registry: &Registry, pod: &Pod, pod_name: &str) -> Result<Place, Status> {
    let node = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default();
    if node.is_empty() {
        return Err(Status::bad_request(format!(
            "pod {pod_name} does not have a host assigned"
        )));
    }
    let record = registry
        .peek("v1", "nodes", None, node)
        .ok_or_else(|| Status::internal(format!("the pod's node {node:?} is not known")))?;
    let object: Node = serde_json::from_slice(&record.json()).map_err(Status::internal)?;
    place_of(node, &object)
}

/// The address and port of a node's agent.
pub(super) fn place_of(node: &str, object: &Node) -> Result<Place, Status> {
    let status = object.status.clone().unwrap_or_default();
    let addresses = status.addresses.unwrap_or_default();
    let address = ["InternalIP", "Hostname", "ExternalIP"]
        .iter()
        .find_map(|kind| addresses.iter().find(|address| address.type_ == *kind))
        .map(|address| address.address.clone());
    let port = status
        .daemon_endpoints
        .and_then(|endpoints| endpoints.kubelet_endpoint)
        .map_or(0, |endpoint| endpoint.port);
    match (address, u16::try_from(port)) {
        (Some(address), Ok(port)) if port > 0 => Ok(Place {
            node: node.to_owned(),
            address,
            port,
        }),
        _ => Err(Status::internal(format!(
            "node {node:?} has not told its address and port yet"
        ))),
    }
}

fn below(target: &Target) -> String {
    format!("{}/{}", target.namespace.as_deref().unwrap_or_default(), target.name)
}

fn request(place: &Place, method: Method, path: &str, body: Body) -> Result<Request<Body>, Status> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, format!("{}:{}", place.address, place.port))
        .body(body)
        .map_err(Status::internal)
}

/// The query of a stream as nodes spell it.
fn stream_query(query: &Query) -> String {
    let mut text = String::new();
    for (own, node) in [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ] {
        if query.flag(own) == Some(true) {
            let _ = write!(text, "{}{node}=1", if text.is_empty() { '?' } else { '&' });
        }
    }
    for word in query.all("command") {
        let _ = write!(
            text,
            "{}command={}",
            if text.is_empty() { '?' } else { '&' },
            encode(word)
        );
    }
    text
}

fn check_stream_options(verb: &str, query: &Query) -> Result<(), Status> {
    let on = |name: &str| query.flag(name) == Some(true);
    if !on("stdin") && !on("stdout") && !on("stderr") {
        return Err(Status::bad_request(
            "you must specify at least one of stdin, stdout, stderr",
        ));
    }
    if verb == "exec" && query.all("command").next().is_none() {
        return Err(Status::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    Ok(())
}

/// Numbers and times are checked here, so that the mistake is named before a node is asked.
fn check_log_options(query: &Query) -> Result<(), Status> {
    let mut errors = catamaran_api::Errors::new();
    for (name, least) in [("tailLines", 0), ("sinceSeconds", 1), ("limitBytes", 1)] {
        if let Some(number) = query.number(name)?
            && number < least
        {
            let bound = if least == 0 {
                "must be greater than or equal to 0"
            } else {
                "must be greater than 0"
            };
            errors.invalid(&catamaran_api::Path::new(name), number, bound);
        }
    }
    let since = query.get("sinceTime");
    if !since.is_empty() && since.parse::<k8s_openapi::jiff::Timestamp>().is_err() {
        errors.invalid(
            &catamaran_api::Path::new("sinceTime"),
            since,
            "must be a time as RFC 3339 defines it",
        );
    }
    if !since.is_empty() && !query.get("sinceSeconds").is_empty() {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.forbidden(&catamaran_api::Path::ROOT, why);
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(
        &catamaran_api::GroupKind::from_static("", "PodLogOptions"),
        "",
        &errors,
    ))
}

/// Headers by which two ends agree on what they upgrade to.
fn copy_upgrade_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        if is_upgrade_header(name) {
            to.append(name.clone(), value.clone());
        }
    }
}

fn is_upgrade_header(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "upgrade" | "x-stream-protocol-version" | "x-accept-stream-protocol-versions"
    ) || name.as_str().starts_with("sec-websocket-")
}

/// What a node answered instead of what it was asked for.
async fn node_refused(response: Response<hyper::body::Incoming>) -> Status {
    let code = response.status();
    let limited = http_body_util::Limited::new(response.into_body(), LONGEST_ERROR);
    let bytes = match http_body_util::BodyExt::collect(limited).await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => return Status::internal(format!("the node answered {code}, and then: {error}")),
    };
    if let Ok(status) = serde_json::from_slice::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Status>(&bytes)
        && status.message.is_some()
    {
        return status.into();
    }
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => {
            let mut status = Status::unknown_path().into_inner();
            status.message = Some(format!("the server could not find the requested resource ({text})"));
            status.into()
        }
        _ => Status::internal(format!("the node answered {code}: {text}")),
    }
}

/// Percent-encodes a query value.
fn encode(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(byte)),
            other => {
                let _ = write!(text, "%{other:02X}");
            }
        }
    }
    text
}
