//! Having a container's image here and unpacked, by its pull policy; every image is pulled once at a time.
//!
//! From the moment it is here until the pod is over the image is held under the names of pod and container, so that neither
//! `cata image rm` nor a collection takes it from under a container that runs or will be restarted.

use crate::image_gc::Wake;
use crate::machine::{Failure, Retry};
use catamaran_image::{Credential, Image, Reference, Root, Store};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use sha2::Digest;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Pulls that run at once; others wait their turn.
const MAX_PULLS: usize = 4;

/// An image ready to start containers from.
#[derive(Debug)]
pub(crate) struct Ready {
    pub image: Image,
    pub root: Root,
}

/// What happened on the way, for the pod's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Present,
    Pulling,
    Pulled { took: Duration, waited: Duration },
}

type Pull = Shared<BoxFuture<'static, Result<(Arc<Image>, Duration), Arc<catamaran_image::Error>>>>;

/// Who needs an image, and which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub uid: &'a str,
    pub container: &'a str,
    pub reference: &'a str,
    /// `imagePullPolicy`.
    pub policy: &'a str,
}

impl Wanted<'_> {
    /// The lease: one for each image that this container of this pod was ever started from.
    fn holder(&self) -> String {
        let hash = sha2::Sha256::digest(self.reference.as_bytes());
        let hash = hash[..8]
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        format!("{}_{}_{hash}", self.uid, self.container)
    }
}

pub(crate) struct Images {
    store: Arc<Store>,
    pulls: Mutex<HashMap<String, Pull>>,
    turns: Arc<Semaphore>,
    /// Leases by pod uid: holder, and the image's ID where this agent took the lease itself.
    held: Mutex<HashMap<String, HashMap<String, Option<String>>>>,
    collector: Arc<Wake>,
}

impl Images {
    pub(crate) fn new(store: Arc<Store>, collector: Arc<Wake>) -> Self {
        Self {
            store,
            pulls: Mutex::default(),
            turns: Arc::new(Semaphore::new(MAX_PULLS)),
            held: Mutex::default(),
            collector,
        }
    }

    /// The image of a container, pulled if its policy says so. `progress` is told what is done, for events.
    ///
    /// # Errors
    /// In Kubernetes' reasons: `InvalidImageName`, `ErrImageNeverPull`, `ErrImagePull`, `CreateContainerError`.
    pub(crate) async fn ensure(
        &self,
        wanted: &Wanted<'_>,
        credentials: impl Future<Output = Vec<Credential>>,
        progress: impl Fn(Progress, Option<&Image>),
    ) -> Result<Ready, Failure> {
        let (reference, policy, holder) = (wanted.reference, wanted.policy, wanted.holder());
        let present = match policy {
            "Always" => None,
            _ => self
                .present(reference, &holder)
                .await
                .map_err(|error| failure(reference, &error))?,
        };
        let image = match present {
            Some(image) => {
                progress(Progress::Present, Some(&image));
                image
            }
            None if policy == "Never" => {
                let message = format!("Container image \"{reference}\" is not present with pull policy of Never");
                return Err(Failure {
                    reason: "ErrImageNeverPull".to_owned(),
                    message,
                    retry: Retry::Soon,
                });
            }
            None => {
                progress(Progress::Pulling, None);
                let begin = Instant::now();
                let (image, took) = self
                    .pull(reference, credentials.await)
                    .await
                    .map_err(|e| failure(reference, &e))?;
                // Who joined a pull that was under way did not wait for all of it.
                let waited = begin.elapsed();
                let took = took.min(waited);
                progress(Progress::Pulled { took, waited }, Some(&image));
                self.collector.image_stored();
                Image::clone(&image)
            }
        };
        let failed = |what: &str, error: &catamaran_image::Error| Failure {
            reason: "CreateContainerError".to_owned(),
            message: format!("failed to {what} image \"{reference}\": {}", crate::chain(error)),
            retry: Retry::Soon,
        };
        self.hold(wanted.uid, holder, &image)
            .await
            .map_err(|error| failed("hold", &error))?;
        let root = self
            .store
            .root(&image)
            .await
            .map_err(|error| failed("unpack", &error))?;
        Ok(Ready { image, root })
    }

