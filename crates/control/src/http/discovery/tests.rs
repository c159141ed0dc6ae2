use super::*;
use crate::aggregator::Remote;
use crate::registry::resource::Resource;
use expect_test::expect;

fn resources() -> Vec<Arc<Resource>> {
    let kinds = crate::kinds::ALL.iter();
    kinds.map(|kind| Arc::new(Resource::builtin(*kind))).collect()
}

fn remote(group: &str, version: &str, current: bool) -> Arc<Remote> {
    Arc::new(Remote {
        group: group.to_owned(),
        version: version.to_owned(),
        group_priority: 17_900,
        version_priority: 10,
        current,
        resources: Some(Arc::new(json!([{ "resource": "things" }]))),
        openapi: None,
        openapi_v2: None,
    })
}

#[test]
fn groups_come_in_the_order_of_their_priorities() {
    let remotes = Remotes {
        generation: 1,
        versions: vec![
            remote("metrics.k8s.io", "v1beta1", true),
            remote("metrics.k8s.io", "v1", false),
        ],
    };
    let groups = Groups::of(&resources(), &remotes);
    let names: Vec<String> = groups
        .named()
        .map(|group| {
            let versions: Vec<&str> = group.versions.iter().map(|version| version.name.as_str()).collect();
            format!("{} {}", group.name, versions.join(" "))
        })
        .collect();
    assert_eq!(names[..2], ["apiregistration.k8s.io v1", "metrics.k8s.io v1 v1beta1"]);
    assert!(names.iter().any(|name| name == "storage.k8s.io v1"));
    let list = aggregated::list(groups.named());
    let items = list["items"].as_array().expect("items");
    let metrics = items.iter().find(|item| item["metadata"]["name"] == "metrics.k8s.io");
    expect![[r#"{"metadata":{"name":"metrics.k8s.io"},"versions":[{"freshness":"Stale","resources":[{"resource":"things"}],"version":"v1"},{"freshness":"Current","resources":[{"resource":"things"}],"version":"v1beta1"}]}"#]]
        .assert_eq(&metrics.expect("the group").to_string());
}

/// A number that every Kubernetes cluster answers.
#[test]
fn the_hash_of_the_stored_version() {
    let pod = resources().into_iter().find(|resource| resource.info.kind == "Pod");
    assert_eq!(legacy::storage_version_hash(&pod.expect("pods").gvk), "xPOwRZ+Yhw8=");
}

#[test]
fn an_event_is_kept_as_one_of_core() {
    let groups = Groups::of(&resources(), &Remotes::default());
    let events = groups
        .all()
        .find(|group| group.name == "events.k8s.io")
        .expect("the group");
    let Content::Local(resources) = &events.versions[0].content else {
        panic!("it is served here");
    };
    let list = legacy::resource_list("events.k8s.io/v1", resources);
    assert_eq!(list["resources"][0]["storageVersionHash"], "r2yiGXH7wu8=");
}
