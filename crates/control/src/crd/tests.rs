//! What defining kinds costs, counted and not timed.

use super::*;
use crate::registry::WriteOptions;
use catamaran_api::body::Body;
use serde_json::{Value, json};

struct World {
    registry: Arc<Registry>,
    shutdown: CancellationToken,
}

impl World {
    async fn new() -> Self {
        let shutdown = CancellationToken::new();
        let store = catamaran_store::open("mem:").expect("a store");
        let registry = Registry::open(store, shutdown.clone()).await.expect("a registry");
        let registry = Arc::new(registry);
        tokio::spawn(Arc::clone(&registry.caches).follow(shutdown.clone()));
        tokio::spawn(Definitions::new(Arc::clone(&registry), shutdown.clone()).follow());
        World { registry, shutdown }
    }

    async fn define(&self, index: usize) {
        let target = Target {
            resource: self.registry.resource(API_VERSION, PLURAL).expect("definitions"),
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
