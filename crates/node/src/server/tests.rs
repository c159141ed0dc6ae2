//! The server over real sockets, with log files on disk and pipes for processes.

use super::streams::{self, Ends, Outcome, Wanted};
use super::*;
use catamaran_shim::spec::Exit;
use futures::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tower::ServiceExt;

fn server(data_dir: &Path) -> Server {
    let pod = serde_json::json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"containers": [{"name": "c"}, {"name": "late"}]},
        "status": {"containerStatuses": [{"name": "late", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ErrImagePull"}}}]},
    });
    let known = Known::default();
    known
        .lock()
        .insert("u".into(), Arc::new(serde_json::from_value(pod).expect("a pod")));
    let layout = Layout {
        data_dir: data_dir.into(),
        run_dir: data_dir.into(),
        instance: "00000000".into(),
    };
    Server {
        layout,
        sandboxes: Sandboxes::default(),
        known,
        dialer: Arc::default(),
    }
}

async fn get_text(server: &Server, path: &str) -> (u16, String) {
    let request = http::Request::get(path)
        .body(axum::body::Body::empty())
        .expect("a request");
    let response = router(server.clone(), CancellationToken::new())
        .oneshot(request)
        .await
        .expect("an answer");
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8(bytes.to_vec()).expect("text"))
}

#[tokio::test]
async fn logs_of_ended_containers() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = server(directory.path());
    let key = PodKey {
        namespace: "ns".into(),
        name: "p".into(),
        uid: "u".into(),
    };
    for (attempt, text) in [(0, "old"), (1, "new")] {
        let log = server.layout.log_file(&key, "c", attempt);
        std::fs::create_dir_all(log.parent().expect("a parent")).expect("made");
        std::fs::write(
            log,
            format!("2026-01-01T00:00:00Z stdout F {text} 1\n2026-01-01T00:00:01Z stderr F {text} 2\n"),
        )
        .expect("written");
    }
    let path = "/containerLogs/ns/p/c";
    assert_eq!(get_text(&server, path).await, (200, "new 1\nnew 2\n".into()));
    assert_eq!(
        get_text(&server, &format!("{path}?previous=true&tailLines=1")).await,
        (200, "old 2\n".into())
    );
    assert_eq!(
        get_text(&server, &format!("{path}?limitBytes=4")).await,
        (200, "new ".into())
    );
    // The container has ended: following ends too.
    assert_eq!(
        get_text(&server, &format!("{path}?follow=true&sinceTime=2026-01-01T00:00:01Z"))
            .await
            .1,
        "new 2\n"
    );
    let stamped = get_text(&server, &format!("{path}?timestamps=true&tailLines=1")).await;
    assert_eq!(stamped.1, "2026-01-01T00:00:01Z new 2\n");
    assert_eq!(get_text(&server, &format!("{path}?sinceTime=soon")).await.0, 400);
}

#[tokio::test]
async fn what_is_not_there_is_said_in_kubernetes_words() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = server(directory.path());
    let waiting = get_text(&server, "/containerLogs/ns/p/late").await;
    assert_eq!(
        waiting,
        (
            400,
            "container \"late\" in pod \"p\" is waiting to start: ErrImagePull".into()
        )
    );
    let previous = get_text(&server, "/containerLogs/ns/p/c?previous=true").await;
    assert_eq!(
        previous,
        (400, "previous terminated container \"c\" in pod \"p\" not found".into())
    );
    assert_eq!(get_text(&server, "/containerLogs/ns/other/c").await.0, 404);
    assert_eq!(get_text(&server, "/containerLogs/ns/p/other").await.0, 404);
    assert_eq!(get_text(&server, "/healthz").await, (200, "ok".into()));
    assert!(get_text(&server, "/pods").await.1.contains("\"kind\":\"PodList\""));
}

struct Certificates {
    server: ServerTls,
    client: rustls::ClientConfig,
    node: rustls::ClientConfig,
    stranger: rustls::ClientConfig,
}

fn certificates() -> Certificates {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
    };
    let issue = |issuer: &CertifiedIssuer<'_, KeyPair>, name: &str, usage| {
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).expect("parameters");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, issuer).expect("a certificate"), key)
    };
    let (own, other) = (authority("own"), authority("other"));
    let (certificate, key) = issue(&own, "node", ExtendedKeyUsagePurpose::ServerAuth);
    let mut roots = RootCertStore::empty();
    roots.add(own.der().clone()).expect("a root");
    let client = |issuer: &CertifiedIssuer<'_, KeyPair>, name: &str| {
        let (certificate, key) = issue(issuer, name, ExtendedKeyUsagePurpose::ClientAuth);
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        rustls::ClientConfig::builder()
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(vec![certificate.der().clone()], key)
            .expect("a client")
    };
    Certificates {
        server: ServerTls {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            client_ca_pem: own.pem(),
        },
        client: client(&own, "catamaran-apiserver"),
        node: client(&own, "system:node:other"),
        stranger: client(&other, "catamaran-apiserver"),
    }
}

