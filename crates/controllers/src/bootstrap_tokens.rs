//! Bootstrap tokens: expired ones go, and those for signing sign what `kube-public/cluster-info` says, so that whoever has only a
//! token can tell whether it is true.
//! <https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>

use crate::framework::drive::{Change, Next, drive, source};
use crate::framework::requests::{is_conflict, is_not_found};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt as _};
use ring::hmac;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const TOKENS: &str = "kube-system";
const ONLY_TOKENS: &str = "type=bootstrap.kubernetes.io/token";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const PUBLIC: &str = "kube-public";
const CLUSTER_INFO: &str = "cluster-info";
const KUBECONFIG: &str = "kubeconfig";
/// What signatures are called in `cluster-info`, before the id of the token.
const SIGNATURE: &str = "jws-kubeconfig-";
const NAME: &str = "bootstrap-token-";
const WORKERS: usize = 2;

/// Deletes tokens when they expire.
pub(crate) async fn clean(client: Client, shutdown: CancellationToken) {
    let sources = vec![source("bootstrap tokens", tokens(&client), |change| match change {
        Change::Is(secret) => vec![secret.name_any()],
        Change::Was(_) => Vec::new(),
    })];
    drive("tokencleaner", sources, WORKERS, shutdown, |name| {
        expire(client.clone(), name)
    })
    .await;
}

/// Keeps the signatures of `cluster-info`.
pub(crate) async fn sign(client: Client, shutdown: CancellationToken) {
    let only_this = watcher::Config::default().fields("metadata.name=cluster-info");
    let maps = Api::<PartialObjectMeta<ConfigMap>>::namespaced(client.clone(), PUBLIC);
    let sources = vec![
        source("bootstrap tokens", tokens(&client), |_: Change<_>| vec![()]),
        source("cluster-info", watcher(maps, only_this), |change| match change {
            Change::Is(_) => vec![()],
            Change::Was(_) => Vec::new(),
        }),
    ];
    drive("bootstrapsigner", sources, 1, shutdown, |()| write(client.clone())).await;
}

fn tokens(
    client: &Client,
) -> impl futures::Stream<Item = Result<watcher::Event<PartialObjectMeta<Secret>>, watcher::Error>> + Send + 'static {
    watcher(
        Api::<PartialObjectMeta<Secret>>::namespaced(client.clone(), TOKENS),
        watcher::Config::default().fields(ONLY_TOKENS),
    )
}

async fn expire(client: Client, name: String) -> kube::Result<Next> {
    let secrets: Api<Secret> = Api::namespaced(client, TOKENS);
    let Some(secret) = secrets.get_opt(&name).await?.filter(is_token) else {
        return Ok(Next::Done);
    };
    let now = Timestamp::now();
    match expiry(&secret) {
        Expiry::Never => return Ok(Next::Done),
        Expiry::At(at) if at > now => {
            return Ok(Next::After(
                Duration::try_from(now.duration_until(at)).unwrap_or_default(),
            ));
        }
        Expiry::At(_) | Expiry::Unreadable => {}
    }
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: secret.metadata.uid.clone(),
            resource_version: secret.metadata.resource_version.clone(),
        }),
        ..DeleteParams::default()
    };
    match secrets.delete(&name, &parameters).await {
        Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(Next::Done),
        other => other.map(|_| Next::Done),
    }
}

fn is_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(TYPE)
}

fn data<'a>(secret: &'a Secret, key: &str) -> &'a str {
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    value
        .and_then(|value| std::str::from_utf8(&value.0).ok())
        .unwrap_or_default()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    Never,
    At(Timestamp),
    /// As good as over.
    Unreadable,
}

/// Pure: when the token does not hold any more.
fn expiry(secret: &Secret) -> Expiry {
    let value = secret.data.as_ref().and_then(|data| data.get("expiration"));
    let Some(value) = value.filter(|value| !value.0.is_empty()) else {
        return Expiry::Never;
    };
    let at = std::str::from_utf8(&value.0).ok().and_then(|text| text.parse().ok());
    at.map_or(Expiry::Unreadable, Expiry::At)
}

