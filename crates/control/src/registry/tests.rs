use super::convert::Converter;
use super::filter::Filter;
use super::resource::{Change, Resource};
use super::{ListOptions, Registry, Target, Tick, WatchOptions, WriteOptions};
use crate::kinds::KindRef;
use catamaran_api::Status;
use catamaran_api::body::Body;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

mod laws;

struct World {
    registry: Arc<Registry>,
    shutdown: CancellationToken,
}

impl World {
    async fn new(options: &catamaran_store::Options) -> Self {
        let shutdown = CancellationToken::new();
        let store = catamaran_store::open_with("mem:", options).unwrap();
        let registry = Arc::new(Registry::open(store, shutdown.clone()).await.unwrap());
        tokio::spawn(Arc::clone(&registry.caches).follow(shutdown.clone()));
        let world = World { registry, shutdown };
        let namespace = json!({ "metadata": { "name": "default" } });
        world.create("namespaces", None, namespace).await;
        world
    }

    fn target(&self, plural: &str, namespace: Option<&str>) -> Target {
        Target {
            resource: self.registry.resource("v1", plural).unwrap(),
            namespace: namespace.map(ToOwned::to_owned),
            name: String::new(),
        }
    }

    async fn create(&self, plural: &str, namespace: Option<&str>, value: Value) {
        let body = Body {
            value,
            duplicates: Vec::new(),
        };
        let target = self.target(plural, namespace);
        self.registry
            .create(&target, body, &WriteOptions::default())
            .await
            .unwrap();
    }

