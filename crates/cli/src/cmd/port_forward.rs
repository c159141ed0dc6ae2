//! `cata port-forward`: local ports that lead to ports of a pod. One SPDY connection, two streams for each local connection: the
//! only form in which either side can say that it has nothing to add.

mod ports;

use crate::client::discovery::Catalogue;
use crate::client::{ClientArgs, Connection, explain, query_string, refs};
use crate::data_dir::DataDir;
use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use catamaran_spdy::session::{self, Patience, Session};
use catamaran_spdy::{Headers, Role, Stream};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::TokioIo;
use ports::{Forward, Wanted};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const PROTOCOL: &str = "portforward.k8s.io";
/// Nothing ends a connection from this side but the user, nor one that goes through it.
const PATIENCE: Patience = Patience {
    idle: Duration::from_secs(365 * 24 * 60 * 60),
    stall: None,
};
/// Read from a local connection at once.
const BLOCK: usize = 16 << 10;
/// The longest refusal that is read.
const LONGEST_REFUSAL: usize = 64 << 10;
/// The longest error of a connection that is read.
const LONGEST_ERROR: usize = 4 << 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Pod, or something that selects pods, as NAME or TYPE/NAME
    target: String,
    /// Ports, as PORT, LOCAL:PORT or :PORT; a port of a pod or service may go by its name
    #[arg(required = true, value_name = "PORT")]
    ports: Vec<Wanted>,
    /// Addresses to listen on
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', default_value = "localhost")]
    address: Vec<String>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: Args, data_dir: Option<&DataDir>) -> Result<()> {
    let connection = args.client.connect(data_dir).await?;
    let (pod, service) = find(&connection, &args.target).await?;
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    if phase != "Running" {
        bail!("unable to forward port because pod is not running. Current status={phase}");
    }
    let forwards = ports::resolve(&args.ports, &pod, service.as_ref())?;
    let session = open(&connection, pod["metadata"]["name"].as_str().unwrap_or_default()).await?;
    let mut listening = JoinSet::new();
    for forward in &forwards {
        for (listener, remote) in listen(&args.address, forward).await? {
            listening.spawn(serve(listener, remote, session.clone()));
        }
    }
    session.closed().await;
    bail!("lost connection to pod")
}

/// The pod that is meant, and the service if it was named by one.
async fn find(connection: &Connection, word: &str) -> Result<(Value, Option<Value>)> {
    let catalogue = Catalogue::fetch(connection).await?;
    let word = if word.contains('/') {
        word.to_owned()
    } else {
        format!("pods/{word}")
    };
    let targets = refs::targets(&catalogue, &[word])?;
    let target = targets.first().context("nothing is named")?;
    let name = target.names.first().map(String::as_str).unwrap_or_default();
    let path = target.resource.path(Some(&connection.namespace));
    let object = connection.json(Method::GET, &format!("{path}/{name}"), None).await?;
    match target.resource.kind.as_str() {
        "Pod" => Ok((object, None)),
        kind => {
            let selector = ports::selector(&object)
                .with_context(|| format!("cannot forward to {kind}/{name}: it selects no pods"))?;
            let query = query_string(&[("labelSelector", &selector)]);
            let path = format!("/api/v1/namespaces/{}/pods?{query}", connection.namespace);
            let mut list = connection.json(Method::GET, &path, None).await?;
            let pods = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
            let best = pods.into_iter().max_by_key(ports::suitability);
            let pod = best.with_context(|| format!("{kind}/{name} has no pods"))?;
            Ok((pod, (kind == "Service").then_some(object)))
        }
    }
}