async fn write(client: Client) -> kube::Result<Next> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), PUBLIC);
    let Some(mut map) = maps.get_opt(CLUSTER_INFO).await? else {
        return Ok(Next::Done);
    };
    let secrets: Api<Secret> = Api::namespaced(client, TOKENS);
    let secrets = secrets.list(&ListParams::default().fields(ONLY_TOKENS)).await?.items;
    let before = map.data.unwrap_or_default();
    let Some(after) = signed(&before, &secrets, Timestamp::now()) else {
        return Ok(Next::Done);
    };
    map.data = Some(after);
    match maps.replace(CLUSTER_INFO, &PostParams::default(), &map).await {
        // The watch shows what it is now.
        Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(Next::Done),
        other => other.map(|_| Next::Done),
    }
}

/// Pure: the map with the signatures it should have; `None` if it has them, or nothing to sign.
fn signed(before: &BTreeMap<String, String>, secrets: &[Secret], now: Timestamp) -> Option<BTreeMap<String, String>> {
    let content = before.get(KUBECONFIG)?;
    let mut after = before.clone();
    after.retain(|key, _| !key.starts_with(SIGNATURE));
    for (id, secret) in secrets.iter().filter_map(|secret| signing_token(secret, now)) {
        after.insert(format!("{SIGNATURE}{id}"), detached_signature(content, id, secret));
    }
    (after != *before).then_some(after)
}

/// Pure: id and secret of a token that may sign now.
fn signing_token(secret: &Secret, now: Timestamp) -> Option<(&str, &str)> {
    let id = secret.metadata.name.as_deref()?.strip_prefix(NAME)?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let own = data(secret, "token-secret");
    let holds = match expiry(secret) {
        Expiry::Never => true,
        Expiry::At(at) => at > now,
        Expiry::Unreadable => false,
    };
    let is_right = is_token(secret)
        && id.len() == 6
        && id.bytes().all(plain)
        && data(secret, "token-id") == id
        && !own.is_empty()
        && data(secret, "usage-bootstrap-signing") == "true";
    (is_right && holds).then_some((id, own))
}

