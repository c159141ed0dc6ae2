//! Waiting for one object, by watching rather than asking again and again.

use super::discovery::Resource;
use super::{Connection, explain, query_string};
use anyhow::{Context, Result};
use futures::{AsyncBufReadExt, TryStreamExt};
use http::Method;
use serde_json::Value;
use std::pin::pin;

/// Names of the objects that a label selector (empty: all) chooses in a namespace.
pub(crate) async fn names_of(
    connection: &Connection,
    resource: &Resource,
    namespace: &str,
    selector: &str,
) -> Result<Vec<String>> {
    let path = format!(
        "{}?{}",
        resource.path(Some(namespace)),
        query_string(&[("labelSelector", selector)])
    );
    let list = connection.json(Method::GET, &path, None).await?;
    let names = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["metadata"]["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// Returns when `reached` says so of the object as it is (`None`: it is not there), now or after any change. `first` sees
/// the object before the wait begins and may refuse it.
pub(crate) async fn wait_for_object(
    connection: &Connection,
    resource: &Resource,
    namespace: &str,
    name: &str,
    first: impl FnOnce(Option<&Value>) -> Result<()>,
    reached: impl Fn(Option<&Value>) -> bool,
) -> Result<()> {
    let collection = resource.path(Some(namespace));
    let selector = format!("metadata.name={name}");
    let mut first = Some(first);
    loop {
        let query = query_string(&[("fieldSelector", &selector)]);
        let list = connection
            .json(Method::GET, &format!("{collection}?{query}"), None)
            .await?;
        let present = list["items"].as_array().and_then(|items| items.first());
        if reached(present) {
            return Ok(());
        }
        if let Some(first) = first.take() {
            first(present)?;
        }
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let query = query_string(&[
            ("fieldSelector", &selector),
            ("resourceVersion", revision),
            ("watch", "true"),
        ]);
        let request = http::Request::get(format!("{collection}?{query}")).body(Vec::new())?;
        let stream = connection
            .client
            .request_stream(request)
            .await
            .map_err(|error| explain(error, &connection.server))?;
        let mut lines = pin!(stream.lines());
        // A watch that breaks off, or is refused for its age, says nothing about the object: look again.
        while let Ok(Some(line)) = lines.try_next().await {
            let event: Value = serde_json::from_str(&line).context("the server's event is no JSON")?;
            let object = match event["type"].as_str() {
                Some("ADDED" | "MODIFIED") => Some(&event["object"]),
                Some("DELETED") => None,
                Some("BOOKMARK") => continue,
                _ => break,
            };
            if reached(object) {
                return Ok(());
            }
        }
    }
}
