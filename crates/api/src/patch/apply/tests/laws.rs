//! What holds whatever is applied.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Builtin, World};
use crate::patch::apply::typed::with_named_fields;
use crate::patch::apply::{Element, Operation, Set, Versions, display_path, fields};
use crate::schema::{Node, Shape};

fn node() -> Node<'static> {
    crate::schema::Schemas::builtin().node_of_kind("v1", "Pod").unwrap()
}

/// Declarations of pods whose names are of one alphabet: those of two alphabets have nothing in common.
fn config(letters: &'static str) -> impl Strategy<Value = Value> {
    let name = move || proptest::string::string_regex(letters).unwrap();
    let env = prop::collection::btree_map(name(), "[xy]", 0..3);
    let container = (env, prop::option::of("[xy]"), prop::collection::vec("[xy]", 0..2));
    let containers = prop::collection::btree_map(name(), container, 0..3);
    let labels = prop::collection::btree_map(name(), "[xy]", 0..3);
    let finalizers = prop::collection::btree_set(name(), 0..3);
    (containers, labels, finalizers).prop_map(|(containers, labels, finalizers)| {
        let containers: Vec<Value> = containers
            .into_iter()
            .map(|(name, parts)| make_container(&name, parts))
            .collect();
        let finalizers: Vec<String> = finalizers.into_iter().map(|name| format!("x/{name}")).collect();
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), "pod".into());
        if !labels.is_empty() {
            metadata.insert("labels".to_owned(), json!(labels));
        }
        if !finalizers.is_empty() {
            metadata.insert("finalizers".to_owned(), json!(finalizers));
        }
        let mut object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
        if !containers.is_empty() {
            object["spec"] = json!({ "containers": containers });
        }
        object
    })
}

type Parts = (std::collections::BTreeMap<String, String>, Option<String>, Vec<String>);

fn make_container(name: &str, (env, image, args): Parts) -> Value {
    let env: Vec<Value> = env
        .into_iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let mut container = json!({ "name": name });
    if !env.is_empty() {
        container["env"] = env.into();
    }
    if let Some(image) = image {
        container["image"] = image.into();
    }
    if !args.is_empty() {
        container["args"] = json!(args);
    }
    container
}

#[derive(Clone, Debug)]
enum Step {
    Apply(String, Value),
    Update(String, Value),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => ("[abc]", config("[a-d]")).prop_map(|(manager, config)| Step::Apply(manager, config)),
        1 => ("[ux]", config("[a-d]")).prop_map(|(manager, object)| Step::Update(manager, object)),
    ]
}

/// Without what nobody owns.
fn owned_fields(object: &Value) -> Set {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("name");
        metadata.remove("uid");
        if metadata.is_empty() {
            object["metadata"] = Value::Null;
            object.as_object_mut().unwrap().remove("metadata");
        }
    }
    fields(node(), &object)
}

fn is_within(small: &Set, large: &Set) -> bool {
    small.clone().difference(large).is_empty()
}

