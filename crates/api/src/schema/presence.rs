//! Which fields are there and which are left out, as Kubernetes' encoder has it.
//!
//! Go's types keep most optional fields as plain values, so that `hostNetwork: false`, `value: ""` and `labels: {}` are the same as
//! nothing, and what is read back does not have them. Where zero says something of its own (`replicas: 0`, `storageClassName: ""`) the
//! field is a pointer, and those are the ones `presence.txt` lists. Other fields are never left out (`^` in `topology.txt`).

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::{Definition, Type};

static STATED: LazyLock<HashMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
    let lines = include_str!("presence.txt").lines();
    lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .map(|(definition, fields)| (definition, fields.split(',').collect()))
        .collect()
});

/// The scalars of a definition (`io.k8s.api.core.v1.PodSpec`) of which zero says something else than absence.
pub(super) fn stated(definition: &str) -> Vec<Box<str>> {
    let name = definition.strip_prefix("io.k8s.").unwrap_or(definition);
    let fields = STATED.get(name).into_iter().flatten();
    fields.map(|field| (*field).into()).collect()
}

/// What is written for a field of this type that nobody has set, where it is never left out.
pub(super) fn zero(ty: &Type) -> &'static Value {
    static OBJECT: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
    static STRING: LazyLock<Value> = LazyLock::new(|| Value::from(""));
    static NUMBER: LazyLock<Value> = LazyLock::new(|| Value::from(0));
    static FALSE: Value = Value::Bool(false);
    static NULL: Value = Value::Null;
    match ty {
        Type::Object(_) => &OBJECT,
        Type::String => &STRING,
        Type::Int32 | Type::Int64 => &NUMBER,
        Type::Boolean => &FALSE,
        _ => &NULL,
    }
}

/// Fills in what is never absent, except for null: nothing can be decoded from that.
pub(super) fn complete(definition: &Definition, fields: &mut Map<String, Value>) {
    for name in &definition.always {
        let Some(ty) = definition.fields.get(name) else {
            continue;
        };
        let zero = zero(ty);
        if !zero.is_null() && !fields.contains_key(&**name) {
            fields.insert(name.to_string(), zero.clone());
        }
    }
}

/// Leaves out what cannot be told from absence.
pub(super) fn reduce(definition: &Definition, fields: &mut Map<String, Value>) {
    let kept = |name: &str| {
        let mut listed = definition.always.iter().chain(&definition.stated);
        listed.any(|field| **field == *name)
    };
    fields.retain(|name, value| {
        let ty = definition.fields.get(name.as_str());
        !ty.is_some_and(|ty| is_zero(ty, value)) || kept(name)
    });
}

fn is_zero(ty: &Type, value: &Value) -> bool {
    match (ty, value) {
        (Type::Map(..), Value::Object(entries)) => entries.is_empty(),
        (Type::List(..), Value::Array(items)) => items.is_empty(),
        (Type::String | Type::Bytes, Value::String(text)) => text.is_empty(),
        (Type::Int32 | Type::Int64, Value::Number(number)) => number.as_i64() == Some(0),
        (Type::Boolean, Value::Bool(is)) => !is,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::super::Schemas;

    #[test]
    fn the_table_is_sorted_and_names_optional_scalars() {
        let lines = include_str!("presence.txt")
            .lines()
            .filter(|line| !line.starts_with('#'));
        let lines: Vec<&str> = lines.collect();
        assert!(lines.is_sorted(), "the table is not sorted");
        for line in lines {
            let (definition, fields) = line.split_once(' ').unwrap();
            let node = Schemas::builtin()
                .node(&format!("io.k8s.{definition}"))
                .unwrap_or_else(|| panic!("there is no {definition}"));
            for field in fields.split(',') {
                let shape = node.field(field).map(super::super::Node::shape);
                let scalar = matches!(shape, Some(super::super::Shape::Scalar(_)));
                assert!(scalar, "{definition} has no {field}");
            }
        }
    }

    #[test]
    fn what_says_nothing_is_left_out() {
        let normal = |definition: &str, mut value: serde_json::Value| {
            let node = Schemas::builtin().node(&format!("io.k8s.api.{definition}")).unwrap();
            node.normalise(&mut value).unwrap();
            value.to_string()
        };
        expect![[r#"{"containers":[{"env":[{"name":"A"}],"name":"a","resources":{},"securityContext":{"privileged":false}}],"runtimeClassName":"","terminationGracePeriodSeconds":0}"#]]
        .assert_eq(&normal(
            "core.v1.PodSpec",
            json!({"hostNetwork": false, "nodeName": "", "nodeSelector": {}, "tolerations": [], "runtimeClassName": "",
                "terminationGracePeriodSeconds": 0, "priority": null, "containers": [{"name": "a", "env": [{"name": "A", "value": ""}],
                "ports": [], "securityContext": {"privileged": false, "seLinuxOptions": null}}]}),
        ));
        expect![[r#"{"replicas":0,"serviceName":"","template":{"metadata":{},"spec":{}},"updateStrategy":{}}"#]]
            .assert_eq(&normal(
                "apps.v1.StatefulSetSpec",
                json!({"replicas": 0, "minReadySeconds": 0}),
            ));
        // A list that is always there may be empty.
        expect![[r#"{"metadata":{},"rules":[]}"#]].assert_eq(&normal("rbac.v1.ClusterRole", json!({"rules": []})));
    }
}
