//! Service accounts' tokens: made here, and believed as long as the objects they are bound to live.
//!
//! A token is signed, so its words need no looking up; whether the account, pod, Secret or node it is bound to is still
//! the one it was made for is asked of the caches every time, which costs a comparison of pointers when nothing changed.
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>

use super::bootstrap_token::same;
use super::claims::{Claims, Private, Reference};
use super::jwt::Key;
use super::token_file::digest;
use super::{Bound, CREDENTIAL_ID, Identity, Issue, Proven};
use crate::registry::Registry;
use crate::watch_cache::Record;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// The issuer, and the audience of this server.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// The issuer of tokens that are kept in Secrets.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// Clocks may differ by this many seconds; objects that are being deleted are believed this long.
const LEEWAY_SECONDS: i64 = 60;
/// Tokens whose signature is remembered as good.
const MOST_REMEMBERED: usize = 4096;
/// A Secret with this label is no longer believed.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// Makes and proves tokens.
pub(crate) struct Tokens {
    key: Key,
    audiences: Vec<String>,
    remembered: Mutex<HashMap<[u8; 32], Arc<Remembered>>>,
}

/// A token with a good signature, and the objects that last vouched for it.
struct Remembered {
    claims: Claims,
    vouching: Mutex<Vec<Arc<Record>>>,
}

impl Tokens {
    pub(crate) fn new(key: Key) -> Self {
        Tokens {
            key,
            audiences: vec![ISSUER.to_owned()],
            remembered: Mutex::default(),
        }
    }

    /// What tokens for this server are for.
    pub(crate) fn audiences(&self) -> &[String] {
        &self.audiences
    }

    pub(crate) fn jwks(&self) -> Value {
        self.key.jwks()
    }

    /// A token as [`Issue`] describes it.
    pub(crate) fn issue(&self, issue: &Issue<'_>, now: Timestamp) -> Result<String, ring::error::Unspecified> {
        let now = now.as_second();
        let mut private = Private {
            namespace: issue.namespace.to_owned(),
            serviceaccount: issue.account.clone(),
            warnafter: issue.warn_after.map(|seconds| now + seconds),
            ..Private::default()
        };
        match &issue.bound {
            Bound::Nothing => {}
            Bound::Pod(pod, node) => (private.pod, private.node) = (Some(pod.clone()), node.clone()),
            Bound::Secret(secret) => private.secret = Some(secret.clone()),
            Bound::Node(node) => private.node = Some(node.clone()),
        }
        self.key.sign(&json!({
            "aud": issue.audiences,
            "exp": now + issue.seconds,
            "iat": now,
            "iss": ISSUER,
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": private,
            "nbf": now,
            "sub": super::service_account_user(issue.namespace, &issue.account.name),
        }))
    }

    /// A token that is kept in a Secret and holds as long as the Secret does.
    pub(crate) fn issue_legacy(
        &self,
        namespace: &str,
        account: &Reference,
        secret: &str,
    ) -> Result<String, ring::error::Unspecified> {
        self.key.sign(&json!({
            "iss": LEGACY_ISSUER,
            "kubernetes.io/serviceaccount/namespace": namespace,
            "kubernetes.io/serviceaccount/secret.name": secret,
            "kubernetes.io/serviceaccount/service-account.name": account.name,
            "kubernetes.io/serviceaccount/service-account.uid": account.uid,
            "sub": super::service_account_user(namespace, &account.name),
        }))
    }

    /// Whose token it is, for at least one of the audiences. The caches must be fresh.
    pub(super) fn prove(&self, registry: &Registry, token: &str, wanted: &[String]) -> Result<Proven, String> {
        let remembered = self.remember(token)?;
        let claims = &remembered.claims;
        let legacy = claims.iss == LEGACY_ISSUER;
        let own = if legacy { &self.audiences } else { &claims.aud };
        let audiences: Vec<String> = own
            .iter()
            .filter(|audience| wanted.contains(audience))
            .cloned()
            .collect();
        if audiences.is_empty() {
            return Err(format!(
                "token audiences {own:?} is invalid for the target audiences {wanted:?}"
            ));
        }
        let now = Timestamp::now();
        let identity = if legacy {
            prove_legacy(registry, claims, token)?
        } else {
            within_its_time(claims, now)?;
            let private = claims
                .kubernetes
                .as_ref()
                .ok_or("the token has no claims of Kubernetes")?;
            check_subject(claims, &private.namespace, &private.serviceaccount.name)?;
            remembered.vouched(registry, private, now)?;
            identity(claims, private)
        };
        Ok(Proven { identity, audiences })
    }

    fn remember(&self, token: &str) -> Result<Arc<Remembered>, String> {
        let key = digest(token);
        if let Some(known) = self.remembered.lock().get(&key) {
            return Ok(Arc::clone(known));
        }
        let claims: Claims = self.key.verify(token).map_err(|error| error.to_string())?;
        if claims.iss != ISSUER && claims.iss != LEGACY_ISSUER {
            return Err("the token is of another issuer".to_owned());
        }
        let known = Arc::new(Remembered {
            claims,
            vouching: Mutex::default(),
        });
        let mut remembered = self.remembered.lock();
        if remembered.len() >= MOST_REMEMBERED {
            let now = Timestamp::now();
            remembered.retain(|_, known| within_its_time(&known.claims, now).is_ok());
            if remembered.len() >= MOST_REMEMBERED {
                remembered.clear();
            }
        }
        remembered.insert(key, Arc::clone(&known));
        Ok(known)
    }
}

