//! What every backend promises, one function per promise.
//!
//! A backend's tests are one line: [`for_each_promise!`](crate::for_each_promise) names them all, so a promise cannot
//! be forgotten for one backend. A failed promise panics, as tests do.

use crate::{Entry, Error, Event, Options, Revision, Store, Watch};
use bytes::Bytes;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Makes stores of one backend.
pub trait Factory: Send + Sync {
    /// A new, empty store.
    fn open(&self, options: Options) -> Arc<dyn Store>;

    /// Gives the store up and opens what it left, or `None` when the backend keeps nothing.
    fn reopen(&self, store: Arc<dyn Store>, options: Options) -> Option<Arc<dyn Store>>;
}

/// Calls `$test!(promise)` for every promise of the contract.
#[macro_export]
macro_rules! for_each_promise {
    ($test:ident) => {
        $test!(a_new_store_is_empty);
        $test!(writes_take_consecutive_revisions);
        $test!(create_refuses_an_existing_key);
        $test!(update_needs_the_present_revision);
        $test!(delete_honours_its_precondition);
        $test!(a_recreated_key_is_a_new_one);
        $test!(refusals_change_nothing);
        $test!(of_racing_updates_one_wins);
        $test!(values_are_opaque);
        $test!(prefixes_are_exact);
        $test!(range_pages_are_one_moment);
        $test!(range_of_the_past_is_exact);
        $test!(range_refuses_the_future);
        $test!(watch_replays_then_follows);
        $test!(watch_carries_the_previous_entry);
        $test!(watch_filters_by_prefix);
        $test!(watch_refuses_the_future);
        $test!(watch_from_an_acknowledged_revision);
        $test!(watches_have_no_gap_under_concurrent_writers);
        $test!(history_replays_to_the_present);
        $test!(compaction_has_its_own_error);
        $test!(compaction_keeps_the_present_and_the_later_past);
        $test!(compaction_cuts_off_a_replay);
        $test!(history_is_bounded_by_itself);
        $test!(a_slow_watcher_is_cut_off_alone);
        $test!(a_sleeping_watcher_without_news_is_not_slow);
        $test!(dropping_the_store_ends_its_watches);
        $test!(reopening_continues);
        $test!(reopening_remembers_compaction);
    };
}

fn open(factory: &impl Factory) -> Arc<dyn Store> {
    factory.open(Options::default())
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn put(store: &Arc<dyn Store>, key: &str, value: &str) -> Entry {
    let written = match store.get(key).await.expect("get") {
        Some(present) => store.update(key, bytes(value), present.modified).await,
        None => store.create(key, bytes(value)).await,
    };
    written.expect("put")
}

async fn keys(store: &Arc<dyn Store>, prefix: &str, at: Option<Revision>) -> Vec<String> {
    let page = store.range(prefix, None, 0, at).await.expect("range");
    page.entries.iter().map(|entry| entry.key.to_string()).collect()
}

/// Reads `count` events; fails when the watch ends before.
async fn read(watch: &mut Watch, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let item = watch.next().await.expect("the watch goes on").expect("the watch works");
        assert!(!item.is_empty(), "an item is never empty");
        events.extend(item);
    }
    assert_eq!(events.len(), count, "no event too many");
    events
}

/// Reads until the watch is cut off; after its error it ends.
async fn read_to_error(watch: &mut Watch) -> (Vec<Event>, Error) {
    let mut events = Vec::new();
    loop {
        match watch.next().await.expect("a watch ends with an error") {
            Ok(item) => events.extend(item),
            Err(error) => {
                assert!(watch.next().await.is_none(), "nothing follows the error");
                return (events, error);
            }
        }
    }
}

pub async fn a_new_store_is_empty(factory: &impl Factory) {
    let store = open(factory);
    assert_eq!((store.revision(), store.compacted()), (0, 0));
    assert_eq!(store.get("a").await.expect("get"), None);
    let page = store.range("", None, 0, None).await.expect("range");
    assert_eq!(
        (page.entries.len(), page.revision, page.more, page.remaining),
        (0, 0, false, 0)
    );
}

