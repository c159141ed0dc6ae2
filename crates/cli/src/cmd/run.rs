//! `cata run NAME --image IMAGE`: one pod without a manifest.

use super::exec::{StreamArgs, attach_to};
use crate::client::{Connection, explain};
use crate::data_dir::DataDir;
use anyhow::{Result, bail};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::watcher;
use serde_json::{Value, json};
use std::pin::pin;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the pod
    name: String,
    /// Image to run
    #[arg(long)]
    image: String,
    /// Environment variable, NAME=value
    #[arg(long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Port the container listens on
    #[arg(long)]
    port: Option<u16>,
    /// Labels, a=b,c=d [default: run=NAME]
    #[arg(short, long)]
    labels: Option<String>,
    /// Always, OnFailure or Never
    #[arg(long, default_value = "Always", value_parser = ["Always", "OnFailure", "Never"])]
    restart: String,
    /// Always, IfNotPresent or Never
    #[arg(long, value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: Option<String>,
    /// What follows -- is the command, not its arguments
    #[arg(long)]
    command: bool,
    /// Wait for the container and attach to it
    #[arg(long)]
    attach: bool,
    /// Delete the pod when it ends (with --attach or -i)
    #[arg(long)]
    rm: bool,
    /// client prints the pod without making it; server only asks whether it would be made
    #[arg(long, default_value = "none", value_parser = ["none", "client", "server"])]
    dry_run: String,
    /// Output format with --dry-run=client: yaml or json
    #[arg(short, long, default_value = "yaml", value_parser = ["yaml", "json"])]
    output: String,
    #[command(flatten)]
    streams: StreamArgs,
    /// Arguments (or, with --command, the command), after --
    #[arg(last = true)]
    words: Vec<String>,
}

pub(super) async fn run(args: Args, data_dir: Option<&DataDir>) -> Result<ExitCode> {
    let manifest = manifest(&args)?;
    if args.dry_run == "client" {
        match args.output.as_str() {
            "json" => println!("{}", serde_json::to_string_pretty(&manifest)?),
            _ => print!("{}", catamaran_api::yaml::to_string(&manifest)?),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let attached = args.attach || args.streams.stdin;
    if args.rm && !attached {
        bail!("--rm should only be used for attached containers; add --attach or -i");
    }
    let connection = args.streams.client.connect(data_dir).await?;
    let pods: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let params = PostParams {
        dry_run: args.dry_run == "server",
        ..PostParams::default()
    };
    let pod: Pod = serde_json::from_value(manifest)?;
    pods.create(&params, &pod)
        .await
        .map_err(|error| explain(error, &connection.server))?;
    if !attached || args.dry_run == "server" {
        println!(
            "pod/{} created{}",
            args.name,
            if params.dry_run { " (server dry run)" } else { "" }
        );
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = talk(&args, &connection, &pods).await;
    if args.rm {
        pods.delete(&args.name, &DeleteParams::default())
            .await
            .map_err(|error| explain(error, &connection.server))?;
        eprintln!("pod {:?} deleted from {} namespace", args.name, connection.namespace);
    }
    outcome
}

/// Attaches once the container runs; a container that was quicker has left its exit code in the status.
async fn talk(args: &Args, connection: &Connection, pods: &Api<Pod>) -> Result<ExitCode> {
    let mut changes = pin!(watcher::watch_object(pods.clone(), &args.name));
    while let Some(pod) = changes.next().await {
        let Ok(Some(pod)) = pod else { continue };
        let statuses = pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.as_ref());
        let Some(state) = statuses.and_then(|statuses| statuses.first()?.state.clone()) else {
            continue;
        };
        if let Some(terminated) = state.terminated {
            let log = pods.logs(&args.name, &kube::api::LogParams::default()).await;
            print!("{}", log.map_err(|error| explain(error, &connection.server))?);
            return Ok(ExitCode::from(u8::try_from(terminated.exit_code).unwrap_or(1)));
        }
        if state.running.is_some() {
            return attach_to(connection, pods, &args.name, &args.streams).await;
        }
        if let Some(waiting) = state.waiting
            && waiting
                .reason
                .as_deref()
                .is_some_and(|reason| reason.starts_with("Err") || reason.ends_with("Error"))
        {
            bail!(
                "{}: {}",
                waiting.reason.unwrap_or_default(),
                waiting.message.unwrap_or_default()
            );
        }
    }
    bail!("the pod vanished before it ran")
}

fn manifest(args: &Args) -> Result<Value> {
    let mut container = json!({"name": args.name, "image": args.image});
    if !args.words.is_empty() {
        container[if args.command { "command" } else { "args" }] = json!(args.words);
    }
    if !args.env.is_empty() {
        let pairs = args.env.iter().map(|pair| match pair.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(json!({"name": name, "value": value})),
            _ => bail!("invalid env: {pair:?} is not of the form NAME=value"),
        });
        container["env"] = Value::Array(pairs.collect::<Result<_>>()?);
    }
    if let Some(port) = args.port {
        container["ports"] = json!([{"containerPort": port}]);
    }
    if let Some(policy) = &args.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    if args.streams.stdin {
        container["stdin"] = json!(true);
        container["stdinOnce"] = json!(true);
    }
    if args.streams.tty {
        container["tty"] = json!(true);
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": args.name, "labels": labels(args)?},
        "spec": {"containers": [container], "restartPolicy": args.restart},
    }))
}

fn labels(args: &Args) -> Result<Value> {
    let Some(labels) = &args.labels else {
        return Ok(json!({"run": args.name}));
    };
    let pairs = labels.split(',').map(|pair| match pair.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), json!(value))),
        None => bail!("invalid label {pair:?}: not of the form KEY=value"),
    });
    Ok(Value::Object(pairs.collect::<Result<_>>()?))
}