/// The connection on which all others are made.
async fn open(connection: &Connection, pod: &str) -> Result<Session> {
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/portforward", connection.namespace);
    let request = Request::post(path)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .header("X-Stream-Protocol-Version", PROTOCOL)
        .body(kube::client::Body::empty())?;
    let response = connection.client.send(request).await;
    let mut response = response.map_err(|error| explain(error, &connection.server))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let code = response.status();
        let body = Limited::new(response.into_body(), LONGEST_REFUSAL).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        return Err(match serde_json::from_slice(&body) {
            Ok(status) => explain(kube::Error::Api(Box::new(status)), &connection.server),
            Err(_) => anyhow::anyhow!("the server answered {code} and forwards nothing"),
        });
    }
    let upgraded = hyper::upgrade::on(&mut response).await;
    let io = TokioIo::new(upgraded.context("the server did not go on as it said")?);
    let (session, _, running) = session::start(io, Role::Client, PATIENCE);
    tokio::spawn(async move {
        if let Err(error) = running.await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the connection to the pod broke"
            );
        }
    });
    Ok(session)
}

/// Listens on every address; on `localhost` it is enough to have one of the two.
async fn listen(addresses: &[String], forward: &Forward) -> Result<Vec<(TcpListener, u16)>> {
    let mut listeners = Vec::new();
    let mut local = forward.local;
    for address in addresses {
        let candidates: Vec<IpAddr> = match address.as_str() {
            "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            address => vec![
                address
                    .parse()
                    .with_context(|| format!("{address} is not a valid IP"))?,
            ],
        };
        let (mut one, mut refusal) = (false, None);
        for address in candidates {
            match TcpListener::bind(SocketAddr::new(address, local)).await {
                Ok(listener) => {
                    let bound = listener.local_addr()?;
                    println!("Forwarding from {bound} -> {}", forward.remote);
                    // Whoever wants any port wants the same one everywhere.
                    local = bound.port();
                    listeners.push((listener, forward.remote));
                    one = true;
                }
                Err(error) => refusal = Some(error),
            }
        }
        if let (false, Some(error)) = (one, refusal) {
            return Err(error).with_context(|| format!("unable to listen on port {local}"));
        }
    }
    Ok(listeners)
}

async fn serve(listener: TcpListener, remote: u16, session: Session) {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let mut connections = JoinSet::new();
    let local = listener.local_addr().map_or(0, |address| address.port());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely: let some close.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        println!("Handling connection for {local}");
        let request = REQUESTS.fetch_add(1, Ordering::Relaxed);
        let session = session.clone();
        connections.spawn(async move {
            if let Err(error) = carry(stream, remote, request, &session).await {
                eprintln!("an error occurred forwarding {local} -> {remote}: {error}");
            }
        });
    }
}

/// Carries one local connection.
async fn carry(local: TcpStream, remote: u16, request: u64, session: &Session) -> Result<()> {
    let (port, request) = (remote.to_string(), request.to_string());
    let open = async |kind: &str| {
        let headers = [("streamType", kind), ("port", &port), ("requestID", &request)];
        let opened = session.open(Headers::new(headers)).await;
        opened.context("the pod's node refuses the connection")
    };
    let mut error = open("error").await?;
    let data = open("data").await?;
    let _ = error.writer.finish().await;
    exchange(local, data).await;
    let mut message = Vec::new();
    while let Some(bytes) = error.reader.read().await {
        if message.len() < LONGEST_ERROR {
            message.extend_from_slice(&bytes);
        }
    }
    match message.is_empty() {
        true => Ok(()),
        false => bail!(String::from_utf8_lossy(&message).into_owned()),
    }
}

/// Carries bytes until the pod has closed its side, or what came from it cannot be delivered. The stream is gone afterwards: the
/// pod's node would go on sending to a client that has left, and say nothing on the error stream meanwhile.
async fn exchange(local: TcpStream, data: Stream) {
    let (mut from, mut to) = (data.reader, data.writer);
    let (mut reader, mut writer) = local.into_split();
    let upload = async {
        loop {
            let mut block = BytesMut::with_capacity(BLOCK);
            match reader.read_buf(&mut block).await {
                Ok(1..) if to.write(block.freeze()).await.is_ok() => {}
                _ => break,
            }
        }
        let _ = to.finish().await;
        std::future::pending::<()>().await;
    };
    let download = async {
        while let Some(bytes) = from.read().await {
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = writer.shutdown().await;
    };
    tokio::select! {
        () = download => {}
        () = upload => {}
    }
}

#[cfg(test)]
mod tests;
