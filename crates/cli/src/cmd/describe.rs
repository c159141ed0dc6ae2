//! `cata describe`.

use crate::client::discovery::Catalogue;
use crate::client::refs::{Target, targets};
use crate::client::{ClientArgs, Connection, query_string};
use crate::data_dir::DataDir;
use crate::print::describe::{Facts, page};
use anyhow::Result;
use http::Method;
use jiff::Timestamp;
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// TYPE [NAME…] or TYPE/NAME…; a name may be a prefix
    #[arg(required = true, value_name = "RESOURCE")]
    words: Vec<String>,
    /// Objects of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Label selector
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Show events about the object
    #[arg(
        long,
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    show_events: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: Args, data_dir: Option<&DataDir>) -> Result<()> {
    let connection = args.client.connect(data_dir).await?;
    let catalogue = Catalogue::fetch(&connection).await?;
    let mut first = true;
    for target in targets(&catalogue, &args.words)? {
        for object in objects(&args, &connection, &target).await? {
            let events = if args.show_events {
                events_about(&connection, &object).await?
            } else {
                Vec::new()
            };
            let pods = if target.resource.plural == "nodes" {
                pods_on(&connection, &object).await?
            } else {
                Vec::new()
            };
            let facts = Facts {
                object: &object,
                events: &events,
                pods: &pods,
                now: Timestamp::now(),
            };
            if !std::mem::take(&mut first) {
                println!("\n");
            }
            print!("{}", page(&facts));
        }
    }
    Ok(())
}

async fn objects(args: &Args, connection: &Connection, target: &Target<'_>) -> Result<Vec<Value>> {
    let namespace = (!args.all_namespaces).then_some(connection.namespace.as_str());
    let collection = target.resource.path(namespace);
    let list = || async {
        let selector = args.selector.as_deref().unwrap_or_default();
        let path = format!("{collection}?{}", query_string(&[("labelSelector", selector)]));
        let mut list = connection.json(Method::GET, &path, None).await?;
        let mut items = match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            item.insert("apiVersion".to_owned(), target.resource.api_version().into());
            item.insert("kind".to_owned(), target.resource.kind.clone().into());
        }
        anyhow::Ok(items)
    };
    if target.names.is_empty() {
        let items = list().await?;
        if items.is_empty() {
            eprintln!("No resources found in {} namespace.", connection.namespace);
        }
        return Ok(items);
    }
    let mut objects = Vec::new();
    for name in &target.names {
        match connection
            .json(Method::GET, &format!("{collection}/{name}"), None)
            .await
        {
            Ok(object) => objects.push(object),
            // As kubectl: what is no name may be the beginning of some.
            Err(error) => {
                let named = |item: &Value| {
                    item["metadata"]["name"]
                        .as_str()
                        .is_some_and(|full| full.starts_with(name))
                };
                let before = objects.len();
                objects.extend(list().await?.into_iter().filter(named));
                if objects.len() == before {
                    return Err(error);
                }
            }
        }
    }
    Ok(objects)
}

async fn events_about(connection: &Connection, object: &Value) -> Result<Vec<Value>> {
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().unwrap_or("default");
    let name = metadata["name"].as_str().unwrap_or_default();
    let mut selector = format!(
        "involvedObject.name={name},involvedObject.kind={}",
        object["kind"].as_str().unwrap_or_default()
    );
    // Events about nodes carry the node's name as uid; namespaced objects are told apart by theirs.
    if let (Some(uid), true) = (metadata["uid"].as_str(), metadata["namespace"].is_string()) {
        selector.push_str(&format!(",involvedObject.uid={uid}"));
    }
    let path = format!(
        "/api/v1/namespaces/{namespace}/events?{}",
        query_string(&[("fieldSelector", &selector)])
    );
    let mut list = connection.json(Method::GET, &path, None).await?;
    let Value::Array(mut events) = list["items"].take() else {
        return Ok(Vec::new());
    };
    let last = |event: &Value| {
        let times = ["lastTimestamp", "eventTime", "firstTimestamp"];
        times
            .into_iter()
            .find_map(|field| event[field].as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    events.sort_by_key(last);
    Ok(events)
}

async fn pods_on(connection: &Connection, node: &Value) -> Result<Vec<Value>> {
    let name = node["metadata"]["name"].as_str().unwrap_or_default();
    let selector = format!("spec.nodeName={name},status.phase!=Failed,status.phase!=Succeeded");
    let path = format!("/api/v1/pods?{}", query_string(&[("fieldSelector", &selector)]));
    let mut list = connection.json(Method::GET, &path, None).await?;
    match list["items"].take() {
        Value::Array(pods) => Ok(pods),
        _ => Ok(Vec::new()),
    }
}
