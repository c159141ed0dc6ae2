//! A namespace that is being deleted is emptied, and then let go.
//!
//! ```text
//!   Terminating ─▶ delete what is in it, pods first ─▶ conditions ─▶ empty? ─▶ finalize ─▶ gone
//!        ▲                                                │ no
//!        └────── something went, or is new ◀── watch ─────┘
//! ```
//! <https://kubernetes.io/docs/tasks/administer-cluster/namespaces/#deleting-a-namespace>

mod conditions;

use crate::framework::discovery::{Catalog, Resource, discover};
use crate::framework::drive::{Change, Next, drive, source};
use crate::framework::requests::{chain, is_not_found, objects};
use conditions::Findings;
use futures::stream::FuturesUnordered;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt as _};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Namespaces that are emptied at a time.
const WORKERS: usize = 256;
/// Collections of one namespace that are asked for at a time.
const TOGETHER: usize = 8;
/// What stands for us in `spec.finalizers`.
const FINALIZER: &str = "kubernetes";
/// Seconds after which a watch for what is left ends, and everything is looked at anew.
const WATCH_SECONDS: u32 = 290;
/// How long a namespace that does not get empty is waited for at a time, and then left alone.
const PATIENCE: Duration = Duration::from_secs(5);
/// After something went and something is left: how long to wait for more before counting again.
const SETTLE: Duration = Duration::from_secs(1);

pub(crate) async fn run(client: Client, shutdown: CancellationToken) {
    let namespaces = watcher(
        Api::<PartialObjectMeta<Namespace>>::all(client.clone()),
        watcher::Config::default(),
    );
    let sources = vec![source("namespaces", namespaces, |change| match change {
        Change::Is(namespace) if namespace.metadata.deletion_timestamp.is_some() => vec![namespace.name_any()],
        _ => Vec::new(),
    })];
    drive("namespace", sources, WORKERS, shutdown, |name| {
        remove(client.clone(), name)
    })
    .await;
}

/// Empties one namespace and lets it go, if nothing is in the way.
async fn remove(client: Client, name: String) -> kube::Result<Next> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut looked = false;
    loop {
        let Some(namespace) = namespaces.get_opt(&name).await? else {
            return Ok(Next::Done);
        };
        let ours = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
        if namespace.metadata.deletion_timestamp.is_none() || ours.into_iter().all(|finalizer| finalizer != FINALIZER) {
            return Ok(Next::Done);
        }
        let catalog = discover(&client).await?;
        let content = Content {
            client: client.clone(),
            namespace: name.clone(),
            catalog,
        };
        let Pass { left, found, findings } = content.delete().await;
        let version = write_conditions(&namespaces, namespace, &findings).await?;
        if !left.is_empty() {
            // What stays longer does not keep a worker from the other namespaces.
            match tokio::time::timeout(PATIENCE, content.wait(&left)).await {
                Ok(result) => result?,
                Err(_) => return Ok(Next::After(PATIENCE)),
            }
            looked = true;
            continue;
        }
        if findings.is_trouble() {
            return Ok(Next::After(PATIENCE));
        }
        // Whoever began to create something before the deletion was seen has finished by the second look. There is none after
        // the namespace is let go: by then the name may be that of a new one, whose content is not ours to delete.
        if found || !looked {
            looked = true;
            continue;
        }
        finalize(&client, version).await?;
        return Ok(Next::Done);
    }
}

/// What a namespace has in it.
struct Content {
    client: Client,
    namespace: String,
    catalog: Catalog,
}

/// What came of deleting everything once.
#[derive(Default)]
struct Pass {
    left: Vec<Left>,
    /// Was there anything at all?
    found: bool,
    findings: Findings,
}

/// What is left of one resource.
struct Left {
    resource: Arc<Resource>,
    count: usize,
    version: String,
}

impl Content {
    /// Deletes everything that can be deleted, and tells what is left. Pods go first: what they use outlives them.
    async fn delete(&self) -> Pass {
        let mut pass = Pass::default();
        self.catalog
            .failed
            .iter()
            .for_each(|(group, version)| pass.findings.undiscovered(group, version));
        let deletable =
            |resource: &&Arc<Resource>| resource.namespaced && resource.can("delete") && resource.can("list");
        let (pods, others): (Vec<_>, Vec<_>) = self
            .catalog
            .preferred
            .iter()
            .filter(deletable)
            .cloned()
            .partition(|resource| is_pods(resource));
        self.delete_all(pods, &mut pass).await;
        if pass.left.is_empty() {
            self.delete_all(others, &mut pass).await;
        }
        pass
    }

