//! Which resources there are. Asked for when it may have changed: after changes of CustomResourceDefinitions and APIServices,
//! and when somebody meets a type that is not known.

use super::requests::{chain, metadata};
use futures::{FutureExt as _, StreamExt as _};
use http::header;
use kube::Client;
use kube::core::ApiResource;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// What is asked for.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// When to ask after a change: what a definition says is served at once, or a moment later.
const ASK_AFTER: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(300),
    Duration::from_secs(2),
    Duration::from_secs(10),
];
/// Pause after discovery failed.
const RETRY: Duration = Duration::from_secs(2);
/// Resources whose objects say that there are other resources.
const DEFINING: [(&str, &str, &str, &str); 2] = [
    (
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
    ),
    ("apiregistration.k8s.io", "v1", "APIService", "apiservices"),
];

/// A served resource.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) api: ApiResource,
    pub(crate) namespaced: bool,
    verbs: Vec<String>,
}

impl Resource {
    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }

    /// `deployments.apps`, with a dot at the end where there is no group, as conditions name it.
    pub(crate) fn dotted(&self) -> String {
        format!("{}.{}", self.api.plural, self.group)
    }

    #[cfg(test)]
    pub(crate) fn of_test(plural: &str) -> Self {
        Resource {
            group: String::new(),
            api: ApiResource {
                group: String::new(),
                version: "v1".to_owned(),
                api_version: "v1".to_owned(),
                kind: "Test".to_owned(),
                plural: plural.to_owned(),
            },
            namespaced: true,
            verbs: Vec::new(),
        }
    }
}

/// All served resources.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// Each in the version its group prefers.
    pub(crate) preferred: Vec<Arc<Resource>>,
    by_kind: HashMap<(String, String), Arc<Resource>>,
    /// Groups with versions that could not be asked, and those versions.
    pub(crate) failed: Vec<(String, String)>,
}

impl Catalog {
    /// A type by what owner references call it.
    pub(crate) fn find(&self, api_version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.by_kind.get(&(api_version.to_owned(), kind.to_owned()))
    }
}

/// Asks the server.
pub(crate) async fn discover(client: &Client) -> kube::Result<Catalog> {
    let mut catalog = Catalog::default();
    for path in ["/api", "/apis"] {
        let request = http::Request::get(path)
            .header(header::ACCEPT, AGGREGATED)
            .body(Vec::new())
            .map_err(kube::Error::HttpError)?;
        let list: GroupList = client.request(request).await?;
        list.items.into_iter().for_each(|group| group.add_to(&mut catalog));
    }
    Ok(catalog)
}

/// The catalog, kept up to date.
#[derive(Clone)]
pub(crate) struct Discovery {
    catalog: watch::Receiver<Arc<Catalog>>,
    wanted: Arc<Notify>,
}

impl Discovery {
    /// Starts to keep a catalog; the future does it.
    pub(crate) fn new(client: Client, shutdown: CancellationToken) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, catalog) = watch::channel(Arc::new(Catalog::default()));
        let wanted = Arc::new(Notify::new());
        let keep = keep(client, sender, Arc::clone(&wanted), shutdown);
        (Discovery { catalog, wanted }, keep)
    }

    /// The catalog; empty before the first answer.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.borrow())
    }

    /// Resolves when there is another one.
    pub(crate) async fn changed(&mut self) {
        if self.catalog.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.catalog.mark_unchanged();
    }

    /// Somebody met a type that is not known.
    pub(crate) fn ask(&self) {
        self.wanted.notify_one();
    }
}

async fn keep(client: Client, sender: watch::Sender<Arc<Catalog>>, wanted: Arc<Notify>, shutdown: CancellationToken) {
    let mut definitions = futures::stream::select_all(Vec::new());
    let mut followed = Vec::new();
    // Steps of `ASK_AFTER` that are left, and when the next one is.
    let mut step = 0;
    let mut due = Some(tokio::time::Instant::now());
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(()) = definitions.next() => {
                // What comes together is one change.
                while definitions.next().now_or_never().flatten().is_some() {}
                step = 0;
                due = Some(tokio::time::Instant::now());
            }
            () = wanted.notified(), if due.is_none() => {
                step = ASK_AFTER.len();
                due = Some(tokio::time::Instant::now() + RETRY);
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {
                match discover(&client).await {
                    Err(error) => {
                        tracing::debug!(error = chain(&error), "discovery failed; trying again");
                        due = Some(tokio::time::Instant::now() + RETRY);
                    }
                    Ok(catalog) => {
                        for stream in follow(&client, &catalog, &mut followed) {
                            definitions.push(stream);
                        }
                        sender.send_if_modified(|present| {
                            let differs = present.preferred != catalog.preferred || present.failed != catalog.failed;
                            if differs {
                                *present = Arc::new(catalog);
                            }
                            differs
                        });
                        step += 1;
                        due = ASK_AFTER.get(step).map(|pause| tokio::time::Instant::now() + *pause);
                    }
                }
            }
        }
    }
}

/// Watches of what defines resources, those that do not run yet.
fn follow(
    client: &Client,
    catalog: &Catalog,
    followed: &mut Vec<&'static str>,
) -> Vec<futures::stream::BoxStream<'static, ()>> {
    let mut streams = Vec::new();
    for (group, version, kind, plural) in DEFINING {
        let Some(resource) = catalog.find(&format!("{group}/{version}"), kind) else {
            continue;
        };
        if followed.contains(&plural) {
            continue;
        }
        followed.push(plural);
        let stream = watcher(metadata(client, &resource.api), watcher::Config::default()).default_backoff();
        streams.push(stream.filter_map(|event| async move { event.ok().map(drop) }).boxed());
    }
    streams
}

#[derive(Deserialize)]
struct GroupList {
    #[serde(default)]
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: Named,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Default, Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<Served>,
    #[serde(default)]
    freshness: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Served {
    resource: String,
    #[serde(default)]
    response_kind: Option<Kind>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    kind: String,
}

impl Group {
    /// The versions come in the order the group prefers them.
    fn add_to(self, catalog: &mut Catalog) {
        let group = self.metadata.name;
        for Version {
            version,
            resources,
            freshness,
        } in self.versions
        {
            let api_version = if group.is_empty() {
                version.clone()
            } else {
                format!("{group}/{version}")
            };
            if freshness == "Stale" {
                catalog.failed.push((group.clone(), version.clone()));
            }
            for served in resources {
                let kind = served.response_kind.map(|kind| kind.kind).unwrap_or_default();
                let resource = Arc::new(Resource {
                    group: group.clone(),
                    api: ApiResource {
                        group: group.clone(),
                        version: version.clone(),
                        api_version: api_version.clone(),
                        kind: kind.clone(),
                        plural: served.resource,
                    },
                    namespaced: served.scope == "Namespaced",
                    verbs: served.verbs,
                });
                let is_new = !catalog
                    .preferred
                    .iter()
                    .any(|other| other.group == resource.group && other.api.plural == resource.api.plural);
                if is_new {
                    catalog.preferred.push(Arc::clone(&resource));
                }
                catalog.by_kind.entry((api_version.clone(), kind)).or_insert(resource);
            }
        }
    }
}
