//! Every pod acts as a service account that exists, and gets what proves it: a volume with a token, the cluster's CA and the
//! namespace, mounted where clients look for it.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#serviceaccount>

use super::{Attributes, Operation, Plugin, World, as_pod, decoded, typed};
use crate::kinds::Object;
use crate::registry::metadata;
use crate::watch_cache::Record;
use async_trait::async_trait;
use catamaran_api::Status;
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile, EphemeralContainer, KeyToPath,
    ObjectFieldSelector, Pod, PodSpec, ProjectedVolumeSource, ServiceAccount, ServiceAccountTokenProjection, Volume,
    VolumeMount, VolumeProjection,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";
const DEFAULT: &str = "default";
/// How long a pod waits for the account that every namespace gets, in a namespace that has only just been made.
const PATIENCE: Duration = Duration::from_secs(2);
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// An hour and seven seconds: told from lifetimes that people choose, and so may be extended.
const TOKEN_SECONDS: i64 = 60 * 60 + 7;

pub(super) struct ServiceAccounts;

#[async_trait]
impl Plugin for ServiceAccounts {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is_create_of("v1", "pods")
            || (attributes.operation == Operation::Update
                && attributes.subresource == "ephemeralcontainers"
                && attributes.concerns("", "pods"))
    }

    async fn mutate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: &mut Box<dyn Object>,
    ) -> Result<(), Status> {
        if attributes.operation != Operation::Create {
            return Ok(());
        }
        let name = attributes.name(Some(object.as_ref())).to_owned();
        let Some(pod) = as_pod(object.as_mut()) else {
            return Ok(());
        };
        if is_mirror(pod) {
            return Ok(());
        }
        let Some(spec) = pod.spec.as_mut() else { return Ok(()) };
        settle_name(spec);
        let account = find(
            world,
            attributes,
            spec.service_account_name.as_deref().unwrap_or_default(),
        )
        .await
        .and_then(|record| account(&record));
        let refuse = |why: String| Status::forbidden(&attributes.target.resource.group_resource, &name, why);
        let account = account.map_err(refuse)?;
        let mounts = spec
            .automount_service_account_token
            .or(account.automount_service_account_token);
        if mounts.unwrap_or(true) {
            mount_token(spec);
        }
        if spec.image_pull_secrets.as_ref().is_none_or(Vec::is_empty) {
            spec.image_pull_secrets = account.image_pull_secrets.filter(|secrets| !secrets.is_empty());
        }
        Ok(())
    }

    async fn validate(
        &self,
        world: &World<'_>,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), Status> {
        let Some(pod) = object.and_then(typed::<Pod>) else {
            return Ok(());
        };
        let Some(spec) = &pod.spec else { return Ok(()) };
        let refuse = |why: String| attributes.forbidden(object, why);
        if attributes.operation == Operation::Create && is_mirror(pod) {
            return mirror_refers_to_nothing(spec).map_err(|why| refuse(why.to_owned()));
        }
        let account_name = spec.service_account_name.as_deref().unwrap_or_default();
        let record = find(world, attributes, account_name).await.map_err(refuse)?;
        // Nearly no account has the annotation: seen without decoding it.
        if !mentions(record.bytes(), ENFORCE_MOUNTABLE) {
            return Ok(());
        }
        let account = account(&record).map_err(refuse)?;
        let enforces = account
            .metadata
            .annotations
            .as_ref()
            .and_then(|own| own.get(ENFORCE_MOUNTABLE));
        if enforces.is_none_or(|value| !matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True")) {
            return Ok(());
        }
        let ephemeral = attributes.operation == Operation::Update;
        only_listed_secrets(spec, &account, ephemeral).map_err(refuse)
    }
}

fn is_mirror(pod: &Pod) -> bool {
    pod.metadata
        .annotations
        .as_ref()
        .is_some_and(|own| own.contains_key(MIRROR))
}

/// The field has an older name, which shows the same.
fn settle_name(spec: &mut PodSpec) {
    let stated = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let name = stated(&spec.service_account_name).or_else(|| stated(&spec.service_account));
    let name = name.unwrap_or_else(|| DEFAULT.to_owned());
    spec.service_account = Some(name.clone());
    spec.service_account_name = Some(name);
}

