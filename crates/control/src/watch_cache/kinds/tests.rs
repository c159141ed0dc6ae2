//! A kind is installed while others write: nothing they wrote is missed, and nobody has to be quiet for it.

use super::*;
use crate::kinds;
use async_trait::async_trait;
use bytes::Bytes;
use catamaran_store::{Entry, Mem, Options, Revision, Store, Stretch, Watch};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_util::sync::CancellationToken;

/// A store in which somebody writes whenever the objects of a kind were just read.
struct Busy {
    inner: Mem,
    prefix: String,
    /// How many more times.
    storms: AtomicUsize,
    /// Writes objects of the kind itself, and not only others.
    own: bool,
}

impl Busy {
    async fn write(&self, round: usize) {
        let key = |kind: &str, name: &str| format!("{ROOT}core/{kind}/default/{name}");
        self.inner
            .create(&key("secrets", &format!("other{round}")), value("Secret", "other"))
            .await
            .expect("a write");
        if self.own {
            let name = format!("late{round}");
            let late = key("configmaps", &name);
            let created = self.inner.create(&late, value("ConfigMap", &name)).await;
            created.expect("a write");
            let early = key("configmaps", &format!("early{round}"));
            self.inner.delete(&early, None).await.expect("a deletion");
        }
    }
}

fn value(kind: &str, name: &str) -> Bytes {
    let json = format!(r#"{{"apiVersion":"v1","kind":"{kind}","metadata":{{"name":"{name}","namespace":"default"}}}}"#);
    json.into()
}

#[async_trait]
impl Store for Busy {
    async fn create(&self, key: &str, value: Bytes) -> Result<Entry, Error> {
        self.inner.create(key, value).await
    }

    async fn update(&self, key: &str, value: Bytes, expected: Revision) -> Result<Entry, Error> {
        self.inner.update(key, value, expected).await
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<(Entry, Revision), Error> {
        self.inner.delete(key, expected).await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        self.inner.get(key).await
    }

    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, Error> {
        let page = self.inner.range(prefix, after, limit, at).await?;
        let left = self.storms.load(Ordering::SeqCst);
        if prefix == self.prefix && left > 0 {
            self.storms.store(left - 1, Ordering::SeqCst);
            self.write(left).await;
        }
        Ok(page)
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Error> {
        self.inner.watch(prefix, after).await
    }

    async fn changes(&self, prefix: &str, after: Revision, until: Revision) -> Result<Stretch, Error> {
        self.inner.changes(prefix, after, until).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.compact(revision).await
    }

    async fn backup(&self, to: &Path) -> Result<Revision, Error> {
        self.inner.backup(to).await
    }

    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    fn compacted(&self) -> Revision {
        self.inner.compacted()
    }
}

fn resource(plural: &str) -> Arc<Resource> {
    let kind = kinds::ALL.iter().find(|kind| kind.info().plural == plural);
    Arc::new(Resource::builtin(*kind.expect("a kind")))
}

struct World {
    store: Arc<Busy>,
    caches: Arc<Caches>,
    shutdown: CancellationToken,
}

impl World {
    /// Twelve config maps are there from before, and caches of these kinds.
    async fn new(own: bool, cached: &[&str]) -> World {
        let maps = resource("configmaps");
        let store = Arc::new(Busy {
            inner: Mem::new(&Options::default()),
            prefix: maps.prefix(None),
            storms: AtomicUsize::new(0),
            own,
        });
        for round in 1..=12 {
            let name = format!("early{round}");
            let key = maps.key(Some("default"), &name);
            store.create(&key, value("ConfigMap", &name)).await.expect("a write");
        }
        let cached: Vec<Arc<Resource>> = cached.iter().map(|plural| resource(plural)).collect();
        let caches = Arc::new(Caches::new(Arc::clone(&store) as Arc<dyn Store>, &cached));
        caches.load().await.expect("a load");
        let shutdown = CancellationToken::new();
        tokio::spawn(Arc::clone(&caches).follow(shutdown.clone()));
        store.storms.store(12, Ordering::SeqCst);
        World {
            store,
            caches,
            shutdown,
        }
    }

    async fn names(&self) -> Vec<String> {
        self.caches.fresh().await.expect("fresh caches");
        let maps = resource("configmaps");
        let cache = self.caches.of(&maps).expect("a cache");
        let records = cache.select(&maps.prefix(None), None, 0, |_| true).records;
        records.iter().map(|record| record.name().to_owned()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test]
async fn writers_of_other_kinds_need_not_be_silent() {
    let world = World::new(false, &["secrets"]).await;
    world.caches.install(resource("configmaps")).await.expect("installed");
    assert_eq!(world.names().await.len(), 12);
    let left = world.store.storms.load(Ordering::SeqCst);
    assert_eq!(left, 11, "the objects were read once");
}

#[tokio::test]
async fn what_is_written_while_objects_are_read_is_not_missed() {
    for cached in [&["secrets"][..], &["secrets", "configmaps"]] {
        let world = World::new(true, cached).await;
        let before = world.caches.of(&resource("configmaps"));
        world.caches.install(resource("configmaps")).await.expect("installed");
        let names = world.names().await;
        let has = |names: &[String], name: &str| names.iter().any(|own| own == name);
        assert!(has(&names, "late12") && !has(&names, "early12"), "{names:?}");
        assert_eq!((names.len(), world.store.storms.load(Ordering::SeqCst)), (12, 11));
        assert!(before.is_none_or(|before| before.closed().is_cancelled()));
        world.store.write(3).await;
        assert!(has(&world.names().await, "late3"));
        // Gone and back again, with somebody writing in between.
        world.caches.uninstall(&resource("configmaps"));
        world.store.write(4).await;
        world.caches.install(resource("configmaps")).await.expect("installed");
        let names = world.names().await;
        assert!(has(&names, "late4") && has(&names, "late11"), "{names:?}");
        assert!(world.caches.feeding.lock().is_empty(), "nothing is caught for ever");
    }
}
