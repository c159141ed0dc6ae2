//! What is accepted and yet will surprise its author: texts for `Warning` headers, about pods and templates alike.
//!
//! | about | where |
//! |---|---|
//! | labels of nodes that have newer names, empty selectors, old volume types, lists with doubles | here |
//! | variables, ports and amounts of containers | `containers` |
//! | files that hide each other in a volume | `overlaps` |

mod containers;
mod overlaps;

use crate::core::persistentvolumeclaims;
use catamaran_api::field::quote;
use catamaran_api::quantity::Quantity;
use catamaran_api::{Path, names};
use k8s_openapi::api::core::v1::{
    NodeSelectorTerm, Pod, PodAffinityTerm, PodSpec, PodTemplateSpec, Volume, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

pub(super) fn pod(pod: &Pod) -> Vec<String> {
    let no_spec = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    about(spec, &pod.metadata, &Path::ROOT, false)
}

pub(super) fn template(template: &PodTemplateSpec, path: &Path<'_>) -> Vec<String> {
    let (no_spec, no_metadata) = (PodSpec::default(), ObjectMeta::default());
    let spec = template.spec.as_ref().unwrap_or(&no_spec);
    about(spec, template.metadata.as_ref().unwrap_or(&no_metadata), path, true)
}

fn about(spec: &PodSpec, metadata: &ObjectMeta, path: &Path<'_>, is_template: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let at = path.child("spec");
    placement(spec, &at, &mut warnings);
    annotations(metadata, &path.child("metadata"), &mut warnings);
    let volumes = at.child("volumes");
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        self::volume(volume, &volumes.index(index), &mut warnings);
    }
    overlaps::volumes(spec.volumes.as_deref().unwrap_or_default(), &mut warnings);
    doubles(spec, &at, &mut warnings);
    if let Some(overhead) = &spec.overhead {
        fractional_bytes(overhead, &at.child("overhead"), &mut warnings);
    }
    profile_annotations(spec, metadata, path, is_template, &mut warnings);
    containers::all(spec, &at, &mut warnings);
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        warnings.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            at.child("terminationGracePeriodSeconds")
        ));
    }
    pod_affinity(spec, &at.child("affinity"), &mut warnings);
    addresses(spec, &at, &mut warnings);
    warnings
}

/// What to use instead of an old label of nodes.
pub(crate) fn deprecated_node_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => r#"deprecated since v1.14; use "kubernetes.io/arch" instead"#,
        "beta.kubernetes.io/os" => r#"deprecated since v1.14; use "kubernetes.io/os" instead"#,
        "failure-domain.beta.kubernetes.io/region" => {
            r#"deprecated since v1.17; use "topology.kubernetes.io/region" instead"#
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#
        }
        "beta.kubernetes.io/instance-type" => {
            r#"deprecated since v1.17; use "node.kubernetes.io/instance-type" instead"#
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => "deprecated since v1.22; use Taints and Tolerations instead",
        "node-role.kubernetes.io/master" => r#"use "node-role.kubernetes.io/control-plane" instead"#,
        _ => return None,
    })
}

fn placement(spec: &PodSpec, path: &Path<'_>, warnings: &mut Vec<String>) {
    let selector = path.child("nodeSelector");
    for key in spec.node_selector.iter().flatten().map(|(key, _)| key) {
        if let Some(message) = deprecated_node_label(key) {
            warnings.push(format!("{}: {message}", selector.key(key)));
        }
    }
    if let Some(node) = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
    {
        let path = path.child("affinity");
        let path = path.child("nodeAffinity");
        let required = path.child(super::scheduling::REQUIRED);
        let required = required.child("nodeSelectorTerms");
        let terms = node.required_during_scheduling_ignored_during_execution.iter();
        for (index, term) in terms.flat_map(|selector| &selector.node_selector_terms).enumerate() {
            node_term(term, false, &required.index(index), warnings);
        }
        let preferred = path.child(super::scheduling::PREFERRED);
        let terms = node
            .preferred_during_scheduling_ignored_during_execution
            .iter()
            .flatten();
        for (index, term) in terms.enumerate() {
            node_term(
                &term.preference,
                true,
                &preferred.index(index).child("preference"),
                warnings,
            );
        }
    }
    let spread = path.child("topologySpreadConstraints");
    for (index, constraint) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        let at = spread.index(index);
        let key = &constraint.topology_key;
        if let Some(message) = deprecated_node_label(key) {
            warnings.push(format!("{}: {key} is {message}", at.child("topologyKey")));
        }
        if constraint.label_selector.is_none() {
            warnings.push(null_selector(&at.child("labelSelector")));
        }
    }
}

