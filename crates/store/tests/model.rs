//! Any sequence of requests gets the same answers from the durable backend as from the plain one in memory.

use bytes::Bytes;
use catamaran_store::{Error, Event, Mem, Options, Page, Revision, Sqlite, Store};
use futures::StreamExt;
use proptest::prelude::*;
use tokio::runtime::Runtime;

#[derive(Clone, Debug)]
enum Request {
    Create {
        key: u8,
        value: u16,
    },
    Update {
        key: u8,
        value: u16,
        expected: Expected,
    },
    Delete {
        key: u8,
        expected: Option<Expected>,
    },
    Get {
        key: u8,
    },
    Range {
        prefix: u8,
        after: Option<u8>,
        limit: usize,
        ago: Option<u64>,
    },
    Replay {
        prefix: u8,
        ago: u64,
    },
    Compact {
        ago: u64,
    },
    Reopen,
}

/// Mostly the right revision, else one that is off.
#[derive(Clone, Debug)]
enum Expected {
    Present,
    Off(u64),
}

const KEYS: [&str; 6] = ["a/1", "a/2", "a/2/x", "b/1", "b", "ü"];
const PREFIXES: [&str; 5] = ["", "a/", "a/2", "b", "zz"];

fn request() -> impl Strategy<Value = Request> {
    let key = 0..KEYS.len() as u8;
    let prefix = 0..PREFIXES.len() as u8;
    let expected = prop_oneof![4 => Just(Expected::Present), 1 => (0..20_u64).prop_map(Expected::Off)];
    prop_oneof![
        4 => (key.clone(), any::<u16>()).prop_map(|(key, value)| Request::Create { key, value }),
        6 => (key.clone(), any::<u16>(), expected.clone())
            .prop_map(|(key, value, expected)| Request::Update { key, value, expected }),
        3 => (key.clone(), prop::option::of(expected)).prop_map(|(key, expected)| Request::Delete { key, expected }),
        1 => key.clone().prop_map(|key| Request::Get { key }),
        3 => (prefix.clone(), prop::option::of(key), 0..4_usize, prop::option::of(0..15_u64))
            .prop_map(|(prefix, after, limit, ago)| Request::Range { prefix, after, limit, ago }),
        2 => (prefix, 0..15_u64).prop_map(|(prefix, ago)| Request::Replay { prefix, ago }),
        1 => (0..15_u64).prop_map(|ago| Request::Compact { ago }),
        1 => Just(Request::Reopen),
    ]
}

/// A value whose size also takes more than one page of the file now and then.
fn value(seed: u16) -> Bytes {
    vec![seed as u8; usize::from(seed) % 97 * usize::from(seed % 89)].into()
}

async fn answer(store: &dyn Store, request: &Request) -> String {
    let before = |ago: u64| store.revision().saturating_sub(ago);
    match request {
        Request::Create { key, value: seed } => show(store.create(KEYS[usize::from(*key)], value(*seed)).await),
        Request::Update {
            key,
            value: seed,
            expected,
        } => {
            let key = KEYS[usize::from(*key)];
            let expected = resolve(store, key, expected).await;
            show(store.update(key, value(*seed), expected).await)
        }
        Request::Delete { key, expected } => {
            let key = KEYS[usize::from(*key)];
            let expected = match expected {
                Some(expected) => Some(resolve(store, key, expected).await),
                None => None,
            };
            show(store.delete(key, expected).await)
        }
        Request::Get { key } => show(store.get(KEYS[usize::from(*key)]).await),
        Request::Range {
            prefix,
            after,
            limit,
            ago,
        } => {
            let after = after.map(|key| KEYS[usize::from(key)]);
            let page = store
                .range(PREFIXES[usize::from(*prefix)], after, *limit, ago.map(before))
                .await;
            show::<Page>(page)
        }
        Request::Replay { prefix, ago } => show(replay(store, PREFIXES[usize::from(*prefix)], before(*ago)).await),
        Request::Compact { ago } => show(store.compact(before(*ago)).await),
        Request::Reopen => String::new(),
    }
}

async fn resolve(store: &dyn Store, key: &str, expected: &Expected) -> Revision {
    match expected {
        Expected::Off(revision) => *revision,
        Expected::Present => store.get(key).await.expect("get").map_or(1, |entry| entry.modified),
    }
}

/// What a watch replays up to now. A last write to a marker key under every prefix tells where that is.
async fn replay(store: &dyn Store, prefix: &str, after: Revision) -> Result<Vec<Event>, Error> {
    let marker = format!("{prefix}~marker");
    let mut watch = store.watch(prefix, after).await?;
    let created = store.create(&marker, Bytes::new()).await.expect("create").modified;
    store.delete(&marker, None).await.expect("delete");
    let mut events = Vec::new();
    while events.last().map_or(0, Event::revision) < created {
        events.extend(watch.next().await.expect("the watch goes on")?);
    }
    events.retain(|event| event.revision() < created);
    Ok(events)
}

fn show<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
    match answer {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("error: {error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_answers_as_mem(requests in prop::collection::vec(request(), 1..60)) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("state.db");
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let model = Mem::new(&Options::default());
            let mut store = Sqlite::open(&path, &Options::default()).expect("open");
            for request in &requests {
                if matches!(request, Request::Reopen) {
                    drop(store);
                    store = Sqlite::open(&path, &Options::default()).expect("reopen");
                }
                prop_assert_eq!(answer(&store, request).await, answer(&model, request).await, "to {:?}", request);
                prop_assert_eq!(store.revision(), model.revision());
                prop_assert_eq!(store.compacted(), model.compacted());
            }
            Ok(())
        })?;
    }
}
