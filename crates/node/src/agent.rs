//! Assembly and life of the agent.

use crate::layout::Layout;
use crate::lease::Heartbeat;
use crate::local::{LocalMachine, Parts};
use crate::objects::ObjectSource;
use crate::pods::{Known, Pods};
use crate::registration::{self, Identity, Machine};
use crate::reports::ApiReports;
use crate::tokens::Tokens;
use crate::{WasmCompiler, image_gc, rotate, server};
use catamaran_net::PodNetwork;
use catamaran_shim::client::Launcher;
use jiff::Timestamp;
use kube::Client;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Certificates of the agent's server, PEM.
#[derive(Clone)]
pub struct ServerTls {
    pub cert_pem: String,
    pub key_pem: String,
    /// Clients must show a certificate of this authority.
    pub client_ca_pem: String,
}

/// Everything an agent is given.
pub struct Config {
    pub client: Client,
    pub node_name: String,
    /// The address the API server reaches the agent at; also the pods' `status.hostIP`.
    pub node_ip: IpAddr,
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
    /// Eight hex digits that tell clusters on one machine apart.
    pub instance: String,
    pub launcher: Launcher,
    pub compiler: Arc<dyn WasmCompiler>,
    pub images: Arc<catamaran_image::Store>,
    pub network: Arc<PodNetwork>,
    pub server: ServerTls,
    /// Port 0 picks one.
    pub listen: SocketAddr,
    pub labels: BTreeMap<String, String>,
    /// A docker `config.json` with registry credentials for every pod.
    pub docker_config: Option<PathBuf>,
    /// Where pods reach the API server, if they do: what `KUBERNETES_SERVICE_HOST` and its like tell them.
    pub api: Option<SocketAddr>,
}

impl Config {
    /// A configuration with everything optional at its default: the server on loopback, any port.
    #[allow(
        clippy::too_many_arguments,
        reason = "these are what an agent cannot be without; the rest are fields"
    )]
    pub fn new(
        client: Client,
        node_name: String,
        data_dir: PathBuf,
        run_dir: PathBuf,
        instance: String,
        launcher: Launcher,
        compiler: Arc<dyn WasmCompiler>,
        images: Arc<catamaran_image::Store>,
        network: Arc<PodNetwork>,
        server: ServerTls,
    ) -> Self {
        let node_ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        Self {
            client,
            node_name,
            node_ip,
            data_dir,
            run_dir,
            instance,
            launcher,
            compiler,
            images,
            network,
            server,
            listen: SocketAddr::new(node_ip, 0),
            labels: BTreeMap::new(),
            docker_config: None,
            api: None,
        }
    }
}