pub async fn writes_take_consecutive_revisions(factory: &impl Factory) {
    let store = open(factory);
    let created = store.create("a", bytes("1")).await.expect("create");
    assert_eq!((created.created, created.modified, store.revision()), (1, 1, 1));
    let updated = store.update("a", bytes("2"), 1).await.expect("update");
    assert_eq!((updated.created, updated.modified, store.revision()), (1, 2, 2));
    assert_eq!(store.get("a").await.expect("get"), Some(updated.clone()));
    let (removed, revision) = store.delete("a", Some(2)).await.expect("delete");
    assert_eq!((removed, revision, store.revision()), (updated, 3, 3));
    assert_eq!(store.get("a").await.expect("get"), None);
}

pub async fn create_refuses_an_existing_key(factory: &impl Factory) {
    let store = open(factory);
    put(&store, "a", "1").await;
    let refused = store.create("a", bytes("2")).await;
    assert!(matches!(refused, Err(Error::Exists { key }) if key == "a"));
}

pub async fn update_needs_the_present_revision(factory: &impl Factory) {
    let store = open(factory);
    assert!(matches!(
        store.update("a", bytes("1"), 1).await,
        Err(Error::NotFound { .. })
    ));
    put(&store, "a", "1").await;
    put(&store, "a", "2").await;
    let refused = store.update("a", bytes("3"), 1).await;
    assert!(matches!(
        refused,
        Err(Error::Conflict {
            expected: 1,
            current: 2,
            ..
        })
    ));
}

pub async fn delete_honours_its_precondition(factory: &impl Factory) {
    let store = open(factory);
    assert!(matches!(store.delete("a", None).await, Err(Error::NotFound { .. })));
    put(&store, "a", "1").await;
    let refused = store.delete("a", Some(9)).await;
    assert!(matches!(
        refused,
        Err(Error::Conflict {
            expected: 9,
            current: 1,
            ..
        })
    ));
    assert_eq!(store.delete("a", None).await.expect("delete").1, 2);
    assert!(matches!(store.delete("a", Some(1)).await, Err(Error::NotFound { .. })));
}

pub async fn a_recreated_key_is_a_new_one(factory: &impl Factory) {
    let store = open(factory);
    put(&store, "a", "1").await;
    store.delete("a", None).await.expect("delete");
    let again = put(&store, "a", "2").await;
    assert_eq!((again.created, again.modified), (3, 3));
    let refused = store.update("a", bytes("3"), 1).await;
    assert!(
        matches!(refused, Err(Error::Conflict { current: 3, .. })),
        "the old revision is worth nothing"
    );
}

pub async fn refusals_change_nothing(factory: &impl Factory) {
    let store = open(factory);
    put(&store, "a", "1").await;
    let attempts = (0..20).map(|attempt| {
        let store = Arc::clone(&store);
        // All at once, so that a backend that batches meets refusals and successes in one batch.
        tokio::spawn(async move {
            match attempt % 4 {
                0 => store.create("a", bytes("x")).await.is_ok(),
                1 => store.update("a", bytes("x"), 999).await.is_ok(),
                2 => store.delete("missing", None).await.is_ok(),
                _ => store.create(&format!("b{attempt:02}"), bytes("y")).await.is_ok(),
            }
        })
    });
    let done = futures::future::join_all(attempts).await;
    let succeeded = done.into_iter().filter(|done| matches!(done, Ok(true))).count();
    assert_eq!(
        (succeeded, store.revision()),
        (5, 6),
        "only what succeeded took a revision"
    );
    assert_eq!(store.get("a").await.expect("get").expect("a").value, bytes("1"));
    assert_eq!(keys(&store, "b", None).await, ["b03", "b07", "b11", "b15", "b19"]);
}

pub async fn of_racing_updates_one_wins(factory: &impl Factory) {
    let store = open(factory);
    let mut present = put(&store, "a", "start").await;
    for round in 0..10 {
        let racers = (0..8).map(|racer| {
            let (store, expected) = (Arc::clone(&store), present.modified);
            tokio::spawn(async move { store.update("a", bytes(&format!("{round}/{racer}")), expected).await })
        });
        let results: Vec<_> = futures::future::join_all(racers)
            .await
            .into_iter()
            .map(|done| done.expect("racer"))
            .collect();
        let mut winners = results.into_iter().filter_map(Result::ok);
        let winner = winners.next().expect("somebody wins");
        assert!(winners.next().is_none(), "only one wins");
        present = store.get("a").await.expect("get").expect("a");
        assert_eq!(present, winner);
    }
}