async fn https_get(address: SocketAddr, config: rustls::ClientConfig) -> std::io::Result<String> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let name = rustls_pki_types::ServerName::from(address.ip());
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

#[tokio::test]
async fn only_the_api_server_is_let_in() {
    let directory = tempfile::tempdir().expect("a directory");
    let certificates = certificates();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let shutdown = CancellationToken::new();
    let acceptor = tls(&certificates.server).expect("usable");
    let serving = tokio::spawn(serve(listener, acceptor, server(directory.path()), shutdown.clone()));
    let answer = https_get(address, certificates.client).await.expect("let in");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
    for (who, config) in [
        ("a stranger", certificates.stranger),
        ("another node", certificates.node),
    ] {
        let answer = https_get(address, config).await.unwrap_or_default();
        assert_eq!(answer, "", "{who} is turned away");
    }
    shutdown.cancel();
    serving.await.expect("ends");
}

#[test]
fn unusable_certificates_are_named() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let broken = ServerTls {
        cert_pem: "x".into(),
        key_pem: "x".into(),
        client_ca_pem: "x".into(),
    };
    let error = tls(&broken).err().expect("refused");
    assert_eq!(error.to_string(), "not PEM: server key");
}

/// A "process" that copies its input to its output in capitals and ends with code 3 at the end of input.
async fn shouting(request: axum::extract::Request) -> Result<Response, Refusal> {
    let wanted = Wanted {
        stdin: true,
        stdout: true,
        tty: request.uri().query() == Some("tty"),
        ..Wanted::default()
    };
    let conversation = async move |mut channels: streams::Channels, wanted: Wanted| {
        let (ends, stdio) = streams::pipes(&wanted).expect("pipes");
        let (exited, exit) = oneshot::channel();
        let (input, output) = (stdio.stdin.expect("a pipe"), stdio.stdout.expect("a pipe"));
        std::thread::spawn(move || shout(input, output, exited));
        let (sizes, mut seen) = streams::sizes();
        let outcome = channels.pump(Ends { ..ends }, sizes, Some(exit)).await;
        let Outcome::Exited(exit) = outcome else { return };
        let resized = seen
            .try_recv()
            .is_ok_and(|size| size == streams::Size { width: 80, height: 24 });
        let status = if resized {
            streams::exit_status(&exit)
        } else {
            streams::failure("no size")
        };
        channels.finish(&status).await;
    };
    streams::upgrade(request, wanted, conversation).await
}

fn shout(input: OwnedFd, output: OwnedFd, exited: oneshot::Sender<Exit>) {
    use std::io::{Read, Write};
    let (mut input, mut output) = (std::fs::File::from(input), std::fs::File::from(output));
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = input.read(&mut buffer) {
        let loud = buffer[..count].to_ascii_uppercase();
        if output.write_all(&loud).is_err() {
            return;
        }
    }
    let now = jiff::Timestamp::UNIX_EPOCH;
    let exit = Exit {
        code: 3,
        signal: None,
        oom_killed: false,
        started_at: now,
        finished_at: now,
        message: String::new(),
    };
    let _ = exited.send(exit);
}

async fn shouting_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().route("/", get(shouting).post(shouting));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(router.clone());
            let builder = auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move {
                builder
                    .serve_connection_with_upgrades(TokioIo::new(stream), service)
                    .await
                    .map_err(|_| ())
            });
        }
    });
    address
}

async fn connect(
    protocol: &str,
) -> Result<tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>, tokio_tungstenite::tungstenite::Error> {
    let address = shouting_server().await;
    let mut request = format!("ws://{address}/").into_client_request().expect("a request");
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", protocol.parse().expect("a header"));
    let stream = tokio::net::TcpStream::connect(address).await.expect("connected");
    tokio_tungstenite::client_async(request, stream)
        .await
        .map(|(socket, _)| socket)
}

