//! Watches over WebSockets, as browsers watch.

mod common;

use catamaran_api::body::{Format, parse};
use catamaran_control::audit::{self, LogConfig, Mode};
use common::Cluster;
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest as _};

/// Opens a watch. Returns the protocol that was agreed on, too.
async fn watch(
    cluster: &Cluster,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(WebSocketStream<TlsStream<TcpStream>>, Option<String>), Error> {
    let mut request = format!("wss://{}{path}", cluster.control.addr).into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let (socket, answer) = tokio_tungstenite::client_async(request, cluster.connect().await).await?;
    let protocol = answer.headers().get("sec-websocket-protocol");
    let protocol = protocol.map(|value| value.to_str().unwrap().to_owned());
    Ok((socket, protocol))
}

#[tokio::test]
async fn each_event_is_a_message() {
    let cluster = Cluster::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let version = cluster.get(maps).await.ok()["metadata"]["resourceVersion"].clone();
    let path = format!("{maps}?watch=true&resourceVersion={}", version.as_str().unwrap());
    let (mut text, protocol) = watch(&cluster, &path, &[]).await.unwrap();
    assert_eq!(protocol, None);
    let accept = ("accept", "application/vnd.kubernetes.protobuf");
    let own = ("sec-websocket-protocol", "my.own");
    let (mut binary, protocol) = watch(&cluster, &path, &[accept, own]).await.unwrap();
    assert_eq!(protocol.as_deref(), Some("my.own"));
    for name in ["a", "b"] {
        cluster.post(maps, &json!({ "metadata": { "name": name } })).await.ok();
        let Message::Text(message) = text.next().await.unwrap().unwrap() else {
            panic!("JSON is text");
        };
        assert!(message.ends_with('\n'));
        let event: Value = serde_json::from_str(&message).unwrap();
        assert_eq!(
            (&event["type"], &event["object"]["metadata"]["name"]),
            (&json!("ADDED"), &json!(name))
        );
        let Message::Binary(message) = binary.next().await.unwrap().unwrap() else {
            panic!("protobuf is none");
        };
        assert!(message.starts_with(b"\n\x05ADDED\x12"), "{message:?}");
        let object = message.windows(4).position(|bytes| bytes == b"k8s\0").unwrap();
        let object = parse(Format::Protobuf, &message[object..]).unwrap().value;
        assert_eq!(object, event["object"]);
    }
    let short = format!("{path}&timeoutSeconds=1");
    let (mut ended, _) = watch(&cluster, &short, &[]).await.unwrap();
    let mut messages = Vec::new();
    while let Some(Ok(message)) = ended.next().await {
        messages.push(message);
    }
    assert!(matches!(messages.last(), Some(Message::Close(_))), "{messages:?}");
    assert_eq!(messages.len(), 3, "both that there are, and the end");

    let refused = |result: Result<_, Error>| match result {
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it is not refused"),
    };
    let several = ("sec-websocket-protocol", "a, b");
    assert_eq!(refused(watch(&cluster, &path, &[several]).await), 400);
    let accept = ("accept", "application/yaml");
    assert_eq!(refused(watch(&cluster, &path, &[accept]).await), 406);
    cluster.stop().await;
}

/// The answer that upgrades is over at once; what it began is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_counted_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (policy_file, path) = (dir.path().join("policy.yaml"), dir.path().join("audit.log"));
    let policy = "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Metadata, resources: [{group: '', resources: [configmaps]}]}]}";
    std::fs::write(&policy_file, policy).unwrap();
    let cluster = Cluster::start_with(tempfile::tempdir().unwrap(), Some("mem:"), |config| {
        config.audit = Some(audit::Config {
            policy_file,
            log: Some(LogConfig {
                path: path.clone(),
                mode: Mode::Blocking,
                max_megabytes: 0,
                max_backups: 0,
                max_days: 0,
            }),
            webhook: None,
        });
    })
    .await;
    let told = |verb: &str, stage: &str| {
        let text = std::fs::read_to_string(&path).unwrap();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut codes = events
            .filter(|event| {
                event["verb"] == verb && event["stage"] == stage && event["user"]["username"] != "system:apiserver"
            })
            .map(|event| event["responseStatus"]["code"].clone());
        codes.next()
    };
    let until_told = async |verb: &str, stage: &str| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while told(verb, stage).is_none() {
            assert!(Instant::now() < deadline, "{verb} {stage} is not told");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let watches = |answer: &common::Answer| {
        let mut lines = answer.text.lines();
        let line = lines.find(|line| {
            line.starts_with("apiserver_longrunning_requests{")
                && line.contains("resource=\"configmaps\",scope=\"namespace\"")
        });
        line.and_then(|line| line.rsplit_once(' '))
            .map(|(_, count)| count.to_owned())
    };
    let maps = "/api/v1/namespaces/default/configmaps";
    let (mut socket, _) = watch(&cluster, &format!("{maps}?watch=true&labelSelector=a"), &[])
        .await
        .unwrap();
    let map = json!({ "metadata": { "name": "m", "labels": { "a": "b" } } });
    cluster.post(maps, &map).await.ok();
    assert!(matches!(socket.next().await, Some(Ok(Message::Text(_)))));
    until_told("create", "ResponseComplete").await;
    assert_eq!(told("watch", "ResponseStarted"), Some(json!(101)));
    assert_eq!(told("watch", "ResponseComplete"), None, "it is not over");
    assert_eq!(watches(&cluster.get("/metrics").await).as_deref(), Some("1"));
    drop(socket);
    until_told("watch", "ResponseComplete").await;
    cluster
        .until("/metrics", |answer| watches(answer).as_deref() == Some("0"))
        .await;

    // One whose client reads nothing does not hold up the end.
    let (_silent, _) = watch(&cluster, &format!("{maps}?watch=true"), &[]).await.unwrap();
    cluster.stop().await;
}
