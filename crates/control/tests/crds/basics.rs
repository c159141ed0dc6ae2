use crate::common::{Answer, Cluster};
use crate::server::Webhook;
use crate::{DEFINITIONS, WIDGETS, defined, definition, widget};
use expect_test::expect;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn a_kind_is_served_as_soon_as_it_is_defined() {
    let cluster = defined().await;
    let created = cluster.post(WIDGETS, &widget("a", 2)).await;
    assert_eq!(created.code, 201, "{}", created.text);
    let object = created.json();
    assert_eq!(object["spec"], json!({"size": 2, "color": "red"}));
    assert_eq!(object["metadata"]["generation"], 1);
    let status = cluster.get(&format!("{DEFINITIONS}/widgets.example.com")).await.json()["status"].clone();
    let conditions: Vec<String> = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| format!("{}={} {}", c["type"], c["status"], c["reason"]))
        .collect();
    assert_eq!(
        conditions,
        [
            r#""NamesAccepted"="True" "NoConflicts""#,
            r#""Established"="True" "InitialNamesAccepted""#
        ]
    );
    assert_eq!(status["acceptedNames"]["listKind"], "WidgetList");
    assert_eq!(status["storedVersions"], json!(["v1"]));
    let listed = cluster
        .get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dblue"))
        .await
        .json();
    assert_eq!(
        (listed["kind"].as_str(), listed["items"].as_array().map(Vec::len)),
        (Some("WidgetList"), Some(0))
    );
    let accept = [("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")];
    let table = cluster.send("GET", WIDGETS, &accept, "").await.json();
    assert_eq!(table["columnDefinitions"][1]["name"], "Size");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["cells"][1], 2);
}

