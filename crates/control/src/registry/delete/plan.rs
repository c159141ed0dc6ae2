//! What deleting an object means now: pure, so that every case of finalizers, grace and propagation is a line in a table.
//!
//! ```text
//!   graceful kinds (pods): deletionTimestamp in the future, their node does the rest, only ever hurried up
//!   the others:            held by finalizers? marked now : removed now
//! ```
//!
//! Which of the two finalizers of the garbage collector an object has afterwards is decided from the request, else from those it
//! has, else from what its kind does by default.

use super::options::{DeleteOptions, Propagation};
use crate::kinds::Object;
use crate::registry::resource::Resource;
use catamaran_api::meta::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// What is to be done with an object that is to be deleted.
pub(super) enum Plan {
    /// Take it out of the store.
    Remove,
    /// Write this instead: it is held, or its node has to end it first.
    Mark(Box<dyn Object>),
    /// It is on its way already.
    Nothing,
}

/// What the garbage collector does with the dependents of a kind whose deletion says nothing about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Default {
    /// They are deleted; nothing has to be noted for that.
    Delete,
    /// They stay: kinds whose old clients removed dependents themselves.
    Orphan,
    /// Objects of this kind own nothing, and take no finalizer of the collector.
    Unsupported,
}

impl Default {
    pub(super) fn of(resource: &Resource) -> Self {
        match (resource.info.group.as_ref(), resource.info.plural.as_ref()) {
            ("", "replicationcontrollers") | ("batch", "jobs") => Default::Orphan,
            ("" | "events.k8s.io", "events") => Default::Unsupported,
            _ => Default::Delete,
        }
    }
}

/// How far the graceful part of a deletion is.
enum Grace {
    /// There is none, or it is over.
    None,
    /// It begins, or is shortened: the end and how long it takes.
    Until(Timestamp, i64),
    /// It runs, and is not shortened.
    Pending,
}

/// Decides. `now` is in whole seconds.
pub(super) fn plan(resource: &Resource, old: &dyn Object, options: &DeleteOptions, now: Timestamp) -> Plan {
    let kind = &resource.kind;
    let meta = old.meta();
    let grace = grace(
        meta,
        kind.deletion_grace(old, options.grace_period_seconds),
        options,
        now,
    );
    if matches!(grace, Grace::Pending) {
        return Plan::Nothing;
    }
    let mut finalizers = finalizers(meta, options, Default::of(resource));
    let outside_metadata = kind.holds_deletion(old);
    let held = !finalizers.is_empty() || outside_metadata;
    let seconds = match grace {
        Grace::Until(_, seconds) => seconds,
        _ => 0,
    };
    if !held && seconds == 0 {
        return Plan::Remove;
    }
    let mut marked = old.boxed_clone();
    let first = meta.deletion_timestamp.is_none();
    kind.mark_deleted(marked.as_mut());
    let meta = marked.meta_mut();
    match grace {
        Grace::Until(at, seconds) => {
            meta.deletion_timestamp = Some(Time(at));
            meta.deletion_grace_period_seconds = Some(seconds);
        }
        _ => {
            if meta.deletion_timestamp.as_ref().is_none_or(|at| at.0 > now) {
                meta.deletion_timestamp = Some(Time(now));
            }
            // What its own `spec` holds (a namespace) has no grace to speak of.
            if !outside_metadata || meta.deletion_grace_period_seconds.is_some() {
                meta.deletion_grace_period_seconds = Some(0);
            }
        }
    }
    if first && let Some(generation) = meta.generation.as_mut().filter(|generation| **generation > 0) {
        *generation += 1;
    }
    // What the kind itself waits for, beside what the request asks for.
    let known = old.meta().finalizers.as_deref().unwrap_or_default();
    let own = meta.finalizers.take().unwrap_or_default();
    finalizers.extend(own.into_iter().filter(|finalizer| !known.contains(finalizer)));
    meta.finalizers = (!finalizers.is_empty()).then_some(finalizers);
    Plan::Mark(marked)
}