impl Remembered {
    /// Are all objects the token is bound to still those it was made for?
    fn vouched(&self, registry: &Registry, private: &Private, now: Timestamp) -> Result<(), String> {
        let namespace = Some(private.namespace.as_str());
        let account = &private.serviceaccount;
        let mut wanted = vec![("serviceaccounts", namespace, account)];
        wanted.extend(private.pod.as_ref().map(|pod| ("pods", namespace, pod)));
        wanted.extend(private.secret.as_ref().map(|secret| ("secrets", namespace, secret)));
        if private.pod.is_none() {
            // The node of a pod only says where it ran.
            wanted.extend(private.node.as_ref().map(|node| ("nodes", None, node)));
        }
        let mut records = Vec::with_capacity(wanted.len());
        for (plural, namespace, reference) in &wanted {
            let record = registry.peek("v1", plural, *namespace, &reference.name);
            let gone = || format!("{plural} {:?} of the token is gone", reference.name);
            records.push(record.ok_or_else(gone)?);
        }
        let mut vouching = self.vouching.lock();
        let unchanged = |index: usize| vouching.get(index).is_some_and(|old| Arc::ptr_eq(old, &records[index]));
        let mut dying = false;
        for (index, (plural, _, reference)) in wanted.iter().enumerate() {
            if unchanged(index) {
                continue;
            }
            let life = Life::read(&records[index])?;
            if life.uid != reference.uid {
                return Err(format!("{plural} {:?} of the token has been replaced", reference.name));
            }
            if let Some(since) = life.deleted {
                dying = true;
                if since + jiff::SignedDuration::from_secs(LEEWAY_SECONDS) < now {
                    return Err(format!("{plural} {:?} of the token is being deleted", reference.name));
                }
            }
        }
        // What is being deleted has to be asked again: its time may be over without another change.
        *vouching = if dying { Vec::new() } else { records };
        Ok(())
    }
}

/// The part of an object's metadata that says whether it is still itself.
struct Life {
    uid: String,
    deleted: Option<Timestamp>,
}

impl Life {
    fn read(record: &Record) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Object<'a> {
            #[serde(borrow)]
            metadata: Metadata<'a>,
        }
        #[derive(Deserialize)]
        struct Metadata<'a> {
            #[serde(borrow, default)]
            uid: Cow<'a, str>,
            #[serde(rename = "deletionTimestamp")]
            deleted: Option<Timestamp>,
        }
        let json = record.json();
        let object: Object<'_> = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
        Ok(Life {
            uid: object.metadata.uid.into_owned(),
            deleted: object.metadata.deleted,
        })
    }
}

/// The uid of an object in the caches.
pub(crate) fn uid(record: &Record) -> String {
    Life::read(record).map(|life| life.uid).unwrap_or_default()
}

fn within_its_time(claims: &Claims, now: Timestamp) -> Result<(), &'static str> {
    let now = now.as_second();
    if claims.exp.is_some_and(|until| now > until + LEEWAY_SECONDS) {
        return Err("service account token has expired");
    }
    if claims.nbf.is_some_and(|from| now < from - LEEWAY_SECONDS) {
        return Err("service account token is not valid yet");
    }
    Ok(())
}

fn check_subject(claims: &Claims, namespace: &str, name: &str) -> Result<(), &'static str> {
    if super::split_service_account(&claims.sub) == Some((namespace, name)) {
        return Ok(());
    }
    Err("the subject is not that of the account")
}

fn identity(claims: &Claims, private: &Private) -> Identity {
    let mut identity = Identity::service_account(&private.namespace, &private.serviceaccount.name);
    identity.uid.clone_from(&private.serviceaccount.uid);
    let mut say = |key: &str, value: &str| {
        if !value.is_empty() {
            identity.extra.insert(key.to_owned(), vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        say(CREDENTIAL_ID, &format!("JTI={}", claims.jti));
    }
    if let Some(pod) = &private.pod {
        say("authentication.kubernetes.io/pod-name", &pod.name);
        say("authentication.kubernetes.io/pod-uid", &pod.uid);
    }
    if let Some(node) = &private.node {
        say("authentication.kubernetes.io/node-name", &node.name);
        say("authentication.kubernetes.io/node-uid", &node.uid);
    }
    identity
}

/// A token of a Secret holds while the Secret carries it and the account is the same.
fn prove_legacy(registry: &Registry, claims: &Claims, token: &str) -> Result<Identity, String> {
    let part = |part: &Option<String>| part.clone().filter(|part| !part.is_empty()).ok_or("a claim is missing");
    let (namespace, name) = (part(&claims.legacy_namespace)?, part(&claims.legacy_name)?);
    let (secret, uid) = (part(&claims.legacy_secret)?, part(&claims.legacy_uid)?);
    check_subject(claims, &namespace, &name)?;
    let find = |plural: &str, name: &str| registry.peek("v1", plural, Some(&namespace), name);
    let record = find("secrets", &secret).ok_or("the token's Secret is gone")?;
    let object: Value = serde_json::from_slice(&record.json()).map_err(|error| error.to_string())?;
    let kept = STANDARD.decode(object["data"]["token"].as_str().unwrap_or_default());
    if object["metadata"]["deletionTimestamp"].is_string() || !same(&kept.unwrap_or_default(), token.as_bytes()) {
        return Err("the token has been invalidated".to_owned());
    }
    if record.facts.label(INVALID_SINCE).is_some() {
        return Err("the token has been marked invalid".to_owned());
    }
    let account = find("serviceaccounts", &name).ok_or("the token's account is gone")?;
    let life = Life::read(&account)?;
    if life.uid != uid || life.deleted.is_some() {
        return Err("the token's account has been replaced".to_owned());
    }
    let mut identity = Identity::service_account(&namespace, &name);
    identity.uid = uid;
    Ok(identity)
}