pub async fn values_are_opaque(factory: &impl Factory) {
    let store = open(factory);
    let odd = ["", "\0", "\0\u{1}a", "ü/\u{10ffff}", "'; DROP TABLE current; --", "%_*"];
    for (index, key) in odd.iter().enumerate() {
        let value: Bytes = (0..index * 7_000).map(|byte| byte as u8).collect::<Vec<u8>>().into();
        let written = store.create(key, value.clone()).await.expect("create");
        assert_eq!(store.get(key).await.expect("get"), Some(written.clone()));
        assert_eq!(written.value, value);
    }
    let mut sorted = odd.map(str::to_owned).to_vec();
    sorted.sort();
    assert_eq!(keys(&store, "", None).await, sorted);
}

pub async fn prefixes_are_exact(factory: &impl Factory) {
    let store = open(factory);
    for key in ["a", "a/", "a/b", "a/ü", "a/\u{10ffff}z", "a0", "b"] {
        put(&store, key, "x").await;
    }
    assert_eq!(keys(&store, "a/", None).await, ["a/", "a/b", "a/ü", "a/\u{10ffff}z"]);
    assert_eq!(keys(&store, "a/\u{10ffff}", None).await, ["a/\u{10ffff}z"]);
    assert_eq!(keys(&store, "a%", None).await, Vec::<String>::new());
    assert_eq!(keys(&store, "", None).await.len(), 7);
}

pub async fn range_pages_are_one_moment(factory: &impl Factory) {
    let store = open(factory);
    for index in 0..10 {
        put(&store, &format!("k/{index}"), "old").await;
    }
    let mut page = store.range("k/", None, 4, None).await.expect("range");
    assert_eq!(
        (page.entries.len(), page.more, page.remaining, page.revision),
        (4, true, 6, 10)
    );
    put(&store, "k/5", "new").await;
    put(&store, "k/55", "new").await;
    store.delete("k/7", None).await.expect("delete");
    let mut seen: Vec<Entry> = page.entries.clone();
    while page.more {
        let last = seen.last().expect("a page has entries").key.clone();
        page = store.range("k/", Some(&last), 4, Some(10)).await.expect("range");
        assert_eq!(page.revision, 10);
        seen.extend(page.entries.clone());
        assert_eq!(page.remaining, 10 - seen.len() as u64);
    }
    let names: Vec<String> = seen.iter().map(|entry| entry.key.to_string()).collect();
    assert_eq!(names, (0..10).map(|index| format!("k/{index}")).collect::<Vec<_>>());
    assert!(seen.iter().all(|entry| entry.value == bytes("old")));
    let now = store.range("k/", Some("k/4"), 0, None).await.expect("range");
    let names: Vec<&str> = now.entries.iter().map(|entry| &*entry.key).collect();
    assert_eq!(
        names,
        ["k/5", "k/55", "k/6", "k/8", "k/9"],
        "without a revision a page shows the present"
    );
    let whole = store.range("k/", None, 10, None).await.expect("range");
    assert_eq!(
        (whole.more, whole.remaining),
        (false, 0),
        "an exactly full page is the last one"
    );
}

pub async fn range_of_the_past_is_exact(factory: &impl Factory) {
    let store = open(factory);
    let mut states: Vec<Vec<Entry>> = vec![Vec::new()];
    for step in 0..40_u64 {
        let key = format!("k/{}", step * 7 % 5);
        if step % 3 == 2 && store.get(&key).await.expect("get").is_some() {
            store.delete(&key, None).await.expect("delete");
        } else {
            put(&store, &key, &step.to_string()).await;
        }
        states.push(store.range("", None, 0, None).await.expect("range").entries);
    }
    for (revision, state) in states.iter().enumerate() {
        let page = store.range("", None, 0, Some(revision as u64)).await.expect("range");
        assert_eq!(&page.entries, state, "as of revision {revision}");
    }
}

