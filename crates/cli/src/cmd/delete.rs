//! `cata delete`.

use crate::client::discovery::{Catalogue, Resource};
use crate::client::refs::targets;
use crate::client::watch::{names_of, wait_for_object};
use crate::client::{ClientArgs, Connection, explain, is_not_found, parse_duration};
use crate::data_dir::DataDir;
use crate::manifest::FileArgs;
use crate::report;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// TYPE NAME…, TYPE/NAME…, or TYPE with -l or --all
    #[arg(value_name = "RESOURCE")]
    words: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    /// Delete all objects of the type in the namespace
    #[arg(long)]
    all: bool,
    /// Label selector
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Seconds a pod gets to end by itself; 0 with --force removes it at once
    #[arg(
        long,
        value_name = "SECONDS",
        allow_negative_numbers = true,
        default_value_t = -1,
        hide_default_value = true
    )]
    grace_period: i64,
    /// Do not wait for the node to confirm; sets the grace period to 0
    #[arg(long)]
    force: bool,
    /// The same as --grace-period=1
    #[arg(long, conflicts_with = "grace_period")]
    now: bool,
    /// What happens to dependents: background, orphan or foreground
    #[arg(long, default_value = "background", value_name = "HOW", hide_possible_values = true, value_parser = ["background", "orphan", "foreground"])]
    cascade: String,
    /// It is no error when an object does not exist
    #[arg(long)]
    ignore_not_found: bool,
    /// Wait until the objects are gone
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    wait: bool,
    /// How long to wait; 0 is for ever
    #[arg(long, default_value = "0", value_name = "DURATION", value_parser = parse_duration)]
    timeout: Duration,
    /// Only ask whether the server would
    #[arg(long, value_name = "none|server", default_value = "none", hide_possible_values = true, value_parser = ["none", "server"])]
    dry_run: String,
    /// `name` prints resource/name only
    #[arg(short, long, value_name = "FORMAT", value_parser = ["name"])]
    output: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

/// One object to delete.
struct Doomed {
    resource: Resource,
    namespace: String,
    name: String,
    uid: String,
}

pub(super) async fn run(args: Args, data_dir: Option<&DataDir>) -> Result<()> {
    let connection = args.client.connect(data_dir).await?;
    let catalogue = Catalogue::fetch(&connection).await?;
    if args.force {
        eprintln!(
            "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. \
             The resource may continue to run on the cluster indefinitely."
        );
    }
    let mut doomed = Vec::new();
    let mut failure = None;
    for object in args.files.objects()? {
        let (api_version, kind) = (&object["apiVersion"], &object["kind"]);
        let known = catalogue.by_kind(
            api_version.as_str().unwrap_or_default(),
            kind.as_str().unwrap_or_default(),
        );
        let resource = match known {
            Ok(resource) => resource,
            // Its definition may have gone with an earlier try; the other objects can go all the same.
            Err(error) => {
                put_by(&mut failure, error);
                continue;
            }
        };
        let name = object["metadata"]["name"]
            .as_str()
            .context("a manifest has no metadata.name")?;
        doomed.push((resource, connection.namespace_of(&object)?.to_owned(), name.to_owned()));
    }
    if !args.words.is_empty() {
        for target in targets(&catalogue, &args.words)? {
            let names = match (target.names.is_empty(), args.all || args.selector.is_some()) {
                (false, _) => target.names,
                (true, true) => {
                    names_of(
                        &connection,
                        target.resource,
                        &connection.namespace,
                        args.selector.as_deref().unwrap_or_default(),
                    )
                    .await?
                }
                (true, false) => {
                    bail!("resource(s) were provided, but no name was specified; name one, or use -l or --all")
                }
            };
            doomed.extend(
                names
                    .into_iter()
                    .map(|name| (target.resource, connection.namespace.clone(), name)),
            );
        }
    } else if args.files.files.is_empty() {
        bail!("you must provide one or more resources by argument or filename (-f)");
    }

    if doomed.is_empty() && failure.is_none() {
        println!("No resources found");
    }
    let mut going = Vec::new();
    for (resource, namespace, name) in doomed {
        match delete(&args, &connection, resource, &namespace, &name).await {
            Ok(Some(object)) => going.push(object),
            Ok(None) => {}
            Err(error) => put_by(&mut failure, error),
        }
    }
    if args.wait && args.dry_run == "none" {
        let waiting = async {
            for object in &going {
                wait_until_gone(&connection, object).await?;
            }
            anyhow::Ok(())
        };
        if args.timeout.is_zero() {
            waiting.await?;
        } else {
            tokio::time::timeout(args.timeout, waiting)
                .await
                .context("timed out waiting for the objects to go")??;
        }
    }
    failure.map_or(Ok(()), Err)
}

/// One refused object does not keep the others back; the last refusal is the verb's.
fn put_by(failure: &mut Option<anyhow::Error>, error: anyhow::Error) {
    if let Some(earlier) = failure.replace(error) {
        report::print(&earlier);
    }
}

async fn delete(
    args: &Args,
    connection: &Connection,
    resource: &Resource,
    namespace: &str,
    name: &str,
) -> Result<Option<Doomed>> {
    let grace = match (args.force, args.now, args.grace_period) {
        (true, _, -1) => Some(0),
        (_, true, _) => Some(1),
        // Zero without --force could leave two pods of one name running; kubectl makes it one second.
        (false, _, 0) => Some(1),
        (_, _, seconds) => (seconds >= 0).then_some(seconds),
    };
    let propagation = match args.cascade.as_str() {
        "orphan" => "Orphan",
        "foreground" => "Foreground",
        _ => "Background",
    };
    let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation});
    if let Some(grace) = grace {
        options["gracePeriodSeconds"] = grace.into();
    }
    if args.dry_run == "server" {
        options["dryRun"] = json!(["All"]);
    }
    let path = format!("{}/{name}", resource.path(Some(namespace)));
    let answer = match connection
        .send(http::Method::DELETE, &path, "application/json", Some(&options))
        .await
    {
        Ok(answer) => answer,
        Err(error) if is_not_found(&error) && (args.ignore_not_found || args.all || args.selector.is_some()) => {
            return Ok(None);
        }
        Err(error) => return Err(explain(error, &connection.server)),
    };
    let singular = resource.qualified_singular();
    if args.output.is_some() {
        println!("{singular}/{name}");
    } else {
        let how = if args.force { "force deleted" } else { "deleted" };
        let place = if resource.namespaced {
            format!(" from {namespace} namespace")
        } else {
            String::new()
        };
        let dry = if args.dry_run == "server" {
            " (server dry run)"
        } else {
            ""
        };
        println!("{singular} \"{name}\" {how}{place}{dry}");
    }
    let uid = answer["metadata"]["uid"]
        .as_str()
        .or_else(|| answer["details"]["uid"].as_str());
    Ok(Some(Doomed {
        resource: resource.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: uid.unwrap_or_default().to_owned(),
    }))
}

/// Returns once the object is gone, or another one has taken its name.
async fn wait_until_gone(connection: &Connection, doomed: &Doomed) -> Result<()> {
    let gone = |object: Option<&Value>| object.is_none_or(|object| !same(object, doomed));
    wait_for_object(
        connection,
        &doomed.resource,
        &doomed.namespace,
        &doomed.name,
        |_| Ok(()),
        gone,
    )
    .await
}

fn same(object: &Value, doomed: &Doomed) -> bool {
    doomed.uid.is_empty() || object["metadata"]["uid"].as_str() == Some(&doomed.uid)
}