/// A JWS with HS256 whose content is elsewhere (RFC 7515, appendix F).
fn detached_signature(content: &str, id: &str, secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(json!({ "alg": "HS256", "kid": id }).to_string());
    let payload = URL_SAFE_NO_PAD.encode(content);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, format!("{header}.{payload}").as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::fake::Fake;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::Value;

    const SECRETS: &str = "/api/v1/secrets";
    const MAPS: &str = "/api/v1/configmaps";

    fn token(id: &str, more: &Value) -> Value {
        let mut plain = json!({ "token-id": id, "token-secret": "0123456789abcdef" });
        plain
            .as_object_mut()
            .expect("object")
            .extend(more.as_object().expect("object").clone());
        let data: serde_json::Map<String, Value> = plain
            .as_object()
            .expect("object")
            .iter()
            .map(|(key, value)| (key.clone(), STANDARD.encode(value.as_str().expect("text")).into()))
            .collect();
        let metadata = json!({ "name": format!("bootstrap-token-{id}"), "namespace": TOKENS });
        json!({ "metadata": metadata, "type": TYPE, "data": data })
    }

    #[test]
    fn signatures_are_those_that_kubeadm_checks() {
        let content = "Hello from the other side. I must have called a thousand times.";
        assert_eq!(
            detached_signature(content, "joshua", "my voice is my passcode"),
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"
        );
    }

    #[tokio::test]
    async fn expired_tokens_go() {
        let fake = Fake::default();
        fake.put(
            SECRETS,
            token("aaaaaa", &json!({ "expiration": "2020-01-01T00:00:00Z" })),
        );
        fake.put(SECRETS, token("bbbbbb", &json!({ "expiration": "soon" })));
        fake.put(
            SECRETS,
            token("cccccc", &json!({ "expiration": "2120-01-01T00:00:00+01:00" })),
        );
        fake.put(SECRETS, token("dddddd", &json!({})));
        let stop = CancellationToken::new();
        let running = tokio::spawn(clean(fake.client(), stop.clone()));
        let is_there = |fake: &Fake, id: &str| fake.get(SECRETS, TOKENS, &format!("bootstrap-token-{id}")).is_some();
        fake.until(|fake| (!is_there(fake, "aaaaaa") && !is_there(fake, "bbbbbb")).then_some(()))
            .await;
        assert!(is_there(&fake, "cccccc") && is_there(&fake, "dddddd"));
        stop.cancel();
        running.await.expect("the controller ends");
    }

    #[tokio::test]
    async fn tokens_sign_as_long_as_they_are_there() {
        let fake = Fake::default();
        let signing = json!({ "usage-bootstrap-signing": "true" });
        fake.put(SECRETS, token("aaaaaa", &signing));
        fake.put(
            SECRETS,
            token("bbbbbb", &json!({ "usage-bootstrap-authentication": "true" })),
        );
        let metadata = json!({ "name": CLUSTER_INFO, "namespace": PUBLIC });
        let data = json!({ "kubeconfig": "apiVersion: v1", "jws-kubeconfig-zzzzzz": "of a token that is gone" });
        fake.put(MAPS, json!({ "metadata": metadata, "data": data }));
        let stop = CancellationToken::new();
        let running = tokio::spawn(sign(fake.client(), stop.clone()));
        let keys = |fake: &Fake| -> Vec<String> {
            let map = fake.get(MAPS, PUBLIC, CLUSTER_INFO).expect("map");
            map["data"].as_object().expect("data").keys().cloned().collect()
        };
        fake.until(|fake| (keys(fake) == ["jws-kubeconfig-aaaaaa", "kubeconfig"]).then_some(()))
            .await;
        fake.put(SECRETS, token("cccccc", &signing));
        fake.until(|fake| (keys(fake).len() == 3).then_some(())).await;
        fake.remove(SECRETS, TOKENS, "bootstrap-token-aaaaaa");
        fake.until(|fake| (keys(fake) == ["jws-kubeconfig-cccccc", "kubeconfig"]).then_some(()))
            .await;
        stop.cancel();
        running.await.expect("the controller ends");
    }

    #[test]
    fn an_expiration_that_nobody_can_read_is_over() {
        let mut object = token("aaaaaa", &json!({ "usage-bootstrap-signing": "true" }));
        let read = |object: &Value| -> Secret { serde_json::from_value(object.clone()).expect("a secret") };
        assert_eq!(expiry(&read(&object)), Expiry::Never);
        object["data"]["expiration"] = json!("");
        assert_eq!(expiry(&read(&object)), Expiry::Never);
        object["data"]["expiration"] = json!(STANDARD.encode([0xff]));
        assert_eq!(expiry(&read(&object)), Expiry::Unreadable);
        assert_eq!(signing_token(&read(&object), Timestamp::UNIX_EPOCH), None);
    }

    #[tokio::test]
    async fn a_token_that_was_prolonged_meanwhile_stays() {
        let fake = Fake::default();
        let put = |fake: &Fake, until: &str| {
            let mut token = token("aaaaaa", &json!({ "expiration": until }));
            token["metadata"]["uid"] = json!("u");
            fake.put(SECRETS, token);
        };
        put(&fake, "2020-01-01T00:00:00Z");
        let client = fake.client_after(move |fake, parts| {
            if parts.method == http::Method::DELETE {
                put(fake, "2120-01-01T00:00:00Z");
            }
            None
        });
        let name = "bootstrap-token-aaaaaa";
        assert_eq!(expire(client, name.to_owned()).await.expect("looked at"), Next::Done);
        assert!(fake.get(SECRETS, TOKENS, name).is_some());
    }
}