#[tokio::test]
async fn streams_carry_everything_and_end_with_the_status() {
    let mut socket = connect("v5.channel.k8s.io").await.expect("upgraded");
    socket
        .send(Message::binary(b"\x04{\"Width\":80,\"Height\":24}".to_vec()))
        .await
        .expect("sent");
    // More than any pipe holds: back-pressure has to work both ways.
    let piece = [vec![0], vec![b'a'; 60_000]].concat();
    let (mut sink, mut stream) = socket.split();
    let sending = tokio::spawn(async move {
        for _ in 0..20 {
            sink.send(Message::binary(piece.clone())).await.expect("sent");
        }
        sink.send(Message::binary(vec![255, 0])).await.expect("sent");
        sink
    });
    let (mut output, mut status, mut closed) = (Vec::new(), None, None);
    while let Some(Ok(message)) = stream.next().await {
        match message {
            Message::Binary(data) if data[0] == 1 => output.extend_from_slice(&data[1..]),
            Message::Binary(data) if data[0] == 3 => status = serde_json::from_slice(&data[1..]).ok(),
            Message::Close(frame) => {
                closed = frame.map(|frame| u16::from(frame.code));
                break;
            }
            _ => {}
        }
    }
    drop(sending.await);
    assert_eq!(output.len(), 20 * 60_000);
    assert!(output.iter().all(|byte| *byte == b'A'));
    let status: serde_json::Value = status.expect("a status");
    assert_eq!(status["details"]["causes"][0]["message"], "3", "{status}");
    assert_eq!(closed, Some(1000), "clients take anything else for a broken connection");
}

#[tokio::test]
async fn other_protocols_are_refused() {
    assert!(connect("channel.k8s.io").await.is_err());
}

/// Upgrades to SPDY as client-go does; the status and protocol of the answer, and the connection.
async fn spdy(address: SocketAddr, path: &str, protocols: &[&str]) -> (String, tokio::net::TcpStream) {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n");
    for protocol in protocols {
        request.push_str(&format!("X-Stream-Protocol-Version: {protocol}\r\n"));
    }
    stream.write_all((request + "\r\n").as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("an answer"));
    }
    (String::from_utf8(answer).expect("text").to_lowercase(), stream)
}

async fn heard(reader: &mut catamaran_spdy::session::Reader) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = reader.read().await {
        all.extend_from_slice(&bytes);
    }
    all
}

#[tokio::test]
async fn older_clients_have_their_streams_over_spdy() {
    use catamaran_spdy::{Headers, Role};
    for (protocol, offered) in [
        (
            "v4.channel.k8s.io",
            &["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"][..],
        ),
        ("v3.channel.k8s.io", &["v3.channel.k8s.io"]),
    ] {
        let (answer, io) = spdy(shouting_server().await, "/?tty", offered).await;
        assert!(
            answer.starts_with("http/1.1 101") && answer.contains("upgrade: spdy/3.1"),
            "{answer}"
        );
        assert!(
            answer.contains(&format!("x-stream-protocol-version: {protocol}\r\n")),
            "{answer}"
        );
        let patience = catamaran_spdy::session::Patience {
            idle: upgrade::IDLE,
            stall: None,
        };
        let (session, _, connection) = catamaran_spdy::session::start(io, Role::Client, patience);
        let connection = tokio::spawn(connection);
        let open = async |name: &str| {
            session
                .open(Headers::new([("streamType", name)]))
                .await
                .expect("opened")
        };
        let (mut end, mut stdin, mut stdout) = (open("error").await, open("stdin").await, open("stdout").await);
        assert!(session.open(Headers::new([("streamType", "strange")])).await.is_err());
        let mut sizes = open("resize").await;
        let size = bytes::Bytes::from_static(b"{\"Width\":80,\"Height\":24}\n");
        sizes.writer.write(size).await.expect("sent");
        let said = tokio::spawn(async move {
            stdin.writer.write(vec![b'a'; 1_000_000].into()).await.expect("sent");
            stdin.writer.finish().await.expect("finished");
        });
        let output = heard(&mut stdout.reader).await;
        assert!(output.len() == 1_000_000 && output.iter().all(|byte| *byte == b'A'));
        said.await.expect("said");
        let status = String::from_utf8(heard(&mut end.reader).await).expect("text");
        match protocol {
            "v4.channel.k8s.io" => assert!(status.contains(r#""reason":"ExitCode""#), "{status}"),
            _ => assert_eq!(status, "command terminated with non-zero exit code: exit status 3"),
        }
        // The node waits for the client to be done with its streams.
        drop((end, stdout, sizes));
        connection.await.expect("no panic").expect("a clean end");
    }
    let (answer, _) = spdy(shouting_server().await, "/", &["v9.channel.k8s.io"]).await;
    assert!(answer.starts_with("http/1.1 403"), "{answer}");
    assert!(
        answer.contains("x-accept-stream-protocol-versions: v4.channel.k8s.io"),
        "{answer}"
    );
}
