//! What PUT may leave out, and what the server remembers of its last start.

mod common;

use common::Cluster;
use expect_test::expect;
use serde_json::json;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const EVENTS: &str = "/api/v1/namespaces/default/events";

#[tokio::test]
async fn kinds_differ_in_what_an_update_may_leave_out() {
    let cluster = Cluster::start().await;
    let lease = |holder: &str| json!({ "metadata": { "name": "l" }, "spec": { "holderIdentity": holder } });
    let path = format!("{LEASES}/l");

    // A lease that is not there is created by an update, as is an event; a ConfigMap is not.
    assert_eq!(cluster.put(&path, &lease("a")).await.code, 201);
    let event = json!({ "metadata": { "name": "e" }, "involvedObject": { "namespace": "default", "name": "x" } });
    assert_eq!(cluster.put(&format!("{EVENTS}/e"), &event).await.code, 201);
    let mut nameless = event.clone();
    nameless["metadata"] = json!({});
    assert_eq!(
        cluster.put(&format!("{EVENTS}/f"), &nameless).await.failure(),
        "400 BadRequest: the name of the object (f based on URL) was undeterminable: name must be provided"
    );
    assert_eq!(
        cluster
            .put(&format!("{CONFIG_MAPS}/c"), &json!({ "metadata": { "name": "c" } }))
            .await
            .code,
        404
    );

    // Once it is there, its next holder must have seen it.
    expect![[r#"422 Invalid: leases.coordination.k8s.io "l" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update"#]]
        .assert_eq(&cluster.put(&path, &lease("b")).await.failure());
    let mut seen = cluster.get(&path).await.ok();
    seen["spec"]["holderIdentity"] = json!("b");
    cluster.put(&path, &seen).await.ok();
    assert_eq!(cluster.put(&path, &seen).await.code, 409);
    cluster.delete(&path, &json!({})).await.ok();
    assert_eq!(
        cluster.put(&path, &seen).await.code,
        404,
        "who has seen it does not create it"
    );

    // A patch knows what it patches.
    let class = json!({ "metadata": { "name": "c" }, "handler": "oci" });
    let classes = "/apis/node.k8s.io/v1/runtimeclasses";
    cluster.post(classes, &class).await.ok();
    let path = format!("{classes}/c");
    assert_eq!(cluster.put(&path, &class).await.code, 422);
    let labels = json!({ "metadata": { "labels": { "a": "b" } } });
    cluster.patch(&path, "merge", &labels).await.ok();
}

#[tokio::test]
async fn a_picked_port_is_picked_again_while_it_is_free() {
    let cluster = Cluster::start_in(tempfile::tempdir().unwrap(), Some("mem:")).await;
    let address = cluster.control.addr;
    let dir = cluster.stop().await;
    let cluster = Cluster::start_in(dir, Some("mem:")).await;
    assert_eq!(cluster.control.addr, address);
    let dir = cluster.stop().await;

    let squatter = std::net::TcpListener::bind(address).unwrap();
    let cluster = Cluster::start_in(dir, Some("mem:")).await;
    assert_ne!(cluster.control.addr, address);
    drop(squatter);
    cluster.stop().await;
}

#[tokio::test]
async fn warnings_are_never_more_than_clients_take() {
    let cluster = Cluster::start().await;
    let mut map = json!({ "metadata": { "name": "m" } });
    for index in 0..500 {
        map[format!("unknown-{index}-{}", "x".repeat(300))] = json!(1);
    }
    let answer = cluster.post(&format!("{CONFIG_MAPS}?fieldValidation=Warn"), &map).await;
    assert_eq!(answer.code, 201);
    let total: usize = answer.warnings.iter().map(String::len).sum();
    assert!((1000..8192).contains(&total), "{total}");
}
