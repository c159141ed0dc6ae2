//! The audit log, through the real stack.

mod common;

use axum::extract::State;
use catamaran_control::audit::{self, LogConfig, Mode, WebhookConfig};
use common::Cluster;
use kube::client::Body;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::sync::mpsc;

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- level: None
  users: [system:apiserver, system:kube-controller-manager]
- level: None
  userGroups: [system:serviceaccounts]
- level: RequestResponse
  resources: [{group: '', resources: [configmaps]}]
  omitStages: [RequestReceived]
- level: Metadata
  resources: [{group: '', resources: [secrets]}]
";

fn events(path: &Path, wanted: impl Fn(&Value) -> bool, count: usize) -> Vec<Value> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let text = std::fs::read_to_string(path).unwrap();
        let found: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(&wanted)
            .collect();
        if found.len() >= count {
            return found;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{count} events are not in\n{text}"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn log_config(path: &Path) -> LogConfig {
    LogConfig {
        path: path.to_owned(),
        mode: Mode::Blocking,
        max_megabytes: 0,
        max_backups: 0,
        max_days: 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_told_as_the_policy_wants_it() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, log) = (dir.path().join("policy.yaml"), dir.path().join("audit.log"));
    std::fs::write(&policy, POLICY).unwrap();
    let cluster = Cluster::start_with(tempfile::tempdir().unwrap(), Some("mem:"), |config| {
        config.audit = Some(audit::Config {
            policy_file: policy,
            log: Some(log_config(&log)),
            webhook: None,
        });
    })
    .await;
    let maps = "/api/v1/namespaces/default/configmaps";
    cluster
        .post(maps, &json!({ "metadata": { "name": "a" }, "data": { "k": "v" } }))
        .await
        .ok();
    cluster.get(&format!("{maps}/missing")).await;
    let secret = json!({ "metadata": { "name": "s" }, "stringData": { "k": "very secret" } });
    cluster
        .send(
            "POST",
            "/api/v1/namespaces/default/secrets",
            &[
                ("content-type", "application/json"),
                ("audit-id", "my-own-id"),
                ("user-agent", "test/1"),
            ],
            secret.to_string(),
        )
        .await
        .ok();
    let mut watch = cluster.watch(&format!("{maps}?watch=1&timeoutSeconds=1")).await;
    while watch.next().await.is_some() {}

    let of = |resource: &'static str| {
        move |event: &Value| event["objectRef"]["resource"] == resource && event["user"]["username"] == "tester"
    };
    let about_maps = events(&log, of("configmaps"), 4);
    let told: Vec<String> = about_maps
        .iter()
        .map(|event| {
            format!(
                "{} {} {}",
                event["verb"].as_str().unwrap(),
                event["stage"].as_str().unwrap(),
                event["responseStatus"]["code"]
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "create ResponseComplete 201",
            "get ResponseComplete 404",
            "watch ResponseStarted 200",
            "watch ResponseComplete 200",
        ]
    );
    let created = &about_maps[0];
    assert_eq!(created["level"], "RequestResponse");
    assert_eq!(created["requestObject"]["data"]["k"], "v");
    assert_eq!(created["responseObject"]["metadata"]["name"], "a");
    assert!(created["responseObject"]["metadata"].get("managedFields").is_none());
    assert_eq!(created["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!(created["annotations"]["authorization.k8s.io/reason"], "");
    assert_eq!(created["objectRef"]["namespace"], "default");
    assert_eq!(created["requestURI"], maps);
    let missing = &about_maps[1]["responseStatus"];
    assert_eq!(
        (&missing["reason"], &missing["status"]),
        (&json!("NotFound"), &json!("Failure"))
    );

    let secrets = events(&log, of("secrets"), 2);
    assert_eq!(secrets[0]["stage"], "RequestReceived");
    assert_eq!(secrets[1]["stage"], "ResponseComplete");
    assert_eq!(secrets[1]["auditID"], "my-own-id");
    assert_eq!(secrets[1]["userAgent"], "test/1");
    assert_eq!(secrets[1]["responseStatus"], json!({ "metadata": {}, "code": 201 }));
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains("very secret") && !text.contains("dmVyeSBzZWNy"));
    assert!(
        !text.contains("\"system:apiserver\""),
        "what the policy leaves out is left out"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_turned_away_is_told_of_too() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let (policy, log) = (dir.path().join("policy.yaml"), dir.path().join("audit.log"));
    std::fs::write(&policy, POLICY).unwrap();
    let cluster = Cluster::start_with(tempfile::tempdir().unwrap(), Some("mem:"), |config| {
        config.audit = Some(audit::Config {
            policy_file: policy,
            log: Some(log_config(&log)),
            webhook: None,
        });
    })
    .await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let kubeconfig = Kubeconfig::read_from(&cluster.control.kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.unwrap();
    config.auth_info = AuthInfo {
        token: Some("nobody's".to_owned().into()),
        ..AuthInfo::default()
    };
    let stranger = kube::Client::try_from(config).unwrap();
    let get = |user_agent: &str| {
        let request = http::Request::get(maps).header("user-agent", user_agent);
        request.body(Vec::new()).unwrap()
    };
    stranger.request_text(get("stranger")).await.unwrap_err();
    let of = |agent: &'static str| move |event: &Value| event["userAgent"] == agent;
    let told = &events(&log, of("stranger"), 1)[0];
    assert_eq!((&told["user"], &told["stage"]), (&json!({}), &json!("ResponseStarted")));
    let status = json!({ "metadata": {}, "code": 401, "message": "Authentication failed, attempted: bearer" });
    assert_eq!(told["responseStatus"], status);

    let jane = cluster.control.client("jane", &[]);
    let mut request = get("jane");
    request
        .headers_mut()
        .insert("impersonate-user", "root".parse().unwrap());
    jane.request_text(request).await.unwrap_err();
    jane.request_text(get("jane")).await.unwrap_err();
    let told = events(&log, of("jane"), 2);
    assert!(told[0].get("impersonatedUser").is_none());
    assert_eq!(told[0]["user"]["username"], "jane");
    assert_eq!(
        (&told[0]["stage"], &told[0]["responseStatus"]["code"]),
        (&json!("ResponseComplete"), &json!(403))
    );
    assert_eq!(told[1]["annotations"]["authorization.k8s.io/decision"], "forbid");
    cluster.stop().await;
}

/// A server that takes events.
struct Sink {
    /// Says where it is.
    kubeconfig: tempfile::NamedTempFile,
    /// What it took, with the path it was posted to.
    lists: mpsc::UnboundedReceiver<(String, Value)>,
    task: tokio::task::AbortHandle,
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether a list is taken is what `judge` says, in its time.
async fn sink<F>(judge: impl Fn() -> F + Clone + Send + Sync + 'static) -> Sink
where
    F: Future<Output = bool> + Send,
{
    let (sender, lists) = mpsc::unbounded_channel();
    let take = async move |State(lists): State<mpsc::UnboundedSender<_>>, uri: http::Uri, body: String| {
        if !judge().await {
            return http::StatusCode::INTERNAL_SERVER_ERROR;
        }
        lists
            .send((uri.to_string(), serde_json::from_str(&body).unwrap()))
            .unwrap();
        http::StatusCode::OK
    };
    let router = axum::Router::new().fallback(take).with_state(sender);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/audit?from=here", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            connections.spawn(async move {
                let io = hyper_util::rt::TokioIo::new(stream);
                let builder = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                let _ = builder.serve_connection(io, service).await;
            });
        }
    });
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": url } }],
        "users": [{ "name": "u", "user": {} }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
    });
    let kubeconfig = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    Sink {
        kubeconfig,
        lists,
        task: task.abort_handle(),
    }
}

