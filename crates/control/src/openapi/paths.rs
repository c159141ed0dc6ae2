//! The paths of a kind and the operations on them.

use super::components::{reference, type_name};
use super::{group_version_kind, schema_name};
use crate::kinds::{ErasedKind, Info, Subresource};
use serde_json::{Map, Value, json};

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// Adds all paths of a kind; `root` is `/api/v1`.
pub(super) fn add(kind: &dyn ErasedKind, root: &str, paths: &mut Map<String, Value>) {
    let info = &kind.info();
    let mut names = Names::of(info, schema_name(kind));
    // Clients choose their patch by what is listed here.
    names.strategic = kind.openapi().is_none();
    let names = names;
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
    let (not_of_all, not_of_one) = unserved(info);
    paths.insert(collection, without(collection_path(info, &names, &shared), not_of_all));
    shared.push(segment("name", "The name of the object."));
    paths.insert(item.clone(), without(item_path(info, &names, &shared), not_of_one));
    for subresource in &info.subresources {
        let path = format!("{item}/{}", subresource.name);
        paths.insert(path, subresource_path(info, subresource, &names, &shared));
    }
}

/// Methods that a kind lacks, of the collection and of each object: components can only be read, namespaces go one by one.
fn unserved(info: &Info) -> (&'static [&'static str], &'static [&'static str]) {
    match (info.group.as_ref(), info.kind.as_ref()) {
        ("", "ComponentStatus") => (&["post", "delete"], &["put", "patch", "delete"]),
        ("", "Namespace") => (&["delete"], &[]),
        _ => (&[], &[]),
    }
}

fn without(mut path: Value, methods: &[&str]) -> Value {
    if let Some(operations) = path.as_object_mut() {
        operations.retain(|method, _| !methods.contains(&method.as_str()));
    }
    path
}

/// The parts of operation ids: `create` + `CoreV1` + `Namespaced` + `Pod`.
struct Names {
    group_version: String,
    scope: &'static str,
    kind: String,
    tag: String,
    /// Of the type of the objects.
    schema: String,
    /// Its merge keys are known.
    strategic: bool,
}

impl Names {
    fn of(info: &Info, schema: String) -> Self {
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
            schema,
            strategic: true,
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
        "post": write(info, names, "create", "post", &names.schema),
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
        "get": operation(info, names, &names.id("read", ""), "get", "read", &names.schema),
        "put": write(info, names, "replace", "put", &names.schema),
        "patch": patch(info, names, ""),
        "delete": delete,
    });
    with_parameters(&mut path, shared);
    path
}

fn subresource_path(info: &Info, subresource: &Subresource, names: &Names, shared: &[Value]) -> Value {
    let suffix = capitalized(subresource.name);
    let (group, version) = subresource
        .api_version
        .split_once('/')
        .unwrap_or(("", subresource.api_version));
    let own = type_name(group, if version.is_empty() { "v1" } else { version }, subresource.kind);
    // What is no object is a stream of bytes.
    let stream = own.is_none() && (!subresource.kind.is_empty() || subresource.name == "log");
    let connects = subresource.kind.ends_with("Options");
    let schema = match &own {
        _ if stream => "",
        Some(own) => own.as_str(),
        None => names.schema.as_str(),
    };
    let mut path = json!({});
    for verb in subresource.verbs {
        let method = match *verb {
            "create" => "post",
            "update" => "put",
            other => other,
        };
        let (word, action) = match method {
            _ if connects => ("connect", "connect"),
            "get" => ("read", "get"),
            "post" => ("create", "post"),
            "put" => ("replace", "put"),
            "patch" => ("patch", "patch"),
            _ => continue,
        };
        let id = if connects {
            let verb = capitalized(method);
            format!(
                "connect{}{verb}{}{}{suffix}",
                names.group_version, names.scope, names.kind
            )
        } else {
            names.id(word, &suffix)
        };
        let mut value = match method {
            "patch" if !connects => patch(info, names, &suffix),
            "post" | "put" if !stream => write(info, names, word, action, schema),
            _ => operation(info, names, &id, action, word, schema),
        };
        value["operationId"] = id.into();
        if own.is_some() {
            value["x-kubernetes-group-version-kind"] = json!({ "group": group, "version": if version.is_empty() { "v1" } else { version }, "kind": subresource.kind });
        }
        path[method] = value;
    }
    with_parameters(&mut path, shared);
    path
}

/// A question: objects that can only be posted.
pub(super) fn add_question(
    root: &str,
    (group, plural, kind, namespaced): (&str, &str, &str, bool),
    schema: &str,
    paths: &mut Map<String, Value>,
) {
    let package = group.split('.').next().unwrap_or_default();
    let scope = if namespaced { "Namespaced" } else { "" };
    let mut shared = vec![query("pretty", "string", "If 'true', the answer is indented.")];
    let base = if namespaced {
        shared.push(segment("namespace", "The namespace of the objects."));
        format!("/{root}/namespaces/{{namespace}}")
    } else {
        format!("/{root}")
    };
    let content = json!({ JSON: { "schema": reference(schema) }, YAML: { "schema": reference(schema) } });
    let mut parameters = write_parameters();
    parameters.truncate(3);
    let mut path = json!({ "post": {
        "tags": [format!("{package}_v1")],
        "description": format!("create a {kind}"),
        "operationId": format!("create{}V1{scope}{kind}", capitalized(package)),
        "parameters": parameters,
        "requestBody": body(schema, true),
        "responses": {
            "200": { "description": "OK", "content": content },
            "201": { "description": "Created", "content": content },
            "401": { "description": "Unauthorized" },
        },
        "x-kubernetes-action": "post",
        "x-kubernetes-group-version-kind": { "group": group, "version": "v1", "kind": kind },
    } });
    with_parameters(&mut path, &shared);
    paths.insert(format!("{base}/{plural}"), path);
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
        &format!("{}List", names.schema),
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
        &names.schema,
    );
    patch["parameters"] = write_parameters().into();
    let content: Map<String, Value> = catamaran_api::patch::PatchType::media_types(names.strategic)
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
