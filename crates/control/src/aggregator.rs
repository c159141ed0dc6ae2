//! Aggregated APIs: groups and versions that other servers serve, in the name of this one.
//!
//! An APIService names a service. Requests for its group and version are passed on, with the user in headers and a certificate
//! that proves that this server may state users; a task keeps looking whether the other server answers, says so in the
//! APIService's status, and remembers what it serves for discovery and OpenAPI.
//! <https://kubernetes.io/docs/concepts/extend-kubernetes/api-extension/apiserver-aggregation/>
//!
//! ```text
//!   request ─► resource ─► backend(group/version)? ─► proxy ─► dial ─► the other server
//!                                  ▲
//!   APIServices, services ─► task: local (what we serve ourselves) · availability · discovery
//! ```

mod authentication;
mod availability;
mod dial;
mod discovery;
mod local;
mod openapi_v2;
mod proxy;
mod task;

pub(crate) use authentication::FrontProxy;

use crate::registry::Registry;
use crate::webhook_client::RegistryServices;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use parking_lot::RwLock;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;

/// What other servers serve, at one moment.
#[derive(Default)]
pub(crate) struct Remotes {
    /// Grows with every change.
    pub(crate) generation: u64,
    pub(crate) versions: Vec<Arc<Remote>>,
}

impl Remotes {
    fn of(&self, target: &Target) -> Option<&Remote> {
        let found = self
            .versions
            .iter()
            .find(|remote| remote.group == target.group && remote.version == target.version);
        found.map(|remote| &**remote)
    }
}

/// A version of a group that another server serves.
#[derive(Clone, PartialEq)]
pub(crate) struct Remote {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) group_priority: i32,
    pub(crate) version_priority: i32,
    /// Did it answer the last time it was asked?
    pub(crate) current: bool,
    /// What it serves, as `resources` of aggregated discovery; as it said last.
    pub(crate) resources: Option<Arc<Value>>,
    /// The hash of its OpenAPI document, if it has one.
    pub(crate) openapi: Option<String>,
    /// Its part of the v2 document.
    pub(crate) openapi_v2: Option<Arc<Value>>,
}

/// The other servers, and how to reach them.
pub(crate) struct Aggregator {
    registry: Arc<Registry>,
    services: Arc<RegistryServices>,
    front_proxy: FrontProxy,
    /// By `group/version`.
    backends: RwLock<HashMap<String, Arc<Backend>>>,
    remotes: RwLock<Arc<Remotes>>,
}

/// The server behind one APIService.
pub(crate) struct Backend {
    /// As the APIService has it; a change makes a new backend.
    target: Target,
    client: dial::Client,
    available: AtomicBool,
    openapi_v2: openapi_v2::Cache,
    /// Ends streams that pass through.
    shutdown: CancellationToken,
}

/// What of an APIService says how to reach its server.
#[derive(Clone, Debug, PartialEq)]
struct Target {
    /// Of the APIService.
    name: String,
    group: String,
    version: String,
    namespace: String,
    service: String,
    port: u16,
    ca_bundle: Vec<u8>,
    insecure: bool,
}

impl Target {
    /// `None`: this server serves it itself.
    fn of(object: &APIService) -> Option<Target> {
        let spec = object.spec.as_ref()?;
        let service = spec.service.as_ref()?;
        Some(Target {
            name: object.metadata.name.clone().unwrap_or_default(),
            group: spec.group.clone().unwrap_or_default(),
            version: spec.version.clone().unwrap_or_default(),
            namespace: service.namespace.clone().unwrap_or_default(),
            service: service.name.clone().unwrap_or_default(),
            port: service.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            ca_bundle: spec.ca_bundle.clone().map(|bundle| bundle.0).unwrap_or_default(),
            insecure: spec.insecure_skip_tls_verify == Some(true),
        })
    }

    fn api_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    /// What the other server's certificate has to be valid for.
    fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }
}

impl Aggregator {
    pub(crate) fn new(registry: Arc<Registry>, front_proxy: FrontProxy) -> Self {
        let services = Arc::new(RegistryServices::default());
        services.attach(Arc::downgrade(&registry));
        Aggregator {
            registry,
            services,
            front_proxy,
            backends: RwLock::default(),
            remotes: RwLock::default(),
        }
    }

    /// Who serves a group and version (`metrics.k8s.io/v1beta1`), if it is another server. What is built in stays here, whatever an
    /// APIService says.
    pub(crate) fn backend(&self, api_version: &str) -> Option<Arc<Backend>> {
        self.backends.read().get(api_version).cloned()
    }

    /// What other servers serve.
    pub(crate) fn remotes(&self) -> Arc<Remotes> {
        Arc::clone(&self.remotes.read())
    }

    /// All APIServices, as they are in the cache.
    fn api_services(&self) -> Vec<APIService> {
        let Some(resource) = self.registry.resource(API_VERSION, PLURAL) else {
            return Vec::new();
        };
        let Some(cache) = self.registry.caches.of(&resource) else {
            return Vec::new();
        };
        let records = cache.select(&resource.prefix(None), None, 0, |_| true).records;
        let read = |record: &Arc<crate::watch_cache::Record>| serde_json::from_slice(&record.json()).ok();
        records.iter().filter_map(read).collect()
    }

    /// Makes the backends those of the APIServices; what did not change keeps its connections.
    fn set_targets(&self, targets: Vec<Target>) {
        let table = self.registry.table();
        let ours: std::collections::HashSet<&str> = table
            .resources()
            .iter()
            .map(|resource| resource.api_version.as_str())
            .collect();
        let mut backends = self.backends.write();
        let mut before = std::mem::take(&mut *backends);
        for target in targets {
            let key = target.api_version();
            if ours.contains(key.as_str()) || local::is_ours(&key) {
                continue;
            }
            let kept = before.remove(&key).filter(|backend| backend.target == target);
            let backend = match kept {
                Some(backend) => backend,
                None => Arc::new(Backend {
                    client: dial::client(&target, &self.front_proxy, &self.services),
                    target,
                    available: AtomicBool::new(false),
                    openapi_v2: openapi_v2::Cache::default(),
                    shutdown: self.registry.shutdown.clone(),
                }),
            };
            backends.insert(key, backend);
        }
    }

    /// Publishes what other servers serve, if it is not what was known.
    fn set_remotes(&self, mut versions: Vec<Remote>) {
        versions.sort_by(|a, b| (&a.group, &a.version).cmp(&(&b.group, &b.version)));
        let mut remotes = self.remotes.write();
        let same = remotes.versions.len() == versions.len()
            && remotes.versions.iter().zip(&versions).all(|(old, new)| **old == *new);
        if !same {
            *remotes = Arc::new(Remotes {
                generation: remotes.generation + 1,
                versions: versions.into_iter().map(Arc::new).collect(),
            });
        }
    }
}

impl Backend {
    fn is_available(&self) -> bool {
        self.available.load(Ordering::Acquire)
    }
}

const API_VERSION: &str = "apiregistration.k8s.io/v1";
const PLURAL: &str = "apiservices";
