//! Keeps looking: at APIServices and their services when they change, and at other servers now and then.

use super::availability::{self, Known, Unavailable};
use super::{API_VERSION, Aggregator, Backend, Remote, Target, discovery, local};
use futures::future::{join_all, try_join_all};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceCondition};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often servers that answer are asked again …
const RECHECK: Duration = Duration::from_secs(30);
/// … and those that do not.
const RECHECK_FAILED: Duration = Duration::from_secs(5);
/// However much changes, they are not asked more often than this.
const BETWEEN_ROUNDS: Duration = Duration::from_secs(1);

/// Kinds whose changes matter.
const WATCHED: [(&str, &str); 4] = [
    (API_VERSION, super::PLURAL),
    ("v1", "services"),
    ("v1", "endpoints"),
    ("discovery.k8s.io/v1", "endpointslices"),
];

/// What came of asking a server whether it is there.
struct Asked {
    backend: Arc<Backend>,
    outcome: Result<(), Unavailable>,
    resources: Option<Arc<Value>>,
}

/// What it says its objects look like.
struct Described {
    /// The hash of its v3 document.
    openapi: Option<String>,
    /// Its part of the v2 document.
    openapi_v2: Option<Arc<Value>>,
}

impl Aggregator {
    /// Makes what every cluster has: the APIServices of what is built in.
    pub(crate) async fn prepare(&self, client: &Client) -> kube::Result<()> {
        self.sync_local(client, true).await
    }

    /// Runs until `shutdown`. Requests that fail are tried again at the next change or look.
    pub(crate) async fn run(self: Arc<Self>, client: Client, shutdown: CancellationToken) {
        let mut changes = self.changes();
        loop {
            let next_round = tokio::time::Instant::now() + BETWEEN_ROUNDS;
            for change in &mut changes {
                change.mark_seen();
            }
            if let Err(error) = self.sync_local(&client, false).await {
                tracing::warn!(%error, "the APIServices of what is served here could not be brought up to date");
            }
            let pause = self.look(&client).await;
            let seen = changes.iter_mut().map(Change::wait);
            let changed = futures::future::select_all(seen.map(Box::pin).collect::<Vec<_>>());
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = changed => {}
                () = sleep(pause) => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(next_round) => {}
            }
        }
    }

    /// What wakes the task up.
    fn changes(&self) -> Vec<Change> {
        let mut changes = vec![Change::Table(self.registry.subscribe_table())];
        for (api_version, plural) in WATCHED {
            let resource = self.registry.resource(api_version, plural);
            if let Some(cache) = resource.and_then(|resource| self.registry.caches.of(&resource)) {
                changes.push(Change::Cache(cache.subscribe()));
            }
        }
        changes
    }

    async fn sync_local(&self, client: &Client, starting: bool) -> kube::Result<()> {
        let plan = local::plan(&local::served(&self.registry.table()), &self.api_services(), starting);
        let services: Api<APIService> = Api::all(client.clone());
        let create = async |object| match services.create(&PostParams::default(), object).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => other.map(drop),
        };
        try_join_all(plan.create.iter().map(create)).await?;
        for object in &plan.replace {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            services.replace(name, &PostParams::default(), object).await?;
        }
        for name in &plan.delete {
            match services.delete(name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// Asks all other servers, and publishes what came of it. Returns when to look again; `None`: there are none.
    async fn look(&self, client: &Client) -> Option<Duration> {
        let objects = self.api_services();
        self.set_targets(objects.iter().filter_map(Target::of).collect());
        let backends: Vec<Arc<Backend>> = self.backends.read().values().cloned().collect();
        if backends.is_empty() {
            self.set_remotes(Vec::new());
            return None;
        }
        let asked = join_all(backends.into_iter().map(|backend| self.ask(backend))).await;
        self.set_remotes(self.remotes_of(&objects, asked.iter().map(|one| (one, None))));
        let mut pause = RECHECK;
        for one in &asked {
            if one.outcome.is_err() {
                pause = RECHECK_FAILED;
            }
            let name = &one.backend.target.name;
            if let Some(object) = named(&objects, name)
                && let Err(error) = publish(client, object, &one.outcome).await
            {
                tracing::warn!(%error, name, "the availability of an API could not be written");
            }
        }
        // Only now, as these are long, and nobody waits for them.
        let described = join_all(asked.iter().map(describe)).await;
        let both = asked.iter().zip(described.iter().map(Option::as_ref));
        self.set_remotes(self.remotes_of(&objects, both));
        Some(pause)
    }

    fn remotes_of<'a>(
        &self,
        objects: &[APIService],
        asked: impl Iterator<Item = (&'a Asked, Option<&'a Described>)>,
    ) -> Vec<Remote> {
        let remote = |(asked, described): (&Asked, Option<&Described>)| {
            let object = named(objects, &asked.backend.target.name)?;
            Some(self.remote(object, asked, described))
        };
        asked.filter_map(remote).collect()
    }

    /// As soon as it is known whether the server is there, requests are passed on to it or not, whatever becomes of others.
    async fn ask(&self, backend: Arc<Backend>) -> Asked {
        let known = Known::of(&self.registry, &backend.target);
        let probed = match availability::check(&backend.target, &known) {
            Ok(()) => backend.probe().await,
            Err(why) => Err(why),
        };
        backend.available.store(probed.is_ok(), Ordering::Release);
        let (outcome, resources) = match probed {
            Ok(list) => (Ok(()), discovery::resources(&list).map(Arc::new)),
            Err(why) => (Err(why), None),
        };
        Asked {
            backend,
            outcome,
            resources,
        }
    }

    /// While a server does not answer, what it said last is what is known.
    fn remote(&self, object: &APIService, asked: &Asked, described: Option<&Described>) -> Remote {
        let target = &asked.backend.target;
        let spec = object.spec.clone().unwrap_or_default();
        let remotes = self.remotes();
        let before = remotes.of(target);
        Remote {
            group: target.group.clone(),
            version: target.version.clone(),
            group_priority: spec.group_priority_minimum,
            version_priority: spec.version_priority,
            current: asked.outcome.is_ok(),
            resources: asked
                .resources
                .clone()
                .or_else(|| before.and_then(|before| before.resources.clone())),
            openapi: described
                .and_then(|described| described.openapi.clone())
                .or_else(|| before.and_then(|before| before.openapi.clone())),
            openapi_v2: match described {
                Some(described) => described.openapi_v2.clone(),
                None => before.and_then(|before| before.openapi_v2.clone()),
            },
        }
    }
}