/// Old labels in a term; values are checked where validation does not.
pub(crate) fn node_term(term: &NodeSelectorTerm, check_values: bool, path: &Path<'_>, warnings: &mut Vec<String>) {
    let list = path.child("matchExpressions");
    for (index, expression) in term.match_expressions.iter().flatten().enumerate() {
        let at = list.index(index);
        if let Some(message) = deprecated_node_label(&expression.key) {
            warnings.push(format!("{}: {} is {message}", at.child("key"), expression.key));
        }
        if check_values {
            for (index, value) in expression.values.iter().flatten().enumerate() {
                for message in names::label_value(value) {
                    warnings.push(format!(
                        "{}: {value} is invalid, {message}",
                        at.child("values").index(index)
                    ));
                }
            }
        }
    }
}

fn null_selector(path: &Path<'_>) -> String {
    format!("{path}: a null labelSelector results in matching no pod")
}

const OLD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        r#"non-functional in v1.16+; use the "priorityClassName" field instead"#,
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
];

fn annotations(metadata: &ObjectMeta, path: &Path<'_>, warnings: &mut Vec<String>) {
    for (key, message) in OLD_ANNOTATIONS {
        if has_annotation(metadata, key) {
            warnings.push(format!("{}: {message}", path.child("annotations").key(key)));
        }
    }
}

fn has_annotation(metadata: &ObjectMeta, key: &str) -> bool {
    metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(key))
}

fn volume(volume: &Volume, path: &Path<'_>, warnings: &mut Vec<String>) {
    let old = [
        (
            volume.photon_persistent_disk.is_some(),
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        (
            volume.git_repo.is_some(),
            "gitRepo",
            "deprecated in v1.11, and disabled by default in v1.33+",
        ),
        (
            volume.scale_io.is_some(),
            "scaleIO",
            "deprecated in v1.16, non-functional in v1.22+",
        ),
        (
            volume.flocker.is_some(),
            "flocker",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            volume.storageos.is_some(),
            "storageOS",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            volume.quobyte.is_some(),
            "quobyte",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            volume.glusterfs.is_some(),
            "glusterfs",
            "deprecated in v1.25, non-functional in v1.26+",
        ),
        (
            volume.cephfs.is_some(),
            "cephfs",
            "deprecated in v1.28, non-functional in v1.31+",
        ),
        (
            volume.rbd.is_some(),
            "rbd",
            "deprecated in v1.28, non-functional in v1.31+",
        ),
    ];
    for (_, field, message) in old.into_iter().filter(|(set, _, _)| *set) {
        warnings.push(format!("{}: {message}", path.child(field)));
    }
    if let Some(template) = volume
        .ephemeral
        .as_ref()
        .and_then(|source| source.volume_claim_template.as_ref())
    {
        let path = path.child("ephemeral");
        let path = path.child("volumeClaimTemplate");
        warnings.extend(persistentvolumeclaims::warn_about_spec(
            &template.spec,
            &path.child("spec"),
        ));
    }
}

/// Lists that are merged by a key that two of their items have.
fn doubles(spec: &PodSpec, path: &Path<'_>, warnings: &mut Vec<String>) {
    let list = path.child("hostAliases");
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    for (index, alias) in aliases.iter().enumerate() {
        if aliases[..index].iter().any(|other| other.ip == alias.ip) {
            warnings.push(format!(
                "{}: duplicate ip {}",
                list.index(index).child("ip"),
                quote(&alias.ip)
            ));
        }
    }
    let list = path.child("imagePullSecrets");
    let secrets = spec.image_pull_secrets.as_deref().unwrap_or_default();
    for (index, secret) in secrets.iter().enumerate() {
        if secrets[..index].iter().any(|other| other.name == secret.name) {
            let at = list.index(index);
            warnings.push(format!("{}: duplicate name {}", at.child("name"), quote(&secret.name)));
        }
    }
    for (index, secret) in secrets.iter().enumerate().filter(|(_, secret)| secret.name.is_empty()) {
        let at = list.index(index);
        warnings.push(format!(
            "{}: invalid empty name {}",
            at.child("name"),
            quote(&secret.name)
        ));
    }
}

/// Bytes do not come in parts.
fn fractional_bytes(amounts: &BTreeMap<String, Amount>, path: &Path<'_>, warnings: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        if let Some(amount) = amounts.get(name) {
            warnings.extend(fractional(amount, &path.key(name)));
        }
    }
}

