//! `cata run NAME --image IMAGE`: one pod without a manifest.

use super::exec::{StreamArgs, attach_to};
use crate::apply::DryRun;
use crate::client::{Connection, explain};
use crate::data_dir::DataDir;
use anyhow::{Result, bail};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::Api;
use kube::api::{DeleteParams, LogParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use std::pin::pin;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the pod
    name: String,
    /// Arguments (or, with --command, the command), after --
    #[arg(last = true, value_name = "ARGUMENT")]
    words: Vec<String>,
    /// Image to run
    #[arg(long)]
    image: String,
    /// Environment variable, NAME=value
    #[arg(long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Port the container listens on
    #[arg(long)]
    port: Option<u16>,
    /// Labels [default: run=NAME]
    #[arg(short, long, value_name = "KEY=VALUE,…")]
    labels: Option<String>,
    /// Always, OnFailure or Never
    #[arg(long, default_value = "Always", value_name = "WHEN", hide_possible_values = true, value_parser = ["Always", "OnFailure", "Never"])]
    restart: String,
    /// Always, IfNotPresent or Never
    #[arg(long, value_name = "WHEN", hide_possible_values = true, value_parser = ["Always", "IfNotPresent", "Never"])]
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
    /// Make nothing: `server` asks it whether it would, `client` does not even ask
    #[arg(
        long,
        default_value = "none",
        value_name = "WHO",
        value_enum,
        hide_possible_values = true
    )]
    dry_run: DryRun,
    /// Print the pod: yaml or json
    #[arg(short, long, value_name = "FORMAT", hide_possible_values = true, value_parser = ["yaml", "json"])]
    output: Option<String>,
    #[command(flatten)]
    streams: StreamArgs,
}

pub(super) async fn run(args: Args, data_dir: Option<&DataDir>) -> Result<ExitCode> {
    let manifest = manifest(&args)?;
    if args.dry_run == DryRun::Client {
        report(&args, &manifest)?;
        return Ok(ExitCode::SUCCESS);
    }
    let attached = args.attach || args.streams.stdin;
    if args.rm && !attached {
        bail!("--rm should only be used for attached containers; add --attach or -i");
    }
    let connection = args.streams.client.connect(data_dir).await?;
    let pods: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let params = PostParams {
        dry_run: args.dry_run == DryRun::Server,
        ..PostParams::default()
    };
    let pod: Pod = serde_json::from_value(manifest)?;
    let created = pods
        .create(&params, &pod)
        .await
        .map_err(|error| explain(error, &connection.server))?;
    if !attached || params.dry_run {
        report(&args, &serde_json::to_value(created)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !args.rm {
        return talk(&args, &connection, &pods).await;
    }
    let outcome = tokio::select! {
        outcome = talk(&args, &connection, &pods) => outcome,
        // The pod goes also when the user has had enough; with a terminal, Ctrl-C is the container's.
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| ExitCode::from(130)).map_err(Into::into),
    };
    let deleted = pods.delete(&args.name, &DeleteParams::default()).await;
    deleted.map_err(|error| explain(error, &connection.server))?;
    if !args.streams.quiet {
        eprintln!("pod {:?} deleted from {} namespace", args.name, connection.namespace);
    }
    outcome
}

/// The object when a format was asked for, else that it is made.
fn report(args: &Args, pod: &Value) -> Result<()> {
    match args.output.as_deref() {
        Some("json") => println!("{}", serde_json::to_string_pretty(pod)?),
        Some(_) => print!("{}", catamaran_api::yaml::to_string(pod)?),
        None => println!("pod/{} created{}", args.name, args.dry_run.mark()),
    }
    Ok(())
}

/// Attaches once the container runs, then waits for the pod's end where it has one: only its status knows the exit code.
async fn talk(args: &Args, connection: &Connection, pods: &Api<Pod>) -> Result<ExitCode> {
    let changes = watcher::watch_object(pods.clone(), &args.name);
    let mut changes = pin!(changes.default_backoff());
    let mut attached = false;
    while let Some(pod) = changes.next().await {
        let pod = match pod {
            Ok(Some(pod)) => pod,
            Ok(None) => bail!("pod {:?} was deleted before it ended", args.name),
            // The server may be restarting; the stream tries again, more and more slowly.
            Err(_) => continue,
        };
        let status = pod.status.unwrap_or_default();
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let Some(state) = status
            .container_statuses
            .and_then(|statuses| statuses.into_iter().next()?.state)
        else {
            continue;
        };
        if let Some(terminated) = state.terminated
            && (ended || !attached)
        {
            return last_words(args, connection, pods, terminated, attached).await;
        }
        if state.running.is_some() && !attached {
            let code = match attach_to(connection, pods, &args.name, &args.streams).await {
                Ok(code) => code,
                // It ended in between, most likely: what it said is in the log.
                Err(error) => follow_log(args, connection, pods, &error).await?,
            };
            if args.restart == "Always" {
                return Ok(code);
            }
            attached = true;
        }
        if let Some(reason) = state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref())
            && (reason.starts_with("Err") || reason.ends_with("Error"))
        {
            let message = state.waiting.as_ref().and_then(|waiting| waiting.message.as_deref());
            bail!("{reason}: {}", message.unwrap_or("see `cata describe pod`"));
        }
    }
    bail!("the watch on pod {:?} ended before the pod did", args.name)
}

async fn follow_log(args: &Args, connection: &Connection, pods: &Api<Pod>, error: &anyhow::Error) -> Result<ExitCode> {
    if args.streams.stdin && !args.streams.quiet {
        eprintln!(
            "warning: couldn't attach to pod/{}, falling back to streaming logs: {error:#}",
            args.name
        );
    }
    let params = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let log = pods.log_stream(&args.name, &params).await;
    super::logs::copy(log.map_err(|error| explain(error, &connection.server))?).await?;
    Ok(ExitCode::SUCCESS)
}

/// The exit code of a container that ended; one that was quicker than the attaching has its output in the log.
async fn last_words(
    args: &Args,
    connection: &Connection,
    pods: &Api<Pod>,
    terminated: ContainerStateTerminated,
    attached: bool,
) -> Result<ExitCode> {
    if !attached {
        match pods.logs(&args.name, &LogParams::default()).await {
            Ok(log) => print!("{log}"),
            // What never started has no log, but a reason.
            Err(error) if terminated.message.is_none() => return Err(explain(error, &connection.server)),
            Err(_) => {}
        }
    }
    if let (Some(message), false) = (&terminated.message, args.streams.quiet) {
        let reason = terminated.reason.as_deref().unwrap_or("Error");
        eprintln!(
            "pod {}/{} terminated ({reason}): {message}",
            connection.namespace, args.name
        );
    }
    Ok(ExitCode::from(u8::try_from(terminated.exit_code).unwrap_or(1)))
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
