//! Tokens of service accounts for the volumes of pods: asked for when a pod starts, kept, and asked for anew well before they end.
//!
//! A token is bound to its pod, so that it is worth nothing once the pod is gone.
//! <https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken>

use crate::layout::PodKey;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// What Kubernetes defaults to where a pod does not say.
const DEFAULT_SECONDS: i64 = 60 * 60;
/// No token is kept longer, however long it holds.
const LONGEST_KEPT_SECONDS: i64 = 24 * 60 * 60;

/// Which token: audience (empty: the API server) and lifetime in seconds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Wanted {
    pub(crate) audience: String,
    pub(crate) seconds: i64,
}

impl Wanted {
    pub(crate) fn of(source: &ServiceAccountTokenProjection) -> Self {
        Wanted {
            audience: source.audience.clone().unwrap_or_default(),
            seconds: source.expiration_seconds.unwrap_or(DEFAULT_SECONDS),
        }
    }
}

/// The tokens a pod's volumes show.
pub(crate) fn wanted(pod: &Pod) -> BTreeSet<Wanted> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| volume.projected.as_ref())
        .flat_map(|projected| projected.sources.iter().flatten())
        .filter_map(|source| source.service_account_token.as_ref())
        .map(Wanted::of)
        .collect()
}

/// When the first of a pod's tokens is due again after all were had. `None`: it has none.
pub(crate) fn refresh_after(pod: &Pod) -> Option<Duration> {
    let shortest = wanted(pod).iter().map(|wanted| wanted.seconds).min()?;
    let seconds = kept_seconds(shortest).unsigned_abs();
    // The pod asked a little after this clock began to run.
    Some(Duration::from_secs(seconds + 10))
}

/// A fifth of its life is left for trying again.
fn kept_seconds(lifetime: i64) -> i64 {
    (lifetime / 5 * 4).clamp(1, LONGEST_KEPT_SECONDS)
}

struct Kept {
    token: String,
    until: Timestamp,
}

/// Asks for tokens, and keeps them while their pods are here.
pub(crate) struct Tokens {
    client: Client,
    kept: Mutex<HashMap<String, HashMap<Wanted, Kept>>>,
}

impl Tokens {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            kept: Mutex::default(),
        }
    }

    /// All tokens of the pod. One that cannot be had anew is given as long as it holds.
    ///
    /// # Errors
    /// The text for a `FailedMount` event.
    pub(crate) async fn fetch(&self, pod: &Pod) -> Result<BTreeMap<Wanted, String>, String> {
        let wanted = wanted(pod);
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let key = PodKey::of(pod).ok_or("the pod has no usable name, namespace or uid")?;
        let requests = wanted.into_iter().map(|wanted| async {
            let token = self.one(pod, &key, &wanted).await?;
            Ok::<_, String>((wanted, token))
        });
        let tokens: Vec<(Wanted, String)> = futures::future::try_join_all(requests).await?;
        Ok(tokens.into_iter().collect())
    }

    /// Forgets a pod that is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.kept.lock().remove(uid);
    }

    async fn one(&self, pod: &Pod, key: &PodKey, wanted: &Wanted) -> Result<String, String> {
        let now = Timestamp::now();
        let old = {
            let kept = self.kept.lock();
            let kept = kept.get(&key.uid).and_then(|kept| kept.get(wanted));
            match kept {
                Some(kept) if now < kept.until => return Ok(kept.token.clone()),
                Some(kept) => Some(kept.token.clone()),
                None => None,
            }
        };
        match self.request(pod, key, wanted).await {
            Ok(token) => {
                let until = now + jiff::SignedDuration::from_secs(kept_seconds(wanted.seconds));
                let kept = Kept {
                    token: token.clone(),
                    until,
                };
                self.kept
                    .lock()
                    .entry(key.uid.clone())
                    .or_default()
                    .insert(wanted.clone(), kept);
                Ok(token)
            }
            Err(error) => match old {
                Some(token) => {
                    tracing::warn!(pod = key.uid, error, "a token could not be had anew");
                    Ok(token)
                }
                None => Err(error),
            },
        }
    }

    async fn request(&self, pod: &Pod, key: &PodKey, wanted: &Wanted) -> Result<String, String> {
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
        let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
        let failed = |why: String| format!("failed to fetch token: {why}");
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: match wanted.audience.as_str() {
                    "" => Vec::new(),
                    audience => vec![audience.to_owned()],
                },
                expiration_seconds: Some(wanted.seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(key.name.clone()),
                    uid: Some(key.uid.clone()),
                }),
            },
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.namespace);
        let answer = api
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .map_err(|error| failed(crate::chain(&error)))?;
        answer
            .status
            .map(|status| status.token)
            .ok_or_else(|| failed("the answer has no token".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tokens_are_due_before_they_end() {
        let pod: Pod = serde_json::from_value(json!({ "spec": { "containers": [], "volumes": [
            { "name": "a", "projected": { "sources": [{ "serviceAccountToken": { "path": "t", "expirationSeconds": 3607 } }] } },
            { "name": "b", "projected": { "sources": [{ "serviceAccountToken": { "path": "t", "audience": "vault", "expirationSeconds": 600 } }] } },
            { "name": "c", "projected": { "sources": [{ "serviceAccountToken": { "path": "u", "expirationSeconds": 3607 } }] } },
        ] } }))
        .unwrap();
        assert_eq!(wanted(&pod).len(), 2, "each once");
        assert_eq!(refresh_after(&pod), Some(Duration::from_secs(490)));
        assert_eq!(kept_seconds(365 * 24 * 60 * 60), LONGEST_KEPT_SECONDS);
        assert_eq!(refresh_after(&Pod::default()), None);
    }
}
