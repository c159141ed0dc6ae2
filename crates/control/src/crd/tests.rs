//! What defining kinds costs, counted and not timed.

use super::*;
use crate::faulty_store::{Faulty, Op};
use crate::registry::{DeleteOptions, WriteOptions};
use catamaran_api::body::Body;
use catamaran_store::Store;
use futures::FutureExt as _;
use serde_json::{Value, json};

struct World {
    registry: Arc<Registry>,
    shutdown: CancellationToken,
}

impl World {
    async fn new() -> Self {
        Self::on(catamaran_store::open("mem:").expect("a store")).await
    }

    async fn on(store: Arc<dyn Store>) -> Self {
        let shutdown = CancellationToken::new();
        let registry = Registry::open(store, shutdown.clone()).await.expect("a registry");
        let registry = Arc::new(registry);
        tokio::spawn(Arc::clone(&registry.caches).follow(shutdown.clone()));
        tokio::spawn(Definitions::new(Arc::clone(&registry), shutdown.clone()).follow());
        World { registry, shutdown }
    }

    fn definitions(&self) -> Arc<Resource> {
        self.registry.resource(API_VERSION, PLURAL).expect("definitions")
    }

    /// Resolves when the definition is as it should be.
    async fn until(&self, index: usize, holds: impl Fn(Option<Value>) -> bool) {
        let cache = self.registry.caches.of(&self.definitions()).expect("a cache");
        let mut changes = cache.subscribe();
        let name = format!("widget{index}s.example.com");
        let read = || {
            let record = cache.get(None, &name);
            record.map(|record| serde_json::from_slice(record.bytes()).expect("JSON"))
        };
        while !holds(read()) {
            changes.changed().await.expect("a change");
        }
    }

    async fn define(&self, index: usize) {
        let target = Target {
            resource: self.definitions(),
            namespace: None,
            name: String::new(),
        };
        let body = Body {
            value: definition(index),
            duplicates: Vec::new(),
        };
        let written = self.registry.create(&target, body, &WriteOptions::default()).await;
        assert!(written.is_ok_and(|written| written.created));
        self.registry.definitions.wait(&self.registry).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn definition(index: usize) -> Value {
    json!({
        "metadata": {"name": format!("widget{index}s.example.com")},
        "spec": {
            "group": "example.com", "scope": "Cluster",
            "names": {"plural": format!("widget{index}s"), "singular": format!("widget{index}"),
                "kind": format!("Widget{index}"), "listKind": format!("Widget{index}List")},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    })
}

#[tokio::test]
async fn defining_kinds_costs_each_the_same() {
    const COUNT: usize = 120;
    let world = World::new().await;
    for index in 0..COUNT {
        world.define(index).await;
        let plural = format!("widget{index}s");
        assert!(world.registry.resource("example.com/v1", &plural).is_some());
    }
    // Once for what was written, and once for the status that says that it is served.
    let looks = world.registry.definitions.looks.load(Ordering::Relaxed);
    assert!(looks <= 3 * COUNT as u64, "{looks} looks at {COUNT} definitions");
    assert_eq!(world.registry.table_snapshots(), 0, "nobody asked for all kinds");
    assert_eq!(
        world.registry.table().resources().len(),
        world.registry.builtin().len() + COUNT
    );
}

fn is_established(definition: Option<Value>) -> bool {
    let conditions = definition.map(|definition| definition["status"]["conditions"].clone());
    let conditions: Vec<Value> = conditions
        .and_then(|conditions| serde_json::from_value(conditions).ok())
        .unwrap_or_default();
    conditions
        .iter()
        .any(|condition| condition["type"] == "Established" && condition["status"] == "True")
}

#[tokio::test]
async fn a_status_that_could_not_be_written_is_written_later() {
    let store = Faulty::new();
    let world = World::on(Arc::clone(&store) as _).await;
    store.fail(Op::Update, &world.definitions().prefix(None), 1);
    world.define(0).await;
    world.until(0, is_established).await;
}

#[tokio::test]
async fn a_definition_goes_even_if_its_end_cannot_be_written_at_once() {
    let store = Faulty::new();
    let world = World::on(Arc::clone(&store) as _).await;
    world.define(0).await;
    world.until(0, is_established).await;
    store.fail(Op::Delete, &world.definitions().prefix(None), 1);
    let definition = target(&world.definitions(), "widget0s.example.com");
    let deleted = world.registry.delete(&definition, &DeleteOptions::default()).await;
    assert!(deleted.is_ok());
    world.until(0, |definition| definition.is_none()).await;
}

/// Whoever asked may be gone before the store has done what it was asked.
#[tokio::test]
async fn a_definition_waits_for_creations_that_nobody_waits_for() {
    let store = Faulty::new();
    let world = World::on(Arc::clone(&store) as _).await;
    world.define(0).await;
    let resource = world.registry.resource("example.com/v1", "widget0s").expect("a kind");
    let gate = store.hold(Op::Create, &resource.prefix(None));
    let registry = Arc::clone(&world.registry);
    let key = resource.key(None, "w");
    let request = tokio::spawn(async move {
        let value = json!({"apiVersion": "example.com/v1", "kind": "Widget0", "metadata": {"name": "w"}});
        let body = Body {
            value,
            duplicates: Vec::new(),
        };
        let written = registry
            .create(&target(&resource, ""), body, &WriteOptions::default())
            .await;
        written
            .map(|written| written.created)
            .map_err(|status| status.message().to_owned())
    });
    gate.reached.notified().await;
    request.abort();
    assert!(request.await.is_err_and(|error| error.is_cancelled()));
    let definitions = &world.registry.definitions;
    assert_eq!(definitions.created().now_or_never(), None, "the write is under way");
    gate.open.notify_one();
    definitions.created().await;
    assert!(store.get(&key).await.expect("an answer").is_some());
}

/// Such a definition cannot be written here, but may be in the store.
#[tokio::test]
async fn a_definition_of_which_nothing_can_be_served_is_not_forgotten() {
    let store = Faulty::new();
    let shutdown = CancellationToken::new();
    let registry = Registry::open(Arc::clone(&store) as _, shutdown.clone())
        .await
        .expect("a registry");
    let registry = Arc::new(registry);
    tokio::spawn(Arc::clone(&registry.caches).follow(shutdown.clone()));
    let own = registry.resource(API_VERSION, PLURAL).expect("definitions");
    let mut damaged = definition(0);
    damaged["apiVersion"] = json!(API_VERSION);
    damaged["kind"] = json!("CustomResourceDefinition");
    damaged["spec"]["versions"][0]["storage"] = json!(false);
    let name = "widget0s.example.com";
    store
        .create(&own.key(None, name), damaged.to_string().into())
        .await
        .expect("a write");
    registry.caches.fresh().await.expect("fresh caches");
    let mut definitions = Definitions::new(Arc::clone(&registry), shutdown.clone());
    definitions.settle().await;
    assert!(definitions.failing.contains(name));
    shutdown.cancel();
}
