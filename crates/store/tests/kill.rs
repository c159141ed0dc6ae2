//! An acknowledged write survives `kill -9`, and no write is half there.
//!
//! The test starts its own binary as the writing child, which prints an acknowledgement for every answer it got, kills
//! it at a moment of its own choosing (after so many acknowledgements, so that nothing here depends on time), reopens
//! the file and compares.

use bytes::Bytes;
use catamaran_store::{Entry, Event, Options, Sqlite, Store};
use futures::StreamExt;
use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

const CHILD: &str = "CATAMARAN_STORE_TEST_CHILD";
const ROUNDS: usize = 12;
const WRITERS: usize = 8;
const KEYS: usize = 6;

#[test]
fn acknowledged_writes_survive_kill() {
    if let Some(path) = std::env::var_os(CHILD) {
        return write_for_ever(Path::new(&path));
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("state.db");
    let mut acknowledged = BTreeMap::new();
    let mut revision = 0;
    for round in 0..ROUNDS {
        let mut child = KilledOnDrop(start_child(&path));
        let acks = read_acknowledgements(&mut child.0, 1 + round * 37);
        drop(child);
        for ack in acks {
            revision = revision.max(ack.revision);
            // Answers to different writers may be printed in another order than they were given.
            let newest = acknowledged.entry(ack.key.clone()).or_insert_with(|| ack.clone());
            if newest.revision < ack.revision {
                *newest = ack;
            }
        }
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        revision = runtime.block_on(check(&path, &acknowledged, revision));
    }
}

#[derive(Clone, Debug)]
struct Ack {
    revision: u64,
    key: String,
    deleted: bool,
}

fn start_child(path: &Path) -> Child {
    let this = std::env::current_exe().expect("the test binary's path");
    let mut command = Command::new(this);
    command
        .args(["--exact", "acknowledged_writes_survive_kill", "--nocapture"])
        .env(CHILD, path);
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the child")
}

struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // SIGKILL; an error means that it is dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Kills the child after `count` acknowledgements and returns those and all that were still in the pipe.
fn read_acknowledgements(child: &mut Child, count: usize) -> Vec<Ack> {
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut acks = Vec::new();
    while acks.len() < count {
        let line = lines
            .next()
            .expect("the child writes until it is killed")
            .expect("read");
        acks.extend(parse(&line));
    }
    child.kill().expect("kill");
    // A last line may be cut short: it is only then complete when its mark at the end is there.
    acks.extend(lines.map_while(Result::ok).filter_map(|line| parse(&line)));
    acks
}

fn parse(line: &str) -> Option<Ack> {
    let mut words = line.split_whitespace();
    let (Some("ack"), Some(revision), Some(key), Some(kind), Some(";")) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return None;
    };
    Some(Ack {
        revision: revision.parse().ok()?,
        key: key.to_owned(),
        deleted: kind == "deleted",
    })
}

/// A value that shows whether it is whole, and whose it is.
fn value(key: &str, revision_hint: u64) -> Bytes {
    let line = format!("{key} {revision_hint}\n");
    let length = 200 + (revision_hint as usize * 911) % 9_000;
    let mut value = line.repeat(length / line.len() + 1);
    value.push_str("end");
    value.into()
}

fn is_whole(entry: &Entry) -> bool {
    let text = std::str::from_utf8(&entry.value).expect("utf-8");
    let first = text.lines().next().expect("a line");
    let (key, hint) = first.split_once(' ').expect("key and hint");
    key == &*entry.key && entry.value == value(key, hint.parse().expect("a hint"))
}

/// Everything acknowledged is there, everything there is whole, and history leads exactly to the present.
async fn check(path: &Path, acknowledged: &BTreeMap<String, Ack>, revision: u64) -> u64 {
    let store = Sqlite::open(path, &Options::default()).expect("reopen after kill");
    assert!(store.revision() >= revision, "an acknowledged revision is missing");
    let present = store.range("", None, 0, None).await.expect("range").entries;
    assert!(present.iter().all(is_whole), "a write is half there");
    let by_key: BTreeMap<&str, &Entry> = present.iter().map(|entry| (&*entry.key, entry)).collect();
    let replayed = replay(&store).await;
    let newest = newest_by_key(&replayed);
    for ack in acknowledged.values() {
        let last = newest.get(&*ack.key).copied().unwrap_or(0);
        assert!(last >= ack.revision, "{ack:?} is lost: its key is at {last}");
        if last == ack.revision {
            assert_eq!(by_key.contains_key(&*ack.key), !ack.deleted, "{ack:?}");
        }
    }
    let mut state = BTreeMap::new();
    for event in replayed {
        match event {
            Event::Put { entry, .. } => drop(state.insert(entry.key.to_string(), entry)),
            Event::Delete { previous, .. } => drop(state.remove(&*previous.key)),
        }
    }
    assert_eq!(
        state.into_values().collect::<Vec<_>>(),
        present,
        "history leads to the present"
    );
    store.revision()
}

async fn replay(store: &Sqlite) -> Vec<Event> {
    let mut watch = store.watch("", 0).await.expect("watch");
    let mut events = Vec::new();
    while (events.len() as u64) < store.revision() {
        events.extend(watch.next().await.expect("the watch goes on").expect("the watch works"));
    }
    let revisions: Vec<u64> = events.iter().map(Event::revision).collect();
    assert_eq!(
        revisions,
        (1..=store.revision()).collect::<Vec<_>>(),
        "no revision is missing"
    );
    events
}

fn newest_by_key(events: &[Event]) -> BTreeMap<&str, u64> {
    events.iter().map(|event| (&**event.key(), event.revision())).collect()
}

/// The child: writers that create, update and delete keys of their own, and say so after each answer.
fn write_for_ever(path: &Path) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = Arc::new(Sqlite::open(path, &Options::default()).expect("open"));
        let writers = (0..WRITERS).map(|writer| tokio::spawn(write_own_keys(Arc::clone(&store), writer)));
        futures::future::join_all(writers).await;
    });
}

async fn write_own_keys(store: Arc<Sqlite>, writer: usize) {
    for step in 0_usize.. {
        let key = format!("{writer}/{}", step % KEYS);
        let hint = store.revision();
        let present = store.get(&key).await.expect("get");
        let (revision, kind) = match present {
            Some(entry) if step % 5 == 4 => (
                store.delete(&key, Some(entry.modified)).await.expect("delete").1,
                "deleted",
            ),
            Some(entry) => (
                store
                    .update(&key, value(&key, hint), entry.modified)
                    .await
                    .expect("update")
                    .modified,
                "put",
            ),
            None => (
                store.create(&key, value(&key, hint)).await.expect("create").modified,
                "put",
            ),
        };
        let line = format!("\nack {revision} {key} {kind} ;\n");
        if std::io::stdout().write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn parsing_tells_whole_lines_from_cut_ones() {
    let acks: HashSet<bool> = ["ack 1 a put ;", "ack 1 a put", "ack 1", "test x ... ok"]
        .iter()
        .map(|line| parse(line).is_some())
        .collect();
    assert_eq!(acks.len(), 2);
    assert!(parse("ack 1 a put ;").is_some() && parse("ack 12 a pu").is_none());
}
