//! What the durable backend says to files that are not its own, and how it lives with a full disk.

use bytes::Bytes;
use catamaran_store::{Error, Options, Sqlite, Store};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("state.db");
    (directory, path)
}

fn refusal(path: &Path) -> String {
    match Sqlite::open(path, &Options::default()) {
        Ok(_) => panic!("the file was accepted"),
        Err(error) => error.to_string().replace(&path.display().to_string(), "FILE"),
    }
}

#[test]
fn a_text_file_is_refused_and_left_alone() {
    let (_directory, path) = scratch();
    std::fs::write(&path, "not a database, but dear to somebody").expect("write");
    assert_eq!(
        refusal(&path),
        "FILE cannot be used as a Catamaran store: it is not a SQLite database"
    );
    let content = std::fs::read_to_string(&path).expect("read");
    assert_eq!(content, "not a database, but dear to somebody");
}

#[test]
fn a_database_of_another_program_is_refused() {
    let (_directory, path) = scratch();
    let foreign = rusqlite::Connection::open(&path).expect("open");
    foreign
        .execute_batch("CREATE TABLE notes (text); INSERT INTO notes VALUES ('mine')")
        .expect("fill");
    drop(foreign);
    assert_eq!(
        refusal(&path),
        "FILE cannot be used as a Catamaran store: it is the SQLite database of another program"
    );
}

#[test]
fn a_newer_schema_is_refused() {
    let (_directory, path) = scratch();
    drop(Sqlite::open(&path, &Options::default()).expect("open"));
    let newer = rusqlite::Connection::open(&path).expect("open");
    newer.pragma_update(None, "user_version", 7).expect("set");
    drop(newer);
    assert_eq!(
        refusal(&path),
        "FILE cannot be used as a Catamaran store: it has schema version 7; this program reads version 1"
    );
}

#[test]
fn a_damaged_file_is_refused() {
    let (_directory, path) = scratch();
    drop(Sqlite::open(&path, &Options::default()).expect("open"));
    let mut content = std::fs::read(&path).expect("read");
    content[100..4_096].fill(0xa5);
    std::fs::write(&path, content).expect("write");
    let refusal = refusal(&path);
    assert!(
        refusal.starts_with("FILE cannot be used as a Catamaran store: it is damaged ("),
        "{refusal}"
    );
    assert!(refusal.ends_with("restore it from a backup"), "{refusal}");
}

#[test]
fn a_second_opener_is_refused() {
    let (_directory, path) = scratch();
    let first = Sqlite::open(&path, &Options::default()).expect("open");
    assert_eq!(refusal(&path), "FILE is in use by another process");
    drop(first);
    Sqlite::open(&path, &Options::default()).expect("free again");
}

#[test]
fn a_missing_directory_is_an_error() {
    let (directory, _) = scratch();
    let path = directory.path().join("missing").join("state.db");
    assert!(matches!(
        Sqlite::open(&path, &Options::default()),
        Err(Error::Backend { .. })
    ));
}

#[test]
fn the_files_are_private() {
    let (directory, path) = scratch();
    let _store = Sqlite::open(&path, &Options::default()).expect("open");
    for file in std::fs::read_dir(directory.path()).expect("list") {
        let file = file.expect("entry");
        let mode = file.metadata().expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
    }
}

