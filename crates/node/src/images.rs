//! Having a container's image here and unpacked, by its pull policy; every image is pulled once at a time.

use crate::machine::{Failure, Retry};
use catamaran_image::{Credential, Image, Root, Store};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use std::collections::HashMap;
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

pub(crate) struct Images {
    store: Arc<Store>,
    pulls: Mutex<HashMap<String, Pull>>,
    turns: Arc<Semaphore>,
}

impl Images {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            pulls: Mutex::default(),
            turns: Arc::new(Semaphore::new(MAX_PULLS)),
        }
    }

    /// The image of a container, pulled if its policy says so. `progress` is told what is done, for events.
    ///
    /// # Errors
    /// In Kubernetes' reasons: `InvalidImageName`, `ErrImageNeverPull`, `ErrImagePull`, `CreateContainerError`.
    pub(crate) async fn ensure(
        &self,
        reference: &str,
        policy: &str,
        credentials: impl Future<Output = Vec<Credential>>,
        progress: impl Fn(Progress, Option<&Image>),
    ) -> Result<Ready, Failure> {
        let present = match policy {
            "Always" => None,
            _ => self
                .store
                .get(reference)
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
                progress(
                    Progress::Pulled {
                        took,
                        waited: begin.elapsed(),
                    },
                    Some(&image),
                );
                Image::clone(&image)
            }
        };
        let root = self.store.root(&image).await.map_err(|error| Failure {
            reason: "CreateContainerError".to_owned(),
            message: format!("failed to unpack image \"{reference}\": {}", crate::chain(&error)),
            retry: Retry::Soon,
        })?;
        Ok(Ready { image, root })
    }

    async fn pull(
        &self,
        reference: &str,
        credentials: Vec<Credential>,
    ) -> Result<(Arc<Image>, Duration), Arc<catamaran_image::Error>> {
        // Whoever shows other credentials must pull for themselves: sharing would hand out what they may not see.
        let shown: Vec<_> = credentials
            .iter()
            .map(|c| [&*c.registry, &*c.username, &*c.password].join("\n"))
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