    async fn delete_all(&self, resources: Vec<Arc<Resource>>, pass: &mut Pass) {
        let results: Vec<_> = futures::stream::iter(resources)
            .map(|resource| async move { (Arc::clone(&resource), self.delete_resource(&resource).await) })
            .buffer_unordered(TOGETHER)
            .collect()
            .await;
        for (resource, result) in results {
            match result {
                Ok(None) => {}
                Ok(Some(rest)) if rest.items.is_empty() => pass.found = true,
                Ok(Some(rest)) => {
                    pass.found = true;
                    let finalizers = count_finalizers(&rest.items);
                    if finalizers.is_empty() && !is_pods(&resource) {
                        pass.findings.unexpected(&self.namespace, &resource);
                    }
                    pass.findings.remain(&resource, rest.items.len(), finalizers);
                    pass.left.push(Left {
                        resource,
                        count: rest.items.len(),
                        version: rest.metadata.resource_version.unwrap_or_default(),
                    });
                }
                Err(error) => pass.findings.failed(chain(&error)),
            }
        }
    }

    /// Deletes the objects of a resource, and tells what is left. `None`: there were none.
    async fn delete_resource(
        &self,
        resource: &Resource,
    ) -> kube::Result<Option<kube::core::ObjectList<PartialObjectMeta<DynamicObject>>>> {
        let objects = objects(&self.client, &resource.api, Some(&self.namespace));
        let list = |objects: Api<DynamicObject>| async move {
            match objects.list_metadata(&ListParams::default()).await {
                // It was taken away with its definition.
                Err(error) if is_not_found(&error) => Ok(None),
                Err(error) => Err(error),
                Ok(list) => Ok(Some(list)),
            }
        };
        let present = list(objects.clone()).await?;
        let Some(present) = present.filter(|present| !present.items.is_empty()) else {
            return Ok(None);
        };
        // Nobody is orphaned: dependents are in here, too.
        let parameters = DeleteParams::background();
        if resource.can("deletecollection") {
            objects.delete_collection(&parameters, &ListParams::default()).await?;
        } else {
            for object in &present.items {
                match objects.delete(&object.name_any(), &parameters).await {
                    Err(error) if !is_not_found(&error) => return Err(error),
                    _ => {}
                }
            }
        }
        list(objects).await
    }

    /// Resolves when nothing is left of all this, or a while after something has changed.
    async fn wait(&self, left: &[Left]) -> kube::Result<()> {
        let emptied: FuturesUnordered<_> = left.iter().map(|left| self.until_empty(left)).collect();
        let changed: FuturesUnordered<_> = left.iter().map(|left| self.until_changed(left)).collect();
        let mut emptied = std::pin::pin!(emptied.try_collect::<Vec<()>>());
        let mut changed = std::pin::pin!(changed.into_future());
        tokio::select! {
            result = &mut emptied => return result.map(drop),
            (first, _) = &mut changed => first.unwrap_or(Ok(()))?,
        }
        match tokio::time::timeout(SETTLE, emptied).await {
            Ok(result) => result.map(drop),
            Err(_) => Ok(()),
        }
    }

    /// Resolves when as many objects are gone as there were.
    async fn until_empty(&self, left: &Left) -> kube::Result<()> {
        self.until_gone(left, left.count).await
    }

    async fn until_changed(&self, left: &Left) -> kube::Result<()> {
        self.until_gone(left, 1).await
    }

    async fn until_gone(&self, left: &Left, mut count: usize) -> kube::Result<()> {
        let objects = objects(&self.client, &left.resource.api, Some(&self.namespace));
        let parameters = WatchParams::default().timeout(WATCH_SECONDS);
        let mut events = objects.watch_metadata(&parameters, &left.version).await?.boxed();
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Deleted(_) => count -= 1,
                WatchEvent::Error(_) => return Ok(()),
                WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Bookmark(_) => {}
            }
            if count == 0 {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn is_pods(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.api.plural == "pods"
}

fn count_finalizers(objects: &[PartialObjectMeta<DynamicObject>]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for finalizer in objects
        .iter()
        .flat_map(|object| object.metadata.finalizers.iter().flatten())
    {
        *counts.entry(finalizer.clone()).or_insert(0) += 1;
    }
    counts
}

/// Says in the namespace what was found. Returns it as it is then.
async fn write_conditions(
    namespaces: &Api<Namespace>,
    mut namespace: Namespace,
    findings: &Findings,
) -> kube::Result<Namespace> {
    let status = namespace.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    if !findings.update(conditions, &Time(jiff::Timestamp::now())) {
        return Ok(namespace);
    }
    let name = namespace.name_any();
    match namespaces
        .replace_status(&name, &PostParams::default(), &namespace)
        .await
    {
        Err(error) if is_not_found(&error) => Ok(namespace),
        other => other,
    }
}

/// Takes our hold off the namespace. Other finalizers may still keep it.
async fn finalize(client: &Client, mut namespace: Namespace) -> kube::Result<()> {
    let name = namespace.name_any();
    let spec = namespace.spec.get_or_insert_default();
    let others = spec.finalizers.take().unwrap_or_default();
    spec.finalizers = Some(others.into_iter().filter(|finalizer| finalizer != FINALIZER).collect());
    let body = serde_json::to_vec(&namespace).map_err(kube::Error::SerdeError)?;
    let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(kube::Error::HttpError)?;
    match client.request::<Namespace>(request).await {
        Err(error) if is_not_found(&error) => Ok(()),
        other => other.map(drop),
    }
}
