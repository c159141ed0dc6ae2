//! Laws of lists and watches, under random writes, compactions and restarts.
//!
//! * Pages of a list together are that list, whatever is written while they are read.
//! * A list, changed by what a watch from its version tells, is the list at the watch's end: whichever selector is used,
//!   wherever the watch has to read (memory, or the store's history after a restart). Where that is not possible, the watch
//!   says so.

use super::*;
use crate::registry::List;
use crate::watch_cache::Record;
use catamaran_store::{Options, Store};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Names and labels are few, so that writes meet.
#[derive(Clone, Debug)]
enum Act {
    Put {
        name: u8,
        label: u8,
    },
    Delete {
        name: u8,
    },
    /// Forgets all but so many revisions.
    Compact {
        keep: u8,
    },
    /// The server starts anew on the same store.
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..12_u8, 0..3_u8).prop_map(|(name, label)| Act::Put { name, label }),
        4 => (0..12_u8).prop_map(|name| Act::Delete { name }),
        1 => (0..30_u8).prop_map(|keep| Act::Compact { keep }),
        1 => Just(Act::Restart),
    ]
}

/// What a client knows of the objects: names, and a version and a label each.
type Known = BTreeMap<String, (u64, String)>;

fn known(record: &Record) -> (String, (u64, String)) {
    let label = record.facts.label("l").unwrap_or_default().to_owned();
    (record.name().to_owned(), (record.revision, label))
}

struct Server {
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    shutdown: CancellationToken,
}

impl Server {
    async fn start(store: Arc<dyn Store>) -> Server {
        let shutdown = CancellationToken::new();
        let registry = Registry::open(Arc::clone(&store), shutdown.clone()).await.unwrap();
        let registry = Arc::new(registry);
        tokio::spawn(Arc::clone(&registry.caches).follow(shutdown.clone()));
        Server {
            store,
            registry,
            shutdown,
        }
    }

    fn target(&self) -> Target {
        Target {
            resource: self.registry.resource("v1", "configmaps").unwrap(),
            namespace: Some("default".to_owned()),
            name: String::new(),
        }
    }