pub async fn range_refuses_the_future(factory: &impl Factory) {
    let store = open(factory);
    put(&store, "a", "1").await;
    let refused = store.range("", None, 0, Some(2)).await;
    assert!(matches!(
        refused,
        Err(Error::Future {
            requested: 2,
            current: 1
        })
    ));
}

pub async fn watch_replays_then_follows(factory: &impl Factory) {
    let store = open(factory);
    let first = put(&store, "a", "1").await;
    let second = put(&store, "a", "2").await;
    let mut watch = store.watch("a", 0).await.expect("watch");
    let past = read(&mut watch, 2).await;
    assert_eq!(
        past[0],
        Event::Put {
            entry: first.clone(),
            previous: None
        }
    );
    assert_eq!(
        past[1],
        Event::Put {
            entry: second.clone(),
            previous: Some(first)
        }
    );
    let (removed, revision) = store.delete("a", None).await.expect("delete");
    assert_eq!(removed, second);
    assert_eq!(
        read(&mut watch, 1).await,
        [Event::Delete {
            previous: second,
            revision
        }]
    );
    let third = put(&store, "a", "3").await;
    assert_eq!(
        read(&mut watch, 1).await,
        [Event::Put {
            entry: third,
            previous: None
        }]
    );
}

pub async fn watch_carries_the_previous_entry(factory: &impl Factory) {
    let store = open(factory);
    let first = put(&store, "a", "1").await;
    store.compact(1).await.expect("compact");
    let second = put(&store, "a", "2").await;
    let mut watch = store.watch("a", 1).await.expect("watch");
    let expected = Event::Put {
        entry: second,
        previous: Some(first),
    };
    assert_eq!(
        read(&mut watch, 1).await,
        [expected],
        "also when the previous entry is older than compaction"
    );
}

pub async fn watch_filters_by_prefix(factory: &impl Factory) {
    let store = open(factory);
    for key in ["a/1", "b/1", "a/2"] {
        put(&store, key, "x").await;
    }
    let mut watch = store.watch("a/", 0).await.expect("watch");
    read(&mut watch, 2).await;
    for key in ["b/2", "a", "a/3", "a0"] {
        put(&store, key, "x").await;
    }
    let event = read(&mut watch, 1).await.remove(0);
    assert_eq!((&**event.key(), event.revision()), ("a/3", 6));
}

pub async fn watch_refuses_the_future(factory: &impl Factory) {
    let store = open(factory);
    assert!(matches!(
        store.watch("", 1).await.err(),
        Some(Error::Future {
            requested: 1,
            current: 0
        })
    ));
}

/// Whatever revision an answer named can be watched from at once, by anyone who heard of it.
pub async fn watch_from_an_acknowledged_revision(factory: &impl Factory) {
    let store = open(factory);
    let writers = (0..4).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for index in 0..20 {
                let written = put(&store, &format!("{writer}/{index}"), "x").await;
                assert!(store.revision() >= written.modified);
                drop(
                    store
                        .watch("", written.modified)
                        .await
                        .expect("watch from what was acknowledged"),
                );
                let seen = store.range("", None, 0, None).await.expect("range").revision;
                drop(store.watch("", seen).await.expect("watch from what a list showed"));
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.expect("writer");
    }
}

pub async fn watches_have_no_gap_under_concurrent_writers(factory: &impl Factory) {
    const WRITERS: usize = 8;
    const WRITES: usize = 100;
    let store = open(factory);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for index in 0..WRITES {
                    put(&store, &format!("{writer}/{}", index % 10), &index.to_string()).await;
                }
            })
        })
        .collect();
    let watchers: Vec<_> = (0..WRITERS as u64)
        .map(|watcher| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                // Each starts from another past, while the writers write.
                let after = store.revision().saturating_sub(watcher * 5);
                let mut watch = store.watch("", after).await.expect("watch");
                read(&mut watch, WRITERS * WRITES - after as usize).await
            })
        })
        .collect();
    for writer in futures::future::join_all(writers).await {
        writer.expect("writer");
    }
    let whole = read(&mut store.watch("", 0).await.expect("watch"), WRITERS * WRITES).await;
    let revisions: Vec<Revision> = whole.iter().map(Event::revision).collect();
    assert_eq!(revisions, (1..=(WRITERS * WRITES) as u64).collect::<Vec<_>>());
    for watcher in futures::future::join_all(watchers).await {
        let seen = watcher.expect("watcher");
        assert_eq!(
            seen,
            whole[whole.len() - seen.len()..],
            "every watcher sees the same events"
        );
    }
}

