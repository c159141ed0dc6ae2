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
    /// What holds without labels, unless the server is configured otherwise.
    pub(super) const PRIVILEGED: Policy = Policy {
        enforce: LevelVersion::PRIVILEGED,
        audit: LevelVersion::PRIVILEGED,
        warn: LevelVersion::PRIVILEGED,
    };

    /// Reads the labels; `defaults` holds where they say nothing. What cannot be read is an error, and meanwhile as strict as can be (`enforce`) or not at all
    /// (`audit`, `warn`). Warnings default to what is enforced.
    pub(super) fn of_labels(labels: &impl LabelSource, defaults: &Policy, errors: &mut Errors) -> Policy {
        let mut policy = *defaults;
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
    pub(super) fn read(text: &str) -> Result<Level, &'static str> {
        match text {
            "privileged" => Ok(Level::Privileged),
            "baseline" => Ok(Level::Baseline),
            "restricted" => Ok(Level::Restricted),
            _ => Err("must be one of privileged, baseline, restricted"),
        }
    }

    fn parse(text: &str, label: &str, errors: &mut Errors) -> Option<Level> {
        let level = Level::read(text);
        level
            .map_err(|why| errors.invalid(&Path::new("metadata.labels").key(label), text, why))
            .ok()
    }
}

impl Version {
    pub(super) fn read(text: &str) -> Result<Version, &'static str> {
        if text == "latest" {
            return Ok(Version::Latest);
        }
        let digits = text.strip_prefix("v1.").filter(|digits| {
            !digits.is_empty()
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && (digits.len() == 1 || !digits.starts_with('0'))
        });
        match digits.and_then(|digits| digits.parse().ok()) {
            Some(minor) => Ok(Version::Minor(minor)),
            None => Err(r#"must be "latest" or "v1.x""#),
        }
    }

    fn parse(text: &str, label: &str, errors: &mut Errors) -> Version {
        Version::read(text).unwrap_or_else(|why| {
            errors.invalid(&Path::new("metadata.labels").key(label), text, why);
            Version::Latest
        })
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
