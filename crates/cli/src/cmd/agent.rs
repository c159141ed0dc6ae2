//! `cata agent`: the node agent alone, against a control plane anywhere.

use crate::assembly::{self, Node, NodeArgs, NodeIdentity};
use crate::daemon;
use crate::data_dir::{DataDir, Part};
use anyhow::{Context, Result, bail};
use catamaran_node::ServerTls;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// How to reach the API server, with this node's client certificate [default: made from the CA in the data directory]
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert_file", "tls_private_key_file", "client_ca_file"])]
    kubeconfig: Option<PathBuf>,
    /// Certificate that the agent serves logs and exec with
    #[arg(long, value_name = "FILE", requires = "kubeconfig")]
    tls_cert_file: Option<PathBuf>,
    /// Private key of that certificate
    #[arg(long, value_name = "FILE", requires = "kubeconfig")]
    tls_private_key_file: Option<PathBuf>,
    /// CA that callers of the agent (the API server) must have their certificate from
    #[arg(long, value_name = "FILE", requires = "kubeconfig")]
    client_ca_file: Option<PathBuf>,
}

pub(super) fn run(args: Args, data_dir: DataDir) -> Result<ExitCode> {
    assembly::require_root("agent")?;
    catamaran_oci_shim::shield_binary().context("cannot protect the program's file from containers")?;
    let launcher = catamaran_shim::launcher::fork(assembly::runtimes).context("cannot fork the launcher")?;
    let _lock = data_dir.lock(Part::Agent)?;
    let instance = data_dir.instance()?;
    daemon::run(async move |mut signals: daemon::Signals| {
        let identity = async |name: &str, ip: Ipv4Addr| match &args.kubeconfig {
            Some(_) => configured_identity(&args).await,
            None => local_identity(&data_dir, name, ip).await,
        };
        let node = Node::start(&args.node, &data_dir, &instance, launcher, identity).await?;
        println!("node {} is up; pods get addresses of {}", node.name, node.pod_cidr);
        signals.next().await;
        node.leave().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// The control plane's data directory is ours too: take its CA and its address.
async fn local_identity(data_dir: &DataDir, name: &str, ip: Ipv4Addr) -> Result<NodeIdentity> {
    let admin = data_dir.kubeconfig();
    if !admin.exists() {
        bail!(
            "no control plane ever ran on {}; start `cata server` first, or pass --kubeconfig",
            data_dir.path.display()
        );
    }
    let credentials = catamaran_control::node_credentials(&data_dir.path, name, &[ip.into()])
        .context("cannot make this node's certificates")?;
    let kubeconfig = kube::config::Kubeconfig::read_from(&admin).context("cannot read the kubeconfig")?;
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await?;
    let api = reachable_by_pods(&config);
    config.auth_info = kube::config::AuthInfo {
        client_certificate_data: Some(base64(&credentials.client_cert_pem)),
        client_key_data: Some(base64(&credentials.client_key_pem).into()),
        ..kube::config::AuthInfo::default()
    };
    Ok(NodeIdentity {
        client: kube::Client::try_from(config)?,
        tls: ServerTls {
            cert_pem: credentials.serving_cert_pem,
            key_pem: credentials.serving_key_pem,
            client_ca_pem: credentials.ca_pem,
        },
        api,
    })
}

async fn configured_identity(args: &Args) -> Result<NodeIdentity> {
    let read = |path: &Option<PathBuf>| -> Result<String> {
        let path = path.as_deref().context("clap requires these together")?;
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let path = args.kubeconfig.as_deref().context("clap requires these together")?;
    let kubeconfig =
        kube::config::Kubeconfig::read_from(path).with_context(|| format!("cannot read {}", path.display()))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await?;
    let api = reachable_by_pods(&config);
    Ok(NodeIdentity {
        client: kube::Client::try_from(config)?,
        api,
        tls: ServerTls {
            cert_pem: read(&args.tls_cert_file)?,
            key_pem: read(&args.tls_private_key_file)?,
            client_ca_pem: read(&args.client_ca_file)?,
        },
    })
}

/// The API server's address as it stands in a kubeconfig, unless it is this machine's own loopback: pods have another.
fn reachable_by_pods(config: &kube::Config) -> Option<SocketAddr> {
    let address: IpAddr = config.cluster_url.host()?.trim_matches(['[', ']']).parse().ok()?;
    let port = config.cluster_url.port_u16().unwrap_or(443);
    (!address.is_loopback()).then_some(SocketAddr::new(address, port))
}

fn base64(pem: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(pem)
}
