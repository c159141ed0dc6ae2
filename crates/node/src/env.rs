//! The environment of a container: `envFrom`, `env`, `valueFrom` and `$(NAME)` expansion. Pure, given the objects.
//!
//! A missing object or key that is not optional is the text of a `CreateContainerConfigError`, in Kubernetes' words.

use crate::expand::expand;
use crate::resources;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Names of the objects a container's environment or a pod's volumes refer to, all in the pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
}

impl References {
    pub(crate) fn is_empty(&self) -> bool {
        self.config_maps.is_empty() && self.secrets.is_empty()
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.config_maps.extend(other.config_maps);
        self.secrets.extend(other.secrets);
    }
}

/// The referenced objects that exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    pub secrets: BTreeMap<String, Arc<Secret>>,
    /// Of the pod's service account.
    pub tokens: BTreeMap<crate::tokens::Wanted, String>,
}

/// What `fieldRef` and `resourceFieldRef` can see beside the pod object.
#[derive(Clone, Debug)]
pub(crate) struct Downward<'a> {
    pub pod: &'a Pod,
    pub node_name: &'a str,
    pub host_ip: IpAddr,
    pub pod_ip: Option<IpAddr>,
    pub allocatable: &'a BTreeMap<String, Quantity>,
}

/// Objects the environment of `container` is made of.
pub(crate) fn references(container: &Container) -> References {
    let mut found = References::default();
    for source in container.env_from.iter().flatten() {
        found
            .config_maps
            .extend(source.config_map_ref.iter().map(|reference| reference.name.clone()));
        found
            .secrets
            .extend(source.secret_ref.iter().map(|reference| reference.name.clone()));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| variable.value_from.as_ref())
    {
        found
            .config_maps
            .extend(source.config_map_key_ref.iter().map(|reference| reference.name.clone()));
        found
            .secrets
            .extend(source.secret_key_ref.iter().map(|reference| reference.name.clone()));
    }
    found
}

/// Variables in order of definition, each once, the last definition winning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment(Vec<(String, String)>);

impl Environment {
    pub(crate) fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Sets a variable unless it is there.
    pub(crate) fn set_default(&mut self, name: &str, value: &str) {
        if self.get(name).is_none() {
            self.0.push((name.to_owned(), value.to_owned()));
        }
    }

