mod laws;

use expect_test::{Expect, expect};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::schema::{Node, Schemas};

/// The built-in types, without conversions; `gone/v1` is a version that is served no more.
struct Builtin;

impl Versions for Builtin {
    fn node(&self, api_version: &str) -> Option<Node<'_>> {
        let kind = match api_version {
            "v1" => "Pod",
            "apps/v1" => "Deployment",
            _ => return None,
        };
        Schemas::builtin().node_of_kind(api_version, kind)
    }

    fn convert(&self, _: &Value, _: &str) -> Option<Value> {
        None
    }
}

/// An object and its owners.
pub(super) struct World {
    pub(super) live: Value,
    pub(super) managers: Managers,
    second: i64,
    ignored: Set,
}

impl World {
    pub(super) fn new() -> Self {
        World {
            live: json!({}),
            managers: Managers::default(),
            second: 0,
            ignored: Set::of_fields(&[&["status"]]),
        }
    }

    fn write<'a>(&'a self, manager: &'a str, api_version: &'a str) -> Write<'a> {
        Write {
            versions: &Builtin,
            api_version,
            subresource: "",
            manager,
            ignored: &self.ignored,
            now: Timestamp::from_second(self.second).unwrap(),
        }
    }

    pub(super) fn apply(&mut self, manager: &str, config: &Value, force: bool) -> Result<bool, ApplyError> {
        self.second += 1;
        let version = config["apiVersion"].as_str().unwrap();
        let managers = self.managers.clone();
        let applied = apply(&self.write(manager, version), &self.live, config, managers, force)?;
        self.managers = applied.managers;
        let changed = applied.object.is_some();
        if let Some(object) = applied.object {
            self.store(object);
        }
        Ok(changed)
    }

    pub(super) fn update(&mut self, manager: &str, new: Value) {
        self.second += 1;
        let version = new["apiVersion"].as_str().unwrap_or("v1").to_owned();
        let managers = std::mem::take(&mut self.managers);
        self.managers = update(&self.write(manager, &version), &self.live, &new, managers);
        self.store(new);
    }

    /// What decoding does to an object: nulls go, and it has an identity.
    fn store(&mut self, mut object: Value) {
        drop_nulls(&mut object);
        object["metadata"]["uid"] = "1".into();
        self.live = object;
    }

    fn owners(&self) -> String {
        let mut lines = String::new();
        for entry in &self.managers.0 {
            let Entry { owner, time, fields } = entry;
            let time = time.map_or("-".to_owned(), |time| time.as_second().to_string());
            let (operation, fields) = (owner.operation.as_str(), fields.to_json());
            lines += &format!("{} {operation} {} {time} {fields}\n", owner.manager, owner.api_version);
        }
        lines
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[allow(clippy::needless_pass_by_value, reason = "literals and goldens read best in place")]
fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "d"}, "spec": spec})
}

#[track_caller]
#[allow(clippy::needless_pass_by_value, reason = "literals and goldens read best in place")]
fn refused(result: Result<bool, ApplyError>, expected: Expect) {
    let text = match result.unwrap_err() {
        ApplyError::Conflicts(conflicts) => format!("{:?}", conflicts.into_status()),
        other => other.to_string(),
    };
    expected.assert_eq(&text);
}

