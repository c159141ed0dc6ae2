//! `/exec/{namespace}/{pod}/{container}`: one more process in a running container.

use super::streams::{self, Channels, Ends, Outcome, Stream, Wanted};
use super::{Refusal, Server};
use crate::local::Sandboxed;
use axum::extract::{Path, Query, Request, State};
use axum::response::Response;
use catamaran_shim::client::ExecSession;
use catamaran_shim::spec::{ContainerState, RuntimeKind, WasmSpec};
use oci_spec::runtime::Process;
use serde_json::{Value, json};
use std::path::PathBuf;

pub(crate) async fn exec(
    State(server): State<Server>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(pairs): Query<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, Refusal> {
    let wanted = Wanted::parse(pairs);
    if wanted.command.is_empty() {
        return Err(Refusal::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    let target = server.target(&namespace, &pod, &container)?;
    let (sandboxed, state) = server.running(&target).await?;
    let bundle = sandboxed.shim.state_dir().container(&state.config.id);
    let process = process(bundle, &state, &wanted).await?;
    let conversation = async move |channels, wanted: Wanted| run(channels, &sandboxed, &state, &process, &wanted).await;
    streams::upgrade(request, wanted, conversation).await
}

async fn run(
    mut channels: Channels,
    sandboxed: &Sandboxed,
    state: &ContainerState,
    process: &Process,
    wanted: &Wanted,
) {
    let (session, ends) = match start(sandboxed, state, process, wanted).await {
        Ok(started) => started,
        Err(message) => {
            let message = format!("error executing command in container: {message}");
            return channels.finish(&streams::failure(&message)).await;
        }
    };
    let ExecSession { exec_id, exited, .. } = session;
    let (sender, mut sizes) = streams::sizes();
    let resize = async {
        while let Some(size) = sizes.recv().await {
            if let Err(error) = sandboxed.shim.resize(&exec_id, size.height, size.width).await {
                tracing::debug!(error = crate::chain(&error), "cannot resize a terminal");
            }
        }
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = channels.pump(ends, sender, Some(exited)) => outcome,
        () = resize => Outcome::Lost,
    };
    match outcome {
        Outcome::Exited(exit) => channels.finish(&streams::exit_status(&exit)).await,
        Outcome::Drained | Outcome::Lost => {
            // Nobody is there to see it end.
            if let Err(error) = sandboxed.shim.signal(&exec_id, libc::SIGKILL, false).await {
                tracing::debug!(error = crate::chain(&error), "cannot kill an exec nobody waits for");
            }
            channels
                .finish(&streams::failure("the connection to the process was lost"))
                .await;
        }
    }
}

async fn start(
    sandboxed: &Sandboxed,
    state: &ContainerState,
    process: &Process,
    wanted: &Wanted,
) -> Result<(ExecSession, Ends), String> {
    let (mut ends, stdio) = if wanted.tty {
        Default::default()
    } else {
        streams::pipes(wanted).map_err(|error| error.to_string())?
    };
    let started = sandboxed.shim.exec(&state.config.id, process, stdio).await;
    let mut session = started.map_err(|error| crate::chain(&error))?;
    if let Some(console) = session.console.take() {
        let terminal = console
            .try_clone()
            .and_then(|clone| Ok((Stream::new(console)?, Stream::new(clone)?)));
        let (reader, writer) = terminal.map_err(|error| error.to_string())?;
        ends.stdout = Some(reader);
        ends.stdin = wanted.stdin.then_some(writer);
    }
    Ok((session, ends))
}

/// The container's own process, with the wanted command and terminal.
async fn process(bundle: PathBuf, state: &ContainerState, wanted: &Wanted) -> Result<Process, Refusal> {
    let file = match state.config.runtime {
        RuntimeKind::Linux => bundle.join("config.json"),
        RuntimeKind::Wasm => bundle.join("wasm.json"),
    };
    let bytes = tokio::fs::read(&file).await;
    let bytes = bytes.map_err(|error| Refusal::internal(format!("cannot read the container's spec: {error}")))?;
    let value = match state.config.runtime {
        RuntimeKind::Linux => serde_json::from_slice::<Value>(&bytes).map(|mut spec| spec["process"].take()),
        RuntimeKind::Wasm => serde_json::from_slice::<WasmSpec>(&bytes).map(|spec| wasm_process(&spec)),
    };
    let completed = value.and_then(|value| serde_json::from_value(with_command(value, wanted)));
    completed.map_err(|error| Refusal::internal(format!("the container's spec is not understood: {error}")))
}

fn wasm_process(spec: &WasmSpec) -> Value {
    json!({
        "user": {"uid": spec.uid, "gid": spec.gid, "additionalGids": spec.supplemental_gids},
        "env": spec.env,
        "cwd": "/",
    })
}

fn with_command(mut process: Value, wanted: &Wanted) -> Value {
    process["args"] = json!(wanted.command);
    process["terminal"] = json!(wanted.tty);
    let has_term = |env: &[Value]| {
        env.iter()
            .any(|line| line.as_str().is_some_and(|line| line.starts_with("TERM=")))
    };
    if let Some(env) = process["env"].as_array_mut().filter(|env| wanted.tty && !has_term(env)) {
        env.push(json!("TERM=xterm"));
    }
    process
}
