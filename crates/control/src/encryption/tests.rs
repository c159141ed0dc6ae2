//! The layer over a store: it keeps every promise a store makes, and nothing of a Secret reaches the disk.

use super::*;
use bytes::Bytes;
use catamaran_store::{Mem, Options, Sqlite};
use futures::StreamExt as _;

const PLACE: &str = "/registry/core/secrets/default/a";

fn files_contain(dir: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let content = std::fs::read(entry.unwrap().path()).unwrap();
        content.windows(needle.len()).any(|window| window == needle)
    })
}

fn sqlite(dir: &Path) -> Arc<dyn Store> {
    Arc::new(Sqlite::open(&dir.join("state.db"), &Options::default()).unwrap())
}

fn key_names(dir: &Path) -> Vec<String> {
    let file = KeyFile::open_or_create(dir).unwrap();
    file.keys().iter().map(|key| key.name().to_owned()).collect()
}

#[tokio::test]
async fn it_is_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let file = KeyFile::open_or_create(dir.path()).unwrap();
    let rules = Rules(vec![rules::Rule {
        prefix: String::new(),
        providers: vec![rules::Provider::AesGcm(file.keys().to_vec())],
    }]);
    let store = Sealed::new(Arc::new(Mem::default()), rules);
    let mut watch = store.watch("/", 0).await.unwrap();
    let first = store.create("/a", Bytes::from_static(b"one")).await.unwrap();
    let second = store
        .update("/a", Bytes::from_static(b"two"), first.modified)
        .await
        .unwrap();
    assert_eq!(store.get("/a").await.unwrap().unwrap(), second);
    assert_eq!(
        store.range("/", None, 0, Some(1)).await.unwrap().entries,
        std::slice::from_ref(&first)
    );
    let (last, _) = store.delete("/a", None).await.unwrap();
    assert_eq!(last, second);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(watch.next().await.unwrap().unwrap());
    }
    assert!(matches!(&seen[1], catamaran_store::Event::Put { entry, previous }
        if entry.value == "two" && previous.as_ref().is_some_and(|entry| entry.value == "one")));
}

#[tokio::test]
async fn the_files_do_not_hold_the_plaintext() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(sqlite(dir.path()), dir.path(), None).unwrap();
    let store = vault.store();
    let entry = store
        .create(PLACE, Bytes::from_static(b"{\"data\":\"c3VwZXJzZWNyZXQ=\"}"))
        .await
        .unwrap();
    store
        .update(
            PLACE,
            Bytes::from_static(b"{\"data\":\"c3VwZXJzZWNyZXQ=x\"}"),
            entry.modified,
        )
        .await
        .unwrap();
    let open = "/registry/core/configmaps/default/a";
    store
        .create(open, Bytes::from_static(b"{\"data\":\"for all to see\"}"))
        .await
        .unwrap();
    assert!(
        files_contain(dir.path(), b"for all to see"),
        "the search finds what is there"
    );
    assert!(!files_contain(dir.path(), b"c3VwZXJzZWNyZXQ"));
    assert_eq!(
        store.get(PLACE).await.unwrap().unwrap().value,
        "{\"data\":\"c3VwZXJzZWNyZXQ=x\"}"
    );
}

#[tokio::test]
async fn rotation_rewrites_under_writers_and_forgets_the_old_key() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Arc::new(Vault::open(sqlite(dir.path()), dir.path(), None).unwrap());
    let store = vault.store();
    for number in 0..700 {
        let place = format!("/registry/core/secrets/default/s{number:03}");
        store
            .create(&place, Bytes::from(format!("{{\"n\":{number}}}")))
            .await
            .unwrap();
    }
    let before = key_names(dir.path());
    let writer = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for number in 0..200 {
                let place = format!("/registry/core/secrets/default/w{number:03}");
                let entry = store.create(&place, Bytes::from_static(b"{}")).await.unwrap();
                store
                    .update(&place, Bytes::from_static(b"{\"x\":1}"), entry.modified)
                    .await
                    .unwrap();
            }
        }
    });
    let rotated = vault.rotate().await.unwrap();
    writer.await.unwrap();
    assert_eq!(rotated.dropped, before);
    assert!(rotated.rewritten >= 700, "{rotated:?}");
    assert_eq!(key_names(dir.path()), [rotated.key]);

    // Everything is readable with the new key alone, the history that is left included.
    drop((store, vault));
    let again = Vault::open(sqlite(dir.path()), dir.path(), None).unwrap();
    let page = again.store().range("/registry/", None, 0, None).await.unwrap();
    assert_eq!(page.entries.len(), 900);
    let mut watch = again
        .store()
        .watch("/registry/", again.store().compacted())
        .await
        .unwrap();
    let mut reached = again.store().compacted();
    while reached < page.revision {
        for event in watch.next().await.unwrap().unwrap() {
            reached = event.revision();
        }
    }
}

