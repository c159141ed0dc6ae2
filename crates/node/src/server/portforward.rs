//! `/portForward/{namespace}/{pod}`: connections to ports of a pod's loopback.
//!
//! | client                  | speaks                                                              | one stream pair per        |
//! |-------------------------|---------------------------------------------------------------------|----------------------------|
//! | kubectl 1.31 and newer  | SPDY inside WebSocket messages (`SPDY/3.1+portforward.k8s.io`)       | connection                 |
//! | kubectl before, client-go | SPDY/3.1                                                          | connection                 |
//! | Python, kube-rs         | WebSocket channels (`v4.channel.k8s.io`), which cannot half-close   | port of the request        |
//!
//! A pair is a stream for data and one for the error that ends it, in the words of the kubelet.

mod channels;
mod namespace;
mod streams;

use super::upgrade::{Switch, Wish};
use super::{Refusal, Server};
use crate::local::{Sandboxed, Sandboxes};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, Query, Request, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use catamaran_net::{Dialer, Refused};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The one protocol over SPDY.
const SPDY_PROTOCOLS: &[&str] = &["portforward.k8s.io"];
const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
/// Why there is nothing to connect to.
const GONE: &str = "the pod's sandbox is gone";
/// Read from a pod at once.
const BLOCK: usize = 16 << 10;
/// How long a client may go on after the pod has closed its side; containerd's number.
const LINGER: Duration = Duration::from_secs(1);
/// How long a pod may read nothing of a connection while the client has more for it than fits, and all other connections of that
/// client wait. The connection is then ended. Nothing else shows that the client has left meanwhile.
const STALL: Duration = Duration::from_secs(5 * 60);
/// The longest message of a WebSocket client. kubectl's have 32 KiB.
const LONGEST_MESSAGE: usize = 4 << 20;

pub(crate) async fn portforward(
    State(server): State<Server>,
    Path((namespace, pod)): Path<(String, String)>,
    Query(pairs): Query<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, Refusal> {
    let forwarder = Forwarder::find(&server, &namespace, &pod)?;
    match Wish::of(request).await? {
        Wish::WebSocket(upgrade) => web(upgrade, forwarder, &pairs),
        Wish::Spdy(mut parts) => {
            let (response, upgraded) = Switch::new(&mut parts, SPDY_PROTOCOLS)?.into_parts();
            tokio::spawn(async move {
                if let Some(io) = upgraded.await {
                    streams::serve(io, forwarder).await;
                }
            });
            Ok(response)
        }
    }
}

fn web(upgrade: WebSocketUpgrade, forwarder: Forwarder, pairs: &[(String, String)]) -> Result<Response, Refusal> {
    let upgrade = upgrade
        .max_message_size(LONGEST_MESSAGE)
        .protocols([TUNNELLED, channels::BINARY, channels::BASE64]);
    let selected = upgrade.selected_protocol().and_then(|value| value.to_str().ok());
    let encoding = match selected {
        Some(TUNNELLED) => return Ok(upgrade.on_upgrade(async move |socket| streams::tunnel(socket, forwarder).await)),
        Some(channels::BASE64) => channels::Encoding::Base64,
        _ => channels::Encoding::Binary,
    };
    let ports = ports(pairs, encoding.most_ports())?;
    Ok(upgrade.on_upgrade(async move |socket| channels::serve(socket, &ports, encoding, forwarder).await))
}

/// The ports in a query; channel clients have to say them beforehand.
fn ports(pairs: &[(String, String)], most: usize) -> Result<Vec<u16>, Refusal> {
    let named = pairs.iter().filter(|(name, _)| name == "port" || name == "ports");
    let mut ports = Vec::new();
    for word in named.flat_map(|(_, value)| value.split(',')) {
        ports.push(port(word).map_err(Refusal::bad_request)?);
    }
    if ports.is_empty() {
        return Err(Refusal::bad_request("query parameter \"port\" is required"));
    }
    if ports.len() > most {
        return Err(Refusal::bad_request(format!(
            "no more than {most} ports can be forwarded at once"
        )));
    }
    Ok(ports)
}

/// A port as clients write it.
fn port(word: &str) -> Result<u16, String> {
    match word.parse::<u16>() {
        Ok(0) => Err(format!("port \"{word}\" must be > 0")),
        Ok(port) => Ok(port),
        Err(_) => Err(format!("unable to parse \"{word}\" as a port")),
    }
}

/// Connects to one pod, in whatever sandbox it has by then.
#[derive(Clone)]
struct Forwarder {
    dialer: Arc<Dialer>,
    sandboxes: Sandboxes,
    uid: String,
}

impl Forwarder {
    fn find(server: &Server, namespace: &str, name: &str) -> Result<Self, Refusal> {
        let pod = server
            .pod(namespace, name)
            .ok_or_else(|| Refusal::not_found("pod does not exist"))?;
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if server.sandboxes.get(&uid).is_none() {
            let message = format!("failed to find sandbox for pod \"{name}_{namespace}\"");
            return Err(Refusal::internal(message));
        }
        Ok(Self {
            dialer: server.dialer.clone(),
            sandboxes: server.sandboxes.clone(),
            uid,
        })
    }

    /// Connects, or says why not as the kubelet would.
    async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        let uid = &self.uid;
        // A pod that was forwarded to may have got another sandbox since.
        let Some(Sandboxed { shim, .. }) = self.sandboxes.get(uid) else {
            return Err(format!("error forwarding port {port} to pod {uid}, uid : {GONE}"));
        };
        let path = namespace::path(shim.pid());
        let failed = |why: String| {
            format!(
                "error forwarding port {port} to pod {uid}, uid : failed to execute portforward in network namespace \"{path}\": {why}"
            )
        };
        let open = move || namespace::open(shim.state_dir(), shim.pid());
        let opened = tokio::task::spawn_blocking(open).await.map_err(io::Error::other);
        let namespace = opened.flatten().map_err(|error| failed(error.to_string()))?;
        let connected = self.dialer.connect(namespace.into(), port).await;
        connected.map_err(|Refused { v4, v6, .. }| {
            failed(format!(
                "failed to connect to localhost:{port} inside namespace \"{uid}\", IPv4: dial tcp4 127.0.0.1:{port}: {} IPv6 dial tcp6 [::1]:{port}: {}",
                reason(&v4),
                reason(&v6)
            ))
        })
    }
}

