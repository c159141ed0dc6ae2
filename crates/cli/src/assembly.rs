//! How the parts become a cluster: the same pieces for `dev`, `server` and `agent`.

use crate::data_dir::DataDir;
use anyhow::{Context, Result, bail};
use catamaran_control::{ClusterIpRange, ControlPlane, NodePortRange, ServiceNetwork, audit};
use catamaran_net::{Ipv4Net, PodNetwork};
use catamaran_node::{Agent, ServerTls, Stop};
use catamaran_shim::client::Launcher;
use catamaran_shim::launcher::LauncherHandle;
use catamaran_shim::runtime::Runtimes;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Wired namespaces that stand ready: as many as a burst of a manifest or two needs.
const NETWORK_POOL: usize = 16;

/// The runtimes a launcher is born with.
pub(crate) fn runtimes() -> Runtimes {
    Runtimes {
        linux: Box::new(catamaran_oci_shim::OciRuntime::new()),
        wasm: Box::new(catamaran_wasm_shim::WasmRuntime::new()),
    }
}

pub(crate) fn require_root(verb: &str) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    bail!("cata {verb} needs root, because it makes namespaces, cgroups and mounts; run it with sudo")
}

/// Options of whatever runs an API server.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ApiArgs {
    /// Port of the API server; 0 picks a free one
    #[arg(long, default_value_t = 6443, value_name = "PORT")]
    pub(crate) api_port: u16,
    /// Address the API server listens on
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub(crate) bind_address: IpAddr,
    /// State backend: sqlite:FILE or mem: [default: sqlite:DATA_DIR/state.db]
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// EncryptionConfiguration with keys of one's own [default: Secrets are encrypted with DATA_DIR/encryption-keys]
    #[arg(long, value_name = "FILE")]
    pub(crate) encryption_provider_config: Option<PathBuf>,
    /// AdmissionConfiguration (apiserver.config.k8s.io/v1), for PodSecurity
    #[arg(long, value_name = "FILE")]
    pub(crate) admission_control_config_file: Option<PathBuf>,
    /// Admission plugins to have besides the usual ones
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) enable_admission_plugins: Vec<String>,
    /// Admission plugins to do without
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) disable_admission_plugins: Vec<String>,
    /// Audit policy (audit.k8s.io/v1); without one, nothing is logged
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_policy_file: Option<PathBuf>,
    /// File for audit events, one JSON line each; - is standard output
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    pub(crate) audit_log_path: Option<PathBuf>,
    /// Days to keep old audit logs; 0 is for ever
    #[arg(long, default_value_t = 0, value_name = "DAYS")]
    pub(crate) audit_log_maxage: u32,
    /// Old audit logs to keep; 0 is all
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub(crate) audit_log_maxbackup: usize,
    /// Megabytes after which a new audit log is begun; 0 is 100
    #[arg(long, default_value_t = 0, value_name = "MB")]
    pub(crate) audit_log_maxsize: u64,
    /// While the audit log is slower than the requests: blocking lets them wait, batch loses events
    #[arg(long, default_value = "blocking", value_name = "MODE", value_parser = ["batch", "blocking"])]
    pub(crate) audit_log_mode: String,
    #[command(flatten)]
    pub(crate) audit_webhook: AuditWebhookArgs,
    /// Further names and addresses for the API server's certificate
    #[arg(long = "tls-san", value_name = "NAME")]
    pub(crate) tls_sans: Vec<String>,
    /// Static bearer tokens: token,user,uid,"group1,group2" on each line
    #[arg(long, value_name = "FILE")]
    pub(crate) token_auth_file: Option<PathBuf>,
    /// Addresses of services: one block, or two of different families (10.96.0.0/16,fd00:10:96::/112)
    #[arg(long, default_value = "10.96.0.0/16", value_name = "CIDRS")]
    pub(crate) service_cluster_ip_range: ClusterIpRange,
    /// Ports of the nodes that services get
    #[arg(long, default_value = "30000-32767", value_name = "PORTS")]
    pub(crate) service_node_port_range: NodePortRange,
}

impl ApiArgs {
    fn audit(&self) -> Option<audit::Config> {
        let log = self.audit_log_path.as_ref().map(|path| audit::LogConfig {
            path: path.clone(),
            mode: audit_mode(&self.audit_log_mode),
            max_megabytes: self.audit_log_maxsize,
            max_backups: self.audit_log_maxbackup,
            max_days: self.audit_log_maxage,
        });
        let webhook = self.audit_webhook.config();
        // A policy with nobody to tell is no mistake.
        let told = log.is_some() || webhook.is_some();
        Some(audit::Config {
            policy_file: self.audit_policy_file.clone().filter(|_| told)?,
            log,
            webhook,
        })
    }
}

