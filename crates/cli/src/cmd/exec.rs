//! `cata exec` and `cata attach`: a remote process on local streams, over WebSocket.

use crate::client::refs::pod_name;
use crate::client::{ClientArgs, Connection, explain};
use crate::data_dir::DataDir;
use crate::terminal::{self, RawMode};
use anyhow::{Context, Result, bail};
use futures::SinkExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess, TerminalSize};
use std::process::ExitCode;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, clap::Args)]
pub(crate) struct StreamArgs {
    /// Container of the pod [default: the first]
    #[arg(short, long)]
    container: Option<String>,
    /// Pass standard input
    #[arg(short = 'i', long)]
    pub(super) stdin: bool,
    /// Standard input is a terminal
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Print only what the remote process prints
    #[arg(short, long)]
    pub(super) quiet: bool,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExecArgs {
    /// Pod, as NAME or pod/NAME
    pod: String,
    /// Without -- in between nobody could tell whose a flag is; kept only to say so
    #[arg(hide = true, value_name = "WORD")]
    stray: Vec<String>,
    /// Command and its arguments, after --
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    #[command(flatten)]
    streams: StreamArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AttachArgs {
    /// Pod, as NAME or pod/NAME
    pod: String,
    #[command(flatten)]
    streams: StreamArgs,
}

pub(super) async fn exec(args: ExecArgs, data_dir: Option<&DataDir>) -> Result<ExitCode> {
    if !args.stray.is_empty() || args.command.is_empty() {
        bail!("the command goes after --, as in: cata exec {} -- COMMAND", args.pod);
    }
    let (connection, pods, name) = find(&args.pod, &args.streams, data_dir).await?;
    let container = container(&args.streams, &pods, &name, &connection).await?;
    let raw = raw_mode(&args.streams)?;
    let params = params(&args.streams, container, raw.is_some());
    let process = pods
        .exec(&name, &args.command, &params)
        .await
        .map_err(|error| explain(error, &connection.server))?;
    let status = converse(process, params.tty).await?;
    drop(raw);
    exit_code(status)
}

pub(super) async fn attach(args: AttachArgs, data_dir: Option<&DataDir>) -> Result<ExitCode> {
    let (connection, pods, name) = find(&args.pod, &args.streams, data_dir).await?;
    attach_to(&connection, &pods, &name, &args.streams).await
}

/// Attaches to a running container (`cata run -it` does so too).
pub(super) async fn attach_to(
    connection: &Connection,
    pods: &Api<Pod>,
    name: &str,
    streams: &StreamArgs,
) -> Result<ExitCode> {
    let container = container(streams, pods, name, connection).await?;
    let raw = raw_mode(streams)?;
    let params = params(streams, container, raw.is_some());
    if params.stdin && params.tty && !streams.quiet {
        eprint!("If you don't see a command prompt, try pressing enter.\r\n");
    }
    let process = pods
        .attach(name, &params)
        .await
        .map_err(|error| explain(error, &connection.server))?;
    let status = converse(process, params.tty).await?;
    drop(raw);
    exit_code(status)
}

async fn find(pod: &str, args: &StreamArgs, data_dir: Option<&DataDir>) -> Result<(Connection, Api<Pod>, String)> {
    let connection = args.client.connect(data_dir).await?;
    let pods = Api::namespaced(connection.client.clone(), &connection.namespace);
    Ok((connection, pods, pod_name(pod)?.to_owned()))
}

fn raw_mode(args: &StreamArgs) -> Result<Option<RawMode>> {
    if !(args.tty && args.stdin) {
        return Ok(None);
    }
    let raw = RawMode::enter()?;
    if raw.is_none() {
        eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    Ok(raw)
}

/// The container that was named, or the one a pod has for those who name none.
async fn container(args: &StreamArgs, pods: &Api<Pod>, name: &str, connection: &Connection) -> Result<String> {
    if let Some(container) = &args.container {
        return Ok(container.clone());
    }
    let pod = pods
        .get(name)
        .await
        .map_err(|error| explain(error, &connection.server))?;
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let all: Vec<&str> = containers.map(|container| container.name.as_str()).collect();
    let annotations = pod.metadata.annotations.as_ref();
    let annotated = annotations.and_then(|annotations| annotations.get("kubectl.kubernetes.io/default-container"));
    if all.len() > 1 && annotated.is_none() && !args.quiet {
        eprintln!("Defaulted container {:?} out of: {}", all[0], all.join(", "));
    }
    annotated
        .map(String::as_str)
        .or(all.first().copied())
        .map(str::to_owned)
        .context("the pod has no containers")
}

fn params(args: &StreamArgs, container: String, raw: bool) -> AttachParams {
    let tty = args.tty && (raw || !args.stdin);
    AttachParams {
        container: Some(container),
        stdin: args.stdin,
        stdout: true,
        // A terminal has one output.
        stderr: !tty,
        tty,
        ..AttachParams::default()
    }
}

/// Copies streams until the remote side ends, and returns how it ended.
async fn converse(mut process: AttachedProcess, tty: bool) -> Result<Option<Status>> {
    let status = process.take_status();
    if let Some(stdin) = process.stdin() {
        tokio::spawn(copy(tokio::io::stdin(), stdin));
    }
    if tty && let Some(sizes) = process.terminal_size() {
        tokio::spawn(follow_size(sizes));
    }
    let out = process
        .stdout()
        .map(|stdout| tokio::spawn(copy(stdout, tokio::io::stdout())));
    let err = process
        .stderr()
        .map(|stderr| tokio::spawn(copy(stderr, tokio::io::stderr())));
    for output in [out, err].into_iter().flatten() {
        output.await.context("an output stream failed")?;
    }
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    // The exchange is over once the status is here; how the connection closes changes nothing.
    let _ = process.join().await;
    Ok(status)
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    // Either end may go first: that is how conversations end.
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

async fn follow_size(mut sizes: impl futures::Sink<TerminalSize> + Unpin) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return;
    };
    loop {
        if let Some((width, height)) = terminal::size()
            && sizes.send(TerminalSize { width, height }).await.is_err()
        {
            return;
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

/// `metav1.Status` at the end of a conversation: success, a non-zero exit code among its causes, or an error.
fn exit_code(status: Option<Status>) -> Result<ExitCode> {
    let status = status.context("the connection broke off before the command ended")?;
    if status.status.as_deref() == Some("Success") {
        return Ok(ExitCode::SUCCESS);
    }
    let causes = status
        .details
        .into_iter()
        .flat_map(|details| details.causes.unwrap_or_default());
    let code = causes
        .filter(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .find_map(|cause| cause.message?.parse::<i32>().ok());
    match code {
        Some(code) => {
            eprintln!("command terminated with exit code {code}");
            Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
        }
        // The node's word, which came through the conversation itself; the server refused nothing.
        None => bail!(status.message.unwrap_or_else(|| "the command failed".to_owned())),
    }
}
