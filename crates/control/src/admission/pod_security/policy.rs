//! What a namespace's labels demand of its pods: a level and a version of the Pod Security Standards per mode.
//!
//! <https://kubernetes.io/docs/concepts/security/pod-security-admission/>

use catamaran_api::selector::LabelSource;
use catamaran_api::{Errors, Path};
use std::fmt;

pub(super) const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
pub(super) const ENFORCE_VERSION: &str = "pod-security.kubernetes.io/enforce-version";
pub(super) const AUDIT: &str = "pod-security.kubernetes.io/audit";
pub(super) const AUDIT_VERSION: &str = "pod-security.kubernetes.io/audit-version";
pub(super) const WARN: &str = "pod-security.kubernetes.io/warn";
pub(super) const WARN_VERSION: &str = "pod-security.kubernetes.io/warn-version";

/// How strict, from not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A minor version of the standards (`v1.25`), or the newest. Ordered: the newest is newer than every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    Minor(u32),
    Latest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LevelVersion {
    pub(super) level: Level,
    pub(super) version: Version,
}

/// One demand per mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) enforce: LevelVersion,
    pub(super) audit: LevelVersion,
    pub(super) warn: LevelVersion,
}

impl Policy {
    /// What holds without labels.
    pub(super) const PRIVILEGED: Policy = Policy {
        enforce: LevelVersion::PRIVILEGED,
        audit: LevelVersion::PRIVILEGED,
        warn: LevelVersion::PRIVILEGED,
    };

    /// Reads the labels. What cannot be read is an error, and meanwhile as strict as can be (`enforce`) or not at all
    /// (`audit`, `warn`). Warnings default to what is enforced.
    pub(super) fn of_labels(labels: &impl LabelSource, errors: &mut Errors) -> Policy {
        let mut policy = Policy::PRIVILEGED;
        let mut enforced = false;
        if let Some(text) = labels.label(ENFORCE) {
            let level = Level::parse(text, ENFORCE, errors);
            enforced = level.is_some();
            policy.enforce.level = level.unwrap_or(Level::Restricted);
        }
        if let Some(text) = labels.label(ENFORCE_VERSION) {
            policy.enforce.version = Version::parse(text, ENFORCE_VERSION, errors);
        }
        if let Some(text) = labels.label(AUDIT) {
            policy.audit.level = Level::parse(text, AUDIT, errors).unwrap_or(Level::Privileged);
        }
        if let Some(text) = labels.label(AUDIT_VERSION) {
            policy.audit.version = Version::parse(text, AUDIT_VERSION, errors);
        }
        if let Some(text) = labels.label(WARN) {
            policy.warn.level = Level::parse(text, WARN, errors).unwrap_or(Level::Privileged);
        }
        if let Some(text) = labels.label(WARN_VERSION) {
            policy.warn.version = Version::parse(text, WARN_VERSION, errors);
        }
        if labels.label(WARN).is_none() && enforced && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if labels.label(WARN_VERSION).is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        policy
    }

    pub(super) fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn]
            .iter()
            .all(|mode| mode.level == Level::Privileged)
    }
}

impl LevelVersion {
    const PRIVILEGED: LevelVersion = LevelVersion {
        level: Level::Privileged,
        version: Version::Latest,
    };
}

impl Level {
    fn parse(text: &str, label: &str, errors: &mut Errors) -> Option<Level> {
        match text {
            "privileged" => Some(Level::Privileged),
            "baseline" => Some(Level::Baseline),
            "restricted" => Some(Level::Restricted),
            _ => {
                let path = Path::new("metadata.labels");
                errors.invalid(
                    &path.key(label),
                    text,
                    "must be one of privileged, baseline, restricted",
                );
                None
            }
        }
    }
}

impl Version {
    fn parse(text: &str, label: &str, errors: &mut Errors) -> Version {
        if text == "latest" {
            return Version::Latest;
        }
        let digits = text.strip_prefix("v1.").filter(|digits| {
            !digits.is_empty()
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && (digits.len() == 1 || !digits.starts_with('0'))
        });
        if let Some(minor) = digits.and_then(|digits| digits.parse().ok()) {
            return Version::Minor(minor);
        }
        let path = Path::new("metadata.labels");
        errors.invalid(&path.key(label), text, r#"must be "latest" or "v1.x""#);
        Version::Latest
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Minor(minor) => write!(f, "v1.{minor}"),
            Version::Latest => f.write_str("latest"),
        }
    }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}