async fn find(world: &World<'_>, attributes: &Attributes<'_>, name: &str) -> Result<Arc<Record>, String> {
    let namespace = attributes.target.namespace.as_deref().unwrap_or_default();
    let get = || world.get("v1", "serviceaccounts", Some(namespace), name);
    let mut record = get();
    if record.is_none()
        && name == DEFAULT
        && let Some(cache) = world.registry.peek_cache("v1", "serviceaccounts")
    {
        let mut changes = cache.subscribe();
        let wait = async {
            loop {
                record = get();
                if record.is_some() || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        // Whoever waits in vain is told so below.
        let _ = tokio::time::timeout(PATIENCE, wait).await;
    }
    let missing = || format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
    record.ok_or_else(missing)
}

fn account(record: &Record) -> Result<ServiceAccount, String> {
    decoded(record).map_err(|status: Status| status.message().to_owned())
}

fn mentions(json: &[u8], text: &str) -> bool {
    json.windows(text.len()).any(|bytes| bytes == text.as_bytes())
}

fn mount_token(spec: &mut PodSpec) {
    let volumes = spec.volumes.get_or_insert_default();
    let present = volumes.iter().find(|volume| volume.name.starts_with(VOLUME_PREFIX));
    let (name, known) = match present {
        Some(volume) => (volume.name.clone(), true),
        None => (metadata::generate_name(VOLUME_PREFIX), false),
    };
    let mut mounted = false;
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let mounts = container.volume_mounts.get_or_insert_default();
        if mounts.iter().any(|mount| mount.mount_path == MOUNT_PATH) {
            continue;
        }
        mounted = true;
        mounts.push(VolumeMount {
            name: name.clone(),
            read_only: Some(true),
            mount_path: MOUNT_PATH.to_owned(),
            ..VolumeMount::default()
        });
    }
    if mounted && !known {
        volumes.push(token_volume(name));
    }
    if volumes.is_empty() {
        spec.volumes = None;
    }
}

fn token_volume(name: String) -> Volume {
    let token = ServiceAccountTokenProjection {
        expiration_seconds: Some(TOKEN_SECONDS),
        path: "token".to_owned(),
        ..ServiceAccountTokenProjection::default()
    };
    let ca = ConfigMapProjection {
        name: "kube-root-ca.crt".to_owned(),
        items: Some(vec![KeyToPath {
            key: "ca.crt".to_owned(),
            path: "ca.crt".to_owned(),
            mode: None,
        }]),
        optional: None,
    };
    let namespace = DownwardAPIProjection {
        items: Some(vec![DownwardAPIVolumeFile {
            path: "namespace".to_owned(),
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: "metadata.namespace".to_owned(),
            }),
            ..DownwardAPIVolumeFile::default()
        }]),
    };
    let sources = vec![
        VolumeProjection {
            service_account_token: Some(token),
            ..VolumeProjection::default()
        },
        VolumeProjection {
            config_map: Some(ca),
            ..VolumeProjection::default()
        },
        VolumeProjection {
            downward_api: Some(namespace),
            ..VolumeProjection::default()
        },
    ];
    Volume {
        name,
        projected: Some(ProjectedVolumeSource {
            sources: Some(sources),
            default_mode: Some(0o644),
        }),
        ..Volume::default()
    }
}

/// A mirror pod stands for what a node runs by itself: it must not open anything to the node.
fn mirror_refers_to_nothing(spec: &PodSpec) -> Result<(), &'static str> {
    if spec.service_account_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return Err("a mirror pod may not reference service accounts");
    }
    if !secrets(spec).is_empty() {
        return Err("a mirror pod may not reference secrets");
    }
    let volumes = spec.volumes.iter().flatten();
    let mut sources = volumes
        .filter_map(|volume| volume.projected.as_ref())
        .flat_map(|projected| projected.sources.iter().flatten());
    if sources.any(|source| source.service_account_token.is_some()) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

/// Every Secret the pod refers to by a field of its spec.
pub(super) fn secrets(spec: &PodSpec) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    found.extend(
        spec.image_pull_secrets
            .iter()
            .flatten()
            .map(|secret| secret.name.clone()),
    );
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        found.extend(environment_secrets(container).map(|(_, secret)| secret.to_owned()));
    }
    for volume in spec.volumes.iter().flatten() {
        found.extend(volume.secret.iter().filter_map(|source| source.secret_name.clone()));
        let projected = volume
            .projected
            .iter()
            .flat_map(|projected| projected.sources.iter().flatten());
        found.extend(projected.filter_map(|source| Some(source.secret.as_ref()?.name.clone())));
        found.extend(
            volume
                .csi
                .iter()
                .filter_map(|source| Some(source.node_publish_secret_ref.as_ref()?.name.clone())),
        );
    }
    found
}

/// Variable (empty for whole Secrets) and name of the Secret.
fn environment_secrets(container: &Container) -> impl Iterator<Item = (&str, &str)> {
    let single = container.env.iter().flatten().filter_map(|variable| {
        let secret = variable.value_from.as_ref()?.secret_key_ref.as_ref()?;
        Some((variable.name.as_str(), secret.name.as_str()))
    });
    let whole = container
        .env_from
        .iter()
        .flatten()
        .filter_map(|source| Some(("", source.secret_ref.as_ref()?.name.as_str())));
    single.chain(whole)
}

