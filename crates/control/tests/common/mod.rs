//! A control plane of one's own, and raw requests to it.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use base64::Engine as _;
use catamaran_api::body::{Format, parse};
use catamaran_control::{Config, ControlPlane, Error};
use http_body_util::BodyExt as _;
use kube::client::Body;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// A started control plane in a directory that is removed with it.
pub(crate) struct Cluster {
    pub(crate) control: ControlPlane,
    pub(crate) client: kube::Client,
    pub(crate) dir: tempfile::TempDir,
    shutdown: CancellationToken,
}

/// An answer: HTTP status, `Warning` headers, body.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) warnings: Vec<String>,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The answer must be an error `Status`: code, reason and message.
    #[track_caller]
    pub(crate) fn failure(&self) -> String {
        let json = self.json();
        assert_eq!(json["kind"], "Status", "{}", self.text);
        assert_eq!(json["code"], self.code, "{}", self.text);
        format!(
            "{} {}: {}",
            self.code,
            json["reason"].as_str().unwrap_or_default(),
            json["message"].as_str().unwrap()
        )
    }

    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert!(self.code < 300, "{} {}", self.code, self.text);
        self.json()
    }
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Some("mem:")).await
    }

    /// With the controllers that run beside the API server.
    pub(crate) async fn start_with_controllers() -> Self {
        let cluster = Self::start().await;
        let config = catamaran_controllers::Config {
            client: cluster.control.controller_clients(),
            ca_pem: cluster.control.ca_pem.clone(),
            sign: cluster.control.certificate_signer().unwrap(),
        };
        tokio::spawn(catamaran_controllers::run(config, cluster.shutdown.clone()));
        cluster
    }

    /// Reads an object until it is as wanted, which it becomes by itself. Wakes up at changes of the collection.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = self.get(path).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{path} stays as it is: {}", answer.text);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until an object is gone.
    pub(crate) async fn until_gone(&self, path: &str) {
        self.until(path, |answer| answer.code == 404).await;
    }

    pub(crate) async fn start_in(dir: tempfile::TempDir, store: Option<&str>) -> Self {
        Self::start_with(dir, store, |_| {}).await
    }

    pub(crate) async fn start_with(
        dir: tempfile::TempDir,
        store: Option<&str>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::new(dir.path().join("data"));
        config.store_url = store.map(ToOwned::to_owned);
        config.listen.set_port(0);
        change(&mut config);
        let shutdown = CancellationToken::new();
        let deadline = Instant::now() + Duration::from_secs(30);
        let control = loop {
            match ControlPlane::start(config.clone(), shutdown.clone()).await {
                // The one before lets go of its file when the last client of it is dropped, on another task.
                Err(Error::Store(catamaran_store::Error::InUse { .. })) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                other => break other.unwrap(),
            }
        };
        let client = control.client("tester", &["system:masters"]);
        Cluster {
            control,
            client,
            dir,
            shutdown,
        }
    }

    /// A connection as the kubeconfig has it.
    pub(crate) async fn connect(&self) -> TlsStream<TcpStream> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig = std::fs::read(&self.control.kubeconfig).unwrap();
        let kubeconfig = parse(Format::Yaml, &kubeconfig).unwrap().value;
        let decode = |field: &str| {
            let data = kubeconfig["users"][0]["user"][field].as_str().unwrap();
            base64::engine::general_purpose::STANDARD.decode(data).unwrap()
        };
        let (certificate, key) = (decode("client-certificate-data"), decode("client-key-data"));
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.control.ca_pem.as_bytes()).unwrap())
            .unwrap();
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(&certificate).unwrap()],
                PrivateKeyDer::from_pem_slice(&key).unwrap(),
            )
            .unwrap();
        let stream = TcpStream::connect(self.control.addr).await.unwrap();
        let name = ServerName::from(self.control.addr.ip());
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap()
    }

    /// Tells it to stop. It goes on with what it is doing.
    pub(crate) fn begin_stop(&self) {
        self.shutdown.cancel();
    }

    /// Stops it; the directory stays.
    pub(crate) async fn stop(self) -> tempfile::TempDir {
        self.shutdown.cancel();
        self.control.join().await;
        self.dir
    }

    /// The answer as it is, whole.
    pub(crate) async fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> http::Response<Vec<u8>> {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .client
            .send(request.body(Body::from(body.into())).unwrap())
            .await
            .unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        http::Response::from_parts(head, bytes.to_vec())
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let (head, body) = self.exchange(method, path, headers, body).await.into_parts();
        let warnings = head.headers.get_all("warning").iter();
        Answer {
            code: head.status.as_u16(),
            warnings: warnings.map(|value| value.to_str().unwrap().to_owned()).collect(),
            text: String::from_utf8(body).unwrap(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string())
            .await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &[("content-type", "application/json")], body.to_string())
            .await
    }

    /// `kind` is `json`, `merge` or `strategic-merge`.
    pub(crate) async fn patch(&self, path: &str, kind: &str, body: &Value) -> Answer {
        let media_type = format!("application/{kind}-patch+json");
        self.send("PATCH", path, &[("content-type", &media_type)], body.to_string())
            .await
    }

    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Answer {
        let body = if options.is_null() {
            String::new()
        } else {
            options.to_string()
        };
        self.send("DELETE", path, &[("content-type", "application/json")], body)
            .await
    }

    /// Starts a watch and hands out its events, one by one.
    pub(crate) async fn watch(&self, path: &str) -> Events {
        self.watch_as(path, "application/json").await
    }

    pub(crate) async fn watch_as(&self, path: &str, accept: &str) -> Events {
        let request = http::Request::get(path)
            .header("accept", accept)
            .body(Body::empty())
            .unwrap();
        let response = self.client.send(request).await.unwrap();
        assert_eq!(response.status(), 200);
        Events {
            body: response.into_body(),
            buffer: Vec::new(),
        }
    }
}

/// A watch in progress.
pub(crate) struct Events {
    body: Body,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event; `None` when the server has ended the watch.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(30), self.body.frame())
                .await
                .expect("an event should have come")?
                .unwrap();
            self.buffer.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// `ADDED a`, for comparisons.
    pub(crate) async fn line(&mut self) -> String {
        let event = self.next().await.expect("the watch ended");
        format!(
            "{} {}",
            event["type"].as_str().unwrap(),
            event["object"]["metadata"]["name"].as_str().unwrap_or("-")
        )
    }
}