    async fn act(&mut self, act: &Act) {
        match act {
            Act::Put { name, label } => {
                let key = self.target().resource.key(Some("default"), &format!("m{name:02}"));
                let value = format!(
                    r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"m{name:02}","namespace":"default","labels":{{"l":"{label}"}}}}}}"#
                );
                match self.store.get(&key).await.unwrap() {
                    Some(entry) => drop(self.store.update(&key, value.into(), entry.modified).await.unwrap()),
                    None => drop(self.store.create(&key, value.into()).await.unwrap()),
                }
            }
            Act::Delete { name } => {
                let key = self.target().resource.key(Some("default"), &format!("m{name:02}"));
                drop(self.store.delete(&key, None).await);
            }
            Act::Compact { keep } => {
                let revision = self.store.revision().saturating_sub(u64::from(*keep));
                drop(self.store.compact(revision.max(self.store.compacted())).await);
            }
            Act::Restart => {
                self.shutdown.cancel();
                *self = Server::start(Arc::clone(&self.store)).await;
            }
        }
    }

    async fn list(
        &self,
        selector: &str,
        limit: usize,
        token: &str,
        version: &str,
    ) -> Result<List, catamaran_api::Status> {
        let target = self.target();
        let options = ListOptions {
            filter: Filter::parse(&target.resource, selector, "").unwrap(),
            limit,
            continue_token: token.to_owned(),
            resource_version: version.to_owned(),
            version_match: (!version.is_empty()).then_some(crate::registry::VersionMatch::Exact),
            send_initial_events: None,
        };
        self.registry.list(&target, &options).await
    }

    /// Follows a watch from `version` until the present; `None` if the watch says that it cannot.
    async fn replay(&self, selector: &str, version: u64, mut state: Known) -> Option<Known> {
        let target = self.target();
        let options = WatchOptions {
            filter: Filter::parse(&target.resource, selector, "").unwrap(),
            resource_version: version.to_string(),
            version_match: None,
            bookmarks: false,
            send_initial_events: None,
            timeout: None,
        };
        // What is written last ends the watch: it matches every selector that is used here.
        let mut watching = self.registry.watch(&target, options).await.unwrap();
        loop {
            for tick in watching.next().await.expect("the watch goes on") {
                match tick {
                    Tick::Object(Change::Deleted, record) => drop(state.remove(record.name()).expect("was there")),
                    Tick::Object(change, record) => {
                        let (name, value) = known(&record);
                        if name == "last" {
                            return Some(state);
                        }
                        let before = state.insert(name, value);
                        assert_eq!(before.is_some(), change == Change::Modified);
                    }
                    Tick::Left(record, _) => drop(state.remove(record.name()).expect("was there")),
                    Tick::Error(status) => {
                        assert_eq!(status.code(), 410);
                        return None;
                    }
                    Tick::Bookmark { .. } => {}
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn names(list: &List) -> Vec<(String, (u64, String))> {
    list.records.iter().map(|record| known(record)).collect()
}

fn run(test: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

const SELECTORS: &[&str] = &["", "l in (0,1)", "l!=2"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn pages_are_the_list(
        before in proptest::collection::vec(act(), 0..40),
        between in proptest::collection::vec(act(), 0..12),
        limit in 1..5_usize,
        selector in 0..SELECTORS.len(),
    ) {
        run(async {
            let mut server = Server::start(Arc::new(catamaran_store::Mem::new(&Options::default()))).await;
            for act in &before {
                server.act(act).await;
            }
            let selector = SELECTORS[selector];
            let whole = server.list(selector, 0, "", "").await.unwrap();
            let mut page = server.list(selector, limit, "", "").await.unwrap();
            prop_assert_eq!(page.revision, whole.revision);
            let mut seen = names(&page);
            let mut acts = between.iter();
            while !page.continue_token.is_empty() {
                prop_assert_eq!(page.records.len(), limit);
                if selector.is_empty() {
                    prop_assert_eq!(page.remaining, Some((whole.records.len() - seen.len()) as u64));
                }
                if let Some(act) = acts.next() {
                    server.act(act).await;
                }
                page = match server.list(selector, limit, &page.continue_token, "").await {
                    Ok(page) => page,
                    // Only if the revision is gone, and with a way to go on.
                    Err(status) => {
                        prop_assert_eq!(status.code(), 410);
                        prop_assert!(server.store.compacted() > whole.revision);
                        let token = status.as_inner().metadata.continue_.clone().unwrap();
                        let rest = server.list(selector, 0, &token, "").await.unwrap();
                        let last = seen.last().map(|(name, _)| name.clone()).unwrap_or_default();
                        let present = server.list(selector, 0, "", "").await.unwrap();
                        let expected: Vec<_> = names(&present).into_iter().filter(|(name, _)| *name > last).collect();
                        prop_assert_eq!(names(&rest), expected);
                        return Ok(());
                    }
                };
                prop_assert_eq!(page.revision, whole.revision);
                seen.extend(names(&page));
            }
            prop_assert_eq!(&seen, &names(&whole));
            for act in acts {
                server.act(act).await;
            }
            if whole.revision > 0 && server.store.compacted() <= whole.revision {
                let again = server.list(selector, 0, "", &whole.revision.to_string()).await.unwrap();
                prop_assert_eq!(names(&again), seen, "exactly that version, later");
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_list_and_a_watch_are_a_later_list(
        before in proptest::collection::vec(act(), 0..30),
        after in proptest::collection::vec(act(), 0..40),
        selector in 0..SELECTORS.len(),
    ) {
        run(async {
            let mut server = Server::start(Arc::new(catamaran_store::Mem::new(&Options::default()))).await;
            for act in &before {
                server.act(act).await;
            }
            let selector = SELECTORS[selector];
            let first = server.list(selector, 0, "", "").await.unwrap();
            for act in &after {
                server.act(act).await;
            }
            let last = server.list(selector, 0, "", "").await.unwrap();
            let key = server.target().resource.key(Some("default"), "last");
            let value = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"last","namespace":"default","labels":{"l":"0"}}}"#;
            server.store.create(&key, value.into()).await.unwrap();
            let state: Known = names(&first).into_iter().collect();
            match server.replay(selector, first.revision, state).await {
                Some(state) => prop_assert_eq!(state, names(&last).into_iter().collect::<Known>()),
                None => prop_assert!(server.store.compacted() > first.revision),
            }
            Ok(())
        })?;
    }
}