    /// By its name; else, when the name was removed meanwhile, what the container was started from before.
    async fn present(&self, reference: &str, holder: &str) -> Result<Option<Image>, catamaran_image::Error> {
        match self.store.get(reference).await? {
            Some(image) => Ok(Some(image)),
            None => self.store.held(holder).await,
        }
    }

    async fn hold(&self, uid: &str, holder: String, image: &Image) -> Result<(), catamaran_image::Error> {
        self.store.hold(image, &holder).await?;
        let mut held = self.held.lock();
        held.entry(uid.to_owned())
            .or_default()
            .insert(holder, Some(image.id.clone()));
        Ok(())
    }

    /// Takes over the leases of an agent that was here before. [`Images::release_except`] ends those of pods that are gone.
    pub(crate) async fn recover(&self) {
        match self.store.holders().await {
            Ok(holders) => {
                let mut held = self.held.lock();
                for holder in holders {
                    if let Some(uid) = pod_of(&holder) {
                        held.entry(uid.to_owned())
                            .or_default()
                            .entry(holder.clone())
                            .or_default();
                    }
                }
            }
            Err(error) => tracing::warn!(error = crate::chain(&error), "cannot read the leases of images"),
        }
    }

    /// Ends every lease of a pod that is over. Content that has no name any more becomes the collector's.
    pub(crate) async fn release(&self, uid: &str) {
        let leases = self.held.lock().remove(uid);
        for (holder, id) in leases.into_iter().flatten() {
            if let Err(error) = self.store.release(&holder).await {
                tracing::warn!(holder, error = crate::chain(&error), "cannot release an image");
            }
            let named = match id {
                Some(id) => matches!(self.store.get(&id).await, Ok(Some(_))),
                None => false,
            };
            self.collector.image_released(named);
        }
    }

    /// Ends the leases of all pods but these.
    pub(crate) async fn release_except(&self, kept: &HashSet<String>) {
        let gone: Vec<String> = self
            .held
            .lock()
            .keys()
            .filter(|uid| !kept.contains(*uid))
            .cloned()
            .collect();
        for uid in gone {
            self.release(&uid).await;
        }
    }

    async fn pull(
        &self,
        reference: &str,
        credentials: Vec<Credential>,
    ) -> Result<(Arc<Image>, Duration), Arc<catamaran_image::Error>> {
        // Whoever shows other credentials must pull for themselves: sharing would hand out what they may not see. Those for
        // other registries are never shown.
        let credentials: Vec<Credential> = match Reference::parse(reference) {
            Ok(parsed) => Credential::matching(&credentials, &parsed)
                .into_iter()
                .cloned()
                .collect(),
            Err(_) => Vec::new(),
        };
        let shown: Vec<_> = credentials
            .iter()
            .map(|c| {
                let token = c.identity_token.as_deref().unwrap_or_default();
                [&*c.registry, &*c.username, &*c.password, token].join("\n")
            })
            .collect();
        let key = format!("{reference}\0{}", shown.join("\0"));
        let pull = self
            .pulls
            .lock()
            .entry(key.clone())
            .or_insert_with(|| self.begin(reference, credentials))
            .clone();
        let result = pull.await;
        self.pulls.lock().remove(&key);
        result
    }

    fn begin(&self, reference: &str, credentials: Vec<Credential>) -> Pull {
        let (store, turns, reference) = (self.store.clone(), self.turns.clone(), reference.to_owned());
        let work = async move {
            // The semaphore is never closed; without a permit the pull would only be less polite.
            let _turn = turns.acquire_owned().await.ok();
            let begin = Instant::now();
            let image = store.pull(&reference, &credentials).await.map_err(Arc::new)?;
            Ok((Arc::new(image), begin.elapsed()))
        };
        work.boxed().shared()
    }
}

