//! Answers to what is not quite right, word for word those of a Kubernetes API server that was asked the same.

use crate::common::Cluster;
use crate::{DEFINITIONS, WIDGETS, defined, definition, widget};
use expect_test::expect;
use serde_json::{Value, json};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];
const YAML: [(&str, &str); 1] = [("content-type", "application/yaml")];
const APPLY: [(&str, &str); 1] = [("content-type", "application/apply-patch+yaml")];

#[tokio::test]
async fn bodies_that_are_no_objects_of_the_kind() {
    let cluster = defined().await;
    let mut texts = Vec::new();
    for body in [
        "",
        "null",
        "[]",
        "{\"apiVersion\":",
        "nonsense",
        "{}",
        "{\"kind\": 3}",
        "{\"kind\": \"Widget\", \"apiVersion\": \"a/b/c\"}",
        "{\"kind\": \"Widget\", \"metadata\": {\"name\": \"x\"}}",
        "{\"apiVersion\": \"example.com/v1\", \"kind\": \"Gadget\", \"metadata\": {\"name\": \"x\"}}",
    ] {
        texts.push(cluster.send("POST", WIDGETS, &JSON, body).await.failure());
    }
    texts.push(cluster.send("POST", WIDGETS, &YAML, "a: b: c").await.failure());
    let apply = format!("{WIDGETS}/a?fieldManager=m");
    for body in ["[]", "{", "a: b: c", ""] {
        texts.push(cluster.send("PATCH", &apply, &APPLY, body).await.failure());
    }
    expect![[r#"
        400 BadRequest: the object provided is unrecognized (must be of type Widget): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)
        400 BadRequest: the object provided is unrecognized (must be of type Widget): Object 'Kind' is missing in 'null' (6e756c6c)
        400 BadRequest: the object provided is unrecognized (must be of type Widget): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" } (5b5d)
        400 BadRequest: the object provided is unrecognized (must be of type Widget): couldn't get version/kind; json parse error: unexpected end of JSON input ({"apiVersion":)
        400 BadRequest: the object provided is unrecognized (must be of type Widget): couldn't get version/kind; json parse error: invalid character 'o' in literal null (expecting 'u') (6e6f6e73656e7365)
        400 BadRequest: the object provided is unrecognized (must be of type Widget): Object 'Kind' is missing in '{}' ({})
        400 BadRequest: the object provided is unrecognized (must be of type Widget): couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type string ({"kind": 3})
        400 BadRequest: the object provided is unrecognized (must be of type Widget): unexpected GroupVersion string: a/b/c ({"kind": "Widget", "apiVersion ...)
        400 BadRequest: the API version in the data () does not match the expected API version (example.com/v1)
        422 Invalid: Gadget.example.com "x" is invalid: kind: Invalid value: "Gadget": must be Widget
        400 BadRequest: the object provided is unrecognized (must be of type Widget): yaml: mapping values are not allowed in this context (613a20623a2063)
        400 BadRequest: error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go value of type map[string]interface {}
        400 BadRequest: error decoding YAML: error converting YAML to JSON: yaml: line 1: did not find expected node content
        400 BadRequest: error decoding YAML: error converting YAML to JSON: yaml: mapping values are not allowed in this context
        400 BadRequest: invalid object type: /, Kind="#]].assert_eq(&texts.join("\n"));
}

#[tokio::test]
async fn what_is_put_says_which_object_it_is() {
    let cluster = defined().await;
    cluster.post(WIDGETS, &widget("a", 2)).await.ok();
    let path = format!("{WIDGETS}/a");
    let with = |metadata: Value| {
        let mut object = widget("a", 4);
        object["metadata"] = metadata;
        object
    };
    let mut texts = Vec::new();
    for metadata in [
        json!({}),
        json!({"name": "b"}),
        json!({"name": "a", "namespace": "other"}),
        json!({"name": "a"}),
        json!({"name": "a", "resourceVersion": "abc"}),
        json!({"name": "a", "uid": "someone"}),
    ] {
        texts.push(cluster.put(&path, &with(metadata)).await.failure());
    }
    let uid = cluster.get(&path).await.json()["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let patch = json!({"metadata": {"uid": "someone"}});
    let patched = cluster.patch(&path, "merge", &patch).await;
    texts.push(patched.failure());
    expect![[r#"
        400 BadRequest: the name of the object (a based on URL) was undeterminable: name must be provided
        400 BadRequest: the name of the object (b) does not match the name on the URL (a)
        400 BadRequest: the namespace of the provided object does not match the namespace sent on the request
        422 Invalid: widgets.example.com "a" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update
        500 : strconv.ParseUint: parsing "abc": invalid syntax
        409 Conflict: Operation cannot be fulfilled on widgets.example.com "a": StorageError: invalid object, Code: 4, Key: /registry/example.com/widgets/default/a, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: someone, UID in object meta: UID
        422 Invalid: Widget.example.com "a" is invalid: metadata.uid: Invalid value: "someone": field is immutable"#]].assert_eq(&texts.join("\n").replace(&uid, "UID"));
    assert_eq!(patched.json()["details"]["causes"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn options_are_judged() {
    let cluster = defined().await;
    let mut texts = Vec::new();
    for query in [
        "dryRun=",
        "dryRun=All&dryRun=Some",
        "fieldValidation=Maybe",
        "fieldManager=a%0Ab",
    ] {
        let answer = cluster.post(&format!("{WIDGETS}?{query}"), &widget("a", 2)).await;
        texts.push(answer.failure());
    }
    texts.push(cluster.get(&format!("{WIDGETS}?limit=x")).await.failure());
    cluster.post(WIDGETS, &widget("a", 2)).await.ok();
    let stale = cluster
        .send("DELETE", &format!("{WIDGETS}/a?resourceVersion=1"), &[], "")
        .await;
    texts.push(stale.failure().split(" in record").next().unwrap().to_owned());
    texts.push(
        cluster
            .get(&format!("{DEFINITIONS}?fieldSelector=spec.group%3Dx"))
            .await
            .failure(),
    );
    expect![[r#"
        422 Invalid: CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: [""]: supported values: "All"
        422 Invalid: CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["All","Some"]: supported values: "All"
        422 Invalid: CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Maybe": supported values: "", "Ignore", "Strict", "Warn"
        422 Invalid: CreateOptions.meta.k8s.io "" is invalid: fieldManager: Invalid value: "a\nb": invalid character U+000A (at position 1)
        400 BadRequest: strconv.ParseInt: parsing "x": invalid syntax
        409 Conflict: Operation cannot be fulfilled on Widget.example.com "a": the ResourceVersion in the precondition (1) does not match the ResourceVersion
        400 BadRequest: "spec.group" is not a known field selector: only "metadata.name", "metadata.namespace""#]].assert_eq(&texts.join("\n"));
}

#[tokio::test]
async fn where_nothing_is() {
    let cluster = defined().await;
    cluster.post(WIDGETS, &widget("a", 2)).await.ok();
    let mut texts = Vec::new();
    for (method, path) in [
        ("GET", "/nosuch"),
        ("GET", "/apis/nosuch.example.com/v1/things"),
        ("GET", "/apis/example.com/v9/widgets"),
        ("GET", "/apis/example.com/v1/widgets/a"),
        ("GET", "/apis/apps/v1/nosuch"),
        ("GET", "/apis/example.com/v1/namespaces/default/widgets/a/scale"),
        ("DELETE", "/apis/example.com/v1/namespaces/default/widgets/a/status"),
        ("OPTIONS", "/apis/example.com/v1/namespaces/default/widgets"),
        ("PUT", "/apis/example.com/v1/namespaces/default/widgets"),
    ] {
        let answer = cluster.exchange(method, path, &[], "").await;
        assert_eq!(answer.headers()["cache-control"], "no-cache, private");
        let text = String::from_utf8(answer.body().clone()).unwrap();
        let message = serde_json::from_str::<Value>(&text).map_or(text, |status| status["message"].to_string());
        texts.push(format!("{} {}", answer.status().as_u16(), message.trim()));
    }
    expect![[r#"
        404 404 page not found
        404 404 page not found
        404 404 page not found
        404 404 page not found
        404 "the server could not find the requested resource"
        404 "widgets.example.com \"a\" not found"
        405 "delete is not supported on resources of kind \"widgets.example.com\""
        405 " is not supported on resources of kind \"widgets.example.com\""
        400 "name must be provided""#]]
    .assert_eq(&texts.join("\n"));
}

#[tokio::test]
async fn a_definition_is_kept_without_what_is_empty() {
    let cluster = Cluster::start().await;
    let mut wordy = definition();
    wordy["spec"]["preserveUnknownFields"] = json!(false);
    let size =
        &mut wordy["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["size"];
    size["uniqueItems"] = json!(false);
    size["enum"] = json!([]);
    let answer = cluster.post(DEFINITIONS, &wordy).await;
    assert_eq!(answer.code, 201, "{}", answer.text);
    assert!(
        answer.text.contains(r#""minimum":0,"#) || answer.text.contains(r#""minimum":0}"#),
        "{}",
        answer.text
    );
    let kept = answer.json();
    assert_eq!(kept["spec"].get("preserveUnknownFields"), None);
    assert_eq!(kept["status"]["acceptedNames"], json!({"kind": "", "plural": ""}));
    let size = &kept["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["size"];
    assert_eq!(*size, json!({"type": "integer", "minimum": 0}));
    let settled = cluster.get(&format!("{DEFINITIONS}/widgets.example.com")).await.json();
    let owners = settled["metadata"]["managedFields"].as_array().unwrap();
    let status = owners.iter().find(|owner| owner["subresource"] == "status").unwrap();
    assert_eq!(status["manager"], "kube-apiserver");
    assert_eq!(status["fieldsV1"]["f:status"]["f:acceptedNames"]["f:plural"], json!({}));
}
