//! `cata server`: the control plane alone. Needs no root.

use crate::assembly::{ApiArgs, Server};
use crate::daemon;
use crate::data_dir::{DataDir, Part};
use anyhow::Result;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) fn run(args: Args, data_dir: DataDir) -> Result<ExitCode> {
    let _lock = data_dir.lock(Part::Server)?;
    daemon::run(async move |mut signals: daemon::Signals| {
        let mut server = Server::start(&args.api, &data_dir).await?;
        println!(
            "API server at https://{}; kubeconfig {}",
            server.control.addr,
            server.control.kubeconfig.display()
        );
        let outcome = tokio::select! {
            () = signals.next() => Ok(ExitCode::SUCCESS),
            error = server.failed() => Err(error),
        };
        server.stop().await;
        outcome
    })
}
