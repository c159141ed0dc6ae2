//! One file per verb. This one only lists them and picks.

mod agent;
mod api_resources;
mod apply;
mod backup;
mod cleanup;
mod completion;
mod delete;
mod describe;
mod dev;
mod exec;
mod explain;
mod get;
mod image;
mod keys;
mod logs;
mod port_forward;
mod restore;
mod run;
mod server;
mod version;
mod wait;

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
    #[arg(
        long,
        global = true,
        env = "CATA_DATA_DIR",
        hide_env_values = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    data_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole cluster in the foreground: API server, scheduler, controllers and node agent
    Dev(dev::Args),
    /// Run the control plane: API server, scheduler and controllers
    Server(server::Args),
    /// Run the node agent
    Agent(agent::Args),
    /// Remove what a killed agent left: processes, mounts, cgroups, links, tables
    Cleanup(cleanup::Args),
    /// Write everything the cluster is to a file, while it runs or not
    Backup(backup::Args),
    /// Make a cluster from a backup
    Restore(restore::Args),
    /// Change the keys with which Secrets are encrypted at rest
    Keys(keys::Args),
    /// Pull, push, build and list images
    Image(image::Args),
    /// Run OCI bundles with runc's arguments (run, create, start, state, kill, delete, exec)
    Oci {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Make objects what manifests say
    Apply(apply::ApplyArgs),
    /// Make the objects of manifests, which must not exist
    Create(apply::Args),
    /// Show objects, one line each or whole
    Get(get::Args),
    /// Show everything about objects, with their events
    Describe(describe::Args),
    /// Print the log of a container
    Logs(logs::Args),
    /// Run a command in a container
    Exec(exec::ExecArgs),
    /// Attach to a running container
    Attach(exec::AttachArgs),
    /// Lead local ports to ports of a pod
    PortForward(port_forward::Args),
    /// Delete objects
    Delete(delete::Args),
    /// Run an image as a pod
    Run(run::Args),
    /// Wait until objects are in some state
    Wait(wait::Args),
    /// Show the kinds of object the server has
    ApiResources(api_resources::Args),
    /// Show what a field means
    Explain(explain::Args),
    /// Print the version of this program and of the cluster
    Version(version::Args),
    /// Print a completion script for a shell
    Completion(completion::Args),
}

/// Runs the chosen verb.
///
/// # Errors
/// What the user has to know, complete with the next step; `main` prints it as one line.
pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    // Clients look for a kubeconfig in a data directory only when one was named.
    let named = cli.data_dir.is_some();
    let data_dir = DataDir::resolve(cli.data_dir);
    let client_dir = data_dir.as_ref().ok().filter(|_| named).cloned();
    let client_dir = client_dir.as_ref();
    match cli.command {
        Command::Dev(args) => dev::run(args, data_dir?),
        Command::Server(args) => server::run(args, data_dir?),
        Command::Agent(args) => agent::run(args, data_dir?),
        Command::Cleanup(args) => cleanup::run(&args, &data_dir?),
        Command::Backup(args) => done(backup::run(args, data_dir, client_dir)),
        Command::Restore(args) => {
            let data_dir = data_dir?;
            done(restore::run(args, data_dir))
        }
        Command::Keys(args) => done(keys::run(args, data_dir, client_dir)),
        Command::Image(args) => {
            let data_dir = data_dir?;
            done(async move { image::run(args, &data_dir.path).await })
        }
        // `main` hands these over before it gets here; clap knows the verb for its help only.
        Command::Oci { arguments } => Ok(catamaran_oci_shim::cli(arguments)),
        Command::Apply(args) => done(apply::apply(args, client_dir)),
        Command::Create(args) => done(apply::create(args, client_dir)),
        Command::Get(args) => done(get::run(args, client_dir)),
        Command::Describe(args) => done(describe::run(args, client_dir)),
        Command::Logs(args) => done(logs::run(args, client_dir)),
        Command::Exec(args) => block_on(exec::exec(args, client_dir)),
        Command::Attach(args) => block_on(exec::attach(args, client_dir)),
        Command::PortForward(args) => done(port_forward::run(args, client_dir)),
        Command::Delete(args) => done(delete::run(args, client_dir)),
        Command::Run(args) => block_on(run::run(args, client_dir)),
        Command::Wait(args) => done(wait::run(args, client_dir)),
        Command::ApiResources(args) => done(api_resources::run(args, client_dir)),
        Command::Explain(args) => done(explain::run(args, client_dir)),
        Command::Version(args) => done(version::run(args, client_dir)),
        Command::Completion(args) => completion::run(&args),
    }
}

fn done(work: impl Future<Output = Result<()>>) -> Result<ExitCode> {
    block_on(work).map(|()| ExitCode::SUCCESS)
}

/// Client verbs need no more than one thread.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    install_tls_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // A read of standard input that nobody ends must not keep the program alive.
    runtime.shutdown_background();
    outcome
}

pub(crate) fn install_tls_provider() {
    // Fails only when one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    /// A change of any option shows in review as a change of these pages (`UPDATE_EXPECT=1` writes them).
    #[test]
    fn every_verb_has_its_help() {
        let mut cata = Cli::command().term_width(110).version("VERSION");
        cata.build();
        snapshot(&mut cata, "cata");
        for verb in cata.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
            let name = verb.get_name().to_owned();
            snapshot(verb, &name);
            for inner in verb.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
                let name = format!("{name}-{}", inner.get_name());
                snapshot(inner, &name);
            }
        }
    }

    #[track_caller]
    fn snapshot(command: &mut clap::Command, name: &str) {
        let page = command.render_help().to_string();
        let page: Vec<&str> = page.lines().map(str::trim_end).collect();
        expect_test::expect_file![format!("help/{name}.txt")].assert_eq(&(page.join("\n") + "\n"));
    }
}
