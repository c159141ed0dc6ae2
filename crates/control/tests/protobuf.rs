//! Answers in protobuf: read back by the reader of requests, they are what the same question gets in JSON.

mod common;

use catamaran_api::body::{Format, parse};
use common::Cluster;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// As client-go asks.
const PREFERRED: &str = "application/vnd.kubernetes.protobuf,application/json";

#[track_caller]
fn decoded(bytes: &[u8]) -> Value {
    parse(Format::Protobuf, bytes).unwrap().value
}

/// Without what protobuf does not tell from nothing.
fn plain(mut value: Value) -> Value {
    fn is_nothing(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Bool(truth) => !truth,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
        }
    }
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.values_mut().for_each(strip);
                map.retain(|_, value| !is_nothing(value));
            }
            Value::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut value);
    value
}

impl Cluster {
    /// Code, media type and object.
    async fn ask(&self, method: &str, path: &str, accept: &str, body: &Value) -> (u16, String, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let headers = [("accept", accept), ("content-type", "application/json")];
        let answer = self.exchange(method, path, &headers, body).await;
        let media_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let object = match media_type.starts_with(PROTOBUF) {
            true => decoded(answer.body()),
            false => parse(Format::Yaml, answer.body()).unwrap().value,
        };
        (answer.status().as_u16(), media_type, object)
    }
}

#[tokio::test]
async fn objects_lists_and_errors() {
    let cluster = Cluster::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": { "k": "v" } });
    let (code, media_type, created) = cluster.ask("POST", maps, PREFERRED, &map).await;
    assert_eq!((code, &*media_type), (201, PROTOBUF));
    assert_eq!(created["data"], map["data"]);
    assert_eq!(
        created["metadata"]["managedFields"][0]["fieldsV1"]["f:data"]["f:k"],
        json!({})
    );
    let one = format!("{maps}/a");
    assert_eq!(created, cluster.get(&one).await.ok());
    assert_eq!(cluster.ask("GET", &one, PROTOBUF, &Value::Null).await.2, created);

    let accept = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json");
    let (_, media_type, partial) = cluster.ask("GET", &one, &accept, &Value::Null).await;
    assert_eq!(media_type, PROTOBUF);
    assert_eq!(
        partial,
        json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": created["metadata"] })
    );
    let accept = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json");
    let (_, media_type, list) = cluster.ask("GET", maps, &accept, &Value::Null).await;
    assert_eq!(
        (&*media_type, &list["kind"]),
        (PROTOBUF, &json!("PartialObjectMetadataList"))
    );
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["items"][0]["metadata"], created["metadata"]);

    let gone = format!("{maps}/b");
    let (code, media_type, status) = cluster.ask("GET", &gone, PREFERRED, &Value::Null).await;
    assert_eq!((code, &*media_type), (404, PROTOBUF));
    assert_eq!(plain(status), plain(cluster.get(&gone).await.json()));
    let (code, media_type, status) = cluster
        .ask("GET", "/apis/no.such/v1/things", PROTOBUF, &Value::Null)
        .await;
    // What no handler serves is answered as Go's server does.
    assert_eq!(
        (code, &*media_type, status),
        (
            404,
            "text/plain; charset=utf-8",
            Value::String("404 page not found".into())
        )
    );
    let (code, media_type, _) = cluster.ask("DELETE", &one, PREFERRED, &Value::Null).await;
    assert_eq!((code, &*media_type), (200, PROTOBUF));

    // No table is protobuf.
    let table = format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1");
    let (code, _, status) = cluster.ask("GET", maps, &table, &Value::Null).await;
    assert_eq!(code, 406);
    assert_eq!(
        status["message"],
        "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
    );
    let either = format!("{table},application/json;as=Table;g=meta.k8s.io;v=v1");
    let (_, media_type, list) = cluster.ask("GET", maps, &either, &Value::Null).await;
    assert_eq!((&*media_type, &list["kind"]), ("application/json", &json!("Table")));
    cluster.stop().await;
}

