//! JSON patch (RFC 6902), with bounds: a few operations must not be able to grow an object without limit.

use json_patch::PatchOperation;
use serde_json::Value;

use crate::Status;

/// Operations in one patch, as Kubernetes allows.
pub const MAX_OPERATIONS: usize = 10_000;
/// What all `copy` operations of one patch may add together, in bytes of JSON.
pub const MAX_COPIED: usize = 3 * 1024 * 1024;

/// How deep objects may be nested after a patch. Text that is read is never deeper than half of this; `copy` and `move`
/// could stack it until whatever walks the object runs out of stack.
pub const MAX_DEPTH: usize = 256;

/// Applies a patch document to an object.
///
/// # Errors
/// 400 for what is no patch, 413 beyond [`MAX_OPERATIONS`], 422 beyond [`MAX_COPIED`] and [`MAX_DEPTH`], and where an
/// operation fails (a `test` that is not so, a path that does not exist).
pub fn apply(object: &Value, patch: &[u8]) -> Result<Value, Status> {
    let undecodable = |why: &dyn std::fmt::Display| Status::bad_request(format!("error decoding patch: {why}"));
    let operations: Value = serde_json::from_slice(patch).map_err(|error| undecodable(&error))?;
    let Value::Array(operations) = operations else {
        let sort = sort(&operations);
        let why = format!("json: cannot unmarshal {sort} into Go value of type []handlers.jsonPatchOp");
        return Err(undecodable(&why));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(Status::request_too_large(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let operations: Vec<PatchOperation> = operations
        .into_iter()
        .map(|operation| serde_json::from_value(operation).map_err(Status::unprocessable))
        .collect::<Result<_, Status>>()?;
    let mut result = object.clone();
    let mut copied = 0;
    let mut deepest = MAX_DEPTH / 2;
    for (index, operation) in operations.iter().enumerate() {
        if let PatchOperation::Copy(copy) = operation {
            copied += result.pointer(copy.from.as_str()).map_or(0, size);
            if copied > MAX_COPIED {
                return Err(Status::unprocessable(format!(
                    "the patch copies more than {MAX_COPIED} bytes"
                )));
            }
        }
        deepest = depth_after(&result, operation, deepest);
        if deepest > MAX_DEPTH {
            return Err(Status::unprocessable(format!(
                "operation {index} nests the object more than {MAX_DEPTH} levels deep"
            )));
        }
        if tests_absence(&result, operation) {
            continue;
        }
        json_patch::patch(&mut result, std::slice::from_ref(operation)).map_err(|error| {
            let path = operation.path();
            Status::unprocessable(format!(
                "operation {index} at {path:?} failed: {}",
                error.kind,
                path = path.as_str()
            ))
        })?;
    }
    Ok(result)
}

/// Does this operation test that a field is null which is not there? To Kubernetes' implementation that is the same, and clients
/// rely on it to add what must not be there yet (a first finalizer).
fn tests_absence(object: &Value, operation: &PatchOperation) -> bool {
    let PatchOperation::Test(test) = operation else {
        return false;
    };
    let Some((parent, field)) = test.path.split_back() else {
        return false;
    };
    let parent = object.pointer(parent.as_str()).and_then(Value::as_object);
    test.value.is_null() && parent.is_some_and(|fields| !fields.contains_key(field.decoded().as_ref()))
}

/// What a JSON value is, as Go's decoder names it.
fn sort(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What a patch is, where it should have been an object.
pub fn sort_unless_object(value: &Value) -> Option<&'static str> {
    (!value.is_object()).then(|| sort(value))
}

/// A bound of the depth after an operation, given one before it. Looks at the object only where the bound is reached.
fn depth_after(object: &Value, operation: &PatchOperation, deepest: usize) -> usize {
    let below = operation.path().as_str().matches('/').count();
    let from = match operation {
        PatchOperation::Copy(copy) => copy.from.as_str(),
        PatchOperation::Move(moved) => moved.from.as_str(),
        PatchOperation::Add(_) | PatchOperation::Replace(_) => return deepest.max(below + MAX_DEPTH / 2),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return deepest,
    };
    if below + deepest <= MAX_DEPTH {
        return below + deepest;
    }
    let placed = below + object.pointer(from).map_or(0, depth);
    placed.max(depth(object))
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Roughly the length of the JSON text.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(size).sum::<usize>(),
        Value::Object(fields) => {
            2 + fields
                .iter()
                .map(|(key, value)| key.len() + 4 + size(value))
                .sum::<usize>()
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn operations() {
        let object = json!({"metadata": {"labels": {"a/b": "1"}}, "list": [1, 2]});
        let patch = json!([
            {"op": "test", "path": "/metadata/labels/a~1b", "value": "1"},
            {"op": "remove", "path": "/metadata/labels/a~1b"},
            {"op": "add", "path": "/list/-", "value": 3},
            {"op": "replace", "path": "/list/0", "value": 0},
            {"op": "copy", "from": "/list", "path": "/copy"},
            {"op": "move", "from": "/list", "path": "/moved"}]);
        let result = apply(&object, patch.to_string().as_bytes()).unwrap();
        assert_eq!(
            result,
            json!({"metadata": {"labels": {}}, "moved": [0, 2, 3], "copy": [0, 2, 3]})
        );
    }

    #[test]
    fn what_is_not_there_passes_for_null() {
        let add = json!([
            {"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": ["x"]}]);
        let add = add.to_string();
        let result = apply(&json!({"metadata": {}}), add.as_bytes()).unwrap();
        assert_eq!(result, json!({"metadata": {"finalizers": ["x"]}}));
        assert_eq!(apply(&result, add.as_bytes()).unwrap_err().code(), 422);
        let elsewhere = json!([{"op": "test", "path": "/none/finalizers", "value": null}]).to_string();
        assert_eq!(apply(&result, elsewhere.as_bytes()).unwrap_err().code(), 422);
    }

    #[test]
    fn nothing_is_stacked_without_end() {
        // Each round puts the whole of `a` below its own end, which doubles how deep it is.
        let (mut operations, mut end) = (Vec::new(), String::from("/a"));
        for _ in 0..10 {
            operations.push(json!({"op": "copy", "from": "/a", "path": "/b"}));
            operations.push(json!({"op": "move", "from": "/b", "path": format!("{end}/a")}));
            end = end.repeat(2);
        }
        let error = apply(&json!({"a": {}}), Value::from(operations).to_string().as_bytes()).unwrap_err();
        let why = error.to_value()["details"]["causes"][0]["message"].to_string();
        assert!(why.contains("more than 256 levels deep"), "{why}");

        // Many that leave it flat are as good as one.
        let moves = ["/a", "/b"].into_iter().cycle().take(2001).collect::<Vec<_>>();
        let operation = |pair: &[&str]| json!({"op": "move", "from": pair[0], "path": pair[1]});
        let patch = Value::from_iter(moves.windows(2).map(operation)).to_string();
        assert_eq!(apply(&json!({"a": {}}), patch.as_bytes()).unwrap(), json!({"a": {}}));
    }

    #[test]
    fn refusals() {
        let many = Value::from(vec![json!({"op": "test", "path": "", "value": {}}); MAX_OPERATIONS + 1]);
        let mut bomb = vec![json!({"op": "add", "path": "/a", "value": ["x".repeat(1000)]})];
        bomb.extend(vec![json!({"op": "copy", "from": "/a", "path": "/a/-"}); 40]);
        let patches = [
            "{}".to_owned(),
            r#"[{"op": "frob", "path": "/a"}]"#.to_owned(),
            r#"[{"op": "test", "path": "/a", "value": 1}]"#.to_owned(),
            r#"[{"op": "remove", "path": "/b"}]"#.to_owned(),
            many.to_string(),
            Value::from(bomb).to_string(),
        ];
        let lines: Vec<String> = patches
            .iter()
            .map(|patch| format!("{:?}", apply(&json!({"a": 2}), patch.as_bytes()).unwrap_err()))
            .collect();
        expect![[r#"
            400 BadRequest: error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp
            422 Invalid: the server rejected our request due to an error in our request
            422 Invalid: the server rejected our request due to an error in our request
            422 Invalid: the server rejected our request due to an error in our request
            413 RequestEntityTooLarge: Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001
            422 Invalid: the server rejected our request due to an error in our request"#]].assert_eq(&lines.join("\n"));
    }
}