/// Why an agent did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot use the agent server's certificates")]
    Tls(#[source] server::TlsError),
    #[error("cannot create {}", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot register the node {name}")]
    Register {
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// How an agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Containers keep running; a later agent adopts them.
    LeaveRunning,
    /// Every pod gets the shorter of its own grace and `max_grace`, then is killed. Objects stay, and the pods are run
    /// again at the next start.
    TerminatePods { max_grace: Duration },
}

/// How often registration is tried before the start fails, and the pause in between.
const REGISTER_ATTEMPTS: u32 = 5;
const REGISTER_PAUSE: Duration = Duration::from_millis(500);
/// How long background clean-up may hold up the end.
const CLEANING: Duration = Duration::from_secs(10);

/// A running agent.
pub struct Agent {
    machine: Arc<LocalMachine>,
    shutdown: CancellationToken,
    ending: mpsc::Sender<Duration>,
    pods: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
    address: SocketAddr,
}

impl Agent {
    /// Registers the node, takes over what runs, begins to follow the API server. Returns when the node is registered
    /// and its server listens.
    ///
    /// # Errors
    /// See [`Error`]; nothing goes on running then.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let layout = Layout {
            data_dir: config.data_dir.clone(),
            run_dir: config.run_dir.clone(),
            instance: config.instance,
        };
        make_directories(&layout)?;
        let tls = server::tls(&config.server).map_err(Error::Tls)?;
        let listen = config.listen;
        let failed = move |source| Error::Listen {
            address: listen,
            source,
        };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;

        let hardware = Machine::read(&config.data_dir);
        let identity = Identity {
            name: config.node_name.clone(),
            ip: config.node_ip,
            port: address.port(),
            labels: config.labels,
            pod_cidr: config.network.cidr().to_string(),
        };
        let status = registration::status(&identity, &hardware, &config.data_dir, None, Timestamp::now());
        register(&config.client, &identity, &status).await?;

        let reports = Arc::new(ApiReports::new(config.client.clone(), &config.node_name));
        let objects = Arc::new(ObjectSource::new(config.client.clone()));
        let known = Known::default();
        let machine = Arc::new(LocalMachine::new(Parts {
            layout,
            launcher: config.launcher,
            network: config.network,
            images: config.images.clone(),
            compiler: config.compiler,
            objects,
            tokens: Tokens::new(config.client.clone()),
            api: config.api,
            reports,
            known: known.clone(),
            node_name: config.node_name.clone(),
            node_ip: config.node_ip,
            allocatable: hardware.allocatable(),
            memory_bytes: hardware.memory_bytes,
            docker_config: config.docker_config,
        }));
        let shutdown = CancellationToken::new();
        let (ending, end) = mpsc::channel(1);
        let pods = Pods::new(
            config.client.clone(),
            config.node_name,
            config.node_ip,
            machine.clone(),
            known.clone(),
        );
        let heartbeat = Heartbeat {
            client: config.client,
            identity,
            machine: hardware,
            data_dir: config.data_dir,
            status,
        };
        let service = server::Server {
            layout: machine.layout().clone(),
            sandboxes: machine.sandboxes.clone(),
            known,
            dialer: Arc::default(),
        };
        let others = vec![
            tokio::spawn(heartbeat.run(shutdown.clone())),
            tokio::spawn(image_gc::run(
                config.images,
                machine.collector.clone(),
                shutdown.clone(),
            )),
            tokio::spawn(rotate::run(machine.sandboxes.clone(), shutdown.clone())),
            tokio::spawn(server::serve(listener, tls, service, shutdown.clone())),
        ];
        let pods = tokio::spawn(pods.run(shutdown.clone(), end));
        Ok(Self {
            machine,
            shutdown,
            ending,
            pods,
            others,
            address,
        })
    }

    /// Where the agent's server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the agent; see [`Stop`].
    pub async fn stop(self, how: Stop) {
        match how {
            Stop::LeaveRunning => self.shutdown.cancel(),
            Stop::TerminatePods { max_grace } => drop(self.ending.send(max_grace).await),
        }
        if let Err(error) = self.pods.await {
            tracing::error!(%error, "the agent's pods ended badly");
        }
        self.shutdown.cancel();
        for other in self.others {
            let _ = other.await;
        }
        self.machine.cleaning.close();
        if tokio::time::timeout(CLEANING, self.machine.cleaning.wait())
            .await
            .is_err()
        {
            tracing::warn!("removing files of ended pods takes long; the next start finishes it");
        }
        if how != Stop::LeaveRunning {
            // Empty unless a pod could not be ended; then they have to stay.
            let layout = self.machine.layout();
            let _ = std::fs::remove_dir(layout.states_dir()).and_then(|()| std::fs::remove_dir(&layout.run_dir));
        }
    }
}

async fn register(
    client: &Client,
    identity: &Identity,
    status: &k8s_openapi::api::core::v1::NodeStatus,
) -> Result<(), Error> {
    let mut attempt = 1;
    loop {
        match registration::register(client, identity, status).await {
            Ok(()) => return Ok(()),
            Err(error) if attempt < REGISTER_ATTEMPTS => {
                tracing::warn!(
                    error = crate::chain(&error),
                    attempt,
                    "the node was not registered; trying again"
                );
            }
            Err(source) => {
                return Err(Error::Register {
                    name: identity.name.clone(),
                    source: Box::new(source),
                });
            }
        }
        attempt += 1;
        tokio::time::sleep(REGISTER_PAUSE).await;
    }
}

fn make_directories(layout: &Layout) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    for (path, mode) in [
        (layout.pods_dir(), 0o700),
        (layout.logs_root(), 0o755),
        (layout.states_dir(), 0o700),
    ] {
        let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(&path);
        made.map_err(|source| Error::Directory { path, source })?;
    }
    Ok(())
}
