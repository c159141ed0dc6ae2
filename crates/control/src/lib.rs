//! The Kubernetes API server and the assembly of the control plane.
//!
//! ```text
//!   http ──▶ registry ──▶ store          pki: who we are, and who everybody else is
//!     ▲          │ reads                 kinds: what is special about each kind
//!     │          ▼                       admission: what the cluster demands of an object
//!     └──── watch_cache ◀── store        bootstrap: what every cluster has, as a client of the above
//! ```
//!
//! *Architecture invariant:* only `registry` (and the cache that follows it) calls the store; kinds and admission do no
//! IO; everything that is not the API itself speaks to it through a [`kube::Client`].
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::needless_pass_by_value, reason = "tests write their JSON where they use it")
)]

pub mod admission;
mod aggregator;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod backup;
mod bootstrap;
mod crd;
pub mod encryption;
#[cfg(test)]
mod faulty_store;
mod files;
mod flow;
mod http;
mod kubeconfig;
mod metrics;
mod openapi;
mod pki;
mod registry;
mod service_network;
mod tls;
mod watch_cache;
mod webhook_client;

pub use catamaran_kinds as kinds;
pub use pki::NodeCredentials;
pub use pki::issue::IssueError;
pub use service_network::{ClusterIpRange, NodePortRange, RangeError, ServiceNetwork};

use aggregator::Aggregator;
use authn::{Authenticator, Identity};
use encryption::Vault;
use registry::Registry;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long connections and tasks may take to end.
const DRAIN: Duration = Duration::from_secs(5);

/// Signs with the cluster's CA: a request (PEM) that was approved, for what the certificate is, and for how long.
pub type CertificateSigner =
    Arc<dyn Fn(&[u8], &[String], Duration) -> Result<String, Box<dyn std::error::Error + Send + Sync>> + Send + Sync>;

/// How a control plane is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Holds `state.db`, `pki/` and `kubeconfig`. Created if missing.
    pub data_dir: PathBuf,
    /// `sqlite:<data_dir>/state.db` if `None`.
    pub store_url: Option<String>,
    /// Port 0 picks one: that of the last start if it is free.
    pub listen: SocketAddr,
    /// An `EncryptionConfiguration`. If `None`, Secrets are encrypted with keys of our own in the data directory.
    pub encryption_config: Option<PathBuf>,
    /// What is to be told about requests, and where; nothing if `None`.
    pub audit: Option<audit::Config>,
    /// Which plugins admission has, and what they are told.
    pub admission: admission::Config,
    /// Further names and addresses by which clients reach the server, for its certificate.
    pub advertise: Vec<String>,
    /// Tokens that hold without any object: `token,user,uid,"groups"` on each line.
    pub token_auth_file: Option<PathBuf>,
    /// Where services get addresses and ports from.
    pub service_network: ServiceNetwork,
}

impl Config {
    /// On loopback, port 6443.
    pub fn new(data_dir: PathBuf) -> Self {
        let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6443);
        Config {
            data_dir,
            store_url: None,
            listen,
            encryption_config: None,
            audit: None,
            admission: admission::Config::default(),
            advertise: Vec::new(),
            token_auth_file: None,
            service_network: ServiceNetwork::default(),
        }
    }
}