    async fn names(&self, plural: &str) -> Vec<String> {
        let target = self.target(plural, None);
        let options = ListOptions {
            filter: Filter::parse(&target.resource, "", "").unwrap(),
            limit: 0,
            continue_token: String::new(),
            resource_version: String::new(),
            version_match: None,
            send_initial_events: None,
        };
        let list = self.registry.list(&target, &options).await.unwrap();
        list.records.iter().map(|record| record.name().to_owned()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// On one thread, the feed does not run while the store is written to without a pause: it falls out of the store's tail,
/// is cut off, and has to read the store anew.
#[tokio::test(flavor = "current_thread")]
async fn the_caches_survive_being_cut_off_by_the_store() {
    let options = catamaran_store::Options {
        tail_events: 4,
        ..catamaran_store::Options::default()
    };
    let world = World::new(&options).await;
    let target = world.target("configmaps", None);
    let watch = WatchOptions {
        filter: Filter::parse(&target.resource, "", "").unwrap(),
        resource_version: String::new(),
        version_match: None,
        bookmarks: false,
        send_initial_events: None,
        timeout: None,
    };
    let mut watching = world.registry.watch(&target, watch).await.unwrap();
    let key = |index: usize| target.resource.key(Some("default"), &format!("m{index:03}"));
    let value = |index: usize| {
        let name = format!("m{index:03}");
        format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","namespace":"default"}}}}"#)
    };
    // One at a time, so that the feed is live and in the tail before it is overrun.
    world.registry.store.create(&key(0), value(0).into()).await.unwrap();
    assert_eq!(world.names("configmaps").await, ["m000"]);
    for index in 1..500 {
        world
            .registry
            .store
            .create(&key(index), value(index).into())
            .await
            .unwrap();
    }
    assert_eq!(
        world.names("configmaps").await.len(),
        500,
        "nothing is missing after the gap"
    );

    // The watcher's tail is gone; it goes on with the store's history and misses nothing.
    let mut seen = Vec::new();
    while seen.len() < 500 {
        for tick in watching.next().await.expect("an event") {
            match tick {
                Tick::Object(Change::Added, record) => seen.push(record.name().to_owned()),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(seen, (0..500).map(|index| format!("m{index:03}")).collect::<Vec<_>>());
    // And life goes on.
    world.registry.store.delete(&key(7), None).await.unwrap();
    assert_eq!(world.names("configmaps").await.len(), 499);
    let ticks = watching.next().await.expect("an event");
    assert!(matches!(&ticks[..], [Tick::Object(Change::Deleted, record)] if record.name() == "m007"));
}

#[tokio::test]
async fn events_go_an_hour_after_they_last_happened() {
    let world = World::new(&catamaran_store::Options::default()).await;
    let now = Timestamp::now();
    let event = |name: &str, last: Timestamp| {
        json!({
            "metadata": { "name": name },
            "involvedObject": { "namespace": "default", "name": "x" },
            "lastTimestamp": last.to_string(),
        })
    };
    let minutes = SignedDuration::from_mins;
    world.create("events", Some("default"), event("old", now)).await;
    world
        .create("events", Some("default"), event("again", now + minutes(30)))
        .await;
    world.registry.sweep_events_once(now + minutes(59)).await;
    assert_eq!(world.names("events").await, ["again", "old"]);
    world.registry.sweep_events_once(now + minutes(62)).await;
    assert_eq!(world.names("events").await, ["again"]);
    world.registry.sweep_events_once(now + minutes(92)).await;
    assert!(world.names("events").await.is_empty());
    assert_eq!(world.names("namespaces").await, ["default"], "nothing else goes");
}

/// A converter that has time until it is told otherwise.
struct Slow {
    inner: Arc<dyn Converter>,
    waits: AtomicBool,
}

#[async_trait::async_trait]
impl Converter for Slow {
    async fn convert(&self, objects: Vec<Value>, api_version: &str) -> Result<Vec<Value>, Status> {
        if self.waits.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
        self.inner.convert(objects, api_version).await
    }
}

#[tokio::test]
async fn a_watch_that_does_not_wait_for_a_conversion_misses_nothing() {
    let world = World::new(&catamaran_store::Options::default()).await;
    let served = world.registry.resource("autoscaling/v1", "horizontalpodautoscalers");
    let served = served.unwrap();
    let KindRef::Builtin(kind) = served.kind else {
        panic!("it is built in");
    };
    let mut resource = Resource::builtin(kind);
    let slow = Arc::new(Slow {
        inner: resource.converter.take().unwrap(),
        waits: AtomicBool::new(true),
    });
    resource.converter = Some(Arc::clone(&slow) as Arc<dyn Converter>);
    let target = |resource| Target {
        resource,
        namespace: Some("default".to_owned()),
        name: String::new(),
    };
    let watched = target(Arc::new(resource));
    let options = WatchOptions {
        filter: Filter::parse(&watched.resource, "", "").unwrap(),
        resource_version: String::new(),
        version_match: None,
        bookmarks: false,
        send_initial_events: None,
        timeout: None,
    };
    let mut watching = world.registry.watch(&watched, options).await.unwrap();
    let body = Body {
        value: json!({
            "metadata": { "name": "a" },
            "spec": { "maxReplicas": 3, "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "d" } },
        }),
        duplicates: Vec::new(),
    };
    let written = world
        .registry
        .create(&target(served), body, &WriteOptions::default())
        .await;
    written.unwrap();
    world.registry.caches.fresh().await.unwrap();
    assert!(futures::poll!(std::pin::pin!(watching.next())).is_pending());
    slow.waits.store(false, Ordering::Release);
    let ticks = tokio::time::timeout(Duration::from_secs(30), watching.next()).await;
    let ticks = ticks.expect("the event is not lost").expect("the watch goes on");
    assert!(matches!(&ticks[..], [Tick::Object(Change::Added, record)] if record.name() == "a"));
}

/// What is under way when the server ends is answered then, and does not hold up the end.
#[tokio::test]
async fn nobody_waits_for_caches_that_follow_nothing() {
    let world = World::new(&catamaran_store::Options::default()).await;
    let caches = Arc::clone(&world.registry.caches);
    let later = caches.applied() + 100;
    let waiting = tokio::spawn({
        let caches = Arc::clone(&caches);
        async move { caches.wait_for(later, Duration::from_secs(3600)).await }
    });
    tokio::task::yield_now().await;
    world.shutdown.cancel();
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    let refused = waited.expect("it does not wait for an hour").unwrap().unwrap_err();
    assert_eq!(refused.code(), 504);
    let again = futures::poll!(std::pin::pin!(caches.wait_for(later, Duration::from_secs(3600))));
    assert!(again.is_ready());
}

/// The bytes of one object are damaged in the store. Who asks for it, or for all, is told; nobody is shown what it was before,
/// and nothing else suffers.
#[tokio::test]
async fn what_cannot_be_read_is_said_and_not_hidden() {
    let world = World::new(&catamaran_store::Options::default()).await;
    for name in ["a", "b"] {
        world
            .create("configmaps", Some("default"), json!({"metadata": {"name": name}}))
            .await;
    }
    let all = world.target("configmaps", Some("default"));
    let one = |name: &str| Target {
        name: name.to_owned(),
        ..all.clone()
    };
    let list = async |selector: &str| {
        let options = ListOptions {
            filter: Filter::parse(&all.resource, "", selector).unwrap(),
            limit: 0,
            continue_token: String::new(),
            resource_version: String::new(),
            version_match: None,
            send_initial_events: None,
        };
        let list = world.registry.list(&all, &options).await;
        match list {
            Ok(list) => list.records.iter().map(|record| record.name().to_owned()).collect(),
            Err(status) => vec![status.message().to_owned()],
        }
    };
    let watch = async |version: &str, selector: &str| {
        let options = WatchOptions {
            filter: Filter::parse(&all.resource, "", selector).unwrap(),
            resource_version: version.to_owned(),
            version_match: None,
            bookmarks: false,
            send_initial_events: None,
            timeout: None,
        };
        world.registry.watch(&all, options).await
    };
    assert_eq!(list("").await, ["a", "b"], "the caches show both");
    let before = world.registry.caches.applied().to_string();
    let mut live = watch(&before, "").await.unwrap();
    let key = one("a").key();
    let entry = world.registry.store.get(&key).await.unwrap().unwrap();
    let damaged = world
        .registry
        .store
        .update(&key, "{\"apiVersion\":".into(), entry.modified);
    damaged.await.unwrap();
    let why = "Internal error occurred: unable to decode key \"/registry/core/configmaps/default/a\": a stored ConfigMap \
               does not start as one";
    assert_eq!(list("").await, [why]);
    assert_eq!(list("metadata.name=a").await, [why]);
    assert_eq!(list("metadata.name=b").await, ["b"]);
    assert_eq!(world.registry.get(&one("a")).await.unwrap_err().message(), why);
    assert_eq!(world.registry.get(&one("b")).await.unwrap().name(), "b");
    // Watches: one that was there, one that replays the past in memory, a new one; and one of another object.
    let mut replayed = watch(&before, "").await.unwrap();
    for watching in [&mut live, &mut replayed] {
        let ticks = watching.next().await.expect("an event");
        assert!(
            matches!(&ticks[..], [Tick::Error(status)] if status.message() == why),
            "{ticks:?}"
        );
        assert!(watching.next().await.is_none(), "it is over");
    }
    assert!(watch("", "").await.is_err_and(|status| status.message() == why));
    let mut other = watch(&before, "metadata.name=b").await.unwrap();
    let entry = world.registry.store.get(&one("b").key()).await.unwrap().unwrap();
    let deleted = world.registry.store.delete(&entry.key, Some(entry.modified)).await;
    deleted.unwrap();
    let ticks = other.next().await.expect("an event");
    assert!(matches!(&ticks[..], [Tick::Object(Change::Deleted, record)] if record.name() == "b"));
    assert_eq!(
        world.registry.decode_errors(),
        [(String::new(), "configmaps".to_owned(), 1)]
    );
    // Deleted in the store, it is gone.
    world.registry.store.delete(&key, None).await.unwrap();
    assert_eq!(list("").await, Vec::<String>::new());
    assert_eq!(world.registry.get(&one("a")).await.unwrap_err().code(), 404);
}