/// The warning about an amount that is no whole number.
pub(crate) fn fractional(amount: &Amount, path: &Path<'_>) -> Option<String> {
    let quantity = Quantity::try_from(amount).ok()?;
    (quantity.millis() % 1000 != 0).then(|| {
        let amount = quote(&quantity.to_string());
        format!("{path}: fractional byte value {amount} is invalid, must be an integer")
    })
}

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR_CONTAINER: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Profiles were annotations once; only the fields count.
fn profile_annotations(
    spec: &PodSpec,
    metadata: &ObjectMeta,
    path: &Path<'_>,
    is_template: bool,
    warnings: &mut Vec<String>,
) {
    let path = path.child("metadata");
    let path = path.child("annotations");
    let pod = spec.security_context.as_ref();
    let seccomp = r#"non-functional in v1.27+; use the "seccompProfile" field instead"#;
    if pod.is_none_or(|context| context.seccomp_profile.is_none()) && has_annotation(metadata, SECCOMP_POD) {
        warnings.push(format!("{}: {seccomp}", path.key(SECCOMP_POD)));
    }
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        let context = container.security_context.as_ref();
        let key = format!("{SECCOMP_CONTAINER}{}", container.name);
        if context.is_none_or(|context| context.seccomp_profile.is_none()) && has_annotation(metadata, &key) {
            warnings.push(format!("{}: {seccomp}", path.key(&key)));
        }
        let key = format!("{APP_ARMOR_CONTAINER}{}", container.name);
        let Some(annotation) = metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(&key))
        else {
            continue;
        };
        let of_container = context.is_some_and(|context| context.app_armor_profile.is_some());
        let of_pod = pod.and_then(|context| context.app_armor_profile.as_ref());
        let says_the_same = of_pod.is_some_and(|profile| {
            let text = match profile.type_.as_str() {
                "RuntimeDefault" => "runtime/default".to_owned(),
                "Unconfined" => "unconfined".to_owned(),
                _ => format!("localhost/{}", profile.localhost_profile.as_deref().unwrap_or_default()),
            };
            text == *annotation
        });
        if is_template && !of_container && !says_the_same {
            warnings.push(format!(
                r#"{}: deprecated since v1.30; use the "appArmorProfile" field instead"#,
                path.key(&key)
            ));
        }
    }
}

fn pod_affinity(spec: &PodSpec, path: &Path<'_>, warnings: &mut Vec<String>) {
    let Some(affinity) = &spec.affinity else { return };
    if let Some(near) = &affinity.pod_affinity {
        let required = near.required_during_scheduling_ignored_during_execution.as_deref();
        let preferred = near.preferred_during_scheduling_ignored_during_execution.as_deref();
        pod_terms(required, preferred, &path.child("podAffinity"), warnings);
    }
    if let Some(apart) = &affinity.pod_anti_affinity {
        let required = apart.required_during_scheduling_ignored_during_execution.as_deref();
        let preferred = apart.preferred_during_scheduling_ignored_during_execution.as_deref();
        pod_terms(required, preferred, &path.child("podAntiAffinity"), warnings);
    }
}

fn pod_terms(
    required: Option<&[PodAffinityTerm]>,
    preferred: Option<&[WeightedPodAffinityTerm]>,
    path: &Path<'_>,
    warnings: &mut Vec<String>,
) {
    let list = path.child(super::scheduling::REQUIRED);
    for (index, term) in required.unwrap_or_default().iter().enumerate() {
        if term.label_selector.is_none() {
            warnings.push(null_selector(&list.index(index).child("labelSelector")));
        }
    }
    let list = path.child(super::scheduling::PREFERRED);
    for (index, term) in preferred.unwrap_or_default().iter().enumerate() {
        if term.pod_affinity_term.label_selector.is_none() {
            let at = list.index(index);
            warnings.push(null_selector(&at.child("podAffinityTerm").child("labelSelector")));
        }
    }
}

fn addresses(spec: &PodSpec, path: &Path<'_>, warnings: &mut Vec<String>) {
    let config = path.child("dnsConfig");
    let list = config.child("nameservers");
    let servers = spec
        .dns_config
        .iter()
        .flat_map(|config| config.nameservers.iter().flatten());
    for (index, address) in servers.enumerate() {
        warnings.extend(crate::addresses::ip_warning(address, &list.index(index)));
    }
    let list = path.child("hostAliases");
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        warnings.extend(crate::addresses::ip_warning(&alias.ip, &list.index(index).child("ip")));
    }
}
