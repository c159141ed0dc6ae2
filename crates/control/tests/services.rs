//! Addresses and ports of services through the API: unique, given back, registered, of one family or two, and nobody waits for
//! somebody else's webhook.

#[path = "common/mod.rs"]
mod common;
#[path = "admission/server.rs"]
#[allow(dead_code, reason = "every test binary uses a part of it")]
mod server;

use common::{Answer, Cluster};
use expect_test::expect;
use serde_json::{Value, json};
use server::Webhook;
use std::sync::Arc;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";

fn service(name: &str, fields: &Value) -> Value {
    let mut spec = json!({"ports": [{"port": 80}], "selector": {"app": name}});
    for (key, value) in fields.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

async fn with_ranges(addresses: &str, ports: &str) -> Cluster {
    Cluster::start_with(tempfile::tempdir().unwrap(), Some("mem:"), |config| {
        config.service_network.cluster_ips = addresses.parse().unwrap();
        config.service_network.node_ports = ports.parse().unwrap();
    })
    .await
}

/// `10.96.0.1 default/kubernetes`, in order.
async fn registered(cluster: &Cluster) -> Vec<String> {
    let list = cluster.get(ADDRESSES).await.ok();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line = |one: &Value| {
        let parent = &one["spec"]["parentRef"];
        let owner = format!("{}/{}", text(&parent["namespace"]), text(&parent["name"]));
        format!("{} {owner}", text(&one["metadata"]["name"]))
    };
    list["items"].as_array().unwrap().iter().map(line).collect()
}

fn ips(service: &Value) -> Vec<String> {
    let list = service["spec"]["clusterIPs"].as_array().cloned().unwrap_or_default();
    list.iter().map(|ip| ip.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn nobody_waits_for_the_webhook_of_another_service() {
    let cluster = Arc::new(Cluster::start().await);
    let webhook = Webhook::start(|request| {
        // Never answers about the slow one.
        (request["name"] != "slow").then(|| json!({"allowed": true}))
    })
    .await;
    let fields = json!({"timeoutSeconds": 30, "rules": [
        {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["services"]}]});
    let configuration = webhook.configuration("ValidatingWebhookConfiguration", "slow", &fields);
    let configurations = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    cluster.post(configurations, &configuration).await.ok();
    let wanted = json!({"type": "NodePort", "clusterIP": "10.96.0.77", "ports": [{"port": 80, "nodePort": 30_077}]});
    let slow = {
        let (cluster, body) = (Arc::clone(&cluster), service("slow", &wanted));
        tokio::spawn(async move { cluster.post(SERVICES, &body).await })
    };
    while webhook.asked().is_empty() {
        tokio::task::yield_now().await;
        assert!(!slow.is_finished(), "{}", slow.await.unwrap().text);
    }
    let other = cluster.post(SERVICES, &service("other", &json!({}))).await.ok();
    assert_eq!(ips(&other).len(), 1);
    // What the slow one has reserved is not given to others.
    let refused = cluster.post(SERVICES, &service("other2", &wanted)).await;
    let mut port_only = wanted.clone();
    port_only.as_object_mut().unwrap().remove("clusterIP");
    let refused_port = cluster.post(SERVICES, &service("other2", &port_only)).await;
    expect![[r#"
        422 Invalid: Service "other2" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.77"]: failed to allocate IP 10.96.0.77: provided IP is already allocated
        422 Invalid: Service "other2" is invalid: spec.ports[0].nodePort: Invalid value: 30077: provided port is already allocated"#]]
    .assert_eq(&format!("{}\n{}", refused.failure(), refused_port.failure()));
    assert!(!slow.is_finished());
    // Its client gives up: all of it is free again.
    slow.abort();
    assert!(slow.await.is_err());
    let taken = cluster.post(SERVICES, &service("other2", &wanted)).await.ok();
    assert_eq!(ips(&taken), ["10.96.0.77"]);
    cluster
        .delete(&format!("{configurations}/slow"), &Value::Null)
        .await
        .ok();
}

#[tokio::test]
async fn an_address_is_registered_as_long_as_a_service_has_it() {
    let cluster = Cluster::start().await;
    assert_eq!(registered(&cluster).await, ["10.96.0.1 default/kubernetes"]);
    let fixed = json!({"clusterIP": "10.96.0.50"});
    cluster.post(SERVICES, &service("a", &fixed)).await.ok();
    let mut object = cluster.get(&format!("{ADDRESSES}/10.96.0.50")).await.ok();
    assert!(object["metadata"]["uid"].is_string());
    for volatile in ["uid", "creationTimestamp", "resourceVersion"] {
        object["metadata"].as_object_mut().unwrap().remove(volatile);
    }
    let owner = object["metadata"]["managedFields"][0]["manager"].clone();
    object["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(owner, "kube-apiserver");
    assert_eq!(
        object,
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
            "metadata": {"name": "10.96.0.50", "labels": {
                "ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
            "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "a"}}})
    );
    // Refused services leave nothing.
    let twice = cluster.post(SERVICES, &service("b", &fixed)).await;
    assert_eq!(twice.code, 422, "{}", twice.text);
    let odd = cluster
        .post(SERVICES, &service("b", &json!({"sessionAffinity": "Odd"})))
        .await;
    assert_eq!(odd.code, 422, "{}", odd.text);
    let again = cluster.post(SERVICES, &service("a", &json!({}))).await;
    assert_eq!(again.code, 409, "{}", again.text);
    let tried = cluster
        .post(&format!("{SERVICES}?dryRun=All"), &service("b", &json!({})))
        .await
        .ok();
    assert_eq!(ips(&tried), ["10.96.0.0"]);
    cluster
        .post(SERVICES, &service("none", &json!({"clusterIP": "None"})))
        .await
        .ok();
    let kept = ["10.96.0.1 default/kubernetes", "10.96.0.50 default/a"];
    assert_eq!(registered(&cluster).await, kept);

    // Somebody who registers an address by hand has it.
    let gateway = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": "10.96.0.60"},
        "spec": {"parentRef": {"group": "gateway.networking.k8s.io", "resource": "gateways", "namespace": "x", "name": "y"}}});
    cluster.post(ADDRESSES, &gateway).await.ok();
    let taken = cluster
        .post(SERVICES, &service("b", &json!({"clusterIP": "10.96.0.60"})))
        .await
        .failure();
    assert!(
        taken.ends_with("failed to allocate IP 10.96.0.60: provided IP is already allocated"),
        "{taken}"
    );
    cluster
        .delete(&format!("{ADDRESSES}/10.96.0.60"), &Value::Null)
        .await
        .ok();

    // A service without an address gives it back, and gets one again.
    let path = format!("{SERVICES}/a");
    let external =
        json!({"spec": {"type": "ExternalName", "externalName": "a.b", "clusterIP": "", "clusterIPs": null}});
    cluster.patch(&path, "merge", &external).await.ok();
    assert_eq!(registered(&cluster).await, kept[..1]);
    let back = json!({"spec": {"type": "ClusterIP", "externalName": null, "clusterIP": "10.96.0.51"}});
    let back = cluster.patch(&path, "merge", &back).await.ok();
    assert_eq!(ips(&back), ["10.96.0.51"]);
    assert_eq!(registered(&cluster).await[1], "10.96.0.51 default/a");
    // Free at once when it is deleted, however that goes.
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    cluster.patch(&path, "merge", &hold).await.ok();
    cluster.delete(&path, &Value::Null).await.ok();
    assert_eq!(registered(&cluster).await.len(), 2, "it is still there");
    let free = json!({"metadata": {"finalizers": null}});
    cluster.patch(&path, "merge", &free).await.ok();
    assert_eq!(registered(&cluster).await, kept[..1]);
    let fixed = json!({"clusterIP": "10.96.0.51"});
    cluster.post(SERVICES, &service("c", &fixed)).await.ok();
    cluster.delete(&format!("{SERVICES}/c"), &Value::Null).await.ok();
    cluster.post(SERVICES, &service("d", &fixed)).await.ok();
}

#[tokio::test]
async fn what_is_registered_wrongly_is_put_right() {
    let cluster = Cluster::start_in(tempfile::tempdir().unwrap(), None).await;
    cluster
        .post(SERVICES, &service("a", &json!({"clusterIP": "10.96.0.50"})))
        .await
        .ok();
    let path = format!("{ADDRESSES}/10.96.0.50");
    let first = cluster.get(&path).await.ok()["metadata"]["uid"].clone();
    let is_other = |answer: &Answer| answer.code == 200 && answer.json()["metadata"]["uid"] != first;
    cluster.delete(&path, &Value::Null).await.ok();
    cluster.until(&path, is_other).await;
    // As if the server had been killed between two writes.
    let stray = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": "10.96.0.61",
        "labels": {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
        "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "never"}}});
    cluster.post(ADDRESSES, &stray).await.ok();
    cluster.until_gone(&format!("{ADDRESSES}/10.96.0.61")).await;
    let wrong = cluster
        .patch(&path, "merge", &json!({"metadata": {"labels": null}}))
        .await
        .ok();
    let second = wrong["metadata"]["uid"].clone();
    cluster
        .until(&path, |answer| {
            answer.code == 200 && answer.json()["metadata"]["uid"] != second
        })
        .await;
    let dir = cluster.stop().await;
    let cluster = Cluster::start_in(dir, None).await;
    let kept = ["10.96.0.1 default/kubernetes", "10.96.0.50 default/a"];
    assert_eq!(registered(&cluster).await, kept);
}

#[tokio::test]
async fn services_have_one_family_or_two() {
    let cluster = with_ranges("fd00:10:96::/112,10.96.0.0/24", "31000-31009").await;
    let show = |service: &Value| {
        let spec = &service["spec"];
        format!(
            "{} {} {}",
            spec["ipFamilyPolicy"], spec["ipFamilies"], spec["clusterIPs"]
        )
    };
    let own = cluster.get(&format!("{SERVICES}/kubernetes")).await.ok();
    assert_eq!(show(&own), r#""SingleStack" ["IPv6"] ["fd00:10:96::1"]"#);
    let cidr = cluster.get(&format!("{CIDRS}/kubernetes")).await.ok();
    assert_eq!(cidr["spec"]["cidrs"], json!(["fd00:10:96::/112", "10.96.0.0/24"]));
    let fixed = json!({"ipFamilyPolicy": "RequireDualStack", "clusterIPs": ["10.96.0.9", "fd00:10:96::9"],
        "clusterIP": "10.96.0.9"});
    let dual = cluster.post(SERVICES, &service("dual", &fixed)).await.ok();
    assert_eq!(
        show(&dual),
        r#""RequireDualStack" ["IPv4","IPv6"] ["10.96.0.9","fd00:10:96::9"]"#
    );
    let path = format!("{SERVICES}/dual");
    let not_so = cluster
        .patch(&path, "merge", &json!({"spec": {"clusterIPs": ["10.96.0.9"]}}))
        .await
        .failure();
    let single = json!({"spec": {"ipFamilyPolicy": "SingleStack"}});
    let single = cluster.patch(&path, "merge", &single).await.ok();
    assert_eq!(
        registered(&cluster).await,
        ["10.96.0.9 default/dual", "fd00:10:96::1 default/kubernetes"]
    );
    let grown = cluster
        .patch(&path, "merge", &json!({"spec": {"ipFamilyPolicy": "PreferDualStack"}}))
        .await
        .ok();
    assert_eq!((ips(&grown).len(), registered(&cluster).await.len()), (2, 3));
    let odd_port = service(
        "p",
        &json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30_001}]}),
    );
    let odd_port = cluster.post(SERVICES, &odd_port).await.failure();
    let port = cluster
        .post(SERVICES, &service("p", &json!({"type": "NodePort"})))
        .await
        .ok();
    let port = port["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!((31_000..=31_009).contains(&port));
    expect![[r#"
        422 Invalid: Service "dual" is invalid: spec.ipFamilyPolicy: Invalid value: "RequireDualStack": must be 'SingleStack' to release the secondary cluster IP
        "SingleStack" ["IPv4"] ["10.96.0.9"]
        422 Invalid: Service "p" is invalid: spec.ports[0].nodePort: Invalid value: 30001: provided port is not in the valid range. The range of valid ports is 31000-31009"#]]
    .assert_eq(&[not_so, show(&single), odd_port].join("\n"));
}

#[tokio::test]
async fn more_blocks_give_more_addresses() {
    let cluster = with_ranges("10.96.0.0/29", "30000-32767").await;
    for index in 0..5 {
        cluster
            .post(SERVICES, &service(&format!("s{index}"), &json!({})))
            .await
            .ok();
    }
    let full = cluster.post(SERVICES, &service("more", &json!({}))).await.failure();
    assert_eq!(
        full,
        "500 InternalError: Internal error occurred: failed to allocate a serviceIP: range is full"
    );
    let block = |name: &str, cidr: &str| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
            "spec": {"cidrs": [cidr]}})
    };
    cluster.post(CIDRS, &block("more", "10.97.0.0/24")).await.ok();
    let more = cluster.post(SERVICES, &service("more", &json!({}))).await.ok();
    assert!(ips(&more)[0].starts_with("10.97.0."), "{more}");
    // One that is going away gives no more.
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    cluster.patch(&format!("{CIDRS}/more"), "merge", &hold).await.ok();
    cluster.delete(&format!("{CIDRS}/more"), &Value::Null).await.ok();
    let full = cluster.post(SERVICES, &service("most", &json!({}))).await;
    assert_eq!(full.code, 500, "{}", full.text);
    // The first one comes back when somebody deletes it.
    let path = format!("{CIDRS}/kubernetes");
    let before = cluster.get(&path).await.ok();
    assert_eq!(before["status"]["conditions"][0]["status"], "True", "{before}");
    cluster.delete(&path, &Value::Null).await.ok();
    let uid = &before["metadata"]["uid"];
    cluster
        .until(&path, |answer| {
            answer.code == 200 && answer.json()["metadata"]["uid"] != *uid
        })
        .await;
}

#[tokio::test]
async fn a_block_stays_while_services_use_it() {
    let cluster = Cluster::start_with_controllers().await;
    let path = |name: &str| format!("{CIDRS}/{name}");
    let ready = |answer: &Answer| answer.json()["status"]["conditions"][0].clone();
    let is_ready = |answer: &Answer| ready(answer)["message"] == "Kubernetes Service CIDR is ready";
    let held = |answer: &Answer| {
        answer.json()["metadata"]["finalizers"] == json!(["networking.k8s.io/service-cidr-finalizer"])
    };
    cluster
        .until(&path("kubernetes"), |answer| is_ready(answer) && held(answer))
        .await;
    let block = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "more"},
        "spec": {"cidrs": ["10.97.0.0/24"]}});
    cluster.post(CIDRS, &block).await.ok();
    cluster
        .until(&path("more"), |answer| is_ready(answer) && held(answer))
        .await;
    cluster
        .post(SERVICES, &service("a", &json!({"clusterIP": "10.97.0.7"})))
        .await
        .ok();
    cluster.delete(&path("more"), &Value::Null).await.ok();
    let waits = cluster
        .until(&path("more"), |answer| ready(answer)["status"] == "False")
        .await;
    assert_eq!(
        (&ready(&waits)["reason"], &ready(&waits)["message"]),
        (
            &json!("Terminating"),
            &json!(
                "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
            )
        )
    );
    cluster.delete(&format!("{SERVICES}/a"), &Value::Null).await.ok();
    cluster.until_gone(&path("more")).await;
}
