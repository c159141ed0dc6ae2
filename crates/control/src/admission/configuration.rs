//! What admission is told at the start: which plugins there are, by Kubernetes' names, and what they hold.
//! <https://kubernetes.io/docs/reference/config-api/apiserver-config.v1/>

use super::pod_security::PodSecurity;
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Plugins that are here, and on unless they are disabled.
const OURS: [&str; 19] = [
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "DefaultIngressClass",
    "DefaultStorageClass",
    "DefaultTolerationSeconds",
    "LimitRanger",
    "MutatingAdmissionWebhook",
    "NamespaceLifecycle",
    "NodeRestriction",
    "PersistentVolumeClaimResize",
    "PodSecurity",
    "Priority",
    "ResourceQuota",
    "RuntimeClass",
    "ServiceAccount",
    "StorageObjectInUseProtection",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
];
/// Those Kubernetes has besides. Disabling one of them changes nothing; to enable one is a mistake that is told.
const OTHERS: [&str; 18] = [
    "AlwaysAdmit",
    "AlwaysDeny",
    "AlwaysPullImages",
    "ClusterTrustBundleAttest",
    "DenyServiceExternalIPs",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "ImagePolicyWebhook",
    "LimitPodHardAntiAffinityTopology",
    "MutatingAdmissionPolicy",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "NodeDeclaredFeatureValidator",
    "OwnerReferencesPermissionEnforcement",
    "PodNodeSelector",
    "PodTolerationRestriction",
    "PodTopologyLabels",
    "TaintNodesByCondition",
];

/// Which plugins admission has, and where they are configured.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Besides those that are on anyway.
    pub enable: Vec<String>,
    pub disable: Vec<String>,
    /// An `AdmissionConfiguration`.
    pub file: Option<PathBuf>,
}

/// Why admission cannot be as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{flag} plugin {name:?} is unknown")]
    Unknown { flag: &'static str, name: String },
    #[error("enable-admission-plugins plugin {name:?} is not available")]
    Unavailable { name: String },
    #[error("[{}] in enable-admission-plugins and disable-admission-plugins overlapped", names.join(" "))]
    Overlap { names: Vec<String> },
    #[error("unable to read admission control configuration from {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot use the admission control configuration {}: {reason}", path.display())]
    Unusable { path: PathBuf, reason: String },
}

/// What the chain is made from.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) disabled: Vec<String>,
    pub(super) pod_security: PodSecurity,
}

impl Settings {
    pub(super) fn read(config: &Config) -> Result<Settings, Error> {
        check_names(config)?;
        let mut settings = Settings {
            disabled: config.disable.clone(),
            ..Settings::default()
        };
        if let Some(path) = &config.file {
            let unusable = |reason| Error::Unusable {
                path: path.clone(),
                reason,
            };
            for (name, value) in plugins(path)? {
                if !settings.has(&name) {
                    continue;
                }
                settings.configure(&name, value).map_err(unusable)?;
            }
        }
        Ok(settings)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        !self.disabled.iter().any(|disabled| disabled == name)
    }

    fn configure(&mut self, name: &str, value: Value) -> Result<(), String> {
        match name {
            "PodSecurity" => self.pod_security = PodSecurity::configured(value)?,
            // Better than a server that does not do what its configuration says.
            name => return Err(format!("the plugin {name} takes no configuration here")),
        }
        Ok(())
    }
}

