//! What is on its way out: warnings with every answer, and component statuses.

mod common;

use common::Cluster;
use serde_json::{Value, json};

const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";
const WARNING: &str = "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";

#[tokio::test]
async fn whoever_uses_a_deprecated_version_is_told() {
    let cluster = Cluster::start().await;
    let one = json!({"metadata": {"name": "a"}});
    let path = format!("{ENDPOINTS}/a");
    for answer in [
        cluster.post(ENDPOINTS, &one).await,
        cluster.post(ENDPOINTS, &one).await,
        cluster.get(&path).await,
        cluster.get(ENDPOINTS).await,
        cluster.put(&path, &one).await,
        cluster.patch(&path, "merge", &json!({})).await,
        cluster.delete(&path, &Value::Null).await,
        cluster.get(&path).await,
    ] {
        assert_eq!(answer.warnings, [WARNING], "{} {}", answer.code, answer.text);
    }
    assert!(
        cluster
            .get("/api/v1/namespaces/default/configmaps")
            .await
            .warnings
            .is_empty()
    );
}

#[tokio::test]
async fn so_are_users_of_versions_of_custom_kinds() {
    let cluster = Cluster::start().await;
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let definition = json!({
        "metadata": {"name": "things.example.org"},
        "spec": {
            "group": "example.org", "scope": "Cluster", "names": {"plural": "things", "kind": "Thing"},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": schema},
                {"name": "v1beta1", "served": true, "storage": false, "schema": schema, "deprecated": true},
                {"name": "v1alpha1", "served": true, "storage": false, "schema": schema, "deprecated": true,
                 "deprecationWarning": "gone tomorrow"},
            ],
        },
    });
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    cluster.post(path, &definition).await.ok();
    let warnings = async |version: &str| {
        let path = format!("/apis/example.org/{version}/things");
        cluster.get(&path).await.warnings
    };
    assert!(warnings("v1").await.is_empty());
    assert_eq!(
        warnings("v1beta1").await,
        ["299 - \"example.org/v1beta1 Thing is deprecated; use example.org/v1 Thing\""]
    );
    assert_eq!(warnings("v1alpha1").await, ["299 - \"gone tomorrow\""]);
}

const COMPONENTS: &str = "/api/v1/componentstatuses";

#[tokio::test]
async fn components_are_well_and_can_only_be_read() {
    let cluster = Cluster::start().await;
    let list = cluster.get(COMPONENTS).await;
    assert_eq!(list.warnings, ["299 - \"v1 ComponentStatus is deprecated in v1.19+\""]);
    let list = list.ok();
    assert_eq!(
        (&list["kind"], &list["metadata"]),
        (&json!("ComponentStatusList"), &json!({}))
    );
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&list), ["controller-manager", "etcd-0", "scheduler"]);
    let selected = cluster
        .get(&format!("{COMPONENTS}?fieldSelector=metadata.name%3Detcd-0"))
        .await
        .ok();
    assert_eq!(names(&selected), ["etcd-0"]);
    assert_eq!(
        cluster.get(&format!("{COMPONENTS}/scheduler")).await.ok(),
        json!({
            "kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": "scheduler"},
            "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}],
        })
    );
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = cluster.send("GET", COMPONENTS, &table, "").await.ok();
    assert_eq!(
        table["rows"][0]["cells"],
        json!(["controller-manager", "Healthy", "ok", ""])
    );
    let missing = cluster.get(&format!("{COMPONENTS}/nobody")).await;
    assert_eq!(
        (missing.code, &missing.json()["message"]),
        (500, &json!("Component not found: nobody"))
    );

    let refused = "405 MethodNotAllowed: the server does not allow this method on the requested resource";
    let one = json!({"metadata": {"name": "x"}});
    assert_eq!(cluster.post(COMPONENTS, &one).await.failure(), refused);
    assert_eq!(cluster.delete(COMPONENTS, &Value::Null).await.failure(), refused);
    let path = format!("{COMPONENTS}/scheduler");
    assert_eq!(cluster.put(&path, &one).await.failure(), refused);
    assert_eq!(cluster.delete(&path, &Value::Null).await.failure(), refused);
    assert_eq!(
        cluster.get(&format!("{COMPONENTS}?watch=true")).await.failure(),
        "405 MethodNotAllowed: watch is not supported on resources of kind \"componentstatuses\""
    );
    let served = cluster.get("/api/v1").await.ok();
    let own = served["resources"].as_array().unwrap().iter();
    let own: Vec<&Value> = own.filter(|one| one["name"] == "componentstatuses").collect();
    assert_eq!(own[0]["verbs"], json!(["get", "list"]));
}
