//! ConfigMaps and Secrets that pods refer to: read when needed, watched while a pod needs them.
//!
//! Only referenced objects are watched, each once however many pods refer to it; a change only says "look again".

use crate::env::{Objects, References};
use crate::worker::Message;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::sync::{Arc, Weak};
use tokio::sync::{broadcast, mpsc};
use tokio::task::{JoinHandle, JoinSet};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    secret: bool,
    namespace: String,
    name: String,
}

/// One object under watch; dropping the last handle ends it.
struct Watched {
    changes: broadcast::Sender<()>,
    task: JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Keeps the objects of one pod under watch.
pub(crate) struct Subscription {
    _watched: Vec<Arc<Watched>>,
    /// Aborted when dropped.
    _forwards: JoinSet<()>,
}

/// Watches that outlive the last pod that needed them: what one pod refers to, the next one of its kind most likely does too
/// (the certificate of the API server, above all), and a watch begun anew costs two requests.
const LINGERING: usize = 16;

pub(crate) struct ObjectSource {
    client: Client,
    watched: Mutex<HashMap<Key, Weak<Watched>>>,
    /// The latest ones, the oldest first.
    lingering: Mutex<VecDeque<Arc<Watched>>>,
}

impl ObjectSource {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            watched: Mutex::default(),
            lingering: Mutex::default(),
        }
    }

    /// The referenced objects that exist.
    ///
    /// # Errors
    /// The API server could not be asked.
    pub(crate) async fn fetch(&self, namespace: &str, references: &References) -> Result<Objects, kube::Error> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let maps = references.config_maps.iter().map(|name| get(&maps, name));
        let secrets = references.secrets.iter().map(|name| get(&secrets, name));
        let (maps, secrets) = futures::try_join!(
            futures::future::try_join_all(maps),
            futures::future::try_join_all(secrets)
        )?;
        Ok(Objects {
            config_maps: maps.into_iter().flatten().collect(),
            secrets: secrets.into_iter().flatten().collect(),
            ..Objects::default()
        })
    }

    /// The handler of a RuntimeClass; its own name when there is no such object.
    pub(crate) async fn runtime_handler(&self, class: &str) -> String {
        let api: Api<RuntimeClass> = Api::all(self.client.clone());
        match api.get_opt(class).await {
            Ok(Some(found)) => found.handler,
            _ => class.to_owned(),
        }
    }

    /// Tells `inbox` whenever one of the objects changes.
    pub(crate) fn subscribe(
        &self,
        namespace: &str,
        references: &References,
        inbox: &mpsc::UnboundedSender<Message>,
    ) -> Subscription {
        let keys = references.config_maps.iter().map(|name| (false, name));
        let keys = keys.chain(references.secrets.iter().map(|name| (true, name)));
        let mut watched = Vec::new();
        let mut forwards = JoinSet::new();
        for (secret, name) in keys {
            let entry = self.entry(Key {
                secret,
                namespace: namespace.to_owned(),
                name: name.clone(),
            });
            let mut changes = entry.changes.subscribe();
            let inbox = inbox.clone();
            forwards.spawn(async move {
                while !matches!(changes.recv().await, Err(broadcast::error::RecvError::Closed)) {
                    if inbox.send(Message::ObjectsChanged).is_err() {
                        return;
                    }
                }
            });
            watched.push(entry);
        }
        Subscription {
            _watched: watched,
            _forwards: forwards,
        }
    }

    fn entry(&self, key: Key) -> Arc<Watched> {
        let mut watched = self.watched.lock();
        if let Some(entry) = watched.get(&key).and_then(Weak::upgrade) {
            return entry;
        }
        watched.retain(|_, entry| entry.strong_count() > 0);
        let (changes, _) = broadcast::channel(1);
        let (client, sender, wanted) = (self.client.clone(), changes.clone(), key.clone());
        let task = tokio::spawn(async move {
            if wanted.secret {
                watch::<Secret>(Api::namespaced(client, &wanted.namespace), &wanted.name, &sender).await;
            } else {
                watch::<ConfigMap>(Api::namespaced(client, &wanted.namespace), &wanted.name, &sender).await;
            }
        });
        let entry = Arc::new(Watched { changes, task });
        watched.insert(key, Arc::downgrade(&entry));
        let mut lingering = self.lingering.lock();
        lingering.push_back(Arc::clone(&entry));
        let forgotten = (lingering.len() > LINGERING).then(|| lingering.pop_front());
        drop(lingering);
        drop(watched);
        drop(forgotten);
        entry
    }
}

async fn get<K>(api: &Api<K>, name: &str) -> Result<Option<(String, Arc<K>)>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    Ok(api
        .get_opt(name)
        .await?
        .map(|object| (name.to_owned(), Arc::new(object))))
}

async fn watch<K>(api: Api<K>, name: &str, changes: &broadcast::Sender<()>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut stream = std::pin::pin!(watcher(api, config).default_backoff());
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Init) | Err(_) => {}
            // Nobody listening is no failure: the last subscriber is about to drop this task.
            Ok(_) => drop(changes.send(())),
        }
    }
}