/// Why a control plane did not start, or could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot create {}", path.display())]
    DataDir {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot open the store")]
    Store(#[from] catamaran_store::Error),
    #[error("cannot set up the audit log")]
    Audit(#[from] audit::Error),
    #[error("cannot set up admission")]
    Admission(#[from] admission::Error),
    #[error("cannot set up encryption at rest")]
    Encryption(#[from] encryption::Error),
    #[error("cannot set up the cluster's certificates")]
    Pki(#[from] pki::Error),
    #[error("cannot serve")]
    Serve(#[from] http::serve::Error),
    #[error("cannot write {}", path.display())]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot use the token file")]
    TokenFile(#[from] authn::TokenFileError),
    #[error("cannot create the objects every cluster has")]
    Bootstrap(#[source] Box<kube::Error>),
}

/// A running control plane. Dropping it does not stop it; cancelling the token it was started with does.
pub struct ControlPlane {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The admin's kubeconfig, mode 0600.
    pub kubeconfig: PathBuf,
    /// The cluster's CA.
    pub ca_pem: String,
    pki: pki::Pki,
    /// Names and addresses in the server's certificate.
    advertise: Vec<String>,
    service_network: ServiceNetwork,
    stack: http::Stack,
    tasks: TaskTracker,
    audit: Option<Arc<audit::Audit>>,
    shutdown: CancellationToken,
}

impl ControlPlane {
    /// Starts everything; the server is serving and the cluster's first objects are there when this returns.
    ///
    /// # Errors
    /// If the data directory, the store, the certificates or the socket cannot be had. Nothing keeps running then.
    pub async fn start(config: Config, shutdown: CancellationToken) -> Result<ControlPlane, Error> {
        let data_dir = &config.data_dir;
        files::create_private_dir(data_dir).map_err(|source| Error::DataDir {
            path: data_dir.clone(),
            source,
        })?;
        let kubeconfig = data_dir.join("kubeconfig");
        let listener = http::serve::listen(config.listen, kubeconfig::port(&kubeconfig)).await?;
        let addr = listener.local_addr().map_err(|source| http::serve::Error::Listen {
            address: config.listen,
            source,
        })?;

        let pki = pki::Pki::open(data_dir)?;
        let mut advertise = config.advertise.clone();
        if !addr.ip().is_unspecified() {
            advertise.push(addr.ip().to_string());
        }
        let metrics = metrics::Metrics::new();
        // Both wait for the disk most of the time when they are new.
        let (own, vault) = std::thread::scope(|scope| {
            let own = scope.spawn(|| pki.own(&advertise));
            let vault = open_vault(
                data_dir,
                config.store_url.as_deref(),
                config.encryption_config.as_deref(),
                Some(&metrics),
            );
            (pki::joined(own), vault)
        });
        let (own, vault) = (own?, Arc::new(vault?));
        let tls = http::serve::tls(&own.server, pki.ca_pem(), pki.front_proxy_ca_pem())?;
        let nodes = http::NodeDialer::new(&own.kubelet_client, pki.ca_pem())?;
        let stop = Stop {
            token: shutdown.child_token(),
            armed: true,
        };
        let tasks = TaskTracker::new();
        let parts = Parts {
            admission: admission::Chain::new(&config.admission)?,
            nodes,
            token_key: own.token_key,
            token_file: match &config.token_auth_file {
                Some(path) => authn::TokenFile::open(path)?,
                None => authn::TokenFile::default(),
            },
            external_url: kubeconfig::url(addr),
            audit: match &config.audit {
                Some(audit) => Some(Arc::new(audit::Audit::open(audit, &metrics, &stop.token).await?)),
                None => None,
            },
            front_proxy: aggregator::FrontProxy::new(&own.front_proxy_client)?,
            metrics,
            service_network: config.service_network.clone(),
            tasks,
        };
        let assembled = Assembled::new(&vault, parts, &stop.token).await?;
        let client = assembled.client(&Identity::system());
        let authorities = bootstrap::Authorities {
            clients: pki.ca_pem(),
            front_proxies: pki.front_proxy_ca_pem(),
        };
        let aggregator = &assembled.app.aggregator;
        futures::try_join!(
            bootstrap::ensure(&client, addr, authorities, &config.service_network),
            aggregator.prepare(&client),
            flow::ensure(&client),
        )
        .map_err(|error| Error::Bootstrap(Box::new(error)))?;
        let keep = Arc::clone(aggregator).run(client.clone(), stop.token.clone());
        assembled.tasks.spawn(keep);
        assembled.tasks.spawn(bootstrap::keep_service_cidr(
            client.clone(),
            Arc::clone(&assembled.app.registry),
            config.service_network.clone(),
            stop.token.clone(),
        ));
        let informer = Identity::authenticated("system:kube-controller-manager", &[]);
        assembled.tasks.spawn(bootstrap::token_secrets(
            assembled.client(&informer),
            Arc::clone(&assembled.app),
            pki.ca_pem().to_owned(),
            stop.token.clone(),
        ));
        let keep = flow::keep(client, Arc::clone(&assembled.app.registry), stop.token.clone());
        assembled.tasks.spawn(keep);
        assembled.app.set_bootstrapped();

        let text = kubeconfig::render(addr, pki.ca_pem(), &own.admin);
        files::write_private(&kubeconfig, text.as_bytes()).map_err(|source| Error::Kubeconfig {
            path: kubeconfig.clone(),
            source,
        })?;
        let Assembled { app, stack, tasks } = assembled;
        let serve = http::serve::serve(listener, tls, stack.clone(), tasks.clone(), stop.token.clone());
        tasks.spawn(serve);
        let shutdown = stop.disarm();
        Ok(ControlPlane {
            addr,
            kubeconfig,
            ca_pem: pki.ca_pem().to_owned(),
            pki,
            advertise,
            service_network: config.service_network,
            stack,
            tasks,
            audit: app.audit.clone(),
            shutdown,
        })
    }

    /// A client inside this process: no socket, the same layers. Streams that upgrade (exec, attach) do not work on it.
    pub fn client(&self, user: &str, groups: &[&str]) -> kube::Client {
        client(&self.stack, Identity::authenticated(user, groups))
    }

    /// A [`client`](Self::client) for a part of the control plane or a node: its watches do not show `managedFields`, as they would
    /// be read again and again for nothing.
    pub fn component_client(&self, user: &str, groups: &[&str]) -> kube::Client {
        use tower::Layer as _;
        let service = http::with_identity(Identity::authenticated(user, groups)).layer(self.stack.clone());
        kube::Client::new(http::without_owners().layer(service), "default")
    }

    /// Clients for controllers, by the name of their service account in `kube-system`. What they list and watch they read as
    /// `system:kube-controller-manager`, which may; everything else they do as the account, which may do just that.
    pub fn controller_clients(&self) -> Box<dyn Fn(&str) -> kube::Client + Send + Sync> {
        use tower::Layer as _;
        let stack = self.stack.clone();
        Box::new(move |account| {
            let reader = Identity::authenticated("system:kube-controller-manager", &[]);
            let writer = Identity::service_account("kube-system", account);
            let service = http::with_identities(reader, writer).layer(stack.clone());
            kube::Client::new(service, "default")
        })
    }

    /// What controllers sign certificates with.
    ///
    /// # Errors
    /// If the CA cannot be read.
    pub fn certificate_signer(&self) -> Result<CertificateSigner, Error> {
        let issuer = self.pki.issuer()?;
        Ok(Arc::new(move |request, usages, lifetime| {
            let lifetime = jiff::SignedDuration::try_from(lifetime)?;
            Ok(issuer.issue(request, usages, lifetime, jiff::Timestamp::now())?)
        }))
    }

    /// Serves at another address too, with a certificate that names it: for pods, which cannot reach loopback.
    ///
    /// # Errors
    /// If the address is taken, or is none of this machine's.
    pub async fn serve_also(&self, address: SocketAddr) -> Result<SocketAddr, Error> {
        let listener = http::serve::listen(address, None).await?;
        let bound = listener
            .local_addr()
            .map_err(|source| http::serve::Error::Listen { address, source })?;
        let mut names = self.advertise.clone();
        names.push(address.ip().to_string());
        let tls = http::serve::tls(
            &self.pki.server(&names)?,
            self.pki.ca_pem(),
            self.pki.front_proxy_ca_pem(),
        )?;
        let (stack, tasks) = (self.stack.clone(), self.tasks.clone());
        self.tasks
            .spawn(http::serve::serve(listener, tls, stack, tasks, self.shutdown.clone()));
        let client = client(&self.stack, Identity::system());
        bootstrap::publish_address(&client, bound, &self.service_network)
            .await
            .map_err(|error| Error::Bootstrap(Box::new(error)))?;
        Ok(bound)
    }

    /// Certificates for a node whose own server has these addresses.
    ///
    /// # Errors
    /// If the name cannot be a node's name, or the files cannot be written.
    pub fn issue_node_credentials(&self, node_name: &str, addresses: &[IpAddr]) -> Result<NodeCredentials, Error> {
        Ok(self.pki.node(node_name, addresses)?)
    }

    /// Waits until the token was cancelled and everything has ended, at most a few seconds after.
    pub async fn join(self) {
        self.shutdown.cancelled().await;
        self.tasks.close();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "connections did not end in time");
        }
        // Requests tell how they ended: only now is everything told.
        if let Some(audit) = &self.audit {
            audit.finish().await;
        }
    }
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlPlane")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

/// Certificates of a node, made with the CA in a control plane's data directory, whether or not it runs.
///
/// # Errors
/// If the CA is not there or cannot be used, or the name cannot be a node's name.
pub fn node_credentials(data_dir: &Path, node_name: &str, addresses: &[IpAddr]) -> Result<NodeCredentials, Error> {
    Ok(pki::Pki::open(data_dir)?.node(node_name, addresses)?)
}

/// What the server is made of beside its store.
struct Parts {
    admission: admission::Chain,
    nodes: http::NodeDialer,
    token_key: authn::jwt::Key,
    token_file: authn::TokenFile,
    external_url: String,
    front_proxy: aggregator::FrontProxy,
    metrics: Arc<metrics::Metrics>,
    audit: Option<Arc<audit::Audit>>,
    service_network: ServiceNetwork,
    /// Whatever runs beside requests.
    tasks: TaskTracker,
}

/// The server without its socket.
struct Assembled {
    app: Arc<http::App>,
    stack: http::Stack,
    tasks: TaskTracker,
}

impl Assembled {
    async fn new(vault: &Arc<Vault>, parts: Parts, shutdown: &CancellationToken) -> Result<Self, Error> {
        let registry =
            Registry::open_with(vault.store(), &parts.service_network, parts.admission, shutdown.clone()).await?;
        let registry = Arc::new(registry);
        registry.connect();
        let tasks = parts.tasks;
        let follow = Arc::clone(&registry.caches).follow(shutdown.clone());
        tasks.spawn(vital("the watch cache", follow, shutdown.clone()));
        tasks.spawn(admission::keep_policy_status(Arc::clone(&registry), shutdown.clone()));
        let mut definitions = crd::Definitions::new(Arc::clone(&registry), shutdown.clone());
        definitions.settle().await;
        tasks.spawn(vital("the custom kinds", definitions.follow(), shutdown.clone()));
        tasks.spawn(Arc::clone(&registry).sweep_events(shutdown.clone()));
        tasks.spawn(Arc::clone(&registry).keep_addresses(shutdown.clone()));
        tasks.spawn(settle(Arc::clone(vault), shutdown.clone()));
        let aggregator = Arc::new(Aggregator::new(Arc::clone(&registry), parts.front_proxy));
        let authenticator = Authenticator::new(
            Arc::clone(&registry),
            authn::service_account::Tokens::new(parts.token_key),
            parts.token_file,
        );
        let app = Arc::new(http::App::new(
            registry,
            authenticator,
            parts.nodes,
            Arc::clone(vault),
            parts.external_url,
            parts.metrics,
            parts.audit,
            aggregator,
        ));
        if let Some(following) = flow::Following::new(&app.registry, &app.flow) {
            tasks.spawn(following.run(shutdown.clone()));
        }
        let stack = http::stack(&app);
        Ok(Assembled { app, stack, tasks })
    }

    fn client(&self, identity: &Identity) -> kube::Client {
        client(&self.stack, identity.clone())
    }
}

/// The store of a data directory, with its encryption.
fn open_vault(
    data_dir: &Path,
    store_url: Option<&str>,
    encryption: Option<&Path>,
    metrics: Option<&Arc<metrics::Metrics>>,
) -> Result<Vault, Error> {
    let url = match store_url {
        Some(url) => url.to_owned(),
        None => format!("sqlite:{}", data_dir.join("state.db").display()),
    };
    let mut store = catamaran_store::open(&url)?;
    if let Some(metrics) = metrics {
        store = Arc::new(metrics::Measured::new(store, Arc::clone(metrics)));
    }
    Ok(Vault::open(store, data_dir, encryption)?)
}

/// Makes a new encryption key for the state in a data directory in which no server runs, and rewrites everything with it.
///
/// # Errors
/// If the store or the keys cannot be opened or written. The old keys are kept then.
pub async fn rotate_keys(data_dir: &Path, store_url: Option<&str>) -> Result<encryption::Rotated, Error> {
    Ok(open_vault(data_dir, store_url, None, None)?.rotate().await?)
}

/// Writes a backup of a data directory in which no server runs. See [`backup`]. Returns its revision.
///
/// # Errors
/// If the store or the keys cannot be read, or `sink` fails.
pub async fn back_up(
    data_dir: &Path,
    store_url: Option<&str>,
    sink: impl std::io::Write,
) -> Result<u64, backup::Error> {
    let vault = open_vault(data_dir, store_url, None, None).map_err(|error| match error {
        Error::Store(error) => backup::Error::Store(error),
        Error::Encryption(error) => backup::Error::Keys(error),
        other => backup::Error::Damaged {
            reason: other.to_string(),
        },
    })?;
    let archive = backup::Archive::take(&vault).await?;
    let revision = archive.revision;
    archive.write_to(sink).map_err(files::writing("the backup"))?;
    Ok(revision)
}

/// Finishes an interrupted rotation of keys beside everything else. Until it is done, nothing is unreadable.
async fn settle(vault: Arc<Vault>, shutdown: CancellationToken) {
    let settled = tokio::select! {
        () = shutdown.cancelled() => return,
        settled = vault.settle() => settled,
    };
    if let Err(error) = settled {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "some values are not encrypted with the newest key; the next start tries again"
        );
    }
}

/// A task without which the server would answer with yesterday's state: if it panics, the server stops.
async fn vital(name: &'static str, task: impl Future<Output = ()>, shutdown: CancellationToken) {
    use futures::FutureExt as _;
    if std::panic::AssertUnwindSafe(task).catch_unwind().await.is_err() {
        tracing::error!("{name} failed; the server stops");
        shutdown.cancel();
    }
}

fn client(stack: &http::Stack, identity: Identity) -> kube::Client {
    use tower::Layer as _;
    let service = http::with_identity(identity).layer(stack.clone());
    kube::Client::new(service, "default")
}

/// Stops what was started if the start fails half way.
struct Stop {
    token: CancellationToken,
    armed: bool,
}

impl Stop {
    fn disarm(mut self) -> CancellationToken {
        self.armed = false;
        self.token.clone()
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        if self.armed {
            self.token.cancel();
        }
    }
}