fn grace(meta: &ObjectMeta, wanted: Option<i64>, options: &DeleteOptions, now: Timestamp) -> Grace {
    let Some(wanted) = wanted else { return Grace::None };
    let Some(end) = &meta.deletion_timestamp else {
        return Grace::Until(later(now, wanted), wanted);
    };
    let pending = match meta.deletion_grace_period_seconds {
        None | Some(0) => return Grace::None,
        Some(seconds) => seconds.max(1),
    };
    let Some(requested) = options.grace_period_seconds else {
        return Grace::Pending;
    };
    if requested >= pending {
        return Grace::Pending;
    }
    // Counted from when it began, without going there: that may be before all time.
    let at = later(end.0, requested.saturating_sub(pending));
    if at >= now {
        return Grace::Until(at, requested);
    }
    // Over already: as short as it can be while somebody else still does the last step.
    Grace::Until(now, requested.min(1))
}

/// That many seconds later, or as late as a time can be.
fn later(time: Timestamp, seconds: i64) -> Timestamp {
    let duration = SignedDuration::from_secs(seconds);
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

/// The finalizers the object shall have while it is deleted: its own in their order, and at most one of the collector's.
fn finalizers(meta: &ObjectMeta, options: &DeleteOptions, default: Default) -> Vec<String> {
    let present = meta.finalizers.as_deref().unwrap_or_default();
    let collector = |finalizer: &str| finalizer == FINALIZER_ORPHAN || finalizer == FINALIZER_FOREGROUND;
    let wanted = match (default, options.orphan_dependents, options.propagation) {
        (Default::Unsupported, ..) => None,
        (_, Some(orphan), _) => orphan.then_some(FINALIZER_ORPHAN),
        (_, None, Some(Propagation::Orphan)) => Some(FINALIZER_ORPHAN),
        (_, None, Some(Propagation::Foreground)) => Some(FINALIZER_FOREGROUND),
        (_, None, Some(Propagation::Background)) => None,
        (default, None, None) => match present.iter().find(|finalizer| collector(finalizer)) {
            Some(own) if own == FINALIZER_ORPHAN => Some(FINALIZER_ORPHAN),
            Some(_) => Some(FINALIZER_FOREGROUND),
            None => (default == Default::Orphan).then_some(FINALIZER_ORPHAN),
        },
    };
    let kept: Vec<&str> = present
        .iter()
        .map(String::as_str)
        .filter(|finalizer| !collector(finalizer))
        .chain(wanted)
        .collect();
    // The same ones in another order are no change.
    let same = kept.len() == present.len() && kept.iter().all(|finalizer| present.iter().any(|own| own == finalizer));
    if same {
        return present.to_vec();
    }
    kept.into_iter().map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    const NOW: &str = "2026-01-01T00:01:00Z";

    /// `"<outcome>"`, for a marked object followed by its metadata.
    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "literals read best in place")]
    fn check(plural: &str, object: Value, options: Value, expected: Expect) {
        let kind = kinds::ALL
            .iter()
            .find(|kind| kind.info().plural == plural)
            .expect("a kind");
        let resource = Resource::builtin(*kind);
        let old = kind.decode(object).unwrap();
        let options = DeleteOptions::from_body(serde_json::from_value(options).unwrap()).unwrap();
        let text = match plan(&resource, old.as_ref(), &options, NOW.parse().unwrap()) {
            Plan::Remove => "remove".to_owned(),
            Plan::Nothing => "nothing".to_owned(),
            Plan::Mark(marked) => format!("mark {}", serde_json::to_string(marked.meta()).unwrap()),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn propagation_becomes_a_finalizer() {
        let plain = json!({"metadata": {"name": "a"}});
        check("configmaps", plain.clone(), json!({}), expect!["remove"]);
        check(
            "configmaps",
            plain.clone(),
            json!({"propagationPolicy": "Background"}),
            expect!["remove"],
        );
        check(
            "configmaps",
            plain.clone(),
            json!({"orphanDependents": false}),
            expect!["remove"],
        );
        check(
            "configmaps",
            plain.clone(),
            json!({"propagationPolicy": "Foreground"}),
            expect![[
                r#"mark {"deletionGracePeriodSeconds":0,"deletionTimestamp":"2026-01-01T00:01:00Z","finalizers":["foregroundDeletion"],"name":"a"}"#
            ]],
        );
        check(
            "configmaps",
            plain.clone(),
            json!({"orphanDependents": true}),
            expect![[
                r#"mark {"deletionGracePeriodSeconds":0,"deletionTimestamp":"2026-01-01T00:01:00Z","finalizers":["orphan"],"name":"a"}"#
            ]],
        );
        check(
            "events",
            plain,
            json!({"propagationPolicy": "Foreground"}),
            expect!["remove"],
        );
    }

    #[test]
    fn finalizers_that_are_there_count_until_the_request_says_otherwise() {
        let held = json!({"metadata": {"name": "a", "generation": 2, "finalizers": ["orphan", "x"]}});
        check(
            "configmaps",
            held.clone(),
            json!({}),
            expect![[
                r#"mark {"deletionGracePeriodSeconds":0,"deletionTimestamp":"2026-01-01T00:01:00Z","finalizers":["orphan","x"],"generation":3,"name":"a"}"#
            ]],
        );
        check(
            "configmaps",
            held,
            json!({"propagationPolicy": "Foreground"}),
            expect![[
                r#"mark {"deletionGracePeriodSeconds":0,"deletionTimestamp":"2026-01-01T00:01:00Z","finalizers":["x","foregroundDeletion"],"generation":3,"name":"a"}"#
            ]],
        );
        check(
            "configmaps",
            json!({"metadata": {"name": "a", "finalizers": ["foregroundDeletion"]}}),
            json!({"propagationPolicy": "Background"}),
            expect!["remove"],
        );
    }

    #[test]
    fn pods_get_their_time_and_may_only_be_hurried() {
        let running = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n", "containers": [], "terminationGracePeriodSeconds": 30}});
        check(
            "pods",
            running.clone(),
            json!({}),
            expect![[
                r#"mark {"deletionGracePeriodSeconds":30,"deletionTimestamp":"2026-01-01T00:01:30Z","name":"a"}"#
            ]],
        );
        check(
            "pods",
            running.clone(),
            json!({"gracePeriodSeconds": 0}),
            expect!["remove"],
        );
        let mut dying = running;
        dying["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:01:20Z");
        dying["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        check("pods", dying.clone(), json!({}), expect!["nothing"]);
        check(
            "pods",
            dying.clone(),
            json!({"gracePeriodSeconds": 60}),
            expect!["nothing"],
        );
        check(
            "pods",
            dying.clone(),
            json!({"gracePeriodSeconds": 20}),
            expect![[
                r#"mark {"deletionGracePeriodSeconds":20,"deletionTimestamp":"2026-01-01T00:01:10Z","name":"a"}"#
            ]],
        );
        check(
            "pods",
            dying.clone(),
            json!({"gracePeriodSeconds": 5}),
            expect![[r#"mark {"deletionGracePeriodSeconds":1,"deletionTimestamp":"2026-01-01T00:01:00Z","name":"a"}"#]],
        );
        check("pods", dying, json!({"gracePeriodSeconds": 0}), expect!["remove"]);
    }

    #[test]
    fn a_namespace_is_held_by_its_spec() {
        let namespace = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}});
        check(
            "namespaces",
            namespace,
            json!({}),
            expect![[r#"mark {"deletionTimestamp":"2026-01-01T00:01:00Z","name":"a"}"#]],
        );
    }
}