#[tokio::test]
async fn a_rotation_that_was_killed_is_finished_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(sqlite(dir.path()), dir.path(), None).unwrap();
    for name in ["a", "b", "c"] {
        let place = format!("/registry/core/secrets/default/{name}");
        vault.store().create(&place, Bytes::from_static(b"{}")).await.unwrap();
    }
    // As after the file was written, one value was rewritten, and then nothing.
    let keys = KeyFile::open_or_create(dir.path()).unwrap().with_new_primary().unwrap();
    keys.write(dir.path()).unwrap();
    vault.sealed.set_rules(own_rules(&keys)).await.unwrap();
    let entry = vault.store().get(PLACE).await.unwrap().unwrap();
    vault.store().update(PLACE, entry.value, entry.modified).await.unwrap();
    drop(vault);

    let again = Vault::open(sqlite(dir.path()), dir.path(), None).unwrap();
    assert_eq!(
        again
            .store()
            .range("/registry/", None, 0, None)
            .await
            .unwrap()
            .entries
            .len(),
        3
    );
    again.settle().await.unwrap();
    assert_eq!(key_names(dir.path()), [keys.keys()[0].name()]);
    assert_eq!(
        again
            .store()
            .range("/registry/", None, 0, None)
            .await
            .unwrap()
            .entries
            .len(),
        3
    );
    let revision = again.store().revision();
    again.settle().await.unwrap();
    assert_eq!(again.store().revision(), revision, "there is nothing left to do");
}

#[tokio::test]
async fn plaintext_from_before_is_read_and_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let inner = sqlite(dir.path());
    inner.create(PLACE, Bytes::from_static(b"{\"a\":1}")).await.unwrap();
    let vault = Vault::open(Arc::clone(&inner), dir.path(), None).unwrap();
    assert_eq!(vault.store().get(PLACE).await.unwrap().unwrap().value, "{\"a\":1}");
    vault.settle().await.unwrap();
    assert!(inner.get(PLACE).await.unwrap().unwrap().value.starts_with(b"k8s:enc:"));
    assert_eq!(vault.store().get(PLACE).await.unwrap().unwrap().value, "{\"a\":1}");
}

#[tokio::test]
async fn without_the_key_nothing_is_read_and_nothing_lost() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let inner: Arc<dyn Store> = Arc::new(Mem::default());
    let vault = Vault::open(Arc::clone(&inner), dir.path(), None).unwrap();
    vault.store().create(PLACE, Bytes::from_static(b"{}")).await.unwrap();
    let stranger = Vault::open(Arc::clone(&inner), other.path(), None).unwrap();
    let page = stranger.store().range("/registry/", None, 0, None).await.unwrap();
    let named = &key_names(dir.path())[0];
    let why = format!("it was encrypted with the key {named:?}, which is not among the configured ones");
    assert_eq!(unreadable(&page.entries[0].value), Some(why.as_str()));
    let Err(Error::Store(error)) = stranger.check().await else {
        panic!("it should not be able to vouch for it");
    };
    assert_eq!(
        error.to_string(),
        format!("the value of {PLACE} cannot be opened: {why}")
    );
    assert!(
        stranger.settle().await.is_err(),
        "it must not drop a key it cannot vouch for"
    );
    assert_eq!(vault.store().get(PLACE).await.unwrap().unwrap().value, "{}");
}