pub async fn history_replays_to_the_present(factory: &impl Factory) {
    let store = open(factory);
    // More than one stretch of history, so that the seams between stretches are crossed too.
    let writers = (0..20_u64).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for step in 0..80 {
                let key = format!("{writer}/{}", step * 3 % 7);
                match store.get(&key).await.expect("get") {
                    Some(present) if step % 4 == 3 => {
                        drop(store.delete(&key, Some(present.modified)).await.expect("delete"));
                    }
                    _ => {
                        put(&store, &key, &step.to_string()).await;
                    }
                }
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.expect("writer");
    }
    let events = read(&mut store.watch("", 0).await.expect("watch"), 1_600).await;
    let present = store.range("", None, 0, None).await.expect("range").entries;
    assert_eq!(replay(BTreeMap::new(), &events), present);
}

/// Applies events in order and checks each against the state it meets.
fn replay(mut state: BTreeMap<Arc<str>, Entry>, events: &[Event]) -> Vec<Entry> {
    for event in events {
        match event {
            Event::Put { entry, previous } => {
                let replaced = state.insert(Arc::clone(&entry.key), entry.clone());
                assert_eq!(&replaced, previous, "the previous entry is the one before");
                assert_eq!(
                    entry.created,
                    replaced.map_or(entry.modified, |replaced| replaced.created)
                );
            }
            Event::Delete { previous, .. } => {
                assert_eq!(state.remove(&previous.key).as_ref(), Some(previous));
            }
        }
    }
    state.into_values().collect()
}

pub async fn compaction_has_its_own_error(factory: &impl Factory) {
    let store = open(factory);
    for value in ["1", "2", "3", "4"] {
        put(&store, "a", value).await;
    }
    store.compact(3).await.expect("compact");
    assert_eq!(store.compacted(), 3);
    let refused = store.range("", None, 0, Some(2)).await;
    assert!(matches!(
        refused,
        Err(Error::Compacted {
            requested: 2,
            oldest: 3
        })
    ));
    assert!(matches!(
        store.watch("", 2).await.err(),
        Some(Error::Compacted {
            requested: 2,
            oldest: 3
        })
    ));
    assert!(matches!(
        store.compact(5).await,
        Err(Error::Future {
            requested: 5,
            current: 4
        })
    ));
    store.compact(1).await.expect("compacting less than before is no error");
    assert_eq!(store.compacted(), 3, "and brings nothing back");
}

pub async fn compaction_keeps_the_present_and_the_later_past(factory: &impl Factory) {
    let store = open(factory);
    let old = put(&store, "old", "1").await;
    put(&store, "a", "1").await;
    put(&store, "gone", "1").await;
    store.delete("gone", None).await.expect("delete");
    let at_five = put(&store, "a", "2").await;
    let at_six = put(&store, "a", "3").await;
    store.compact(5).await.expect("compact");
    assert_eq!(store.get("old").await.expect("get"), Some(old.clone()));
    let past = store.range("", None, 0, Some(5)).await.expect("range").entries;
    assert_eq!(past, [at_five.clone(), old.clone()]);
    let present = store.range("", None, 0, None).await.expect("range").entries;
    assert_eq!(present, [at_six.clone(), old]);
    let mut watch = store.watch("", 5).await.expect("watch");
    assert_eq!(
        read(&mut watch, 1).await,
        [Event::Put {
            entry: at_six,
            previous: Some(at_five)
        }]
    );
    store.compact(6).await.expect("compact");
    let next = put(&store, "b", "1").await;
    assert_eq!(next.modified, 7, "compacting everything does not set revisions back");
    assert_eq!(
        read(&mut watch, 1).await,
        [Event::Put {
            entry: next,
            previous: None
        }],
        "live watches go on"
    );
}

