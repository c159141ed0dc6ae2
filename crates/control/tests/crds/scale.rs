//! How many: the `scale` of a defined kind is where its definition says.

use crate::common::Cluster;
use crate::{DEFINITIONS, WIDGETS, with_spec};
use expect_test::expect;
use serde_json::json;

async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    let mut definition = with_spec(&json!({"type": "object", "properties": {"count": {"type": "integer"}}}));
    let version = &mut definition["spec"]["versions"][0];
    version["schema"]["openAPIV3Schema"]["properties"]["status"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    version["subresources"] = json!({"status": {}, "scale": {
        "specReplicasPath": ".spec.count", "statusReplicasPath": ".status.count", "labelSelectorPath": ".status.selector",
    }});
    cluster.post(DEFINITIONS, &definition).await.ok();
    let object =
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": {"count": 2}});
    cluster.post(WIDGETS, &object).await.ok();
    let status = json!({"status": {"count": 1, "selector": "app=a"}});
    cluster
        .patch(&format!("{WIDGETS}/a/status"), "merge", &status)
        .await
        .ok();
    cluster
}

#[tokio::test]
async fn scale_reads_and_writes_where_the_definition_says() {
    let cluster = cluster().await;
    let path = format!("{WIDGETS}/a/scale");
    let mut scale = cluster.get(&path).await.ok();
    assert_eq!(
        (&scale["apiVersion"], &scale["kind"]),
        (&json!("autoscaling/v1"), &json!("Scale"))
    );
    assert_eq!(scale["spec"], json!({"replicas": 2}));
    assert_eq!(scale["status"], json!({"replicas": 1, "selector": "app=a"}));
    let patched = cluster
        .patch(&path, "merge", &json!({"spec": {"replicas": 5}}))
        .await
        .ok();
    assert_eq!(patched["spec"], json!({"replicas": 5}));
    let object = cluster.get(&format!("{WIDGETS}/a")).await.ok();
    assert_eq!(
        (&object["spec"]["count"], &object["metadata"]["generation"]),
        (&json!(5), &json!(2))
    );
    assert_eq!(object["status"], json!({"count": 1, "selector": "app=a"}));
    // `scale` was read before the patch.
    scale["spec"]["replicas"] = json!(7);
    let stale = cluster.put(&path, &scale).await;
    assert_eq!(stale.code, 409, "{}", stale.text);
    scale["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
    assert_eq!(cluster.put(&path, &scale).await.ok()["spec"]["replicas"], 7);
    let negative = cluster.patch(&path, "merge", &json!({"spec": {"replicas": -1}})).await;
    expect![[r#"422 Invalid: Scale.autoscaling "a" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"#]].assert_eq(&negative.failure());
}

#[tokio::test]
async fn what_has_no_scale_has_no_path_for_it() {
    let cluster = crate::defined().await;
    cluster.post(WIDGETS, &crate::widget("a", 2)).await.ok();
    assert_eq!(cluster.get(&format!("{WIDGETS}/a/scale")).await.code, 404);
}
