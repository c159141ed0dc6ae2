//! One file per verb. This one only lists them and picks.

mod agent;
mod cleanup;
mod completion;
mod dev;
mod image;
mod server;
mod version;

use crate::data_dir::DataDir;
use anyhow::Result;
use clap::{Parser, Subcommand};
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

/// Catamaran: Kubernetes in one binary, with WebAssembly and Linux containers side by side in a pod.
#[derive(Debug, Parser)]
#[command(name = "cata", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    /// Where the cluster keeps its state [default: /var/lib/catamaran as root, else below the user's data home]
    #[arg(long, global = true, env = "CATA_DATA_DIR", value_name = "DIR", help_heading = "Global options")]
    data_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole cluster in the foreground: API server, scheduler and node agent
    Dev(dev::Args),
    /// Run the control plane: API server and scheduler
    Server(server::Args),
    /// Run the node agent
    Agent(agent::Args),
    /// Remove what a killed agent left: processes, mounts, cgroups, links, tables
    Cleanup(cleanup::Args),
    /// Pull, push, build and list images
    Image(image::Args),
    /// Run OCI bundles with runc's arguments (run, create, start, state, kill, delete, exec)
    Oci {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Print a completion script for a shell
    Completion(completion::Args),
    /// Print the version of this program and of the cluster
    Version(version::Args),
}

/// Runs the chosen verb.
///
/// # Errors
/// What the user has to know, complete with the next step; `main` prints it as one line.
pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    let data_dir = DataDir::resolve(cli.data_dir);
    match cli.command {
        Command::Dev(args) => dev::run(args, data_dir?),
        Command::Server(args) => server::run(args, data_dir?),
        Command::Agent(args) => agent::run(args, data_dir?),
        Command::Cleanup(args) => cleanup::run(&args, &data_dir?),
        Command::Image(args) => {
            let data_dir = data_dir?;
            block_on(async move { image::run(args, &data_dir.path).await }).map(|()| ExitCode::SUCCESS)
        }
        // `main` hands these over before it gets here; clap knows the verb for its help only.
        Command::Oci { arguments } => Ok(catamaran_oci_shim::cli(arguments)),
        Command::Completion(args) => completion::run(&args),
        Command::Version(args) => version::run(&args),
    }
}

/// Client verbs need no more than one thread.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    install_tls_provider();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

pub(crate) fn install_tls_provider() {
    // Fails only when one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