#[test]
fn a_create_owns_what_it_says() {
    let mut world = World::new();
    world.update(
        "kubectl-create",
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "uid": "1", "labels": {"app": "x"}, "finalizers": ["f/g"]},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {}, "args": ["1"],
                "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 9}], "env": [{"name": "<E>"}],
                "securityContext": {"capabilities": {"add": ["X"]}}}], "nodeSelector": {"a": "b"}, "securityContext": {}},
            "status": {"phase": "Pending"}}),
    );
    expect![[r#"
        kubectl-create Update v1 1 {"f:metadata":{"f:finalizers":{".":{},"v:\"f/g\"":{}},"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:args":{},"f:env":{".":{},"k:{\"name\":\"\\u003cE\\u003e\"}":{".":{},"f:name":{}}},"f:image":{},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":9,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}},"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:protocol":{}}},"f:resources":{},"f:securityContext":{".":{},"f:capabilities":{".":{},"f:add":{}}}}},"f:nodeSelector":{},"f:securityContext":{}}}
    "#]]
    .assert_eq(&world.owners());
}

#[test]
fn an_apply_owns_what_it_says() {
    let mut world = World::new();
    let config = pod(
        json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}], "nodeSelector": {"a": "b"}}),
    );
    assert!(world.apply("a", &config, false).unwrap());
    assert!(!world.apply("a", &config, false).unwrap(), "nothing is left to do");
    assert!(
        !world.apply("b", &config, false).unwrap(),
        "shared ownership is no change of the object"
    );
    expect![[r#"
        a Apply v1 1 {"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}},"f:nodeSelector":{}}}
        b Apply v1 - {"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}},"f:nodeSelector":{}}}
    "#]]
    .assert_eq(&world.owners());
}

#[test]
fn conflicts_are_told_and_forced() {
    let mut world = World::new();
    let config = |image: &str, policy: &str| {
        pod(json!({"restartPolicy": policy, "containers": [{"name": "c", "image": image}]}))
    };
    world.apply("a", &config("1", "Never"), false).unwrap();
    refused(
        world.apply("b", &config("2", "Never"), false),
        expect![[r#"409 Conflict: Apply failed with 1 conflict: conflict with "a": .spec.containers[name="c"].image"#]],
    );
    let mut live = world.live.clone();
    live["spec"]["restartPolicy"] = "Always".into();
    world.update("edit", live);
    refused(
        world.apply("b", &config("2", "Never"), false),
        expect![[r#"
            409 Conflict: Apply failed with 2 conflicts: conflicts with "a":
            - .spec.containers[name="c"].image
            conflicts with "edit" using v1:
            - .spec.restartPolicy"#]],
    );
    assert!(world.apply("b", &config("2", "Never"), true).unwrap());
    assert_eq!(world.live["spec"], config("2", "Never")["spec"]);
    expect![[r#"
        a Apply v1 1 {"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:name":{}}}}}
        b Apply v1 5 {"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}},"f:restartPolicy":{}}}
    "#]]
    .assert_eq(&world.owners());
}

#[test]
fn what_is_applied_no_more_goes_unless_somebody_else_wants_it() {
    let mut world = World::new();
    let both = json!({"containers": [{"name": "c", "image": "i", "env": [{"name": "x", "value": "1"}, {"name": "y", "value": "2"}]}, {"name": "d"}],
        "tolerations": [{"key": "t"}], "hostname": "h"});
    world.apply("a", &pod(both), false).unwrap();
    world
        .apply(
            "b",
            &pod(json!({"containers": [{"name": "c", "env": [{"name": "y", "value": "2"}]}]})),
            false,
        )
        .unwrap();
    let mut live = world.live.clone();
    live["spec"]["containers"][1]["image"] = "set-by-update".into();
    live["spec"]["priority"] = 5.into();
    world.update("system", live);
    world
        .apply("a", &pod(json!({"containers": [{"name": "c", "image": "i"}]})), false)
        .unwrap();
    expect![[r#"{"containers":[{"env":[{"name":"y","value":"2"}],"image":"i","name":"c"}],"priority":5}"#]]
        .assert_eq(&world.live["spec"].to_string());
    // The item was its own, whoever set a field within.
    world.apply("b", &pod(json!({"hostname": "h2"})), false).unwrap();
    expect![[r#"{"containers":[{"image":"i","name":"c"}],"hostname":"h2","priority":5}"#]]
        .assert_eq(&world.live["spec"].to_string());
}

#[test]
fn lists_keep_their_sequence() {
    let mut world = World::new();
    let config = |names: &[&str]| {
        let containers: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        pod(json!({"containers": containers}))
    };
    let names = |world: &World| {
        let containers = world.live["spec"]["containers"].as_array().unwrap();
        containers
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
            .join("")
    };
    world.apply("a", &config(&["a", "b", "c"]), false).unwrap();
    world.apply("b", &config(&["c", "x", "a"]), false).unwrap();
    assert_eq!(names(&world), "bcxa");
    world.apply("a", &config(&["y", "a"]), false).unwrap();
    assert_eq!(names(&world), "cxya");
}

#[test]
fn declarations_that_do_not_fit() {
    let mut world = World::new();
    let mut refuse = |spec: Value, expected: Expect| refused(world.apply("a", &pod(spec), false), expected);
    refuse(
        json!({"foo": 1}),
        expect!["failed to create typed patch object (d/a; /v1, Kind=Pod): .spec.foo: field not declared in schema"],
    );
    refuse(
        json!({"containers": [{"name": "c"}, {"name": "c"}]}),
        expect![[
            r#"failed to create typed patch object (d/a; /v1, Kind=Pod): .spec.containers: duplicate entries for key [name="c"]"#
        ]],
    );
    refuse(
        json!({"containers": [{"name": "c", "ports": [{"containerPort": 1}, {"containerPort": 1, "protocol": "TCP"}]}]}),
        expect![[
            r#"failed to create typed patch object (d/a; /v1, Kind=Pod): .spec.containers[name="c"].ports: duplicate entries for key [containerPort=1,protocol="TCP"]"#
        ]],
    );
    refuse(
        json!({"containers": {"name": "c"}, "priority": "x", "hostname": 1, "hostNetwork": 2}),
        expect![[r#"
            failed to create typed patch object (d/a; /v1, Kind=Pod): errors:
              .spec.containers: expected list, got &{map[name:c]}
              .spec.hostNetwork: expected boolean, got &{2}
              .spec.hostname: expected string, got &value.valueUnstructured{Value:1}
              .spec.priority: expected numeric (int or float), got string"#]],
    );
    refuse(
        json!({"containers": [null, 1]}),
        expect![
            "failed to create typed patch object (d/a; /v1, Kind=Pod): .spec.containers: element 0: associative list with keys may not have a null element"
        ],
    );
}

#[test]
fn an_object_nobody_owned_is_owned_before_its_first_apply() {
    let mut world = World::new();
    world.store(pod(json!({"containers": [{"name": "c", "image": "1"}]})));
    refused(
        world.apply("a", &pod(json!({"containers": [{"name": "c", "image": "2"}]})), false),
        expect![[
            r#"409 Conflict: Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .spec.containers[name="c"].image"#
        ]],
    );
    // Updates do not start it.
    let live = world.live.clone();
    world.update("b", live);
    assert!(world.managers.0.is_empty());
}

#[test]
fn kubectl_takes_over_from_its_client_side_apply() {
    let mut world = World::new();
    let deployment = |replicas: u64, annotation: Option<&str>| {
        let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}}});
        if let Some(annotation) = annotation {
            object["metadata"]["annotations"] = json!({ LAST_APPLIED: annotation });
        }
        object
    };
    let last = deployment(1, None).to_string();
    let mut created = deployment(1, Some(&last));
    created["metadata"]["uid"] = "1".into();
    world.update("kubectl-client-side-apply", created);
    refused(
        world.apply("other", &deployment(2, None), false),
        expect![[
            r#"409 Conflict: Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas"#
        ]],
    );
    assert!(world.apply("kubectl", &deployment(2, None), false).unwrap());
    let annotation = &world.live["metadata"]["annotations"][LAST_APPLIED];
    assert_eq!(
        *annotation,
        json!(format!("{}\n", deployment(2, None))),
        "the annotation stays true"
    );
    // What somebody else has changed since is no business of the annotation.
    let mut live = world.live.clone();
    live["spec"]["replicas"] = 7.into();
    world.update("hpa", live);
    refused(
        world.apply("kubectl", &deployment(3, None), false),
        expect![[r#"409 Conflict: Apply failed with 1 conflict: conflict with "hpa" using apps/v1: .spec.replicas"#]],
    );
}

#[test]
fn old_updates_become_one() {
    let mut world = World::new();
    for index in 0..14 {
        let mut live = if index == 0 {
            pod(json!({"containers": []}))
        } else {
            world.live.clone()
        };
        live["metadata"]["labels"][format!("l{index}")] = "x".into();
        world.update(&format!("manager-{index}"), live);
    }
    assert_eq!(world.managers.0.len(), MAX_UPDATERS);
    let ancient = world
        .managers
        .0
        .iter()
        .find(|entry| entry.owner.manager == "ancient-changes")
        .unwrap();
    assert!(ancient.fields.to_json().contains("f:l4") && !ancient.fields.to_json().contains("f:l5"));
    assert_eq!(ancient.time.unwrap().as_second(), 5);
}

#[test]
fn versions_that_are_gone_own_nothing() {
    let mut world = World::new();
    world.apply("a", &pod(json!({"hostname": "h"})), false).unwrap();
    world.managers.0[0].owner.api_version = "gone/v1".to_owned();
    world.apply("b", &pod(json!({"hostname": "i"})), false).unwrap();
    assert_eq!(world.managers.0.len(), 1);
}

#[test]
fn what_became_one_value_is_owned_as_one() {
    let mut world = World::new();
    world.apply("a", &pod(json!({"hostname": "h"})), false).unwrap();
    let fields =
        json!({"f:spec": {"f:nodeSelector": {"f:a": {}, ".": {}}, "f:tolerations": {"i:0": {}}, "f:hostname": {}}});
    world.managers.0[0].fields = Set::from_fields(&fields).unwrap();
    let mut live = world.live.clone();
    live["spec"]["priority"] = 1.into();
    world.update("b", live);
    expect![[r#"{"f:spec":{"f:hostname":{},"f:nodeSelector":{},"f:tolerations":{}}}"#]]
        .assert_eq(&world.managers.0[0].fields.to_json());
}

#[test]
fn nulls_in_a_declaration() {
    let mut world = World::new();
    let mut config = pod(json!({"hostname": null, "containers": [{"name": "c", "image": "i", "env": null}]}));
    config["metadata"]["creationTimestamp"] = Value::Null;
    config["status"] = json!({});
    world.apply("a", &config, false).unwrap();
    expect![[r#"
        a Apply v1 1 {"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:env":{},"f:image":{},"f:name":{}}},"f:hostname":{}}}
    "#]]
    .assert_eq(&world.owners());
    assert!(world.live["spec"].get("hostname").is_none());
}

#[test]
fn entries_that_are_malformed() {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
    let good = || ManagedFieldsEntry {
        api_version: Some("v1".to_owned()),
        fields_type: Some("FieldsV1".to_owned()),
        operation: Some("Update".to_owned()),
        manager: Some("m".to_owned()),
        fields_v1: Some(FieldsV1(json!({"f:spec": {}}))),
        ..ManagedFieldsEntry::default()
    };
    let refuse = |change: fn(&mut ManagedFieldsEntry)| {
        let mut entry = good();
        change(&mut entry);
        Managers::decode(&[entry]).unwrap_err()
    };
    let lines = [
        refuse(|entry| entry.operation = Some("Frob".to_owned())),
        refuse(|entry| entry.api_version = None),
        refuse(|entry| entry.fields_type = None),
        refuse(|entry| entry.fields_type = Some("FieldsV2".to_owned())),
        refuse(|entry| entry.fields_v1 = Some(FieldsV1(json!({"spec": {}})))),
        refuse(|entry| entry.fields_v1 = Some(FieldsV1(json!({"i:x": {}})))),
    ];
    expect![[r#"
        operation must be `Apply` or `Update`
        apiVersion must not be empty
        missing fieldsType in managed fields entry 0
        invalid fieldsType "FieldsV2" in managed fields entry 0
        error decoding versioned set from managed fields entry 0: error decoding set: parsing key as path element: missing colon: spec
        error decoding versioned set from managed fields entry 0: error decoding set: parsing key as path element: strconv.Atoi: parsing "x": invalid syntax"#]]
    .assert_eq(&lines.join("\n"));
    assert_eq!(Managers::decode(&[good()]).unwrap().encode().unwrap(), [good()]);
    assert!(is_reset(Some(&[])) && is_reset(Some(&[ManagedFieldsEntry::default()])));
    assert!(!is_reset(None) && !is_reset(Some(&[good()])));
}

#[test]
fn objects_without_a_schema() {
    let any = Node::any();
    let object = json!({"spec": {"a": {"b": 1, "list": [{"name": "x"}]}, "empty": {}}});
    expect![[r#"{"f:spec":{".":{},"f:a":{".":{},"f:b":{},"f:list":{}},"f:empty":{}}}"#]]
        .assert_eq(&fields(any, &object).to_json());
    let changes = compare(any, &object, &json!({"spec": {"a": "x", "new": [1]}}));
    expect![[r#"{"f:spec":{"f:a":{".":{}},"f:new":{}}}"#]].assert_eq(
        &changes
            .added
            .union(changes.modified)
            .to_json()
            .replace(r#""f:a":{}"#, r#""f:a":{".":{}}"#),
    );
    expect![[r#"{"f:spec":{"f:a":{"f:b":{},"f:list":{}},"f:empty":{}}}"#]].assert_eq(&changes.removed.to_json());
    let merged = merge(any, &object, &json!({"spec": {"a": {"list": [1]}}})).unwrap();
    assert_eq!(merged, json!({"spec": {"a": {"b": 1, "list": [1]}, "empty": {}}}));
}