#[tokio::test]
async fn objects_are_held_against_their_schema() {
    let cluster = defined().await;
    let mut odd = widget("a", 3);
    odd["spec"]["extra"] = json!(1);
    let strict = cluster.post(&format!("{WIDGETS}?fieldValidation=Strict"), &odd).await;
    let warned = cluster.post(&format!("{WIDGETS}?fieldValidation=Warn"), &odd).await;
    let missing = cluster
        .post(
            WIDGETS,
            &json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": {"color": "green"}}),
        )
        .await;
    let texts = [
        strict.failure(),
        format!("{:?} {}", warned.warnings, warned.failure()),
        missing.failure(),
    ];
    expect![[r#"
        400 BadRequest: Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown field "spec.extra"
        [] 422 Invalid: Widget.example.com "a" is invalid: spec: Invalid value: sizes are even
        422 Invalid: Widget.example.com "a" is invalid: [spec.color: Unsupported value: "green": supported values: "red", "blue", spec.size: Required value, <nil>: Invalid value: "null": some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]"#]].assert_eq(&texts.join("\n"));
}

#[tokio::test]
async fn status_is_written_by_itself_and_counts_no_generation() {
    let cluster = defined().await;
    let mut object = widget("a", 2);
    object["status"] = json!({"ignored": true});
    let created = cluster.post(WIDGETS, &object).await.json();
    assert_eq!(created.get("status"), None);
    let path = format!("{WIDGETS}/a");
    let patched = cluster
        .patch(
            &format!("{path}/status"),
            "merge",
            &json!({"status": {"ready": true}, "spec": {"size": 8}}),
        )
        .await;
    let patched = patched.json();
    assert_eq!(
        (&patched["status"], &patched["spec"]["size"]),
        (&json!({"ready": true}), &json!(2))
    );
    assert_eq!(patched["metadata"]["generation"], 1);
    let grown = cluster
        .patch(&path, "merge", &json!({"spec": {"size": 4}, "status": null}))
        .await
        .json();
    assert_eq!(
        (&grown["metadata"]["generation"], &grown["status"]),
        (&json!(2), &json!({"ready": true}))
    );
    let odd = cluster.patch(&path, "merge", &json!({"spec": {"size": 5}})).await;
    assert_eq!(odd.code, 422, "{}", odd.text);
    let strategic = cluster
        .patch(&path, "strategic-merge", &json!({"spec": {"size": 6}}))
        .await;
    assert_eq!(strategic.code, 415, "{}", strategic.text);
}

#[tokio::test]
async fn versions_come_and_go() {
    let cluster = defined().await;
    cluster.post(WIDGETS, &widget("a", 2)).await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let mut present = cluster.get(&path).await.json();
    let mut second = present["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    second["deprecated"] = json!(true);
    present["spec"]["versions"].as_array_mut().unwrap().push(second);
    let updated = cluster.put(&path, &present).await;
    assert_eq!(updated.code, 200, "{}", updated.text);
    let other = cluster.get(&WIDGETS.replace("/v1/", "/v2/")).await;
    assert_eq!(
        other.json()["items"][0]["apiVersion"],
        "example.com/v2",
        "{}",
        other.text
    );
    let mut present = cluster.get(&path).await.json();
    present["spec"]["versions"][0]["served"] = json!(false);
    present["spec"]["versions"][0]["storage"] = json!(false);
    present["spec"]["versions"][1]["storage"] = json!(true);
    assert_eq!(cluster.put(&path, &present).await.code, 200);
    assert_eq!(cluster.get(WIDGETS).await.code, 404);
    let status = cluster.get(&path).await.json()["status"]["storedVersions"].clone();
    assert_eq!(status, json!(["v1", "v2"]));
    let mut present = cluster.get(&path).await.json();
    present["spec"]["versions"].as_array_mut().unwrap().remove(0);
    let refused = cluster.put(&path, &present).await;
    assert!(
        refused
            .failure()
            .contains("missing from spec.versions; v1 was previously a storage version")
    );
}

#[tokio::test]
async fn instances_go_before_their_definition() {
    let cluster = defined().await;
    let mut held = widget("held", 2);
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.post(WIDGETS, &held).await;
    cluster.post(WIDGETS, &widget("free", 2)).await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    assert_eq!(cluster.delete(&path, &Value::Null).await.code, 200);
    cluster.until_gone(&format!("{WIDGETS}/free")).await;
    let going = cluster.get(&path).await.json();
    assert_eq!(
        going["metadata"]["finalizers"],
        json!(["customresourcecleanup.apiextensions.k8s.io"])
    );
    let refused = "403 Forbidden: widgets.example.com \"late\" is forbidden: create not allowed while custom resource \
                   definition is terminating";
    assert_eq!(cluster.post(WIDGETS, &widget("late", 2)).await.failure(), refused);
    let apply = [("content-type", "application/apply-patch+yaml")];
    let path_of = |name: &str| format!("{WIDGETS}/{name}?fieldManager=tester&force=true");
    let late = cluster
        .send("PATCH", &path_of("late"), &apply, widget("late", 2).to_string())
        .await;
    assert_eq!(late.failure(), refused);
    // What is there may still be changed.
    let changed = cluster
        .send("PATCH", &path_of("held"), &apply, widget("held", 4).to_string())
        .await;
    assert_eq!(changed.ok()["spec"]["size"], 4);
    let mut watch = cluster.watch(&format!("{WIDGETS}?watch=1")).await;
    cluster
        .patch(
            &format!("{WIDGETS}/held"),
            "merge",
            &json!({"metadata": {"finalizers": null}}),
        )
        .await;
    cluster.until_gone(&path).await;
    while watch.next().await.is_some() {}
    assert_eq!(cluster.get(WIDGETS).await.code, 404);
}

/// A webhook takes so long that the definition is gone when it answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_created_behind_the_back_of_a_deletion() {
    let cluster = Arc::new(defined().await);
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let webhook = Webhook::start(move |request| {
        if request["name"] == "late" {
            let _ = wait.lock().unwrap().recv();
        }
        Some(json!({"allowed": true}))
    })
    .await;
    let fields = json!({"timeoutSeconds": 30, "rules": [
        {"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["widgets"]}]});
    let configuration = webhook.configuration("ValidatingWebhookConfiguration", "slow", &fields);
    let configurations = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    cluster.post(configurations, &configuration).await.ok();
    let late = {
        let cluster = Arc::clone(&cluster);
        tokio::spawn(async move { cluster.post(WIDGETS, &widget("late", 2)).await })
    };
    while webhook.asked().is_empty() {
        tokio::task::yield_now().await;
        assert!(!late.is_finished(), "{}", late.await.unwrap().text);
    }
    let path = format!("{DEFINITIONS}/widgets.example.com");
    cluster.delete(&path, &Value::Null).await.ok();
    cluster.until_gone(&path).await;
    go_on.send(()).unwrap();
    let late = late.await.unwrap();
    assert!(matches!(late.code, 403 | 404), "{}", late.text);
    cluster
        .delete(&format!("{configurations}/slow"), &Value::Null)
        .await
        .ok();
    // Defined anew, the kind has no objects of before.
    cluster.post(DEFINITIONS, &definition()).await.ok();
    assert_eq!(cluster.get(WIDGETS).await.ok()["items"], json!([]));
}

#[tokio::test]
async fn kinds_are_there_after_a_restart() {
    let cluster = Cluster::start_in(tempfile::tempdir().unwrap(), None).await;
    cluster.post(DEFINITIONS, &definition()).await;
    cluster.post(WIDGETS, &widget("a", 2)).await;
    let dir = cluster.stop().await;
    let cluster = Cluster::start_in(dir, None).await;
    let answer = cluster.get(&format!("{WIDGETS}/a")).await;
    assert_eq!(answer.code, 200, "{}", answer.text);
}

#[tokio::test]
async fn two_definitions_cannot_have_one_name() {
    let cluster = defined().await;
    let mut other = definition();
    other["metadata"]["name"] = json!("gadgets.example.com");
    other["spec"]["names"] = json!({"plural": "gadgets", "kind": "Gadget", "shortNames": ["wi"]});
    assert_eq!(cluster.post(DEFINITIONS, &other).await.code, 201);
    let status = cluster.get(&format!("{DEFINITIONS}/gadgets.example.com")).await.json()["status"].clone();
    assert_eq!(status["conditions"][0]["reason"], "ShortNamesConflict");
    assert_eq!(status["conditions"][1]["status"], "False");
    assert_eq!(cluster.get("/apis/example.com/v1/gadgets").await.code, 404);
    cluster
        .delete(&format!("{DEFINITIONS}/widgets.example.com"), &Value::Null)
        .await;
    cluster.until_gone(&format!("{DEFINITIONS}/widgets.example.com")).await;
    // The name is free: who waited for it has it, and is served.
    let status = cluster
        .until(&format!("{DEFINITIONS}/gadgets.example.com"), |answer| {
            conditions(answer)
                == [
                    "NamesAccepted=True NoConflicts",
                    "Established=True InitialNamesAccepted",
                ]
        })
        .await
        .json()["status"]
        .clone();
    assert_eq!(status["acceptedNames"]["shortNames"], json!(["wi"]));
    let gadgets = "/apis/example.com/v1/namespaces/default/gadgets";
    cluster.until(gadgets, |answer| answer.code == 200).await;
}

fn conditions(definition: &Answer) -> Vec<String> {
    let status = definition.json()["status"].clone();
    let all = status["conditions"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.iter()
        .map(|one| {
            format!(
                "{}={} {}",
                text(&one["type"]),
                text(&one["status"]),
                text(&one["reason"])
            )
        })
        .collect()
}

#[tokio::test]
async fn a_name_that_is_given_up_goes_to_the_oldest_that_waits() {
    let cluster = defined().await;
    for (plural, kind) in [("gadgets", "Gadget"), ("gizmos", "Gizmo")] {
        let mut other = definition();
        other["metadata"]["name"] = json!(format!("{plural}.example.com"));
        other["spec"]["names"] = json!({"plural": plural, "kind": kind, "shortNames": ["wi"]});
        cluster.post(DEFINITIONS, &other).await.ok();
    }
    let path = |plural: &str| format!("{DEFINITIONS}/{plural}.example.com");
    let renamed = cluster
        .patch(
            &path("widgets"),
            "merge",
            &json!({"spec": {"names": {"shortNames": ["wd"]}}}),
        )
        .await;
    assert_eq!(renamed.ok()["status"]["acceptedNames"]["shortNames"], json!(["wi"]));
    // Whoever writes a definition waits for what follows from it.
    let status = |answer: &Answer| answer.json()["status"]["acceptedNames"]["shortNames"].clone();
    assert_eq!(status(&cluster.get(&path("widgets")).await), json!(["wd"]));
    assert_eq!(status(&cluster.get(&path("gadgets")).await), json!(["wi"]));
    let waits = cluster.get(&path("gizmos")).await;
    assert_eq!(
        conditions(&waits),
        [
            "NamesAccepted=False ShortNamesConflict",
            "Established=False NotAccepted"
        ]
    );
    let served = cluster.get("/apis/example.com/v1").await.ok();
    let short: Vec<&Value> = served["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["shortNames"])
        .collect();
    assert!(
        short.contains(&&json!(["wd"])) && short.contains(&&json!(["wi"])),
        "{short:?}"
    );
}

#[tokio::test]
async fn names_stay_with_whom_they_are_after_a_restart() {
    let cluster = Cluster::start_in(tempfile::tempdir().unwrap(), None).await;
    // The older one wants the name of the younger one later.
    for plural in ["widgets", "gadgets"] {
        let mut one = definition();
        one["metadata"]["name"] = json!(format!("{plural}.example.com"));
        one["spec"]["names"] = json!({"plural": plural, "kind": plural, "shortNames": [&plural[..2]]});
        cluster.post(DEFINITIONS, &one).await.ok();
    }
    let path = |plural: &str| format!("{DEFINITIONS}/{plural}.example.com");
    let wish = json!({"spec": {"names": {"shortNames": ["ga"]}}});
    cluster.patch(&path("widgets"), "merge", &wish).await.ok();
    let dir = cluster.stop().await;
    let cluster = Cluster::start_in(dir, None).await;
    let names = |answer: &Answer| answer.json()["status"]["acceptedNames"]["shortNames"].clone();
    assert_eq!(names(&cluster.get(&path("widgets")).await), json!(["wi"]));
    assert_eq!(names(&cluster.get(&path("gadgets")).await), json!(["ga"]));
}

#[tokio::test]
async fn a_built_in_kind_cannot_be_defined() {
    let cluster = Cluster::start().await;
    let mut leases = definition();
    leases["metadata"] = json!({
        "name": "leases.coordination.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes/kubernetes/pull/1"},
    });
    leases["spec"]["group"] = json!("coordination.k8s.io");
    leases["spec"]["names"] = json!({"plural": "leases", "kind": "Lease"});
    let answer = cluster.post(DEFINITIONS, &leases).await;
    assert_eq!(answer.code, 201, "{}", answer.text);
    let path = format!("{DEFINITIONS}/leases.coordination.k8s.io");
    let status = cluster.get(&path).await.json()["status"].clone();
    assert_eq!(status["conditions"][0]["type"], "NamesAccepted");
    assert_eq!(status["conditions"][0]["status"], "False");
    assert_eq!(status["conditions"][1]["status"], "False");
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": {}});
    let own = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let answer = cluster.post(own, &lease).await;
    assert_eq!(answer.code, 201, "{}", answer.text);
    assert!(answer.json().get("spec").is_some());
    cluster.delete(&path, &Value::Null).await;
    cluster.until_gone(&path).await;
    assert_eq!(cluster.get(&format!("{own}/a")).await.code, 200);
}
