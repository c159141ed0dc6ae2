//! What holds for namespaces that say nothing, and who is exempt: a `PodSecurityConfiguration`.
//! <https://kubernetes.io/docs/tasks/configure-pod-container/enforce-standards-admission-controller/>

use super::policy::{Level, LevelVersion, Policy, Version};
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::PodSpec;
use serde::Deserialize;
use serde_json::Value;

const GROUP: &str = "pod-security.admission.config.k8s.io/";

/// Whose pods are not looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Exemptions {
    pub(super) usernames: Vec<String>,
    pub(super) runtime_classes: Vec<String>,
    pub(super) namespaces: Vec<String>,
}

impl Exemptions {
    pub(super) fn exempts_class(&self, spec: &PodSpec) -> bool {
        let class = spec.runtime_class_name.as_deref().unwrap_or_default();
        !class.is_empty() && self.runtime_classes.iter().any(|exempt| exempt == class)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    api_version: String,
    kind: String,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    exemptions: Exemptions,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

/// Reads and checks it.
pub(super) fn read(value: Value) -> Result<(Policy, Exemptions), String> {
    let configuration: Configuration = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let version = configuration.api_version.strip_prefix(GROUP);
    if !matches!(version, Some("v1" | "v1beta1" | "v1alpha1")) || configuration.kind != "PodSecurityConfiguration" {
        return Err(format!("it is no PodSecurityConfiguration of {GROUP}v1"));
    }
    let mut errors = Errors::new();
    let defaults = configuration.defaults;
    let policy = Policy {
        enforce: mode("enforce", &defaults.enforce, &defaults.enforce_version, &mut errors),
        warn: mode("warn", &defaults.warn, &defaults.warn_version, &mut errors),
        audit: mode("audit", &defaults.audit, &defaults.audit_version, &mut errors),
    };
    let exemptions = configuration.exemptions;
    check(&exemptions.namespaces, "namespaces", names::dns1123_label, &mut errors);
    check(
        &exemptions.runtime_classes,
        "runtimeClasses",
        names::dns1123_subdomain,
        &mut errors,
    );
    let not_empty = |name: &str| match name {
        "" => vec!["username must not be empty".to_owned()],
        _ => Vec::new(),
    };
    check(&exemptions.usernames, "usernames", not_empty, &mut errors);
    if errors.is_empty() {
        Ok((policy, exemptions))
    } else {
        Err(errors.message())
    }
}

fn mode(name: &str, level: &str, version: &str, errors: &mut Errors) -> LevelVersion {
    let path = Path::new("defaults");
    let level = match level {
        "" => Level::Privileged,
        text => Level::read(text).unwrap_or_else(|why| {
            errors.invalid(&path.child(name), text, why);
            Level::Privileged
        }),
    };
    let version = match version {
        "" => Version::Latest,
        text => Version::read(text).unwrap_or_else(|why| {
            errors.invalid(&path.child(&format!("{name}-version")), text, why);
            Version::Latest
        }),
    };
    LevelVersion { level, version }
}

fn check(entries: &[String], field: &'static str, rule: fn(&str) -> Vec<String>, errors: &mut Errors) {
    let path = Path::new("exemptions");
    let path = path.child(field);
    for (index, entry) in entries.iter().enumerate() {
        let messages = rule(entry);
        if !messages.is_empty() {
            errors.invalid(&path.index(index), entry.as_str(), messages.join(", "));
        } else if entries[..index].contains(entry) {
            errors.duplicate(&path.index(index), entry.as_str());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn configuration(defaults: Value, exemptions: Value) -> Value {
        json!({
            "apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration",
            "defaults": defaults, "exemptions": exemptions,
        })
    }

    #[test]
    fn what_is_not_said_is_privileged() {
        let (policy, exemptions) = read(configuration(
            json!({"enforce": "baseline", "warn": "restricted", "warn-version": "v1.30"}),
            json!({"usernames": ["ann"], "runtimeClasses": ["wasm"], "namespaces": ["kube-system"]}),
        ))
        .unwrap();
        let said = format!("{} {} {}", policy.enforce, policy.audit, policy.warn);
        assert_eq!(said, "baseline:latest privileged:latest restricted:v1.30");
        assert_eq!(exemptions.namespaces, ["kube-system"]);
    }

    #[test]
    fn mistakes_are_told_where_they_are() {
        let wrong = read(configuration(
            json!({"enforce": "strict", "audit-version": "1.2"}),
            json!({"usernames": ["", "a", "a"], "namespaces": ["A"]}),
        ))
        .unwrap_err();
        for words in [
            r#"defaults.enforce: Invalid value: "strict": must be one of privileged, baseline, restricted"#,
            r#"defaults.audit-version: Invalid value: "1.2": must be "latest" or "v1.x""#,
            r#"exemptions.usernames[0]: Invalid value: "": username must not be empty"#,
            r#"exemptions.usernames[2]: Duplicate value: "a""#,
            r#"exemptions.namespaces[0]: Invalid value: "A": "#,
        ] {
            assert!(wrong.contains(words), "{words} in {wrong}");
        }
        let other = json!({"apiVersion": "v1", "kind": "PodSecurityConfiguration"});
        assert!(read(other).is_err());
    }
}
