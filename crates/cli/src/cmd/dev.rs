//! `cata dev`: a whole cluster in the foreground.
//!
//! ```text
//! fork launcher → lock data dir → API server, scheduler → network, agent → apply manifests → show logs
//!   ⇣ SIGINT / SIGTERM                                                       ⇣ a second one
//! end pods (≤ 5 s) → remove links, tables, cgroups → stop API, keep state     kill and remove at once
//! ```

use crate::assembly::{self, ApiArgs, Node, NodeArgs, NodeIdentity, Server};
use crate::client::Connection;
use crate::client::discovery::Catalogue;
use crate::data_dir::{DataDir, Part};
use crate::manifest::{self, FileArgs};
use crate::{apply, daemon, demo, follow};
use anyhow::{Context, Result};
use catamaran_node::ServerTls;
use std::process::ExitCode;
use std::time::Duration;

/// The longest a pod may take to end when the cluster is stopped.
const STOP_GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Apply a demo: a pod in which a Linux container calls a wasm service on localhost
    #[arg(long)]
    demo: bool,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    api: ApiArgs,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: Args, data_dir: DataDir) -> Result<ExitCode> {
    assembly::require_root("dev")?;
    let mut manifests = args.files.objects()?;
    let own = manifests.len();
    if args.demo {
        manifests.extend(manifest::parse(demo::MANIFEST, "the demo")?);
    }
    catamaran_oci_shim::shield_binary().context("cannot protect the program's file from containers")?;
    let launcher = catamaran_shim::launcher::fork(assembly::runtimes).context("cannot fork the launcher")?;
    let _locks = (data_dir.lock(Part::Server)?, data_dir.lock(Part::Agent)?);
    let instance = data_dir.instance()?;

    daemon::run(async move |mut signals: daemon::Signals| {
        let mut server = Server::start(&args.api, &data_dir).await?;
        let identity = async |name: &str, ip: std::net::Ipv4Addr| {
            let credentials = server.control.issue_node_credentials(name, &[ip.into()])?;
            let user = format!("system:node:{name}");
            Ok(NodeIdentity {
                client: server.control.component_client(&user, &["system:nodes"]),
                tls: ServerTls {
                    cert_pem: credentials.serving_cert_pem,
                    key_pem: credentials.serving_key_pem,
                    client_ca_pem: credentials.ca_pem,
                },
                api: server.serve_pods(ip).await,
            })
        };
        let node = Node::start(&args.node, &data_dir, &instance, launcher, identity).await;
        let node = match node {
            Ok(node) => node,
            Err(error) => {
                server.stop().await;
                return Err(error);
            }
        };
        print_banner(&server, &node, &data_dir);

        let client = server.control.client("system:admin", &["system:masters"]);
        let (address, kubeconfig) = (server.control.addr.to_string(), server.control.kubeconfig.clone());
        let work = async {
            if args.demo {
                demo::pack_images(&node.images).await?;
            }
            let mut shown = follow::Follow::new(client.clone());
            let connection = Connection {
                namespace_is_explicit: false,
                client,
                namespace: "default".to_owned(),
                server: address,
            };
            let catalogue = Catalogue::fetch(&connection).await?;
            for (index, manifest) in manifests.iter().enumerate() {
                let applied = match index < own {
                    true => apply::apply(&connection, &catalogue, manifest, apply::Options::default()).await?,
                    false => demo::apply(&connection, &catalogue, manifest).await?,
                };
                println!("{applied}");
                shown.add(&applied);
            }
            shown.run(&kubeconfig, args.demo).await
        };
        let outcome = tokio::select! {
            () = signals.next() => Ok(ExitCode::SUCCESS),
            error = server.failed() => Err(error),
            outcome = work => match outcome {
                // Nothing left to show: stay until told to stop.
                Ok(()) => { signals.next().await; Ok(ExitCode::SUCCESS) }
                Err(error) => Err(error),
            },
        };

        println!(
            "\nstopping: ending pods (at most {} s; again to kill at once)",
            STOP_GRACE.as_secs()
        );
        let stop = async {
            let torn_down = node.tear_down(STOP_GRACE).await;
            server.stop().await;
            torn_down
        };
        tokio::select! {
            torn_down = stop => {
                torn_down?;
                println!("stopped; the API's state is kept in {}", data_dir.path.display());
                outcome
            }
            () = signals.next() => {
                assembly::remove_leftovers(&instance, &data_dir.path)?;
                Ok(ExitCode::from(130))
            }
        }
    })
}

fn print_banner(server: &Server, node: &Node, data_dir: &DataDir) {
    println!("Catamaran v{} is up", env!("CARGO_PKG_VERSION"));
    println!("  API server   https://{}", server.control.addr);
    println!("  kubeconfig   {}", server.control.kubeconfig.display());
    println!("  node         {} (pods in {})", node.name, node.pod_cidr);
    println!("  data         {}", data_dir.path.display());
}