/// The object with its lists in some sequence that depends only on what is in them.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(sorted).collect();
            items.sort_by_key(ToString::to_string);
            Value::Array(items)
        }
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| (name.clone(), sorted(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// Is this the place of a map or list that is owned item by item?
fn may_be_empty(path: &[Element]) -> bool {
    let mut place = Some(node());
    for element in path {
        place = place.and_then(|place| match element {
            Element::Field(name) => place.field(name),
            _ => place.items(),
        });
    }
    let is_item = matches!(path.last(), Some(Element::Key(_) | Element::Value(_)));
    !is_item && place.is_some_and(|place| !place.is_atomic() && !matches!(place.shape(), Shape::Scalar(_)))
}

fn run(steps: Vec<Step>) -> World {
    let mut world = World::new();
    for step in steps {
        match step {
            Step::Apply(manager, config) => {
                world.apply(&manager, &config, true).unwrap();
            }
            Step::Update(manager, object) => world.update(&manager, object),
        }
    }
    world
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(steps in prop::collection::vec(step(), 0..5), config in config("[a-d]")) {
        let mut world = run(steps);
        world.apply("a", &config, true).unwrap();
        let managers = world.managers.clone();
        prop_assert!(!world.apply("a", &config, false).unwrap());
        prop_assert_eq!(world.managers, managers);
    }

    #[test]
    fn managers_of_different_fields_commute(one in config("[a-c]"), two in config("[p-r]")) {
        let [mut first, mut second] = [World::new(), World::new()];
        first.apply("one", &one, false).unwrap();
        first.apply("two", &two, false).unwrap();
        second.apply("two", &two, false).unwrap();
        second.apply("one", &one, false).unwrap();
        prop_assert_eq!(sorted(&first.live), sorted(&second.live));
        for entry in &first.managers.0 {
            let other = second.managers.get(&entry.owner).map(|entry| &entry.fields);
            prop_assert_eq!(Some(&entry.fields), other);
        }
    }

    /// A map or list that somebody owns may have become empty, and an empty one is not kept.
    #[test]
    fn owned_fields_exist(steps in prop::collection::vec(step(), 1..7)) {
        let world = run(steps);
        let there = with_named_fields(owned_fields(&world.live), node());
        for entry in &world.managers.0 {
            for path in entry.fields.paths() {
                let exists = there.has(&path) || may_be_empty(&path);
                prop_assert!(exists, "{} of {} in {}", display_path(&path), entry.fields.to_json(), world.live);
            }
        }
    }

    #[test]
    fn what_is_applied_is_there_and_owned(steps in prop::collection::vec(step(), 0..5), config in config("[a-d]")) {
        let mut world = run(steps);
        world.apply("a", &config, true).unwrap();
        let applied = owned_fields(&config);
        prop_assert!(is_within(&applied, &owned_fields(&world.live)));
        let entry = world.managers.0.iter().find(|entry| entry.owner.manager == "a" && entry.owner.operation == Operation::Apply);
        prop_assert_eq!(entry.map(|entry| entry.fields.clone()).unwrap_or_default(), applied);
    }

    #[test]
    fn what_only_one_applied_goes_with_its_declaration(first in config("[a-d]"), second in config("[a-d]"), other in config("[a-d]")) {
        let mut world = World::new();
        world.apply("b", &other, true).unwrap();
        world.apply("a", &first, true).unwrap();
        world.apply("a", &second, true).unwrap();
        let wanted = owned_fields(&second).union(owned_fields(&other));
        prop_assert!(is_within(&owned_fields(&world.live), &wanted), "{}", world.live);
        world.apply("a", &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}}), true).unwrap();
        prop_assert!(is_within(&owned_fields(&world.live), &owned_fields(&other)), "{}", world.live);
        prop_assert!(world.managers.0.iter().all(|entry| entry.owner.manager == "b"));
    }

    #[test]
    fn what_an_update_changed_is_its_own(steps in prop::collection::vec(step(), 0..5), object in config("[a-d]")) {
        let mut world = run(steps);
        let before = world.live.clone();
        world.update("u", object.clone());
        let changes = super::compare(node(), &before, &world.live);
        for path in changes.modified.union(changes.added).paths() {
            let owners: Vec<&str> = world.managers.0.iter().filter(|entry| entry.fields.has(&path)).map(|entry| entry.owner.manager.as_str()).collect();
            let is_identity = path.len() < 2 || path[1] == Element::field("uid") || path[1] == Element::field("name");
            prop_assert!(owners == ["u"] || is_identity || world.managers.0.is_empty(), "{:?} is owned by {:?}", path, owners);
        }
    }

    #[test]
    fn sets_survive_their_text(steps in prop::collection::vec(step(), 1..4)) {
        for entry in run(steps).managers.0 {
            let text = entry.fields.to_json();
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), entry.fields.to_fields());
            prop_assert_eq!(Set::from_fields(&entry.fields.to_fields()).unwrap(), entry.fields);
        }
    }

    #[test]
    fn nothing_panics(live in crate::patch::tests::any_object(), config in crate::patch::tests::any_object()) {
        let node = Builtin.node("v1").unwrap();
        let (live, config) = (json!({"apiVersion": "v1", "spec": live}), json!({"apiVersion": "v1", "metadata": {"name": "a"}, "spec": config}));
        let _ = super::merge(node, &live, &config);
        let _ = super::compare(Node::any(), &live, &config);
        let _ = fields(Node::any(), &live);
        let refused = super::check(node, &live, true).is_err() || live["spec"].as_object().is_some_and(Map::is_empty);
        prop_assert!(refused, "no field of a pod is called like these");
    }
}
