//! The status of a ResourceQuota says what is used. Admission charges it before something is written; this recounts, and so gives
//! back what was deleted or has come to its end.
//! <https://kubernetes.io/docs/concepts/policy/resource-quotas/>

use crate::framework::discovery::{Catalog, Discovery, Resource};
use crate::framework::drive::{Change, Next, drive, source};
use crate::framework::requests::{is_conflict, is_not_found, objects};
use crate::touched::{Concern, Key, Listener};
use catamaran_api::quantity::Quantity;
use catamaran_kinds::quota::{Amounts, Counter, Subject, add, masked, of_wire, scopes_of, to_wire};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus, Service,
};
use kube::api::{ListParams, PostParams};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Quotas recounted at a time.
const WORKERS: usize = 4;
/// How long changes are gathered before they are counted.
const GATHER: Duration = Duration::from_millis(250);
/// Objects read at a time.
const PAGE: u32 = 500;

pub(crate) async fn run(client: Client, discovery: Discovery, counted: Listener, shutdown: CancellationToken) {
    let quotas = watcher(Api::<ResourceQuota>::all(client.clone()), watcher::Config::default());
    let followed = counted.clone();
    let sources = vec![
        source("resource quotas", quotas, move |change| {
            let quota = change.object();
            let key = (quota.namespace().unwrap_or_default(), quota.name_any());
            match change {
                Change::Is(_) => {
                    followed.follow(key.clone(), Concern::Any);
                    vec![key]
                }
                Change::Was(_) => {
                    followed.leave(&key);
                    Vec::new()
                }
            }
        }),
        counted.source(GATHER),
    ];
    drive("resourcequota", sources, WORKERS, shutdown, |key| {
        recount(client.clone(), discovery.catalog(), key)
    })
    .await;
}

/// Does a change of such an object change what is counted? Those of quotas themselves the watch shows.
pub(crate) fn is_counted(resource: &Resource) -> bool {
    !(resource.group.is_empty() && resource.api.plural == "resourcequotas")
}

async fn recount(client: Client, catalog: Arc<Catalog>, (namespace, name): Key) -> kube::Result<Next> {
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), &namespace);
    let Some(mut quota) = quotas.get_opt(&name).await? else {
        return Ok(Next::Done);
    };
    let spec = quota.spec.clone().unwrap_or_default();
    let hard = of_wire(spec.hard.as_ref());
    let used = used(&client, &catalog, &namespace, &spec, &hard).await?;
    let status = quota.status.clone().unwrap_or_default();
    if of_wire(status.hard.as_ref()) == hard && of_wire(status.used.as_ref()) == used {
        return Ok(Next::Done);
    }
    quota.status = Some(ResourceQuotaStatus {
        hard: spec.hard,
        used: Some(to_wire(&used)),
    });
    match quotas.replace_status(&name, &PostParams::default(), &quota).await {
        Err(error) if is_not_found(&error) => Ok(Next::Done),
        // Admission has charged it meanwhile: the count is not right any more.
        Err(error) if is_conflict(&error) => Ok(Next::After(Duration::from_millis(10))),
        other => other.map(|_| Next::Done),
    }
}

/// What is used of everything the quota bounds.
async fn used(
    client: &Client,
    catalog: &Catalog,
    namespace: &str,
    spec: &ResourceQuotaSpec,
    hard: &Amounts,
) -> kube::Result<Amounts> {
    let mut used = Amounts::new();
    for resource in catalog
        .preferred
        .iter()
        .filter(|resource| resource.namespaced && resource.can("list"))
    {
        let counter = Counter::of(&resource.group, &resource.api.plural);
        let names = hard.keys().filter(|name| counter.counts(name));
        let nothing: Amounts = names.map(|name| (name.clone(), Quantity::ZERO)).collect();
        if nothing.is_empty() {
            continue;
        }
        let sum = Sum {
            counter: &counter,
            spec,
            now: jiff::Timestamp::now(),
        };
        let total = match (resource.group.as_str(), resource.api.plural.as_str()) {
            ("", "pods") => sum.of(Api::<Pod>::namespaced(client.clone(), namespace)).await?,
            ("", "persistentvolumeclaims") => {
                let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
                sum.of(claims).await?
            }
            ("", "services") => sum.of(Api::<Service>::namespaced(client.clone(), namespace)).await?,
            _ => {
                let list = objects(client, &resource.api, Some(namespace));
                let list = list.list_metadata(&ListParams::default()).await?;
                list.items
                    .iter()
                    .fold(Amounts::new(), |total, _| sum.with(total, Subject::Other))
            }
        };
        used.extend(masked(&add(nothing, &total), hard));
    }
    Ok(used)
}

/// Objects that are more than counted.
trait Counted {
    fn subject(&self) -> Subject<'_>;
}

impl Counted for Pod {
    fn subject(&self) -> Subject<'_> {
        Subject::Pod(self)
    }
}

impl Counted for PersistentVolumeClaim {
    fn subject(&self) -> Subject<'_> {
        Subject::Claim(self)
    }
}

impl Counted for Service {
    fn subject(&self) -> Subject<'_> {
        Subject::Service(self)
    }
}

/// Adds up what objects of one resource cost one quota.
struct Sum<'a> {
    counter: &'a Counter,
    spec: &'a ResourceQuotaSpec,
    now: jiff::Timestamp,
}

impl Sum<'_> {
    fn with(&self, total: Amounts, subject: Subject<'_>) -> Amounts {
        if self.counter.in_scopes(&scopes_of(self.spec), subject) {
            add(total, &self.counter.usage(subject, self.now))
        } else {
            total
        }
    }

    /// Of all objects, page by page.
    async fn of<K>(&self, objects: Api<K>) -> kube::Result<Amounts>
    where
        K: Counted + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let mut total = Amounts::new();
        let mut parameters = ListParams::default().limit(PAGE);
        loop {
            let page = objects.list(&parameters).await?;
            total = page
                .items
                .iter()
                .fold(total, |total, object| self.with(total, object.subject()));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(total),
            }
        }
    }
}