pub async fn compaction_cuts_off_a_replay(factory: &impl Factory) {
    let store = open(factory);
    for index in 0..10 {
        put(&store, "a", &index.to_string()).await;
    }
    // Not read yet, so it has not left the past.
    let mut watch = store.watch("", 2).await.expect("watch");
    store.compact(8).await.expect("compact");
    let (events, error) = read_to_error(&mut watch).await;
    assert!(
        events.is_empty()
            && matches!(
                error,
                Error::Compacted {
                    requested: 2,
                    oldest: 8
                }
            )
    );
}

pub async fn history_is_bounded_by_itself(factory: &impl Factory) {
    let store = factory.open(Options {
        max_revisions: 64,
        ..Options::default()
    });
    let keep = put(&store, "keep", "x").await;
    for index in 0..200 {
        put(&store, "lease", &index.to_string()).await;
    }
    let kept = store.revision() - store.compacted();
    assert!(
        (60..=128).contains(&kept),
        "{kept} revisions of history are kept where 64 are wanted"
    );
    assert_eq!(store.get("keep").await.expect("get"), Some(keep));
}

pub async fn a_slow_watcher_is_cut_off_alone(factory: &impl Factory) {
    let store = factory.open(Options {
        tail_events: 32,
        ..Options::default()
    });
    let mut slow = store.watch("", 0).await.expect("watch");
    let mut quick = store.watch("", 0).await.expect("watch");
    put(&store, "a", "0").await;
    // Both have read, so both are live.
    read(&mut slow, 1).await;
    read(&mut quick, 1).await;
    for index in 1..=100 {
        put(&store, "a", &index.to_string()).await;
        read(&mut quick, 1).await;
    }
    let (events, error) = read_to_error(&mut slow).await;
    assert!(
        matches!(error, Error::Lagged { at } if at == 1 + events.len() as u64),
        "{error}"
    );
    put(&store, "a", "on").await;
    read(&mut quick, 1).await;
    let after = store.revision() - 50;
    read(&mut store.watch("", after).await.expect("watch"), 50).await;
}

pub async fn a_sleeping_watcher_without_news_is_not_slow(factory: &impl Factory) {
    let store = factory.open(Options {
        tail_events: 32,
        ..Options::default()
    });
    let mut watch = store.watch("quiet/", 0).await.expect("watch");
    put(&store, "quiet/a", "x").await;
    read(&mut watch, 1).await;
    for index in 0..100 {
        put(&store, "noise", &index.to_string()).await;
    }
    put(&store, "quiet/b", "x").await;
    assert_eq!(read(&mut watch, 1).await[0].revision(), 102);
}

pub async fn dropping_the_store_ends_its_watches(factory: &impl Factory) {
    let store = open(factory);
    let mut watch = store.watch("", 0).await.expect("watch");
    put(&store, "a", "1").await;
    read(&mut watch, 1).await;
    put(&store, "a", "2").await;
    drop(store);
    let (events, error) = read_to_error(&mut watch).await;
    assert!(
        events.len() == 1 && matches!(error, Error::Closed),
        "what was published is still delivered"
    );
}

pub async fn reopening_continues(factory: &impl Factory) {
    let store = open(factory);
    put(&store, "a", "1").await;
    put(&store, "a", "2").await;
    put(&store, "b", "1").await;
    store.delete("b", None).await.expect("delete");
    let before = store.range("", None, 0, None).await.expect("range");
    let Some(store) = factory.reopen(store, Options::default()) else {
        return;
    };
    assert_eq!(store.revision(), 4);
    assert_eq!(store.range("", None, 0, None).await.expect("range"), before);
    let mut watch = store.watch("", 0).await.expect("watch");
    let events = read(&mut watch, 4).await;
    assert_eq!(replay(BTreeMap::new(), &events), before.entries);
    assert_eq!(put(&store, "c", "1").await.modified, 5);
    read(&mut watch, 1).await;
}

pub async fn reopening_remembers_compaction(factory: &impl Factory) {
    let store = open(factory);
    for value in ["1", "2", "3"] {
        put(&store, "a", value).await;
    }
    store.compact(3).await.expect("compact");
    let Some(store) = factory.reopen(store, Options::default()) else {
        return;
    };
    assert_eq!((store.revision(), store.compacted()), (3, 3));
    assert!(matches!(store.watch("", 2).await.err(), Some(Error::Compacted { .. })));
    assert_eq!(put(&store, "a", "4").await.modified, 4);
}