fn audit_mode(mode: &str) -> audit::Mode {
    match mode {
        "batch" => audit::Mode::Batch,
        _ => audit::Mode::Blocking,
    }
}

/// The server that is told about requests.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AuditWebhookArgs {
    /// Kubeconfig of a server that audit events are posted to
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    audit_webhook_config_file: Option<PathBuf>,
    /// While the audit webhook is slower than the requests: blocking lets them wait, batch loses events
    #[arg(long, default_value = "batch", value_name = "MODE", value_parser = ["batch", "blocking"])]
    audit_webhook_mode: String,
    /// Events that wait for the audit webhook; more are lost
    #[arg(long, default_value_t = 10_000, value_name = "COUNT")]
    audit_webhook_batch_buffer_size: usize,
    /// Events in one request to the audit webhook
    #[arg(long, default_value_t = 400, value_name = "COUNT")]
    audit_webhook_batch_max_size: usize,
    /// Time after which events are posted to the audit webhook although there are few
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = go_duration)]
    audit_webhook_batch_max_wait: Duration,
    /// Limit requests to the audit webhook
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    audit_webhook_batch_throttle_enable: bool,
    /// Requests to the audit webhook a second, on average
    #[arg(long, default_value_t = 10.0, value_name = "QPS")]
    audit_webhook_batch_throttle_qps: f32,
    /// Requests to the audit webhook at once, after a rest
    #[arg(long, default_value_t = 15, value_name = "COUNT")]
    audit_webhook_batch_throttle_burst: u32,
    /// Pause before events are posted to the audit webhook again
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = go_duration)]
    audit_webhook_initial_backoff: Duration,
}

impl AuditWebhookArgs {
    fn config(&self) -> Option<audit::WebhookConfig> {
        let throttled = self.audit_webhook_batch_throttle_enable;
        Some(audit::WebhookConfig {
            kubeconfig: self.audit_webhook_config_file.clone()?,
            mode: audit_mode(&self.audit_webhook_mode),
            buffer_size: self.audit_webhook_batch_buffer_size,
            max_batch_size: self.audit_webhook_batch_max_size,
            max_batch_wait: self.audit_webhook_batch_max_wait,
            throttle_qps: throttled.then_some(self.audit_webhook_batch_throttle_qps),
            throttle_burst: self.audit_webhook_batch_throttle_burst,
            initial_backoff: self.audit_webhook_initial_backoff,
        })
    }
}

/// `30s`, `1m30s`.
fn go_duration(text: &str) -> Result<Duration, String> {
    match catamaran_api::duration::parse(text) {
        Ok(Some(duration)) => Ok(duration),
        Ok(None) => Err("must not be negative".to_owned()),
        Err(error) => Err(error),
    }
}

/// Options of whatever runs a node agent.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct NodeArgs {
    /// Name of this node [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Addresses of this node's pods, /16 to /29 [default: the first free /20 of 10.42.0.0/16]
    #[arg(long, value_name = "CIDR")]
    pub(crate) pod_cidr: Option<Ipv4Net>,
    /// Registry credentials in Docker's config.json form
    #[arg(long, value_name = "FILE")]
    pub(crate) docker_config: Option<PathBuf>,
    /// Registry host (with port) to talk plain HTTP to; loopback always is
    #[arg(long = "plain-http", value_name = "HOST")]
    pub(crate) plain_http_hosts: Vec<String>,
    /// Label for the Node object, KEY=VALUE
    #[arg(long = "node-label", value_name = "LABEL")]
    pub(crate) node_labels: Vec<String>,
}

/// A running control plane with its scheduler and controllers.
pub(crate) struct Server {
    pub(crate) control: ControlPlane,
    scheduler: JoinHandle<Result<(), catamaran_scheduler::Error>>,
    controllers: JoinHandle<Result<(), catamaran_controllers::Error>>,
    shutdown: CancellationToken,
}

impl Server {
    pub(crate) async fn start(args: &ApiArgs, data_dir: &DataDir) -> Result<Self> {
        let shutdown = CancellationToken::new();
        let listen = SocketAddr::new(args.bind_address, args.api_port);
        let mut config = catamaran_control::Config::new(data_dir.path.clone());
        config.listen = listen;
        config.store_url.clone_from(&args.store);
        config.encryption_config.clone_from(&args.encryption_provider_config);
        config.audit = args.audit();
        config.admission = catamaran_control::admission::Config {
            enable: args.enable_admission_plugins.clone(),
            disable: args.disable_admission_plugins.clone(),
            file: args.admission_control_config_file.clone(),
        };
        config.advertise.clone_from(&args.tls_sans);
        config.token_auth_file.clone_from(&args.token_auth_file);
        config.service_network = ServiceNetwork {
            cluster_ips: args.service_cluster_ip_range.clone(),
            node_ports: args.service_node_port_range.clone(),
        };
        let control = ControlPlane::start(config, shutdown.clone())
            .await
            .map_err(|error| explain_listen(error, listen))?;
        let scheduler = catamaran_scheduler::Config {
            client: control.component_client("system:kube-scheduler", &[]),
            name: "default-scheduler".to_owned(),
        };
        let scheduler = tokio::spawn(catamaran_scheduler::run(scheduler, shutdown.clone()));
        let controllers = catamaran_controllers::Config {
            client: control.controller_clients(),
            ca_pem: control.ca_pem.clone(),
            sign: control.certificate_signer().context("cannot sign certificates")?,
        };
        let controllers = tokio::spawn(catamaran_controllers::run(controllers, shutdown.clone()));
        Ok(Self {
            control,
            scheduler,
            controllers,
            shutdown,
        })
    }