fn named(name: &str) -> Value {
    json!({ "metadata": { "name": name } })
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_told_in_lists() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    // It cannot take the first one at first.
    let refused = Arc::new(AtomicBool::new(false));
    let judge = Arc::clone(&refused);
    let mut sink = sink(move || std::future::ready(judge.swap(true, Ordering::AcqRel))).await;
    let kubeconfig = sink.kubeconfig.path().to_owned();
    let cluster = Cluster::start_with(tempfile::tempdir().unwrap(), Some("mem:"), |config| {
        config.audit = Some(audit::Config {
            policy_file: policy,
            log: None,
            webhook: Some(WebhookConfig {
                max_batch_size: 2,
                max_batch_wait: Duration::from_secs(3600),
                initial_backoff: Duration::from_millis(1),
                ..WebhookConfig::new(kubeconfig)
            }),
        });
    })
    .await;
    for name in ["a", "b", "c"] {
        cluster.post(MAPS, &named(name)).await.ok();
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|event| event["requestObject"]["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let (uri, list) = sink.lists.recv().await.unwrap();
    assert_eq!(uri, "/audit?from=here");
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("EventList"), &json!("audit.k8s.io/v1"))
    );
    assert_eq!(names(&list), ["a", "b"]);
    assert!(refused.load(Ordering::Acquire));
    // What is left is told at the end.
    cluster.stop().await;
    assert_eq!(names(&sink.lists.recv().await.unwrap().1), ["c"]);
}

/// The head of a request with a body of so many bytes.
fn head(path: &str, length: usize, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n"
    )
}