fn check_names(config: &Config) -> Result<(), Error> {
    let flags = [
        ("enable-admission-plugins", &config.enable),
        ("disable-admission-plugins", &config.disable),
    ];
    for (flag, names) in flags {
        for name in names {
            if !OURS.contains(&name.as_str()) && !OTHERS.contains(&name.as_str()) {
                let name = name.clone();
                return Err(Error::Unknown { flag, name });
            }
        }
    }
    let mut both: Vec<String> = config.enable.clone();
    both.retain(|name| config.disable.contains(name));
    if !both.is_empty() {
        both.sort();
        both.dedup();
        return Err(Error::Overlap { names: both });
    }
    match config.enable.iter().find(|name| OTHERS.contains(&name.as_str())) {
        Some(name) => Err(Error::Unavailable { name: name.clone() }),
        None => Ok(()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    plugins: Vec<Plugin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plugin {
    name: String,
    #[serde(default)]
    path: String,
    configuration: Option<Value>,
}

/// The configured plugins, each once, as the first entry of its name has it.
fn plugins(path: &Path) -> Result<Vec<(String, Value)>, Error> {
    let unusable = |reason: String| Error::Unusable {
        path: path.to_owned(),
        reason,
    };
    let file: File = serde_json::from_value(document(path)?).map_err(|error| unusable(error.to_string()))?;
    if file.api_version != "apiserver.config.k8s.io/v1" || file.kind != "AdmissionConfiguration" {
        return Err(unusable(
            "it is no AdmissionConfiguration of apiserver.config.k8s.io/v1".to_owned(),
        ));
    }
    let mut found: Vec<(String, Value)> = Vec::new();
    for plugin in file.plugins {
        if found.iter().any(|(name, _)| *name == plugin.name) {
            continue;
        }
        let value = match plugin.configuration {
            Some(value) => value,
            None if plugin.path.is_empty() => continue,
            // Beside the file that names it, unless it says where.
            None => document(&path.parent().unwrap_or(Path::new("")).join(&plugin.path))?,
        };
        found.push((plugin.name, value));
    }
    Ok(found)
}

fn document(path: &Path) -> Result<Value, Error> {
    let text = std::fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    let parsed = catamaran_api::body::parse(catamaran_api::body::Format::Yaml, &text);
    parsed.map(|body| body.value).map_err(|error| Error::Unusable {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(enable: &[&str], disable: &[&str], file: Option<&str>) -> Result<Settings, String> {
        let directory = tempfile::tempdir().unwrap();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let file = file.map(|text| {
            std::fs::write(directory.path().join("pss.yaml"), PSS).unwrap();
            let path = directory.path().join("admission.yaml");
            std::fs::write(&path, text).unwrap();
            path
        });
        let config = Config {
            enable: names(enable),
            disable: names(disable),
            file,
        };
        let place = directory.path().display().to_string();
        Settings::read(&config).map_err(|error| error.to_string().replace(&place, ""))
    }

    const PSS: &str = "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n\
                       defaults: {enforce: baseline, enforce-version: v1.30}\n";

    fn failure(enable: &[&str], disable: &[&str], file: Option<&str>) -> String {
        read(enable, disable, file).err().unwrap_or_default()
    }

    #[test]
    fn plugins_go_by_their_names() {
        let settings = read(&["NodeRestriction"], &["LimitRanger", "AlwaysPullImages"], None).unwrap();
        assert!(settings.has("NodeRestriction") && !settings.has("LimitRanger"));
        assert_eq!(
            failure(&["Nonsense"], &[], None),
            r#"enable-admission-plugins plugin "Nonsense" is unknown"#
        );
        assert_eq!(
            failure(&[], &["Nonsense"], None),
            r#"disable-admission-plugins plugin "Nonsense" is unknown"#
        );
        assert_eq!(
            failure(&["Priority", "LimitRanger"], &["LimitRanger"], None),
            "[LimitRanger] in enable-admission-plugins and disable-admission-plugins overlapped"
        );
        assert_eq!(
            failure(&["AlwaysPullImages"], &[], None),
            r#"enable-admission-plugins plugin "AlwaysPullImages" is not available"#
        );
    }

    #[test]
    fn the_file_configures_what_is_on() {
        let file = |plugins: &str| {
            format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins: {plugins}\n")
        };
        let at_path = file("[{name: PodSecurity, path: pss.yaml}]");
        let settings = read(&[], &[], Some(&at_path)).unwrap();
        assert_eq!(settings.pod_security.enforced(), "baseline:v1.30");
        let wrong = file("[{name: PodSecurity, configuration: {kind: Other}}]");
        assert!(
            failure(&[], &[], Some(&wrong)).contains("/admission.yaml"),
            "which file it is"
        );
        assert!(
            read(&[], &["PodSecurity"], Some(&wrong)).is_ok(),
            "it is not there to be configured"
        );
        let other = file("[{name: ResourceQuota, configuration: {}}]");
        let refused = failure(&[], &[], Some(&other));
        assert!(
            refused.ends_with("the plugin ResourceQuota takes no configuration here"),
            "{refused}"
        );
        assert!(failure(&[], &[], Some("kind: Pod")).contains("missing field"));
        assert!(failure(&[], &[], Some(&file("[{name: x, mistake: 1}]"))).contains("unknown field"));
    }
}
