//! Questions about the asker, and the documents old clients ask for.

mod common;

use common::Cluster;
use expect_test::expect;
use serde_json::json;

const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";

#[tokio::test]
async fn who_am_i_and_what_may_i() {
    let cluster = Cluster::start().await;
    let me = cluster
        .post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({}))
        .await;
    assert_eq!(me.code, 201);
    let created = me.json()["metadata"]["creationTimestamp"].clone();
    assert!(created.is_string());
    assert_eq!(
        me.json(),
        json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
            "metadata": { "creationTimestamp": created },
            "status": { "userInfo": { "username": "tester", "groups": ["system:masters", "system:authenticated"] } },
        })
    );
    let ask = async |plural: &str, spec: serde_json::Value| {
        let path = format!("{AUTHORIZATION}/{plural}");
        cluster.post(&path, &json!({ "spec": spec })).await
    };
    let pods = json!({ "resourceAttributes": { "verb": "get", "resource": "pods", "namespace": "default" } });
    assert_eq!(
        ask("selfsubjectaccessreviews", pods.clone()).await.ok()["status"],
        json!({ "allowed": true })
    );
    let stranger = json!({ "user": "x", "nonResourceAttributes": { "verb": "get", "path": "/metrics" } });
    assert_eq!(
        ask("subjectaccessreviews", stranger).await.ok()["status"],
        json!({ "allowed": false })
    );
    let rules = ask("selfsubjectrulesreviews", json!({ "namespace": "default" }))
        .await
        .ok();
    assert_eq!(rules["status"]["resourceRules"][0]["verbs"], json!(["*"]));
    assert_eq!(rules["status"]["incomplete"], false);

    let refusals = [
        ask("selfsubjectaccessreviews", json!({})).await.failure(),
        ask("subjectaccessreviews", pods).await.failure(),
        ask("namespaces/default/localsubjectaccessreviews", json!({ "user": "x" }))
            .await
            .failure(),
        cluster
            .get(&format!("{AUTHORIZATION}/selfsubjectaccessreviews"))
            .await
            .failure(),
        cluster
            .post(
                &format!("{AUTHORIZATION}/subjectaccessreviews"),
                &json!({ "kind": "Pod" }),
            )
            .await
            .failure(),
    ];
    expect![[r#"
        422 Invalid: SelfSubjectAccessReview.authorization.k8s.io "" is invalid: spec.resourceAttributes: Invalid value: "null": exactly one of nonResourceAttributes or resourceAttributes must be specified
        422 Invalid: SubjectAccessReview.authorization.k8s.io "" is invalid: spec.user: Invalid value: "": at least one of user or group must be specified
        422 Invalid: LocalSubjectAccessReview.authorization.k8s.io "" is invalid: spec.resourceAttributes: Invalid value: "null": exactly one of nonResourceAttributes or resourceAttributes must be specified
        405 MethodNotAllowed: get is not supported on resources of kind "selfsubjectaccessreviews.authorization.k8s.io"
        400 BadRequest: the body must be a SubjectAccessReview of authorization.k8s.io/v1, it is a "Pod" of """#]]
    .assert_eq(&refusals.join("\n"));
}

#[tokio::test]
async fn requests_may_be_made_as_somebody_else() {
    let cluster = Cluster::start().await;
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let body = ("content-type", "application/json");
    let headers = [body, ("impersonate-user", "bob"), ("impersonate-group", "devs")];
    let bob = cluster.send("POST", path, &headers, "{}").await.ok();
    assert_eq!(
        bob["status"]["userInfo"],
        json!({ "username": "bob", "groups": ["devs", "system:authenticated"] })
    );
    let nobody = cluster
        .send("POST", path, &[body, ("impersonate-user", "system:anonymous")], "{}")
        .await;
    assert_eq!(nobody.code, 403);
    let groups = cluster
        .send("POST", path, &[body, ("impersonate-group", "devs")], "{}")
        .await;
    assert_eq!(groups.code, 500);
}

#[tokio::test]
async fn openapi_v2_has_the_types_and_the_operations() {
    let cluster = Cluster::start().await;
    let document = cluster.get("/openapi/v2").await.ok();
    assert_eq!(document["swagger"], "2.0");
    let pod = &document["definitions"]["io.k8s.api.core.v1.Pod"];
    assert_eq!(pod["x-kubernetes-group-version-kind"][0]["kind"], "Pod");
    assert_eq!(
        pod["properties"]["spec"]["$ref"],
        "#/definitions/io.k8s.api.core.v1.PodSpec"
    );
    let probe = &document["definitions"]["io.k8s.api.core.v1.HTTPGetAction"]["properties"]["port"];
    assert!(!document.to_string().contains("#/components/"), "{probe}");
    let patch = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    let names: Vec<&str> = patch["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "body"]);
}