#[tokio::test]
async fn lists_of_every_kind_long_ones_and_pages() {
    let cluster = Cluster::start().await;
    let groups = cluster.get("/apis").await.ok();
    let versions = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["versions"].as_array().unwrap());
    let paths = versions.map(|version| format!("/apis/{}", version["groupVersion"].as_str().unwrap()));
    let mut lists = 0;
    for path in paths.chain(["/api/v1".to_owned()]) {
        let resources = cluster.get(&path).await.ok();
        assert_eq!(
            plain(cluster.ask("GET", &path, PROTOBUF, &Value::Null).await.2),
            plain(resources.clone())
        );
        for resource in resources["resources"].as_array().unwrap() {
            let verbs = resource["verbs"].as_array().unwrap();
            if !verbs.contains(&json!("list")) {
                continue;
            }
            lists += 1;
            let path = format!("{path}/{}", resource["name"].as_str().unwrap());
            let in_json = cluster.get(&path).await.ok();
            let (code, media_type, list) = cluster.ask("GET", &path, PREFERRED, &Value::Null).await;
            assert_eq!((code, &*media_type), (200, PROTOBUF), "{path}");
            assert_eq!(list["kind"], in_json["kind"]);
            let stated = |item: &Value| {
                let mut item = item.clone();
                // Items of a list do not say what they are.
                for field in ["apiVersion", "kind"] {
                    item.as_object_mut().unwrap().remove(field);
                }
                plain(item)
            };
            let items = |list: &Value| {
                list["items"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(stated)
                    .collect::<Vec<Value>>()
            };
            assert_eq!(items(&list), items(&in_json), "{path}");
        }
    }
    assert!(lists > 55, "{lists}");

    // One that is measured before it is written, twice: then its parts are known.
    let maps = "/api/v1/namespaces/default/configmaps";
    for index in 0..40 {
        let data = json!({ "k": "x".repeat(10_000 + index) });
        let name = format!("m{index:02}");
        cluster
            .post(maps, &json!({ "metadata": { "name": name }, "data": data }))
            .await
            .ok();
    }
    let in_json = cluster.get(maps).await.ok();
    for _ in 0..2 {
        let answer = cluster.exchange("GET", maps, &[("accept", PROTOBUF)], "").await;
        let list = decoded(answer.body());
        assert_eq!(
            list["metadata"]["resourceVersion"],
            in_json["metadata"]["resourceVersion"]
        );
        for (item, other) in list["items"]
            .as_array()
            .unwrap()
            .iter()
            .zip(in_json["items"].as_array().unwrap())
        {
            assert_eq!((&item["metadata"], &item["data"]), (&other["metadata"], &other["data"]));
        }
        assert_eq!(list["items"].as_array().unwrap().len(), 40);
    }
    let (_, _, page) = cluster
        .ask("GET", &format!("{maps}?limit=2"), PROTOBUF, &Value::Null)
        .await;
    assert_eq!(page["metadata"]["remainingItemCount"], 38);
    let next = format!(
        "{maps}?limit=2&continue={}",
        page["metadata"]["continue"].as_str().unwrap()
    );
    let (_, _, page) = cluster.ask("GET", &next, PROTOBUF, &Value::Null).await;
    assert_eq!(page["items"][0]["metadata"]["name"], "m02");
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_served_and_who_asks() {
    let cluster = Cluster::start().await;
    for path in ["/api", "/apis", "/apis/apps", "/apis/apps/v1"] {
        let in_json = cluster.get(path).await.ok();
        let (code, media_type, object) = cluster.ask("GET", path, PREFERRED, &Value::Null).await;
        assert_eq!((code, &*media_type), (200, PROTOBUF), "{path}");
        assert_eq!(plain(object), plain(in_json), "{path}");
    }
    let shape = ";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for path in ["/api", "/apis"] {
        let (_, media_type, in_json) = cluster
            .ask("GET", path, &format!("application/json{shape}"), &Value::Null)
            .await;
        assert_eq!(media_type, format!("application/json{shape}"));
        let (_, media_type, object) = cluster
            .ask("GET", path, &format!("{PROTOBUF}{shape}"), &Value::Null)
            .await;
        assert_eq!(media_type, format!("{PROTOBUF}{shape}"));
        assert_eq!(plain(object), plain(in_json));
    }
    let review = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": { "verb": "get", "resource": "pods" } } });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (code, media_type, answer) = cluster.ask("POST", path, PREFERRED, &review).await;
    assert_eq!((code, &*media_type), (201, PROTOBUF));
    assert_eq!(answer["status"]["allowed"], true);
    let scale = "/apis/apps/v1/namespaces/default/deployments/d/scale";
    let pod =
        json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" },
        "spec": { "replicas": 3, "selector": { "matchLabels": { "a": "b" } }, "template": pod } });
    cluster
        .post("/apis/apps/v1/namespaces/default/deployments", &deployment)
        .await
        .ok();
    let (_, media_type, answer) = cluster.ask("GET", scale, PREFERRED, &Value::Null).await;
    assert_eq!((&*media_type, &answer["spec"]["replicas"]), (PROTOBUF, &json!(3)));
    cluster.stop().await;
}