    /// Serves the API to pods too, at an address of theirs, on the port it has for everybody. Where that cannot be had, pods do
    /// without.
    pub(crate) async fn serve_pods(&self, address: Ipv4Addr) -> Option<SocketAddr> {
        let own = self.control.addr;
        // A server that listens everywhere has taken the port, but its certificate does not name this address.
        let port = if own.ip().is_unspecified() { 0 } else { own.port() };
        let result = self.control.serve_also(SocketAddr::new(address.into(), port)).await;
        result
            .inspect_err(|error| {
                tracing::warn!(
                    error = error as &dyn std::error::Error,
                    "pods cannot reach the API server"
                );
            })
            .ok()
    }

    /// Resolves when the control plane ends by itself, which it should not.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        fn why<E>(what: &str, ended: Result<Result<(), E>, tokio::task::JoinError>) -> anyhow::Error
        where
            E: std::error::Error + Send + Sync + 'static,
        {
            match ended {
                Ok(Ok(())) => anyhow::anyhow!("the {what} ended"),
                Ok(Err(error)) => anyhow::Error::new(error).context(format!("the {what} failed")),
                Err(error) => anyhow::Error::new(error).context(format!("the {what} crashed")),
            }
        }
        tokio::select! {
            ended = &mut self.scheduler => why("scheduler", ended),
            ended = &mut self.controllers => why("controllers", ended),
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.control.join().await;
    }
}

fn explain_listen(error: catamaran_control::Error, listen: SocketAddr) -> anyhow::Error {
    let error = anyhow::Error::new(error);
    let in_use = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::AddrInUse);
    if in_use {
        return anyhow::anyhow!(
            "port {} is in use; choose another with --api-port (0 picks a free one)",
            listen.port()
        );
    }
    error.context("cannot start the API server")
}

/// What a node agent needs from the control plane, near or far.
pub(crate) struct NodeIdentity {
    pub(crate) client: kube::Client,
    pub(crate) tls: ServerTls,
    /// Where pods reach the API server, if they can.
    pub(crate) api: Option<SocketAddr>,
}

/// A running node: agent, network, launcher.
pub(crate) struct Node {
    agent: Agent,
    network: Arc<PodNetwork>,
    pub(crate) images: Arc<catamaran_image::Store>,
    pub(crate) name: String,
    pub(crate) pod_cidr: Ipv4Net,
    instance: String,
    data_dir: PathBuf,
}

impl Node {
    pub(crate) async fn start(
        args: &NodeArgs,
        data_dir: &DataDir,
        instance: &str,
        launcher: LauncherHandle,
        identity: impl AsyncFnOnce(&str, Ipv4Addr) -> Result<NodeIdentity>,
    ) -> Result<Self> {
        // Pods that an earlier agent left running keep what they stand on, whatever happens to this one.
        let idle = catamaran_node::addresses_in_use(&run_dir(instance)).is_empty();
        let started = Self::set_up(args, data_dir, instance, launcher, identity).await;
        if started.is_err() && idle {
            let (instance, data_dir) = (instance.to_owned(), data_dir.path.clone());
            let removed = tokio::task::spawn_blocking(move || remove_leftovers(&instance, &data_dir)).await?;
            if let Err(error) = removed {
                // What kept the node from starting is what the user has to know.
                tracing::warn!("{error:#}; `cata cleanup` tries again");
            }
        }
        started
    }

