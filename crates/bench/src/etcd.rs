//! etcd as a peer: started on loopback, written to over its own gRPC protocol.
//!
//! Its JSON gateway would cost it a hop that its users do not pay. One unary call needs no generated client: a frame
//! header and two length-delimited fields (gRPC over HTTP/2; etcd `rpc.proto`, `PutRequest`).

use anyhow::{Context, Result, bail};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

pub(crate) struct Etcd {
    _process: Child,
    _directory: tempfile::TempDir,
    port: u16,
}

impl Etcd {
    pub(crate) async fn start() -> Result<Self> {
        let directory = tempfile::tempdir_in(crate::writes::scratch())?;
        let [port, peer_port] = [free_port()?, free_port()?];
        let client_url = format!("http://127.0.0.1:{port}");
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        let process = Command::new("etcd")
            .args([
                "--listen-client-urls",
                &client_url,
                "--advertise-client-urls",
                &client_url,
            ])
            .args([
                "--listen-peer-urls",
                &peer_url,
                "--initial-advertise-peer-urls",
                &peer_url,
            ])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("etcd is not installed")?;
        let etcd = Self {
            _process: process,
            _directory: directory,
            port,
        };
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if let Ok(mut connection) = etcd.connect().await
                && connection.put("/ready", b"1").await.is_ok()
            {
                return Ok(etcd);
            }
        }
        bail!("etcd did not start")
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection {
            sender,
            authority: format!("127.0.0.1:{}", self.port),
        })
    }
}

#[derive(Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
}

impl Connection {
    pub(crate) async fn put(&mut self, key: &str, value: &[u8]) -> Result<()> {
        let mut message = BytesMut::new();
        for (tag, field) in [(0x0a, key.as_bytes()), (0x12, value)] {
            message.put_u8(tag);
            put_varint(&mut message, field.len());
            message.put_slice(field);
        }
        let mut frame = BytesMut::with_capacity(message.len() + 5);
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len())?);
        frame.put_slice(&message);
        let request = http::Request::post(format!("http://{}/etcdserverpb.KV/Put", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(frame.freeze()))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let early = response.headers().get("grpc-status").cloned();
        let body = response.into_body().collect().await?;
        let status = body
            .trailers()
            .and_then(|trailers| trailers.get("grpc-status").cloned())
            .or(early);
        match status {
            Some(status) if status == "0" => Ok(()),
            other => bail!("etcd refused a write: {other:?}"),
        }
    }
}

fn put_varint(message: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        message.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    message.put_u8(value as u8);
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