    /// How clients in a pod find the API server: what the service `kubernetes` adds to every container.
    pub(crate) fn set_api_server(&mut self, api: std::net::SocketAddr) {
        let (host, port) = (api.ip(), api.port());
        let url = format!("tcp://{api}");
        self.set_default("KUBERNETES_SERVICE_HOST", &host.to_string());
        self.set_default("KUBERNETES_SERVICE_PORT", &port.to_string());
        self.set_default("KUBERNETES_SERVICE_PORT_HTTPS", &port.to_string());
        self.set_default("KUBERNETES_PORT", &url);
        self.set_default(&format!("KUBERNETES_PORT_{port}_TCP"), &url);
        self.set_default(&format!("KUBERNETES_PORT_{port}_TCP_PROTO"), "tcp");
        self.set_default(&format!("KUBERNETES_PORT_{port}_TCP_PORT"), &port.to_string());
        self.set_default(&format!("KUBERNETES_PORT_{port}_TCP_ADDR"), &host.to_string());
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Expands `$(NAME)` with these variables.
    pub(crate) fn expand(&self, input: &str) -> String {
        expand(input, |name| self.get(name))
    }

    /// `NAME=value` lines, as `execve` wants them.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// The container's own variables (without those of its image).
///
/// # Errors
/// The message for `CreateContainerConfigError`.
pub(crate) fn environment(
    container: &Container,
    downward: &Downward<'_>,
    objects: &Objects,
) -> Result<Environment, String> {
    let mut environment = Environment::default();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &source.config_map_ref {
            match objects.config_maps.get(&reference.name) {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        environment.set(&format!("{prefix}{key}"), value.clone());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(missing_config_map(&reference.name)),
            }
        }
        if let Some(reference) = &source.secret_ref {
            match objects.secrets.get(&reference.name) {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        environment.set(
                            &format!("{prefix}{key}"),
                            String::from_utf8_lossy(&value.0).into_owned(),
                        );
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(missing_secret(&reference.name)),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value_of(container, variable, &environment, downward, objects)? {
            environment.set(&variable.name, value);
        }
    }
    Ok(environment)
}

pub(crate) fn missing_config_map(name: &str) -> String {
    format!("configmap \"{name}\" not found")
}

pub(crate) fn missing_secret(name: &str) -> String {
    format!("secret \"{name}\" not found")
}

/// One value of an object's data; `None` when object or key is missing and need not be there.
fn key<'a, V>(
    data: Result<Option<&'a BTreeMap<String, V>>, String>,
    name: &str,
    optional: bool,
    absent: impl FnOnce() -> String,
) -> Result<Option<&'a V>, String> {
    match data.and_then(|data| data.and_then(|data| data.get(name)).ok_or_else(absent)) {
        Ok(value) => Ok(Some(value)),
        Err(_) if optional => Ok(None),
        Err(message) => Err(message),
    }
}

fn value_of(
    container: &Container,
    variable: &EnvVar,
    so_far: &Environment,
    downward: &Downward<'_>,
    objects: &Objects,
) -> Result<Option<String>, String> {
    match &variable.value_from {
        Some(source) => value_from(container, source, downward, objects),
        None => Ok(Some(so_far.expand(variable.value.as_deref().unwrap_or_default()))),
    }
}

fn value_from(
    container: &Container,
    source: &EnvVarSource,
    downward: &Downward<'_>,
    objects: &Objects,
) -> Result<Option<String>, String> {
    let namespace = downward.pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(reference) = &source.config_map_key_ref {
        let map = objects.config_maps.get(&reference.name);
        let data = map
            .map(|map| map.data.as_ref())
            .ok_or_else(|| missing_config_map(&reference.name));
        let absent = || {
            format!(
                "couldn't find key {} in ConfigMap {namespace}/{}",
                reference.key, reference.name
            )
        };
        let value = key(data, &reference.key, reference.optional == Some(true), absent)?;
        return Ok(value.cloned());
    }
    if let Some(reference) = &source.secret_key_ref {
        let secret = objects.secrets.get(&reference.name);
        let data = secret
            .map(|secret| secret.data.as_ref())
            .ok_or_else(|| missing_secret(&reference.name));
        let absent = || {
            format!(
                "couldn't find key {} in Secret {namespace}/{}",
                reference.key, reference.name
            )
        };
        let value = key(data, &reference.key, reference.optional == Some(true), absent)?;
        return Ok(value.map(|value| String::from_utf8_lossy(&value.0).into_owned()));
    }
    if let Some(reference) = &source.field_ref {
        return field(downward, &reference.field_path).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        let of = match reference.container_name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => crate::find_container(downward.pod, name).ok_or(format!("container {name} not found"))?,
            None => Cow::Borrowed(container),
        };
        let requirements = of.resources.as_ref();
        let divisor = reference.divisor.as_ref();
        return resources::field_value(requirements, &reference.resource, divisor, downward.allocatable).map(Some);
    }
    Err(
        "env valueFrom names no source this agent offers (configMapKeyRef, secretKeyRef, fieldRef, resourceFieldRef)"
            .into(),
    )
}

/// The value of a `fieldRef` path.
///
/// # Errors
/// `unsupported fieldPath: …`
pub(crate) fn field(downward: &Downward<'_>, path: &str) -> Result<String, String> {
    let meta = &downward.pod.metadata;
    if let Some((map, key)) = subscript(path) {
        let values = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(format!("unsupported fieldPath: {path}")),
        };
        return Ok(values.and_then(|values| values.get(key)).cloned().unwrap_or_default());
    }
    let pod_ip = || downward.pod_ip.map(|ip| ip.to_string()).unwrap_or_default();
    let spec = downward.pod.spec.as_ref();
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "spec.nodeName" => downward.node_name.to_owned(),
        "spec.serviceAccountName" => spec
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => downward.host_ip.to_string(),
        "status.podIP" | "status.podIPs" => pod_ip(),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

fn format_map(values: Option<&BTreeMap<String, String>>) -> String {
    let lines = values
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value:?}"));
    lines.collect::<Vec<_>>().join("\n")
}
