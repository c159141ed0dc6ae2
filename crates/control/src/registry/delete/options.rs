//! What a deletion may ask for, and what is wrong with asking for it.

use crate::registry::Caller;
use catamaran_api::{Errors, GroupKind, Path, Status};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;

/// What becomes of the objects that an object owns.
/// <https://kubernetes.io/docs/concepts/architecture/garbage-collection/#cascading-deletion>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They stay, without their owner.
    Orphan,
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
}

/// What the caller of a deletion asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) dry_run: bool,
    /// Never negative.
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) propagation: Option<Propagation>,
    /// The older way to say the same: true is `Orphan`, false says only that it is not.
    pub(crate) orphan_dependents: Option<bool>,
    pub(crate) caller: Arc<Caller>,
    /// Texts for `Warning` headers that come up on the way.
    pub(crate) notices: Arc<Mutex<Vec<String>>>,
}

const POLICIES: [(&str, Propagation); 3] = [
    ("Foreground", Propagation::Foreground),
    ("Background", Propagation::Background),
    ("Orphan", Propagation::Orphan),
];

impl DeleteOptions {
    /// As webhooks see them.
    pub(crate) fn tree(&self) -> Value {
        let mut tree = json!({});
        let name = |own: &Propagation| POLICIES.iter().find(|(_, policy)| policy == own).map(|(name, _)| *name);
        if let Some(seconds) = self.grace_period_seconds {
            tree["gracePeriodSeconds"] = seconds.into();
        }
        for (field, value) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            if let Some(value) = value {
                tree["preconditions"][field] = value.as_str().into();
            }
        }
        if let Some(orphan) = self.orphan_dependents {
            tree["orphanDependents"] = orphan.into();
        }
        if let Some(policy) = self.propagation.as_ref().and_then(name) {
            tree["propagationPolicy"] = policy.into();
        }
        tree
    }

    /// Reads the options of a request.
    ///
    /// # Errors
    /// 422 for values that mean nothing, or not together.
    pub(crate) fn from_body(options: metav1::DeleteOptions) -> Result<Self, Status> {
        let errors = validate(&options);
        if !errors.is_empty() {
            let kind = GroupKind::from_static("meta.k8s.io", "DeleteOptions");
            return Err(Status::invalid(&kind, "", &errors));
        }
        let preconditions = options.preconditions.unwrap_or_default();
        let policy = options.propagation_policy.as_deref();
        Ok(DeleteOptions {
            caller: Arc::default(),
            notices: Arc::default(),
            dry_run: options.dry_run.is_some_and(|values| !values.is_empty()),
            // A negative grace period is the shortest one.
            grace_period_seconds: options
                .grace_period_seconds
                .map(|seconds| if seconds < 0 { 1 } else { seconds }),
            uid: preconditions.uid,
            resource_version: preconditions.resource_version,
            propagation: policy
                .and_then(|policy| POLICIES.iter().find(|(name, _)| *name == policy).map(|(_, own)| *own)),
            orphan_dependents: options.orphan_dependents,
        })
    }
}

fn validate(options: &metav1::DeleteOptions) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("propagationPolicy");
    if let Some(policy) = options.propagation_policy.as_deref() {
        if options.orphan_dependents.is_some() {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.invalid(&path, policy, why);
        }
        if POLICIES.iter().all(|(name, _)| *name != policy) {
            errors.not_supported(&path, policy, &["Foreground", "Background", "Orphan", "nil"]);
        }
    }
    let dry_run = options.dry_run.as_deref().unwrap_or_default();
    if dry_run.iter().any(|value| value != "All") {
        errors.not_supported(&Path::new("dryRun"), json!(dry_run), &["All"]);
    }
    if options.ignore_store_read_error_with_cluster_breaking_potential == Some(true) {
        unreadable(options, &mut errors);
    }
    errors
}

/// Deleting what cannot be read goes with nothing else, and not with this server: it has no such objects.
fn unreadable(options: &metav1::DeleteOptions, errors: &mut Errors) {
    let path = Path::new("ignoreStoreReadErrorWithClusterBreakingPotential");
    let others = [
        (options.propagation_policy.is_some(), "propagationPolicy"),
        (options.orphan_dependents.is_some(), "orphanDependents"),
        (options.grace_period_seconds.is_some(), "gracePeriodSeconds"),
        (options.preconditions.is_some(), "preconditions"),
    ];
    for (_, other) in others.iter().filter(|(set, _)| *set) {
        errors.invalid(&path, true, format!("cannot be set together with .{other}"));
    }
    if errors.is_empty() {
        errors.forbidden(&path, "not supported by this server");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::Value;

    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "literals read best in place")]
    fn check(options: Value, expected: Expect) {
        let result = DeleteOptions::from_body(serde_json::from_value(options).unwrap());
        let text = match result {
            Ok(options) => format!("{options:?}"),
            Err(status) => format!("{status:?}"),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn refusals() {
        check(
            json!({"propagationPolicy": "Sideways"}),
            expect![[
                r#"422 Invalid: DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "Sideways": supported values: "Foreground", "Background", "Orphan", "nil""#
            ]],
        );
        check(
            json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
            expect![[
                r#"422 Invalid: DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Invalid value: "Orphan": orphanDependents and deletionPropagation cannot be both set"#
            ]],
        );
        check(
            json!({"dryRun": ["Some"]}),
            expect![[
                r#"422 Invalid: DeleteOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["Some"]: supported values: "All""#
            ]],
        );
        check(
            json!({"ignoreStoreReadErrorWithClusterBreakingPotential": true, "gracePeriodSeconds": 0}),
            expect![[
                r#"422 Invalid: DeleteOptions.meta.k8s.io "" is invalid: ignoreStoreReadErrorWithClusterBreakingPotential: Invalid value: true: cannot be set together with .gracePeriodSeconds"#
            ]],
        );
    }

    #[test]
    fn what_is_asked_for() {
        check(
            json!({"gracePeriodSeconds": -5, "preconditions": {"uid": "u"}, "propagationPolicy": "Foreground", "dryRun": ["All"]}),
            expect![[
                r#"DeleteOptions { dry_run: true, grace_period_seconds: Some(1), uid: Some("u"), resource_version: None, propagation: Some(Foreground), orphan_dependents: None, caller: Caller(system:apiserver), notices: Mutex { data: [] } }"#
            ]],
        );
    }
}
