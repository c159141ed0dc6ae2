//! The JSON schemas of Kubernetes 1.35's stable API, descriptions included, for those who publish or explain them.
//!
//! They are rarely asked for and large, so they lie compressed in the program and are unpacked for the time it takes.

use flate2::read::ZlibDecoder;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::io::Read as _;

/// One definition a line: name, tab, schema. Written by `build/main.rs`.
const SCHEMAS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/schemas.z"));

/// The schemas of these types and of all types they use, by name. A name that is not known is left out.
pub fn with_references<'n>(names: impl IntoIterator<Item = &'n str>) -> Map<String, Value> {
    let text = unpacked();
    let lines: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once('\t')).collect();
    let mut found = Map::new();
    let mut wanted: Vec<String> = names.into_iter().map(str::to_owned).collect();
    while let Some(name) = wanted.pop() {
        if found.contains_key(&name) {
            continue;
        }
        let line = lines.get(name.as_str());
        let Some(schema) = line.and_then(|line| serde_json::from_str::<Value>(line).ok()) else {
            continue;
        };
        references(&schema, &mut wanted);
        found.insert(name, schema);
    }
    found
}

fn unpacked() -> String {
    let mut text = String::new();
    ZlibDecoder::new(SCHEMAS)
        .read_to_string(&mut text)
        .expect("the build compressed it");
    text
}

/// The names of the definitions a schema refers to.
fn references(schema: &Value, names: &mut Vec<String>) {
    match schema {
        Value::Array(items) => items.iter().for_each(|item| references(item, names)),
        Value::Object(members) => {
            let target = members.get("$ref").and_then(Value::as_str);
            names.extend(target.and_then(|target| target.rsplit('/').next()).map(str::to_owned));
            members.values().for_each(|member| references(member, names));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_come_with_what_they_use() {
        let pod = "io.k8s.api.core.v1.Pod";
        let schemas = with_references([pod, "io.k8s.api.core.v1.Nonsense"]);
        assert_eq!(
            schemas[pod]["properties"]["spec"]["$ref"],
            "#/components/schemas/io.k8s.api.core.v1.PodSpec"
        );
        assert!(schemas[pod]["description"].is_string());
        assert!(schemas.contains_key("io.k8s.apimachinery.pkg.api.resource.Quantity"));
        assert!(
            !schemas.contains_key("io.k8s.api.core.v1.Node") && !schemas.contains_key("io.k8s.api.core.v1.Nonsense")
        );
    }

    #[test]
    fn types_may_use_themselves() {
        let name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        assert!(with_references([name]).contains_key(name));
    }
}
