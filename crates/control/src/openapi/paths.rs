//! The paths of a kind and the operations on them.

use super::components::{list_name, reference};
use super::group_version_kind;
use crate::kinds::{Info, Subresource};
use serde_json::{Map, Value, json};

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// Adds all paths of a kind; `root` is `/api/v1`.
pub(super) fn add(info: &Info, root: &str, paths: &mut Map<String, Value>) {
    let names = Names::of(info);
    let base = if info.namespaced {
        format!("{root}/namespaces/{{namespace}}")
    } else {
        root.to_owned()
    };
    let collection = format!("{base}/{}", info.plural);
    let item = format!("{collection}/{{name}}");
    let mut shared = vec![query("pretty", "string", "If 'true', the answer is indented.")];
    if info.namespaced {
        paths.insert(format!("{root}/{}", info.plural), everywhere(info, &names, &shared));
        shared.push(segment("namespace", "The namespace of the objects."));
    }
    paths.insert(collection, collection_path(info, &names, &shared));
    shared.push(segment("name", "The name of the object."));
    paths.insert(item.clone(), item_path(info, &names, &shared));
    for subresource in &info.subresources {
        let path = format!("{item}/{}", subresource.name);
        paths.insert(path, subresource_path(info, subresource, &names, &shared));
    }
}

/// The parts of operation ids: `create` + `CoreV1` + `Namespaced` + `Pod`.
struct Names {
    group_version: String,
    scope: &'static str,
    kind: String,
    tag: String,
}

impl Names {
    fn of(info: &Info) -> Self {
        let group = info
            .group
            .split('.')
            .next()
            .filter(|group| !group.is_empty())
            .unwrap_or("core");
        let scope = if info.namespaced { "Namespaced" } else { "" };
        Names {
            group_version: capitalized(group) + &capitalized(&info.version),
            scope,
            kind: info.kind.to_string(),
            tag: format!("{group}_{}", info.version),
        }
    }

