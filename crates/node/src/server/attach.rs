//! `/attach/{namespace}/{pod}/{container}`: the streams of a container's first process.

use super::streams::{self, Channels, Outcome, Wanted};
use super::{Refusal, Server};
use crate::local::Sandboxed;
use axum::extract::{Path, Query, Request, State};
use axum::response::Response;
use catamaran_shim::spec::ContainerState;

pub(crate) async fn attach(
    State(server): State<Server>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(pairs): Query<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, Refusal> {
    let mut wanted = Wanted::parse(pairs);
    let target = server.target(&namespace, &pod, &container)?;
    let (sandboxed, state) = server.running(&target).await?;
    wanted.stdin &= state.config.stdin || state.config.terminal;
    wanted.stderr &= !state.config.terminal;
    let conversation = async move |channels, wanted: Wanted| run(channels, &sandboxed, &state, &wanted).await;
    streams::upgrade(request, wanted, conversation).await
}

async fn run(mut channels: Channels, sandboxed: &Sandboxed, state: &ContainerState, wanted: &Wanted) {
    let id = &state.config.id;
    let attached = match streams::pipes(wanted) {
        Ok((ends, stdio)) => sandboxed
            .shim
            .attach(id, stdio)
            .await
            .map(|_| ends)
            .map_err(|error| crate::chain(&error)),
        Err(error) => Err(error.to_string()),
    };
    let ends = match attached {
        Ok(ends) => ends,
        Err(message) => {
            return channels
                .finish(&streams::failure(&format!("error attaching to container: {message}")))
                .await;
        }
    };
    let (sender, mut sizes) = streams::sizes();
    let resize = async {
        while let Some(size) = sizes.recv().await {
            if let Err(error) = sandboxed.shim.resize(id, size.height, size.width).await {
                tracing::debug!(error = crate::chain(&error), "cannot resize a terminal");
            }
        }
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = channels.pump(ends, sender, None) => outcome,
        () = resize => Outcome::Lost,
    };
    if outcome == Outcome::Drained {
        channels.finish(&streams::success()).await;
    }
}