    async fn set_up(
        args: &NodeArgs,
        data_dir: &DataDir,
        instance: &str,
        launcher: LauncherHandle,
        identity: impl AsyncFnOnce(&str, Ipv4Addr) -> Result<NodeIdentity>,
    ) -> Result<Self> {
        let name = node_name(args.node_name.as_deref())?;
        if let Some(path) = &args.docker_config {
            std::fs::File::open(path).with_context(|| format!("cannot read --docker-config {}", path.display()))?;
        }
        let run_dir = run_dir(instance);
        let launcher = Launcher::new(launcher).context("cannot talk to the launcher")?;
        let images = Arc::new(open_images(&data_dir.path, &args.plain_http_hosts)?);
        let in_use = catamaran_node::addresses_in_use(&run_dir);
        let network = catamaran_net::Config {
            instance: instance.to_owned(),
            state_dir: data_dir.join("agent"),
            pod_cidr: args.pod_cidr,
            pool: NETWORK_POOL,
        };
        let network = Arc::new(
            PodNetwork::start(network, in_use)
                .await
                .context("cannot set up the pod network")?,
        );
        let node_ip = network.node_ip();
        let identity = identity(&name, node_ip).await?;
        let compiler = catamaran_wasm_shim::NativeCache::open(data_dir.join("agent/native"), compile_command())
            .context("cannot open the native-code cache")?;
        let mut config = catamaran_node::Config::new(
            identity.client,
            name.clone(),
            data_dir.path.clone(),
            run_dir,
            instance.to_owned(),
            launcher,
            Arc::new(Compiler(compiler)),
            Arc::clone(&images),
            Arc::clone(&network),
            identity.tls,
        );
        config.node_ip = node_ip.into();
        config.listen = SocketAddr::new(node_ip.into(), 0);
        config.api = identity.api;
        config.docker_config.clone_from(&args.docker_config);
        config.labels = parse_labels(&args.node_labels)?;
        let pod_cidr = network.cidr();
        let agent = Agent::start(config).await.context("cannot start the node agent")?;
        Ok(Self {
            agent,
            network,
            images,
            name,
            pod_cidr,
            instance: instance.to_owned(),
            data_dir: data_dir.path.clone(),
        })
    }

    /// Ends the agent; containers go on running, and a later agent finds them.
    pub(crate) async fn leave(self) {
        self.agent.stop(Stop::LeaveRunning).await;
    }

    /// Ends every pod within `max_grace` and takes away whatever the node made.
    pub(crate) async fn tear_down(self, max_grace: Duration) -> Result<()> {
        self.agent.stop(Stop::TerminatePods { max_grace }).await;
        drop(self.network);
        let (instance, data_dir) = (self.instance, self.data_dir);
        tokio::task::spawn_blocking(move || remove_leftovers(&instance, &data_dir)).await?
    }
}

pub(crate) fn open_images(data_dir: &Path, plain_http_hosts: &[String]) -> Result<catamaran_image::Store> {
    let options = catamaran_image::Options {
        plain_http_hosts: plain_http_hosts.to_vec(),
        ..catamaran_image::Options::default()
    };
    catamaran_image::Store::open(data_dir.join("images"), options).context("cannot open the image store")
}

fn compile_command() -> Vec<OsString> {
    vec!["/proc/self/exe".into(), "__wasm-compile".into()]
}

fn run_dir(instance: &str) -> PathBuf {
    catamaran_shim::run_base().join(format!("catamaran-{instance}"))
}

/// Kills and removes everything of an instance: pod shims, containers, cgroups, links, rules, the run directory.
pub(crate) fn remove_leftovers(instance: &str, data_dir: &Path) -> Result<()> {
    let report = catamaran_shim::leftovers::remove_instance(&run_dir(instance), instance);
    catamaran_node::remove_mounts(data_dir);
    let network = catamaran_net::cleanup(instance).context("cannot remove what the pod network left");
    match std::fs::remove_dir_all(run_dir(instance)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", run_dir(instance).display()));
        }
        _ => {}
    }
    if !report.failures.is_empty() {
        bail!("something stayed behind: {}", report.failures.join("; "));
    }
    network
}

fn node_name(option: Option<&str>) -> Result<String> {
    let name = match option {
        Some(name) => name.to_owned(),
        None => rustix::system::uname().nodename().to_string_lossy().to_lowercase(),
    };
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    if name.is_empty() || name.len() > 253 || !name.bytes().all(valid) || name.starts_with(['-', '.']) {
        bail!("{name:?} cannot name a node (lower-case letters, digits, '-' and '.'); choose one with --node-name");
    }
    Ok(name)
}

fn parse_labels(labels: &[String]) -> Result<std::collections::BTreeMap<String, String>> {
    labels
        .iter()
        .map(|label| match label.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => bail!("--node-label {label:?} is not of the form KEY=VALUE"),
        })
        .collect()
}

/// Lends the wasm shim's native-code cache to the node, which knows no wasmtime.
struct Compiler(catamaran_wasm_shim::NativeCache);

#[async_trait::async_trait]
impl catamaran_node::WasmCompiler for Compiler {
    async fn native(&self, digest: &str, module: &Path) -> Result<PathBuf, catamaran_node::CompileError> {
        let native = self
            .0
            .native(digest, module)
            .await
            .map_err(|error| catamaran_node::CompileError {
                reason: "CreateContainerError".to_owned(),
                message: error.to_string(),
            })?;
        Ok(native.path)
    }
}
