//! The server as a process sees it: TLS, certificates, restarts.

mod common;

use common::Cluster;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::Api;
use kube::api::{ListParams, LogParams, PostParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use serde_json::json;

async fn remote(cluster: &Cluster, auth: Option<AuthInfo>) -> kube::Client {
    let kubeconfig = Kubeconfig::read_from(&cluster.control.kubeconfig).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    if let Some(auth) = auth {
        config.auth_info = auth;
    }
    kube::Client::try_from(config).unwrap()
}

fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[tokio::test]
async fn the_kubeconfig_works_and_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    install_provider();
    let cluster = Cluster::start().await;
    let mode = std::fs::metadata(&cluster.control.kubeconfig)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let client = remote(&cluster, None).await;
    assert_eq!(
        client.apiserver_version().await.unwrap().git_version,
        "v1.35.0+catamaran"
    );
    let pods = Api::<Pod>::all(client).list(&ListParams::default()).await.unwrap();
    assert!(pods.items.is_empty());
    cluster.stop().await;
}

#[tokio::test]
async fn whoever_shows_no_certificate_may_only_ask_how_it_is() {
    install_provider();
    let cluster = Cluster::start().await;
    let client = remote(&cluster, Some(AuthInfo::default())).await;
    let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
    assert_eq!(client.request_text(request).await.unwrap(), "ok");
    let error = Api::<Pod>::all(client).list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.code == 403 && status.reason == "Forbidden"));
    cluster.stop().await;
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_a_restart() {
    let cluster = Cluster::start_in(tempfile::tempdir().unwrap(), None).await;
    let maps = Api::<ConfigMap>::namespaced(cluster.client.clone(), "default");
    let mut map = ConfigMap::default();
    for index in 0..20 {
        map.metadata.name = Some(format!("m{index}"));
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    let before = cluster.get("/api/v1/namespaces/default/configmaps").await.ok();
    let ca = cluster.control.ca_pem.clone();
    drop(maps);
    let dir = cluster.stop().await;

    let cluster = Cluster::start_in(dir, None).await;
    assert_eq!(cluster.control.ca_pem, ca);
    let after = cluster.get("/api/v1/namespaces/default/configmaps").await.ok();
    assert_eq!(after["items"], before["items"]);
    let version = |list: &serde_json::Value| {
        list["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    assert!(version(&after) >= version(&before), "versions go on");
    let created = cluster
        .post(
            "/api/v1/namespaces/default/configmaps",
            &json!({ "metadata": { "name": "n" } }),
        )
        .await
        .ok();
    assert!(version(&created) > version(&before));
    cluster.stop().await;
}

#[tokio::test]
async fn errors_about_containers_name_the_choice() {
    let cluster = Cluster::start().await;
    let client = cluster.client.clone();
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    let pod = json!({
        "metadata": { "name": "p" },
        "spec": { "nodeName": "n1", "containers": [{ "name": "a", "image": "i" }, { "name": "b", "image": "i" }] },
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
        .await
        .unwrap();
    let message = async |container: Option<&str>| {
        let params = LogParams {
            container: container.map(ToOwned::to_owned),
            ..LogParams::default()
        };
        match pods.logs("p", &params).await.unwrap_err() {
            kube::Error::Api(status) => format!("{} {}", status.code, status.message),
            other => panic!("{other}"),
        }
    };
    assert_eq!(
        message(None).await,
        "400 a container name must be specified for pod p, choose one of: [a b]"
    );
    assert_eq!(message(Some("z")).await, "400 container z is not valid for pod p");
    assert!(message(Some("a")).await.contains("the pod's node \"n1\" is not known"));
    let node = json!({
        "metadata": { "name": "n1" },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": 1 } },
        },
    });
    let nodes = Api::<Node>::all(client);
    nodes
        .create(&PostParams::default(), &serde_json::from_value(node).unwrap())
        .await
        .unwrap();
    let unreachable = message(Some("a")).await;
    assert!(unreachable.starts_with("500 ") && unreachable.contains("error dialing backend: node n1 at 127.0.0.1:1"));
}

/// Without its key, a Secret cannot be read. Lists of Secrets say so, everything else goes on.
#[tokio::test]
async fn a_secret_whose_key_is_lost_is_not_hidden() {
    const SECRETS: &str = "/api/v1/namespaces/default/secrets";
    let cluster = Cluster::start_in(tempfile::tempdir().unwrap(), None).await;
    let secret = |name: &str| json!({"metadata": {"name": name}, "data": {"a": "Yg=="}});
    cluster.post(SECRETS, &secret("old")).await.ok();
    let dir = cluster.stop().await;
    std::fs::remove_file(dir.path().join("data/encryption-keys")).unwrap();
    let cluster = Cluster::start_in(dir, None).await;
    cluster.post(SECRETS, &secret("new")).await.ok();
    cluster.get(&format!("{SECRETS}/new")).await.ok();
    cluster.get("/api/v1/configmaps").await.ok();
    let start = "500 InternalError: Internal error occurred: unable to transform key \"/registry/core/secrets/default/old\": \
                 it was encrypted with the key ";
    let all = [
        "/api/v1/secrets".to_owned(),
        SECRETS.to_owned(),
        format!("{SECRETS}/old"),
        format!("{SECRETS}?limit=1"),
    ];
    for path in all {
        let failure = cluster.get(&path).await.failure();
        assert!(failure.starts_with(start), "{path}: {failure}");
    }
    let exists = cluster.post(SECRETS, &secret("old")).await;
    assert_eq!(exists.code, 409, "{}", exists.text);
    cluster.get("/api/v1/namespaces/kube-system/secrets").await.ok();
    let metrics = cluster.get("/metrics").await.text;
    let line = "apiserver_storage_decode_errors_total{group=\"\",resource=\"secrets\"} 1";
    assert!(metrics.lines().any(|own| own == line), "{metrics}");
}

#[tokio::test]
async fn health_checks_are_counted() {
    let cluster = Cluster::start().await;
    let slis = "/metrics/slis";
    cluster.send("DELETE", slis, &[], "").await;
    cluster.get("/livez").await;
    cluster.get("/livez").await;
    let text = cluster
        .get("/readyz?exclude=store&exclude=b&exclude=a&verbose")
        .await
        .text;
    let end = "warn: some health checks cannot be excluded: no matches for \"a\",\"b\"\nreadyz check passed\n";
    assert!(
        text.contains("[+]store excluded: ok\n") && text.ends_with(end),
        "{text}"
    );
    cluster.get("/livez/ping").await;
    let text = cluster.get(slis).await.text;
    for line in [
        "# TYPE kubernetes_healthcheck gauge",
        "kubernetes_healthcheck{name=\"ping\",type=\"livez\"} 1",
        "# TYPE kubernetes_healthchecks_total counter",
        "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"livez\"} 2",
        "kubernetes_healthchecks_total{name=\"watch-cache\",status=\"success\",type=\"readyz\"} 1",
    ] {
        assert!(text.lines().any(|own| own == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("name=\"store\",type=\"readyz\""), "{text}");
    let reset = cluster.send("DELETE", slis, &[], "").await;
    assert_eq!(reset.text, "metrics reset\n");
    assert!(!cluster.get(slis).await.text.contains("kubernetes_healthcheck{"));
    cluster.stop().await;
}
