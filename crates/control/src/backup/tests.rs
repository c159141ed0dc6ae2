//! There and back, and what happens to backups that are none.

use super::*;
use crate::encryption::Vault;
use bytes::Bytes;
use catamaran_store::{Options, Sqlite, Store};
use std::path::Path;
use std::sync::Arc;

const PLACE: &str = "/registry/core/secrets/default/a";

fn vault(dir: &Path) -> Vault {
    let store: Arc<dyn Store> = Arc::new(Sqlite::open(&dir.join(STATE), &Options::default()).unwrap());
    Vault::open(store, dir, None).unwrap()
}

async fn backup(vault: &Vault) -> Vec<u8> {
    let mut bytes = Vec::new();
    Archive::take(vault).await.unwrap().write_to(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn a_backup_is_a_cluster_on_another_machine() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(here.path().join(PKI)).unwrap();
    std::fs::write(here.path().join("pki/ca.key"), "dear").unwrap();
    let original = vault(here.path());
    let value = Bytes::from_static(b"{\"x\":1}");
    original.store().create(PLACE, value.clone()).await.unwrap();
    let bytes = backup(&original).await;
    assert!(!here.path().join("backup.tmp").exists());
    let lost = original.store().create("/registry/b", value.clone()).await.unwrap();

    let restored = restore(&bytes[..], there.path(), false).await.unwrap();
    assert_eq!((restored.revision, restored.aside), (1, None));
    assert_eq!(
        std::fs::read_to_string(there.path().join("pki/ca.key")).unwrap(),
        "dear"
    );
    let again = vault(there.path());
    assert_eq!(again.store().get(PLACE).await.unwrap().unwrap().value, value);
    assert_eq!(again.store().get("/registry/b").await.unwrap(), None);
    assert!(
        matches!(
            again.store().watch("/registry/", lost.modified).await,
            Err(catamaran_store::Error::Compacted { .. })
        ),
        "whoever saw what was lost has to list anew"
    );
    assert!(again.store().create("/registry/c", value).await.unwrap().modified > lost.modified);
}

#[tokio::test]
async fn a_cluster_is_replaced_only_when_asked_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let original = vault(dir.path());
    original.store().create(PLACE, Bytes::from_static(b"{}")).await.unwrap();
    let bytes = backup(&original).await;
    original.store().delete(PLACE, None).await.unwrap();
    drop(original);
    assert!(matches!(
        restore(&bytes[..], dir.path(), false).await,
        Err(Error::NotEmpty { .. })
    ));
    assert_eq!(vault(dir.path()).store().get(PLACE).await.unwrap(), None, "untouched");
    let aside = restore(&bytes[..], dir.path(), true).await.unwrap().aside.unwrap();
    assert!(vault(dir.path()).store().get(PLACE).await.unwrap().is_some());
    assert_eq!(vault(&aside).store().get(PLACE).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_cut_off_or_changed_is_refused_and_nothing_written() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let original = vault(here.path());
    original.store().create(PLACE, Bytes::from_static(b"{}")).await.unwrap();
    let bytes = backup(&original).await;
    let empty = || std::fs::read_dir(there.path()).unwrap().next().is_none();
    for length in [0, 10, bytes.len() / 2, bytes.len() - 9, bytes.len() - 30] {
        let error = restore(&bytes[..length], there.path(), false).await.unwrap_err();
        assert!(
            matches!(error, Error::Damaged { .. } | Error::NoBackup { .. }),
            "{length}: {error}"
        );
        assert!(empty(), "{length}");
    }
    let error = restore(&b"hello, I am a text"[..], there.path(), false)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "this is no backup: invalid gzip header");
    assert!(empty());
}

#[tokio::test]
async fn an_archive_cannot_write_where_it_likes() {
    let there = tempfile::tempdir().unwrap();
    for name in [
        "kubeconfig",
        "pki/../../x",
        "pki/.hidden",
        "/etc/x",
        "state.db/x",
        "pki/sub/x",
    ] {
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, &b"x"[..]).unwrap();
        let bytes = tar.into_inner().unwrap().finish().unwrap();
        let error = restore(&bytes[..], there.path(), false).await.unwrap_err();
        assert!(matches!(error, Error::NoBackup { .. }), "{name}: {error}");
        assert!(std::fs::read_dir(there.path()).unwrap().next().is_none(), "{name}");
    }
}