/// The pod's uid in a holder's name; container names and hashes have no underscore.
fn pod_of(holder: &str) -> Option<&str> {
    let (rest, _) = holder.rsplit_once('_')?;
    Some(rest.rsplit_once('_')?.0)
}

fn failure(reference: &str, error: &catamaran_image::Error) -> Failure {
    use catamaran_image::ErrorKind;
    let chain = crate::chain(error);
    match error.kind() {
        ErrorKind::InvalidReference => Failure {
            reason: "InvalidImageName".to_owned(),
            message: format!(
                "Failed to apply default image tag \"{reference}\": couldn't parse image name \"{reference}\": {chain}"
            ),
            retry: Retry::Never,
        },
        _ => Failure {
            reason: "ErrImagePull".to_owned(),
            message: chain,
            retry: Retry::PullBackoff,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use catamaran_image::{Options, PackSource};

    const POD: &str = "0b0e8a3c-0000-4000-8000-000000000001";

    fn wanted(reference: &str) -> Wanted<'_> {
        Wanted {
            uid: POD,
            container: "web",
            reference,
            policy: "IfNotPresent",
        }
    }

    async fn ensure(images: &Images, reference: &str) -> Result<Ready, Failure> {
        images.ensure(&wanted(reference), async { Vec::new() }, |_, _| ()).await
    }

    /// A store with one wasm image (which needs no root), `demo:1`.
    async fn store(directory: &std::path::Path) -> Arc<Store> {
        let store = Store::open(directory.join("images"), Options::default()).expect("a store");
        let module = directory.join("demo.wasm");
        std::fs::write(&module, b"\0asm\x01\0\0\0").expect("written");
        store.pack(&PackSource::Wasm(module), "demo:1").await.expect("packed");
        Arc::new(store)
    }

    #[tokio::test]
    async fn a_removed_image_serves_its_pod_through_restarts_and_is_collected_after_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = store(directory.path()).await;
        let before = Images::new(store.clone(), Arc::default());
        let ready = ensure(&before, "demo:1").await.expect("present");
        store.remove("demo:1").await.expect("removed");
        assert_eq!(store.get("demo:1").await.expect("readable"), None);
        let again = ensure(&before, "demo:1").await.expect("held");
        assert_eq!(again.image.manifest, ready.image.manifest);

        // The agent was killed: another one, and another process' view of the store.
        let reopened = Store::open(directory.path().join("images"), Options::default()).expect("a store");
        let wake = Arc::<Wake>::default();
        let after = Images::new(Arc::new(reopened.clone()), wake.clone());
        after.recover().await;
        after.release_except(&HashSet::from([POD.to_owned()])).await;
        assert_eq!(reopened.collect().await.expect("collected").blobs, 0);
        ensure(&after, "demo:1")
            .await
            .expect("held through a restart of the agent");

        after.release(POD).await;
        after.release(POD).await;
        assert!(wake.take(), "content without a name is left to the collector");
        assert_eq!(reopened.holders().await.expect("readable"), Vec::<String>::new());
        assert!(reopened.collect().await.expect("collected").blobs > 0);
    }

    #[tokio::test]
    async fn leases_of_pods_that_are_gone_do_not_leak() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = store(directory.path()).await;
        ensure(&Images::new(store.clone(), Arc::default()), "demo:1")
            .await
            .expect("present");
        assert_eq!(store.holders().await.expect("readable").len(), 1);
        let wake = Arc::<Wake>::default();
        let images = Images::new(store.clone(), wake.clone());
        images.recover().await;
        images.release_except(&HashSet::new()).await;
        assert_eq!(store.holders().await.expect("readable"), Vec::<String>::new());
    }

    #[test]
    fn holders_name_their_pod() {
        let holder = wanted("host/a:1").holder();
        assert_eq!(pod_of(&holder), Some(POD));
        assert_ne!(holder, wanted("host/a:2").holder());
        assert_eq!(pod_of("somebody-else"), None);
    }
}