/// The next message of a watch; the lengths in front are checked.
async fn event(body: &mut (impl futures::Stream<Item = Vec<u8>> + Unpin), buffer: &mut Vec<u8>) -> Value {
    loop {
        if let Some((length, rest)) = buffer.split_first_chunk() {
            let length = u32::from_be_bytes(*length) as usize;
            if let Some(message) = rest.get(..length) {
                let event = read_event(message);
                buffer.drain(..4 + length);
                return event;
            }
        }
        let next = tokio::time::timeout(std::time::Duration::from_secs(30), body.next());
        buffer.extend(next.await.unwrap().unwrap());
    }
}

/// `type`, `object { raw }`, with short lengths spelled out.
fn read_event(message: &[u8]) -> Value {
    fn field(bytes: &[u8], number: u8) -> (&[u8], &[u8]) {
        assert_eq!(bytes[0], number << 3 | 2);
        let (mut length, mut at) = (0, 1);
        loop {
            length |= usize::from(bytes[at] & 0x7f) << (7 * (at - 1));
            at += 1;
            if bytes[at - 1] < 0x80 {
                return bytes[at..].split_at(length);
            }
        }
    }
    let (name, rest) = field(message, 1);
    let (object, rest) = field(rest, 2);
    assert!(rest.is_empty());
    let (raw, rest) = field(object, 1);
    assert!(rest.is_empty());
    json!({ "type": std::str::from_utf8(name).unwrap(), "object": decoded(raw) })
}