#[test]
fn urls_name_their_backend() {
    let (_directory, path) = scratch();
    assert!(catamaran_store::open("mem:").is_ok());
    assert!(catamaran_store::open(&format!("sqlite:{}", path.display())).is_ok());
    for url in ["etcd://x", "sqlite:", "mem:x", "state.db"] {
        assert!(matches!(catamaran_store::open(url), Err(Error::Url { .. })), "{url}");
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_the_store_goes_on() {
    let (_directory, path) = scratch();
    let options = Options {
        max_bytes: Some(1 << 20),
        ..Options::default()
    };
    let store = Sqlite::open(&path, &options).expect("open");
    let value = Bytes::from(vec![7; 100_000]);
    let mut written = 0;
    let refused = loop {
        match store.create(&format!("big/{written}"), value.clone()).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::Backend { .. }), "{refused}");
    assert!((5..=10).contains(&written));
    assert_eq!(store.revision(), written, "the refused write took no revision");
    assert!(store.get(&format!("big/{written}")).await.expect("get").is_none());
    store
        .create("small", Bytes::from_static(b"x"))
        .await
        .expect("what fits is still written");
    for index in 0..written {
        store.delete(&format!("big/{index}"), None).await.expect("delete");
    }
    store.compact(store.revision()).await.expect("compact");
    store.create("big/again", value).await.expect("room again");
}

#[tokio::test]
async fn lease_churn_does_not_grow_the_file() {
    let (directory, path) = scratch();
    let options = Options {
        max_revisions: 64,
        ..Options::default()
    };
    let store = Sqlite::open(&path, &options).expect("open");
    let value = Bytes::from(vec![7; 4_000]);
    let mut at = store.create("lease", value.clone()).await.expect("create").modified;
    for _ in 0..1_500 {
        at = store.update("lease", value.clone(), at).await.expect("update").modified;
    }
    drop(store);
    let bytes: u64 = std::fs::read_dir(directory.path())
        .expect("list")
        .map(|file| file.expect("entry").metadata().expect("metadata").len())
        .sum();
    assert!(bytes < 1_500_000, "1,500 renewals of 4 kB left {bytes} bytes");
}

#[tokio::test]
async fn freed_space_is_given_back() {
    let (_directory, path) = scratch();
    let store = Sqlite::open(&path, &Options::default()).expect("open");
    let value = Bytes::from(vec![7; 1 << 20]);
    for index in 0..12 {
        store.create(&format!("{index}"), value.clone()).await.expect("create");
    }
    for index in 0..12 {
        store.delete(&format!("{index}"), None).await.expect("delete");
    }
    store.compact(store.revision()).await.expect("compact");
    // Tidying happens when nobody writes, so there is no event to wait for.
    let mut length = u64::MAX;
    for _ in 0..1_000 {
        length = std::fs::metadata(&path).expect("metadata").len();
        if length < 6 << 20 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the file still has {length} bytes");
}

/// A file system of 2 MB of its own, gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, and a word about it, without root; in CI that is a failure.
    fn mount() -> Option<SmallDisk> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(directory.path())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(SmallDisk(directory));
        }
        assert!(std::env::var("CI").is_err(), "needs root");
        println!("skipped: needs root");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg(self.0.path()).status();
        assert!(
            unmounted.is_ok_and(|status| status.success()),
            "the small disk stays mounted"
        );
    }
}

#[tokio::test]
async fn a_disk_that_is_really_full_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let path = disk.0.path().join("state.db");
    let filler = disk.0.path().join("filler");
    let store = Sqlite::open(&path, &Options::default()).expect("open");
    let value = Bytes::from(vec![7; 10_000]);
    std::fs::write(&filler, vec![0; 500_000]).expect("fill");
    let mut written = 0;
    let refused = loop {
        match store.create(&format!("{written}"), value.clone()).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::Backend { .. }), "{refused}");
    assert_eq!(store.revision(), written);
    assert_eq!(
        store.range("", None, 0, None).await.expect("range").entries.len() as u64,
        written,
        "reads go on"
    );
    std::fs::remove_file(&filler).expect("make room");
    store.create("after", value.clone()).await.expect("writes go on");
    drop(store);
    let store = Sqlite::open(&path, &Options::default()).expect("reopen");
    assert_eq!(store.revision(), written + 1);
    let entries = store.range("", None, 0, None).await.expect("range").entries;
    assert!(entries.len() as u64 == written + 1 && entries.iter().all(|entry| entry.value == value));
    drop(store);
}

#[tokio::test]
async fn a_copy_made_under_writers_is_one_moment_and_goes_on_far_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open(&dir.path().join("state.db"), &Options::default()).unwrap());
    let writer = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for number in 0..400 {
                store
                    .create(&format!("/a/{number:04}"), Bytes::from(vec![b'v'; 500]))
                    .await
                    .unwrap();
            }
        }
    });
    while store.revision() < 50 {
        tokio::task::yield_now().await;
    }
    let copy = dir.path().join("copy.db");
    let revision = store.backup(&copy).await.unwrap();
    assert!(store.backup(&copy).await.is_err(), "never over a file that is there");
    writer.await.unwrap();

    let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let resumed = Sqlite::begin_new_history(&copy, 1_000).unwrap();
    assert_eq!(resumed, revision + 1_000);
    let restored = Sqlite::open(&copy, &Options::default()).unwrap();
    let page = restored.range("/a/", None, 0, None).await.unwrap();
    assert_eq!(
        page.entries.len() as u64,
        revision,
        "one key per revision: a prefix of the writes"
    );
    assert_eq!(page.revision, resumed);
    for lost in [1, revision, revision + 7] {
        assert!(matches!(
            restored.watch("/a/", lost).await,
            Err(Error::Compacted { .. })
        ));
    }
    let mut watch = restored.watch("/a/", resumed).await.unwrap();
    let entry = restored.create("/a/new", Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(entry.modified, resumed + 1);
    let events = futures::StreamExt::next(&mut watch).await.unwrap().unwrap();
    assert_eq!(events[0].revision(), resumed + 1);
}
