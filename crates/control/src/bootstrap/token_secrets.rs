//! Secrets of type `kubernetes.io/service-account-token` carry a token that never ends: it is put in once the account is
//! there, and the Secret goes when the account does.
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#token-controller>

use super::is_conflict;
use crate::authn::Reference;
use crate::http::App;
use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
/// Pause before Secrets that failed are tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Namespace and name.
type Key = (String, String);

pub(super) async fn run(client: Client, app: Arc<App>, ca_pem: String, shutdown: CancellationToken) {
    let only_tokens = watcher::Config::default().fields(&format!("type={TYPE}"));
    let secrets = watcher(Api::<PartialObjectMeta<Secret>>::all(client.clone()), only_tokens);
    let mut secrets = std::pin::pin!(secrets.default_backoff());
    let accounts = Api::<PartialObjectMeta<ServiceAccount>>::all(client.clone());
    let mut accounts = std::pin::pin!(watcher(accounts, watcher::Config::default()).default_backoff());
    // Secret → account.
    let mut known: HashMap<Key, String> = HashMap::new();
    let mut dirty: BTreeSet<Key> = BTreeSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RETRY), if !dirty.is_empty() => {}
            Some(event) = secrets.next() => match event {
                Ok(Event::Apply(secret) | Event::InitApply(secret)) => {
                    let key = (secret.namespace().unwrap_or_default(), secret.name_any());
                    let account = secret.annotations().get(NAME).cloned().unwrap_or_default();
                    known.insert(key.clone(), account);
                    dirty.insert(key);
                }
                Ok(Event::Delete(secret)) => {
                    known.remove(&(secret.namespace().unwrap_or_default(), secret.name_any()));
                }
                Ok(Event::Init | Event::InitDone) => {}
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "watch of secrets"),
            },
            Some(event) = accounts.next() => match event {
                Ok(Event::Apply(account) | Event::Delete(account)) => {
                    let (namespace, name) = (account.namespace().unwrap_or_default(), account.name_any());
                    let own = known.iter().filter(|((place, _), own)| *place == namespace && **own == name);
                    dirty.extend(own.map(|(key, _)| key.clone()));
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "watch of service accounts"),
            },
        }
        for key in std::mem::take(&mut dirty) {
            if let Err(error) = settle(&client, &app, &ca_pem, &key).await {
                tracing::warn!(error = &error as &dyn std::error::Error, secret = key.1, "no token yet");
                dirty.insert(key);
            }
        }
    }
}

/// Puts into a Secret what is missing, or deletes it if its account is gone.
async fn settle(client: &Client, app: &App, ca_pem: &str, (namespace, name): &Key) -> kube::Result<()> {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let Some(mut secret) = secrets.get_opt(name).await? else {
        return Ok(());
    };
    if secret.type_.as_deref() != Some(TYPE) || secret.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let annotation = |key: &str| secret.annotations().get(key).cloned().unwrap_or_default();
    let (account_name, stated_uid) = (annotation(NAME), annotation(UID));
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let account = accounts.get_opt(&account_name).await?;
    let account = account.filter(|account| stated_uid.is_empty() || account.metadata.uid.as_ref() == Some(&stated_uid));
    let result = match account {
        Some(account) => {
            let account = Reference {
                name: account_name,
                uid: account.metadata.uid.unwrap_or_default(),
            };
            if !fill(&mut secret, app, ca_pem, namespace, &account) {
                return Ok(());
            }
            secrets.replace(name, &PostParams::default(), &secret).await.map(drop)
        }
        None => {
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: secret.metadata.uid,
                    resource_version: secret.metadata.resource_version,
                }),
                ..DeleteParams::default()
            };
            secrets.delete(name, &params).await.map(drop)
        }
    };
    match result {
        // Whoever was first: the watch shows what it is now.
        Err(error) if is_conflict(&error) || is_gone(&error) => Ok(()),
        other => other,
    }
}

/// False if there was nothing to do.
fn fill(secret: &mut Secret, app: &App, ca_pem: &str, namespace: &str, account: &Reference) -> bool {
    let mut changed = secret.annotations().get(UID) != Some(&account.uid);
    secret.annotations_mut().insert(UID.to_owned(), account.uid.clone());
    let name = secret.name_any();
    let data = secret.data.get_or_insert_default();
    let mut set = |key: &str, bytes: &[u8]| {
        if data.get(key).is_none_or(|own| own.0 != bytes) {
            data.insert(key.to_owned(), ByteString(bytes.to_vec()));
            changed = true;
        }
    };
    set("ca.crt", ca_pem.as_bytes());
    set("namespace", namespace.as_bytes());
    if data.get("token").is_none_or(|token| token.0.is_empty()) {
        match app
            .authenticator
            .service_accounts()
            .issue_legacy(namespace, account, &name)
        {
            Ok(token) => {
                data.insert("token".to_owned(), ByteString(token.into_bytes()));
                changed = true;
            }
            Err(_) => tracing::error!(secret = name, "a token cannot be signed"),
        }
    }
    changed
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
