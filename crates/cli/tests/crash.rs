//! `kill -9` of the API server at random moments, with writers and a watcher at work: what was acknowledged is there
//! afterwards, what was not is there whole or not at all, and the watcher ends up with the same picture as a list.

mod common;

use common::{PATIENCE, Running, cata};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, ResourceExt as _};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const ROUNDS: usize = 8;
const WRITERS: usize = 8;

fn serve(data_dir: &Path) -> Running {
    let mut command = cata();
    command
        .arg("--data-dir")
        .arg(data_dir)
        .args(["server", "--api-port", "0"]);
    let mut server = Running::start(&mut command);
    server.line("API server at");
    server
}

async fn api(data_dir: &Path) -> Api<ConfigMap> {
    let kubeconfig = Kubeconfig::read_from(data_dir.join("kubeconfig")).expect("kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("configuration");
    Api::default_namespaced(kube::Client::try_from(config).expect("client"))
}

/// What a writer knows of its objects.
#[derive(Default)]
struct Known {
    /// Acknowledged: the value of every object that is there.
    present: BTreeMap<String, String>,
    /// Acknowledged: names that are gone, or never came to be.
    absent: Vec<String>,
    /// The last write was not acknowledged: the object may be as before or as after it (`None`: not there).
    doubtful: Option<(String, [Option<String>; 2])>,
}

/// Creates, changes and deletes until the server does not answer.
async fn write(api: Api<ConfigMap>, prefix: String, acknowledged: Arc<AtomicUsize>) -> Known {
    let mut known = Known::default();
    for number in 0.. {
        let name = format!("{prefix}-{number}");
        let value = |version: usize| format!("{name}.{version}.{}", "x".repeat(1000));
        let map = ConfigMap {
            metadata: kube::api::ObjectMeta {
                name: Some(name.clone()),
                ..Default::default()
            },
            data: Some(BTreeMap::from([("v".to_owned(), value(0))])),
            ..Default::default()
        };
        if api.create(&PostParams::default(), &map).await.is_err() {
            known.doubtful = Some((name.clone(), [None, Some(value(0))]));
            break;
        }
        known.present.insert(name.clone(), value(0));
        acknowledged.fetch_add(1, Ordering::Relaxed);
        let patch = serde_json::json!({ "data": { "v": value(1) } });
        if api
            .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .is_err()
        {
            known.present.remove(&name);
            known.doubtful = Some((name.clone(), [Some(value(0)), Some(value(1))]));
            break;
        }
        known.present.insert(name.clone(), value(1));
        acknowledged.fetch_add(1, Ordering::Relaxed);
        if number % 3 == 0 {
            known.present.remove(&name);
            if api.delete(&name, &DeleteParams::default()).await.is_err() {
                known.doubtful = Some((name.clone(), [Some(value(1)), None]));
                break;
            }
            known.absent.push(name);
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
    known
}

fn values(maps: impl IntoIterator<Item = ConfigMap>) -> BTreeMap<String, String> {
    maps.into_iter()
        .map(|map| {
            let value = map.data.as_ref().and_then(|data| data.get("v")).cloned();
            (map.name_any(), value.unwrap_or_default())
        })
        .collect()
}

fn check(known: &Known, found: &BTreeMap<String, String>) {
    for (name, value) in &known.present {
        assert_eq!(found.get(name), Some(value), "{name} was acknowledged");
    }
    for name in &known.absent {
        assert_eq!(found.get(name), None, "the deletion of {name} was acknowledged");
    }
    if let Some((name, either)) = &known.doubtful {
        let there = found.get(name).cloned();
        assert!(either.contains(&there), "{name} is half there: {there:?}");
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_watches_go_on() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().expect("directory");
    let data_dir = directory.path().join("data");
    let mut server = serve(&data_dir);
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        let (reader, writer) = reflector::store();
        let stop = CancellationToken::new();
        let watch = watcher(api(&data_dir).await, watcher::Config::default());
        let follow = watch.backoff(Quick).reflect(writer).map(Ok::<_, ()>);
        let follower = tokio::spawn(
            follow
                .take_until(stop.clone().cancelled_owned())
                .try_for_each(|_| async { Ok(()) }),
        );

        let mut all = Vec::new();
        for round in 0..ROUNDS {
            let acknowledged = Arc::new(AtomicUsize::new(0));
            let client = api(&data_dir).await;
            let writers: Vec<_> = (0..WRITERS)
                .map(|number| {
                    let prefix = format!("r{round}-w{number}");
                    tokio::spawn(write(client.clone(), prefix, Arc::clone(&acknowledged)))
                })
                .collect();
            // Another moment in every round, and in every run.
            let random = usize::from(random_byte());
            while acknowledged.load(Ordering::Relaxed) < 20 + random {
                tokio::task::yield_now().await;
            }
            server.signal(rustix::process::Signal::KILL);
            server.wait();
            for writer in writers {
                all.push(writer.await.expect("writer"));
            }
            server = serve(&data_dir);
            let list = api(&data_dir).await.list(&ListParams::default()).await.expect("list");
            let found = values(list);
            for known in &all {
                check(known, &found);
            }
            // From here on the doubtful ones are what they were found to be.
            for known in &mut all {
                if let Some((name, _)) = known.doubtful.take() {
                    match found.get(&name) {
                        Some(value) => drop(known.present.insert(name, value.clone())),
                        None => known.absent.push(name),
                    }
                }
            }
        }
        let list = api(&data_dir).await.list(&ListParams::default()).await.expect("list");
        let listed = values(list);
        assert!(listed.len() > ROUNDS * WRITERS);
        let watched = || values(reader.state().iter().map(|map| map.as_ref().clone()));
        let same = async {
            while watched() != listed {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, same).await.is_err() {
            let watched = watched();
            let names: Vec<&String> = watched.keys().filter(|name| !listed.contains_key(*name)).collect();
            let missing: Vec<&String> = listed.keys().filter(|name| !watched.contains_key(*name)).collect();
            panic!(
                "the watcher has {names:?}, which are gone, and lacks {missing:?} of {}",
                listed.len()
            );
        }
        stop.cancel();
        follower.await.expect("watcher").expect("no errors");
    });
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait().0.success());
}

fn random_byte() -> u8 {
    // The hasher's seed is random in every process and differs with every map.
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0).to_le_bytes()[0]
}

/// Tries again soon, for ever.
#[derive(Clone, Copy)]
struct Quick;

impl Iterator for Quick {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(50))
    }
}

impl kube::runtime::utils::Backoff for Quick {
    fn reset(&mut self) {}
}