#[tokio::test]
async fn watches() {
    let cluster = Cluster::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let version = cluster.get(maps).await.ok()["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("{maps}?watch=1&allowWatchBookmarks=true&resourceVersion={version}");
    let watch = async |path: &str, accept: &str| {
        let request = http::Request::get(path)
            .header("accept", accept)
            .body(Body::empty())
            .unwrap();
        let response = cluster.client.send(request).await.unwrap();
        let media_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        let frames = response
            .into_body()
            .into_data_stream()
            .map(|frame| frame.unwrap().to_vec());
        (media_type, frames)
    };
    let (media_type, mut whole) = watch(
        &path,
        "application/vnd.kubernetes.protobuf;stream=watch,application/json",
    )
    .await;
    assert_eq!(media_type, "application/vnd.kubernetes.protobuf;stream=watch");
    let partial = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let (_, mut partial) = watch(&path, &partial).await;
    let (mut buffer, mut partial_buffer) = (Vec::new(), Vec::new());

    cluster
        .post(
            maps,
            &json!({ "metadata": { "name": "a" }, "data": { "k": "x".repeat(300) } }),
        )
        .await
        .ok();
    cluster
        .patch(&format!("{maps}/a"), "merge", &json!({ "data": { "k": "y" } }))
        .await
        .ok();
    let after = cluster.get(&format!("{maps}/a")).await.ok();
    cluster.delete(&format!("{maps}/a"), &Value::Null).await.ok();
    let added = event(&mut whole, &mut buffer).await;
    assert_eq!(
        (&added["type"], &added["object"]["data"]["k"]),
        (&json!("ADDED"), &json!("x".repeat(300)))
    );
    assert_eq!(
        event(&mut whole, &mut buffer).await,
        json!({ "type": "MODIFIED", "object": after })
    );
    assert_eq!(event(&mut whole, &mut buffer).await["type"], "DELETED");
    let added = event(&mut partial, &mut partial_buffer).await;
    assert_eq!(added["object"]["kind"], "PartialObjectMetadata");
    let changed = event(&mut partial, &mut partial_buffer).await;
    assert_eq!(changed["object"]["metadata"], after["metadata"]);

    // The beginning as a stream, its end a bookmark; and an error.
    cluster.post(maps, &json!({ "metadata": { "name": "b" } })).await.ok();
    let path =
        format!("{maps}?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
    let (_, mut initial) = watch(&path, PROTOBUF).await;
    let mut buffer = Vec::new();
    assert_eq!(event(&mut initial, &mut buffer).await["type"], "ADDED");
    let bookmark = event(&mut initial, &mut buffer).await;
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    assert_eq!(
        bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );

    let (code, _, status) = cluster
        .ask("GET", &format!("{maps}?watch=1"), "application/yaml", &Value::Null)
        .await;
    assert_eq!(code, 406);
    assert_eq!(
        status["message"],
        "only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn custom_resources_are_json() {
    let cluster = Cluster::start().await;
    let schema = json!({ "type": "object", "properties": { "spec": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "things.example.com" },
        "spec": { "group": "example.com", "scope": "Namespaced", "names": { "plural": "things", "kind": "Thing" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema },
                "subresources": { "status": {} } }] },
    });
    let (_, media_type, answer) = cluster
        .ask(
            "POST",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            PREFERRED,
            &definition,
        )
        .await;
    assert_eq!(media_type, PROTOBUF);
    assert_eq!(answer["spec"]["versions"][0]["schema"]["openAPIV3Schema"], schema);
    assert_eq!(answer["spec"]["versions"][0]["subresources"], json!({ "status": {} }));
    let things = "/apis/example.com/v1/namespaces/default/things";
    let thing = json!({ "apiVersion": "example.com/v1", "kind": "Thing", "metadata": { "name": "a" } });
    let (code, media_type, _) = cluster.ask("POST", things, PREFERRED, &thing).await;
    assert_eq!((code, &*media_type), (201, "application/json"));
    let (code, media_type, status) = cluster.ask("GET", things, PROTOBUF, &Value::Null).await;
    assert_eq!(
        (code, &*media_type, &status["reason"]),
        (406, PROTOBUF, &json!("NotAcceptable"))
    );
    let accept = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let (_, media_type, list) = cluster.ask("GET", things, &accept, &Value::Null).await;
    assert_eq!(
        (&*media_type, &list["items"][0]["metadata"]["name"]),
        (PROTOBUF, &json!("a"))
    );
    cluster.stop().await;
}

#[tokio::test]
async fn people_get_indented_json() {
    let cluster = Cluster::start().await;
    for (path, start) in [
        (
            "/api/v1/namespaces/default",
            "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"Namespace\",\n",
        ),
        (
            "/api/v1/namespaces",
            "{\n  \"kind\": \"NamespaceList\",\n  \"apiVersion\": \"v1\",\n  \"metadata\": {\n    \"resourceVersion\": \"",
        ),
        ("/api/v1/namespaces/nope", "{\n  \"apiVersion\": \"v1\",\n"),
        ("/apis/apps", "{\n  \""),
        (
            "/",
            "{\n  \"paths\": [\n    \"/.well-known/openid-configuration\",\n    \"/api\",\n    \"/api/v1\",\n",
        ),
    ] {
        let answer = cluster.send("GET", path, &[("user-agent", "curl/8.5.0")], "").await;
        assert!(answer.text.starts_with(start), "{}", answer.text);
        assert_eq!(answer.text.lines().last(), Some("}"));
        assert_eq!(answer.json(), cluster.get(path).await.json());
        // The list of paths is for people only.
        let lines = cluster.get(path).await.text.trim_end().lines().count();
        assert_eq!(lines > 1, path == "/", "{path}");
    }
    cluster.stop().await;
}