/// An error in the words of Go's system calls, which people search for.
fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::TimedOut {
        return "connect: connection timed out".to_owned();
    }
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default().to_lowercase();
    match error.raw_os_error() {
        Some(_) => format!("connect: {words}"),
        None => words,
    }
}

/// The client is gone, or its stream.
struct Gone;

/// What a client sends to a port.
trait FromClient: Send {
    /// The next piece; `None` when the client has closed its side and still listens.
    fn read(&mut self) -> impl Future<Output = Result<Option<Bytes>, Gone>> + Send;
}

/// What a port sends to a client.
trait ToClient: Send {
    fn write(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), Gone>> + Send;
    /// The port has closed its side.
    fn finish(&mut self) -> impl Future<Output = ()> + Send;
}

/// Copies in both directions, each to its own end. Neither holds more than one block.
///
/// # Errors
/// The client is gone, or has taken back its streams: `gone` says so while nobody reads from it or writes to it.
async fn relay(
    pod: TcpStream,
    mut from: impl FromClient,
    mut to: impl ToClient,
    gone: impl Future<Output = ()>,
) -> Result<(), Gone> {
    let (mut reader, mut writer) = pod.into_split();
    let upload = async {
        while let Some(bytes) = from.read().await? {
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = writer.shutdown().await;
        Ok::<_, Gone>(())
    };
    let download = async {
        loop {
            let mut block = BytesMut::with_capacity(BLOCK);
            match reader.read_buf(&mut block).await {
                Ok(1..) => to.write(block.freeze()).await?,
                Ok(0) | Err(_) => break,
            }
        }
        to.finish().await;
        Ok::<_, Gone>(())
    };
    let both = async {
        tokio::pin!(upload, download);
        tokio::select! {
            uploaded = &mut upload => {
                uploaded?;
                download.await
            }
            downloaded = &mut download => {
                downloaded?;
                let _ = tokio::time::timeout(LINGER, upload).await;
                Ok(())
            }
        }
    };
    tokio::select! {
        ended = both => ended,
        () = gone => Err(Gone),
    }
}

#[cfg(test)]
mod tests;
