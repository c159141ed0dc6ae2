use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{apply, three_way};
use crate::schema::{Node, Schemas};

fn pod() -> Option<Node<'static>> {
    Schemas::builtin().node("io.k8s.api.core.v1.Pod")
}

#[allow(clippy::needless_pass_by_value, reason = "a golden reads best in place")]
fn check(object: Value, patch: Value, expected: Expect) {
    let actual = match apply(&object, &patch, pod()) {
        Ok(result) => result.to_string(),
        Err(status) => format!("{status:?}"),
    };
    expected.assert_eq(&actual);
}

#[allow(clippy::needless_pass_by_value, reason = "literals read best in place")]
fn spec(value: Value) -> Value {
    json!({ "spec": value })
}

#[test]
fn lists_with_a_key_merge_item_by_item() {
    check(
        spec(json!({"containers": [{"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}]}, {"name": "b"}]})),
        spec(
            json!({"containers": [{"name": "a", "image": "y", "env": [{"name": "F", "value": null}]}, {"name": "c", "args": null}]}),
        ),
        expect![[
            r#"{"spec":{"containers":[{"env":[{"name":"F","value":null},{"name":"E","value":"1"}],"image":"y","name":"a"},{"args":null,"name":"c"},{"name":"b"}]}}"#
        ]],
    );
}

#[test]
fn atomic_lists_are_replaced() {
    check(
        spec(json!({"tolerations": [{"key": "a"}], "containers": [{"name": "a", "args": ["1", "2"]}]})),
        spec(json!({"tolerations": [{"key": "b"}], "containers": [{"name": "a", "args": ["3"]}]})),
        expect![[r#"{"spec":{"containers":[{"args":["3"],"name":"a"}],"tolerations":[{"key":"b"}]}}"#]],
    );
}

#[test]
fn sets_grow_and_shrink() {
    check(
        json!({"metadata": {"finalizers": ["a/a", "a/b"]}}),
        json!({"metadata": {"finalizers": ["a/c", "a/b"], "$deleteFromPrimitiveList/finalizers": ["a/a"]}}),
        expect![[r#"{"metadata":{"finalizers":["a/c","a/b"]}}"#]],
    );
}

#[test]
fn directives_on_objects() {
    check(
        spec(json!({"securityContext": {"runAsUser": 1, "fsGroup": 2}, "nodeSelector": {"a": "b"}})),
        spec(json!({"securityContext": {"$patch": "replace", "runAsUser": 3}, "nodeSelector": {"$patch": "delete"}})),
        expect![[r#"{"spec":{"nodeSelector":{},"securityContext":{"runAsUser":3}}}"#]],
    );
    check(
        spec(json!({"volumes": [{"name": "v", "emptyDir": {}}]})),
        spec(json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}, "$retainKeys": ["name", "hostPath"]}]})),
        expect![[r#"{"spec":{"volumes":[{"hostPath":{"path":"/"},"name":"v"}]}}"#]],
    );
}

#[test]
fn directives_on_lists() {
    let object = || spec(json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}));
    check(
        object(),
        spec(json!({"containers": [{"name": "b", "$patch": "delete"}, {"name": "d"}]})),
        expect![[r#"{"spec":{"containers":[{"name":"d"},{"name":"a"},{"name":"c"}]}}"#]],
    );
    check(
        object(),
        spec(json!({"containers": [{"$patch": "replace"}, {"name": "d"}]})),
        expect![[r#"{"spec":{"containers":[{"name":"d"}]}}"#]],
    );
    check(
        object(),
        spec(
            json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "d"}, {"name": "a"}], "containers": [{"name": "d"}]}),
        ),
        expect![[r#"{"spec":{"containers":[{"name":"b"},{"name":"c"},{"name":"d"},{"name":"a"}]}}"#]],
    );
}

#[test]
fn new_fields_lose_their_directives() {
    check(
        json!({}),
        spec(
            json!({"containers": [{"name": "a", "$retainKeys": ["name"], "env": [{"name": "x", "$patch": "delete"}]}], "x": null,
            "$setElementOrder/containers": [{"name": "a"}]}),
        ),
        expect![[
            r#"{"spec":{"$setElementOrder/containers":[{"name":"a"}],"containers":[{"$retainKeys":["name"],"env":[],"name":"a"}]}}"#
        ]],
    );
}

#[test]
fn malformed_patches() {
    let object = || spec(json!({"containers": [{"name": "a"}], "securityContext": {}, "volumes": [{"name": "v"}]}));
    for (patch, expected) in [
        (json!([]), expect!["400 BadRequest: invalid JSON document"]),
        (
            spec(json!({"securityContext": {"$patch": "frob"}})),
            expect!["500 : unknown patch type: frob in map: map[$patch:frob]"],
        ),
        (
            spec(json!({"containers": [{"image": "x"}]})),
            expect!["500 : map: map[image:x] does not contain declared merge key: name"],
        ),
        (
            spec(json!({"containers": ["x"]})),
            expect!["500 : list element types are not identical: [[map[name:a]] [x]]"],
        ),
        (
            spec(json!({"volumes": [{"name": "v", "emptyDir": {}, "$retainKeys": ["name"]}]})),
            expect!["400 BadRequest: invalid patch format of retainKeys"],
        ),
        (
            spec(json!({"$retainKeys": 1})),
            expect!["400 BadRequest: invalid patch format of retainKeys"],
        ),
        (
            spec(json!({"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]})),
            expect![[r#"
                500 : The order in patch list:
                [map[name:a]]
                 doesn't match $setElementOrder list:
                [map[name:b]]
            "#]],
        ),
    ] {
        check(object(), patch, expected);
    }
}

#[test]
fn three_way_patches() {
    let fields = |value: Value| value.as_object().unwrap().clone();
    let patch = three_way(
        &fields(
            json!({"metadata": {"labels": {"old": "1"}, "finalizers": ["a/a"]}, "spec": {
            "containers": [{"name": "gone"}, {"name": "web", "image": "v1", "args": ["x"]}],
            "volumes": [{"name": "v", "emptyDir": {}}]}}),
        ),
        &fields(
            json!({"metadata": {"labels": {"new": "1"}, "finalizers": ["a/b"]}, "spec": {
            "containers": [{"name": "web", "image": "v2"}, {"name": "side"}],
            "volumes": [{"name": "v", "hostPath": {"path": "/"}}], "nodeName": "n"}}),
        ),
        &fields(
            json!({"metadata": {"labels": {"old": "1", "theirs": "1"}, "finalizers": ["a/a", "their/s"]}, "spec": {
            "containers": [{"name": "gone"}, {"name": "web", "image": "v1", "args": ["x"], "imagePullPolicy": "Always"}, {"name": "injected"}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "token"}]}}),
        ),
        pod(),
    );
    expect![[r#"
        {
          "metadata": {
            "$deleteFromPrimitiveList/finalizers": [
              "a/a"
            ],
            "$setElementOrder/finalizers": [
              "a/b"
            ],
            "finalizers": [
              "a/b"
            ],
            "labels": {
              "new": "1",
              "old": null
            }
          },
          "spec": {
            "$setElementOrder/containers": [
              {
                "name": "web"
              },
              {
                "name": "side"
              }
            ],
            "$setElementOrder/volumes": [
              {
                "name": "v"
              }
            ],
            "containers": [
              {
                "args": null,
                "image": "v2",
                "name": "web"
              },
              {
                "name": "side"
              },
              {
                "$patch": "delete",
                "name": "gone"
              }
            ],
            "nodeName": "n",
            "volumes": [
              {
                "$retainKeys": [
                  "hostPath",
                  "name"
                ],
                "emptyDir": null,
                "hostPath": {
                  "path": "/"
                },
                "name": "v"
              }
            ]
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&patch).unwrap());
}

fn unique<T>(items: Vec<T>, id: impl Fn(&T) -> String) -> Vec<T> {
    let mut seen = std::collections::BTreeSet::new();
    items.into_iter().filter(|item| seen.insert(id(item))).collect()
}

fn named_list(item: impl Strategy<Value = Map<String, Value>>) -> impl Strategy<Value = Value> {
    let named = ("[a-d]", item).prop_map(|(name, mut item)| {
        item.insert("name".to_owned(), name.into());
        Value::Object(item)
    });
    prop::collection::vec(named, 0..4).prop_map(|list| unique(list, |item| item["name"].to_string()).into())
}

fn any_pod() -> impl Strategy<Value = Map<String, Value>> {
    let value =
        prop::option::of("[xy]").prop_map(|value| value.into_iter().map(|v| ("value".to_owned(), v.into())).collect());
    let env = named_list(value);
    let container =
        (env, prop::collection::vec("[xy]", 0..3), prop::option::of("[xy]")).prop_map(|(env, args, image)| {
            let mut container = Map::new();
            container.insert("env".to_owned(), env);
            container.insert("args".to_owned(), args.into());
            container.extend(image.map(|image| ("image".to_owned(), image.into())));
            container
        });
    let volume = prop_oneof![Just(json!({"emptyDir": {}})), Just(json!({"hostPath": {"path": "/"}}))];
    let volumes = named_list(volume.prop_map(|volume| volume.as_object().unwrap().clone()));
    let finalizers = prop::collection::vec("[a-d]", 0..4).prop_map(|list| unique(list, Clone::clone));
    let labels = prop::collection::btree_map("[a-c]", "[xy]", 0..3);
    (named_list(container), volumes, finalizers, labels).prop_map(|(containers, volumes, finalizers, labels)| {
        let pod = json!({"metadata": {"finalizers": finalizers, "labels": labels}, "spec": {"containers": containers, "volumes": volumes}});
        pod.as_object().unwrap().clone()
    })
}

#[test]
fn lists_take_the_sequence_of_the_patch() {
    let names = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
    let order = |object: &[&str], patch: Value| {
        let result = apply(&spec(json!({"containers": names(object)})), &spec(patch), pod()).unwrap();
        let list = result["spec"]["containers"].as_array().unwrap().clone();
        list.iter()
            .map(|item| item["name"].as_str().unwrap())
            .collect::<String>()
    };
    assert_eq!(
        order(&["a", "b", "c"], json!({"containers": names(&["c", "x", "a"])})),
        "bcxa"
    );
    assert_eq!(
        order(
            &["a", "b", "c"],
            json!({"$setElementOrder/containers": names(&["c", "a"])})
        ),
        "bca"
    );
    assert_eq!(
        order(
            &["s", "a", "b", "t"],
            json!({"containers": [{"name": "b", "$patch": "delete"}, {"name": "z"}]})
        ),
        "zsat"
    );
    let finalizers = |patch: Value| {
        let object = json!({"metadata": {"finalizers": ["s", "a", "b", "t"]}});
        apply(&object, &json!({ "metadata": patch }), pod()).unwrap()["metadata"]["finalizers"].to_string()
    };
    assert_eq!(
        finalizers(json!({"$setElementOrder/finalizers": ["b", "a"], "finalizers": ["b"]})),
        r#"["s","b","a","t"]"#
    );
    assert_eq!(
        finalizers(json!({"$deleteFromPrimitiveList/finalizers": ["a", "q"]})),
        r#"["s","b","t"]"#
    );
}

#[test]
fn an_object_may_be_replaced_as_a_whole() {
    let budget = Schemas::builtin().node_of_kind("policy/v1", "PodDisruptionBudget");
    let object = json!({"spec": {"selector": {"matchLabels": {"a": "1"}}, "minAvailable": 1}});
    let patch = json!({"spec": {"selector": {"matchLabels": {"b": "1"}}}});
    let result = apply(&object, &patch, budget).unwrap();
    assert_eq!(
        result,
        json!({"spec": {"selector": {"matchLabels": {"b": "1"}}, "minAvailable": 1}})
    );
}

proptest! {
    /// If nobody else wrote, applying leads exactly to what was asked for, order included.
    #[test]
    fn a_patch_from_last_to_modified_leads_there(last in any_pod(), modified in any_pod()) {
        let patch = three_way(&last, &modified, &last, pod());
        let result = apply(&Value::Object(last), &Value::Object(patch), pod()).unwrap();
        prop_assert_eq!(result, Value::Object(modified));
    }

    /// Whatever others wrote, applying twice is applying once.
    #[test]
    fn applying_is_idempotent(last in any_pod(), modified in any_pod(), current in any_pod()) {
        let patch = three_way(&last, &modified, &current, pod());
        let once = apply(&Value::Object(current), &Value::Object(patch), pod()).unwrap();
        let again = three_way(&modified, &modified, once.as_object().unwrap(), pod());
        prop_assert!(again.is_empty(), "{}", Value::Object(again));
    }

    #[test]
    fn no_patch_panics(object in crate::patch::tests::any_object(), patch in crate::patch::tests::any_object()) {
        let _ = apply(&Value::Object(object), &Value::Object(patch), pod());
    }
}