/// What a server says first: the line with the code.
async fn status_line(connection: &mut (impl AsyncRead + Unpin)) -> String {
    let mut lines = BufReader::new(connection).lines();
    let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await;
    line.expect("the server answers").unwrap().unwrap_or_default()
}

/// A request that goes on while the server ends is told of too, though only when it has ended.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_requests_are_told() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    let mut sink = sink(|| std::future::ready(true)).await;
    let kubeconfig = sink.kubeconfig.path().to_owned();
    let cluster = Cluster::start_with(tempfile::tempdir().unwrap(), Some("mem:"), |config| {
        config.audit = Some(audit::Config {
            policy_file: policy,
            log: None,
            webhook: Some(WebhookConfig {
                max_batch_size: 1,
                ..WebhookConfig::new(kubeconfig)
            }),
        });
    })
    .await;
    // It is no object, so that its end does not depend on what ends meanwhile.
    let body = "no object";
    let head = head("/api/v1/namespaces/default/secrets", body.len(), "");
    let mut connection = cluster.connect().await;
    connection.write_all(head.as_bytes()).await.unwrap();
    let (_, list) = sink.lists.recv().await.unwrap();
    assert_eq!(list["items"][0]["stage"], "RequestReceived");
    cluster.begin_stop();
    cluster.until("/readyz/shutdown", |answer| answer.code == 500).await;
    connection.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(status_line(&mut connection).await, "HTTP/1.1 400 Bad Request");
    cluster.stop().await;
    // All that was told was posted before the server had ended.
    let (_, list) = sink.lists.try_recv().expect("the end is told too");
    let event = &list["items"][0];
    assert_eq!(
        (&event["stage"], &event["responseStatus"]["code"]),
        (&json!("ResponseComplete"), &json!(400))
    );
}

/// Whoever hangs up is told of all the same, and cannot make the server post without end.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_hang_up_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, log) = (dir.path().join("policy.yaml"), dir.path().join("audit.log"));
    std::fs::write(&policy, POLICY).unwrap();
    // It takes its time.
    let (release, released) = tokio::sync::watch::channel(false);
    let judge = move || {
        let mut released = released.clone();
        async move { released.wait_for(|released| *released).await.is_ok() }
    };
    let mut sink = sink(judge).await;
    let kubeconfig = sink.kubeconfig.path().to_owned();
    let cluster = Cluster::start_with(tempfile::tempdir().unwrap(), Some("mem:"), |config| {
        config.audit = Some(audit::Config {
            policy_file: policy,
            log: Some(log_config(&log)),
            webhook: Some(WebhookConfig {
                mode: Mode::Blocking,
                buffer_size: 1,
                ..WebhookConfig::new(kubeconfig)
            }),
        });
    })
    .await;
    // They wait until the server is told; the file has it before.
    for name in ["a", "b"] {
        let client = cluster.client.clone();
        let request = http::Request::post(MAPS).header("content-type", "application/json");
        let request = request.body(Body::from(named(name).to_string().into_bytes())).unwrap();
        let waiting = tokio::spawn(async move { client.send(request).await.map(drop) });
        let is_it = |event: &Value| {
            event["objectRef"]["resource"] == "configmaps" && event["requestObject"]["metadata"]["name"] == name
        };
        let told = &events(&log, is_it, 1)[0];
        assert_eq!(
            (&told["stage"], &told["responseStatus"]["code"]),
            (&json!("ResponseComplete"), &json!(201))
        );
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
    }
    // There was room for one event on its way to the server.
    let metrics = cluster.get("/metrics").await.text;
    assert!(
        metrics.contains("apiserver_audit_error_total{plugin=\"buffered\"} 1\n"),
        "{metrics}"
    );
    release.send(true).unwrap();
    let (_, list) = sink.lists.recv().await.unwrap();
    assert_eq!(list["items"][0]["responseStatus"]["code"], 201);
    cluster.stop().await;
}

/// What somebody sends who may not is not read, whatever the policy would have told of it.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_read_for_those_who_may() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, log) = (dir.path().join("policy.yaml"), dir.path().join("audit.log"));
    std::fs::write(&policy, POLICY).unwrap();
    let cluster = Cluster::start_with(tempfile::tempdir().unwrap(), Some("mem:"), |config| {
        config.audit = Some(audit::Config {
            policy_file: policy,
            log: Some(log_config(&log)),
            webhook: None,
        });
    })
    .await;
    let mut connection = cluster.connect().await;
    let head = head(MAPS, 1000, "impersonate-user: jane\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(status_line(&mut connection).await, "HTTP/1.1 403 Forbidden");
    drop(connection);
    cluster.stop().await;
}
