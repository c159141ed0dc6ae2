//! What `exec`, `attach`, `portforward` and `proxy` have in common: no object is written, a connection is opened. Admission
//! sees the options of it, as an object of the subresource's kind, and may change them.

use super::super::query::Query;
use super::super::resource::Call;
use crate::registry::{Admitted, Target, WriteOptions};
use catamaran_api::Status;
use serde_json::{Map, Value, json};

/// Asks admission. `path` is what follows `proxy` in the request's.
pub(super) async fn admit(call: &Call<'_>, target: &Target, path: Option<&str>) -> Result<Admitted, Status> {
    let known = target.resource.info.subresource(&call.subresource);
    let known = known.ok_or_else(Status::unknown_path)?;
    let options = WriteOptions {
        caller: call.caller(),
        subresource: known.name,
        ..WriteOptions::default()
    };
    let mut connection = self::options(known.name, &call.query)?;
    connection.insert("kind".to_owned(), known.kind.into());
    connection.insert("apiVersion".to_owned(), "v1".into());
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        connection.insert("path".to_owned(), path.into());
    }
    let registry = &call.app.registry;
    registry
        .admit_connection(target, Value::Object(connection), &options)
        .await
}

/// The options in a query. What is not set is left out.
fn options(subresource: &str, query: &Query) -> Result<Map<String, Value>, Status> {
    let mut options = Map::new();
    match subresource {
        "exec" | "attach" => {
            for name in ["stdin", "stdout", "stderr", "tty"] {
                if query.flag(name) == Some(true) {
                    options.insert(name.to_owned(), true.into());
                }
            }
            if !query.get("container").is_empty() {
                options.insert("container".to_owned(), query.get("container").into());
            }
            let command: Vec<&str> = query.all("command").collect();
            if subresource == "exec" && !command.is_empty() {
                options.insert("command".to_owned(), json!(command));
            }
        }
        "portforward" => {
            let mut ports = Vec::new();
            for port in query.all("ports").flat_map(|ports| ports.split(',')) {
                let number: i32 = port
                    .parse()
                    .map_err(|_| Status::bad_request(format!("invalid port {port:?}: it must be a number")))?;
                ports.push(number);
            }
            if !ports.is_empty() {
                options.insert("ports".to_owned(), json!(ports));
            }
        }
        _ => {}
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(subresource: &str, query: &str) -> Value {
        let uri = format!("/x?{query}").parse().unwrap();
        Value::Object(options(subresource, &Query::parse(&uri).unwrap()).unwrap())
    }

    #[test]
    fn options_are_those_of_the_subresource() {
        let exec = of(
            "exec",
            "stdin=true&tty=false&stdout=1&command=sh&command=-c&container=c&ports=1",
        );
        let wanted = json!({"stdin": true, "stdout": true, "command": ["sh", "-c"], "container": "c"});
        assert_eq!(exec, wanted);
        assert_eq!(of("attach", "stdin=true&command=sh"), json!({"stdin": true}));
        assert_eq!(of("portforward", "ports=80&ports=443"), json!({"ports": [80, 443]}));
        assert_eq!(of("proxy", "stdin=true"), json!({}));
    }

    #[test]
    fn options_become_a_query_again() {
        let query = Query::of_options(&json!({"stdin": true, "command": ["sh", "-c"], "ports": [80]}));
        assert_eq!(query.flag("stdin"), Some(true));
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "-c"]);
        assert_eq!(query.get("ports"), "80");
    }
}