/// `None` if the server is not there.
async fn describe(asked: &Asked) -> Option<Described> {
    asked.outcome.as_ref().ok()?;
    let backend = &asked.backend;
    let path = format!("apis/{}", backend.target.api_version());
    let index = backend.document("/openapi/v3").await.ok();
    let hash = index.and_then(|index| discovery::openapi_hash(&index, &path));
    Some(Described {
        openapi_v2: backend.openapi_v2(hash.as_deref()).await,
        openapi: hash,
    })
}

fn named<'a>(objects: &'a [APIService], name: &str) -> Option<&'a APIService> {
    objects
        .iter()
        .find(|object| object.metadata.name.as_deref() == Some(name))
}

/// A change that wakes the task up.
enum Change {
    Table(watch::Receiver<u64>),
    Cache(watch::Receiver<catamaran_store::Revision>),
}

impl Change {
    fn mark_seen(&mut self) {
        match self {
            Change::Table(receiver) => receiver.mark_unchanged(),
            Change::Cache(receiver) => receiver.mark_unchanged(),
        }
    }

    async fn wait(&mut self) {
        let changed = match self {
            Change::Table(receiver) => receiver.changed().await,
            Change::Cache(receiver) => receiver.changed().await,
        };
        if changed.is_err() {
            // Whoever changed it is gone, which happens when the server stops.
            std::future::pending::<()>().await;
        }
    }
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// Writes the condition, if it is not what is there.
async fn publish(client: &Client, object: &APIService, outcome: &Result<(), Unavailable>) -> kube::Result<()> {
    let Some(condition) = condition(object, outcome, Timestamp::now()) else {
        return Ok(());
    };
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let services: Api<APIService> = Api::all(client.clone());
    let others = object
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut conditions: Vec<APIServiceCondition> =
        others.filter(|other| other.type_ != condition.type_).cloned().collect();
    conditions.push(condition);
    let patch = Patch::Merge(json!({ "status": { "conditions": conditions } }));
    match services.patch_status(name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

/// The condition to write; `None` if it says so already.
fn condition(object: &APIService, outcome: &Result<(), Unavailable>, now: Timestamp) -> Option<APIServiceCondition> {
    let (status, reason, message) = match outcome {
        Ok(()) => ("True", "Passed", "all checks passed"),
        Err(why) => ("False", why.reason, why.message.as_str()),
    };
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref());
    let before = conditions
        .unwrap_or_default()
        .iter()
        .find(|condition| condition.type_ == "Available");
    let says = |condition: &&APIServiceCondition| {
        condition.status == status
            && condition.reason.as_deref() == Some(reason)
            && condition.message.as_deref() == Some(message)
    };
    if before.as_ref().is_some_and(says) {
        return None;
    }
    let since = before
        .filter(|before| before.status == status)
        .and_then(|before| before.last_transition_time.clone());
    Some(APIServiceCondition {
        type_: "Available".to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(since.unwrap_or(Time(now))),
    })
}