fn ephemeral_secrets(container: &EphemeralContainer) -> impl Iterator<Item = (&str, &str)> {
    let single = container.env.iter().flatten().filter_map(|variable| {
        let secret = variable.value_from.as_ref()?.secret_key_ref.as_ref()?;
        Some((variable.name.as_str(), secret.name.as_str()))
    });
    let whole = container
        .env_from
        .iter()
        .flatten()
        .filter_map(|source| Some(("", source.secret_ref.as_ref()?.name.as_str())));
    single.chain(whole)
}

/// For accounts that restrict which Secrets their pods may use.
fn only_listed_secrets(spec: &PodSpec, account: &ServiceAccount, ephemeral: bool) -> Result<(), String> {
    let account_name = account.metadata.name.as_deref().unwrap_or_default();
    let listed = |name: &str| {
        let mut secrets = account.secrets.iter().flatten();
        secrets.any(|secret| secret.name.as_deref() == Some(name))
    };
    let tail = format!("is not allowed because service account {account_name} does not reference that secret");
    let check = |what: &str, container: &str, (variable, secret): (&str, &str)| match (listed(secret), variable) {
        (true, _) => Ok(()),
        (false, "") => Err(format!(
            "{what} {container} with envFrom referencing secret.secretName=\"{secret}\" {tail}"
        )),
        (false, variable) => Err(format!(
            "{what} {container} with envVar {variable} referencing secret.secretName=\"{secret}\" {tail}"
        )),
    };
    if ephemeral {
        for container in spec.ephemeral_containers.iter().flatten() {
            ephemeral_secrets(container).try_for_each(|found| check("ephemeral container", &container.name, found))?;
        }
        return Ok(());
    }
    for volume in spec.volumes.iter().flatten() {
        let source = volume.secret.as_ref().and_then(|source| source.secret_name.as_deref());
        if let Some(secret) = source.filter(|name| !listed(name)) {
            return Err(format!("volume with secret.secretName=\"{secret}\" {tail}"));
        }
    }
    for container in spec.init_containers.iter().flatten() {
        environment_secrets(container).try_for_each(|found| check("init container", &container.name, found))?;
    }
    for container in &spec.containers {
        environment_secrets(container).try_for_each(|found| check("container", &container.name, found))?;
    }
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        let mut pulls = account.image_pull_secrets.iter().flatten();
        if !pulls.any(|own| own.name == secret.name) {
            return Err(format!(
                "imagePullSecrets[{index}].name=\"{}\" is not allowed because service account {account_name} does not reference that imagePullSecret",
                secret.name
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(value: serde_json::Value) -> PodSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_token_is_mounted_where_nothing_else_is() {
        let mut pod = spec(json!({
            "initContainers": [{ "name": "i" }],
            "containers": [{ "name": "a" }, { "name": "b", "volumeMounts": [{ "name": "own", "mountPath": MOUNT_PATH }] }],
        }));
        mount_token(&mut pod);
        let volume = &pod.volumes.as_ref().unwrap()[0];
        assert!(volume.name.starts_with(VOLUME_PREFIX) && volume.name.len() == VOLUME_PREFIX.len() + 5);
        let mounts = |container: &Container| container.volume_mounts.clone().unwrap_or_default();
        assert_eq!(mounts(&pod.containers[0])[0].name, volume.name);
        assert_eq!(mounts(&pod.init_containers.as_ref().unwrap()[0]).len(), 1);
        assert_eq!(mounts(&pod.containers[1]).len(), 1);
        let before = pod.clone();
        mount_token(&mut pod);
        assert_eq!(pod, before, "once is enough");
    }

    #[test]
    fn mirrors_and_restricted_accounts() {
        let plain = spec(json!({ "containers": [{ "name": "a" }] }));
        assert_eq!(mirror_refers_to_nothing(&plain), Ok(()));
        let secret = spec(json!({ "containers": [{ "name": "a", "envFrom": [{ "secretRef": { "name": "s" } }] }] }));
        assert_eq!(
            mirror_refers_to_nothing(&secret),
            Err("a mirror pod may not reference secrets")
        );
        let account: ServiceAccount =
            serde_json::from_value(json!({ "metadata": { "name": "sa" }, "secrets": [{ "name": "t" }] })).unwrap();
        let error = only_listed_secrets(&secret, &account, false).unwrap_err();
        assert!(
            error.starts_with("container a with envFrom referencing secret.secretName=\"s\" is not allowed"),
            "{error}"
        );
    }
}