    fn id(&self, verb: &str, suffix: &str) -> String {
        format!("{verb}{}{}{}{suffix}", self.group_version, self.scope, self.kind)
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn everywhere(info: &Info, names: &Names, shared: &[Value]) -> Value {
    let id = format!("list{}{}ForAllNamespaces", names.group_version, names.kind);
    let mut path = json!({ "get": list(info, names, &id) });
    with_parameters(&mut path, shared);
    path
}

fn collection_path(info: &Info, names: &Names, shared: &[Value]) -> Value {
    let delete_id = format!("delete{}Collection{}{}", names.group_version, names.scope, names.kind);
    let mut delete = operation(
        info,
        names,
        &delete_id,
        "deletecollection",
        "delete all objects that match",
        STATUS,
    );
    delete["parameters"] = [delete_parameters(), list_parameters()].concat().into();
    delete["requestBody"] = body(DELETE_OPTIONS, false);
    let mut path = json!({
        "get": list(info, names, &names.id("list", "")),
        "post": write(info, names, "create", "post", &info.schema),
        "delete": delete,
    });
    with_parameters(&mut path, shared);
    path
}

fn item_path(info: &Info, names: &Names, shared: &[Value]) -> Value {
    let mut delete = operation(info, names, &names.id("delete", ""), "delete", "delete", STATUS);
    delete["parameters"] = delete_parameters().into();
    delete["requestBody"] = body(DELETE_OPTIONS, false);
    let mut path = json!({
        "get": operation(info, names, &names.id("read", ""), "get", "read", &info.schema),
        "put": write(info, names, "replace", "put", &info.schema),
        "patch": patch(info, names, ""),
        "delete": delete,
    });
    with_parameters(&mut path, shared);
    path
}

fn subresource_path(info: &Info, subresource: &Subresource, names: &Names, shared: &[Value]) -> Value {
    let suffix = capitalized(subresource.name);
    // What is no object is a stream of bytes.
    let schema = if subresource.kind.is_empty() && subresource.name != "log" {
        info.schema.as_ref()
    } else {
        ""
    };
    let mut path = json!({});
    for verb in subresource.verbs {
        let (method, value) = match *verb {
            "get" => (
                "get",
                operation(info, names, &names.id("read", &suffix), "get", "read", schema),
            ),
            "create" => {
                let mut value = operation(info, names, &names.id("create", &suffix), "post", "create", schema);
                value["parameters"] = write_parameters().into();
                ("post", value)
            }
            "update" => {
                let mut value = write(info, names, "replace", "put", &info.schema);
                value["operationId"] = names.id("replace", &suffix).into();
                ("put", value)
            }
            "patch" => ("patch", patch(info, names, &suffix)),
            _ => continue,
        };
        path[method] = value;
    }
    with_parameters(&mut path, shared);
    path
}

fn with_parameters(path: &mut Value, shared: &[Value]) {
    path["parameters"] = shared.into();
}

/// `schema` is the name of the answer's type; empty for text.
fn operation(info: &Info, names: &Names, id: &str, action: &str, verb: &str, schema: &str) -> Value {
    let content = if schema.is_empty() {
        json!({ "text/plain": { "schema": { "type": "string" } } })
    } else {
        json!({ JSON: { "schema": reference(schema) }, YAML: { "schema": reference(schema) } })
    };
    json!({
        "tags": [names.tag],
        "description": format!("{verb} the specified {}", info.kind),
        "operationId": id,
        "responses": { "200": { "description": "OK", "content": content }, "401": { "description": "Unauthorized" } },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": group_version_kind(info),
    })
}

fn list(info: &Info, names: &Names, id: &str) -> Value {
    let mut list = operation(
        info,
        names,
        id,
        "list",
        "list or watch objects of kind",
        &list_name(info),
    );
    list["description"] = format!("list or watch objects of kind {}", info.kind).into();
    list["parameters"] = list_parameters().into();
    list
}

fn write(info: &Info, names: &Names, verb: &str, action: &str, schema: &str) -> Value {
    let mut write = operation(info, names, &names.id(verb, ""), action, verb, schema);
    write["parameters"] = write_parameters().into();
    write["requestBody"] = body(schema, true);
    write["responses"]["201"] =
        json!({ "description": "Created", "content": { JSON: { "schema": reference(schema) } } });
    write
}

fn patch(info: &Info, names: &Names, suffix: &str) -> Value {
    let mut patch = operation(
        info,
        names,
        &names.id("patch", suffix),
        "patch",
        "partially update",
        &info.schema,
    );
    patch["parameters"] = write_parameters().into();
    let content: Map<String, Value> = catamaran_api::patch::PatchType::media_types(true)
        .iter()
        .map(|media_type| ((*media_type).to_owned(), json!({ "schema": reference(PATCH) })))
        .collect();
    patch["requestBody"] = json!({ "required": true, "content": content });
    patch
}

fn body(schema: &str, required: bool) -> Value {
    json!({ "required": required, "content": { "*/*": { "schema": reference(schema) } } })
}

fn query(name: &str, kind: &str, description: &str) -> Value {
    json!({
        "name": name,
        "in": "query",
        "description": description,
        "schema": { "type": kind, "uniqueItems": true },
    })
}

fn segment(name: &str, description: &str) -> Value {
    json!({
        "name": name,
        "in": "path",
        "description": description,
        "required": true,
        "schema": { "type": "string", "uniqueItems": true },
    })
}

fn dry_run() -> Value {
    query(
        "dryRun",
        "string",
        "With All, everything is done but writing. Nothing else is allowed.",
    )
}

fn write_parameters() -> Vec<Value> {
    vec![
        dry_run(),
        query(
            "fieldManager",
            "string",
            "Who makes the change, in fewer than 128 characters.",
        ),
        query(
            "fieldValidation",
            "string",
            "What to do about unknown and duplicate fields: Ignore drops them, Warn drops them and says so, Strict refuses the \
             request.",
        ),
    ]
}

fn delete_parameters() -> Vec<Value> {
    vec![
        dry_run(),
        query(
            "gracePeriodSeconds",
            "integer",
            "Seconds before the object is removed. 0 removes it at once.",
        ),
        query(
            "propagationPolicy",
            "string",
            "What becomes of the objects it owns: Orphan leaves them, Background deletes them later, Foreground deletes them \
             first.",
        ),
    ]
}

fn list_parameters() -> Vec<Value> {
    vec![
        query(
            "allowWatchBookmarks",
            "boolean",
            "Whether a watch may send events that only tell how far it is.",
        ),
        query("continue", "string", "Where a list goes on, from the answer before."),
        query("fieldSelector", "string", "Selects objects by their fields."),
        query("labelSelector", "string", "Selects objects by their labels."),
        query(
            "limit",
            "integer",
            "How many objects to answer at most; the rest follows with continue.",
        ),
        query(
            "resourceVersion",
            "string",
            "How fresh a list has to be, or where a watch begins.",
        ),
        query(
            "resourceVersionMatch",
            "string",
            "How resourceVersion applies to a list: Exact or NotOlderThan.",
        ),
        query(
            "sendInitialEvents",
            "boolean",
            "Whether a watch begins with what is there.",
        ),
        query("timeoutSeconds", "integer", "How long a list or watch may take."),
        query("watch", "boolean", "Watch for changes instead of answering a list."),
    ]
}
