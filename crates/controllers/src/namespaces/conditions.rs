//! What stands in the way of a namespace's end, as conditions in its status: pure.

use crate::framework::discovery::Resource;
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;

/// What one pass over a namespace found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What discovery could not tell about.
    undiscovered: Vec<String>,
    failures: Vec<String>,
    remaining: Vec<String>,
    finalizers: BTreeMap<String, usize>,
}

/// A condition: its type, and its reason and message while all is well.
const CONDITIONS: [(&str, &str, &str); 5] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    (
        "NamespaceContentRemaining",
        "ContentRemoved",
        "All content successfully removed",
    ),
    (
        "NamespaceFinalizersRemaining",
        "ContentRemoved",
        "All content successfully removed",
    ),
];

impl Findings {
    /// A version of a group that discovery has only old news of.
    pub(super) fn undiscovered(&mut self, group: &str, version: &str) {
        let name = format!("{group}/{version}");
        self.undiscovered
            .push(format!("{name}: stale GroupVersion discovery: {name}"));
    }

    pub(super) fn failed(&mut self, why: String) {
        self.failures.push(why);
    }

    /// Objects remain, and nothing says why.
    pub(super) fn unexpected(&mut self, namespace: &str, resource: &Resource) {
        let api = &resource.api;
        self.failures.push(format!(
            "unexpected items still remain in namespace: {namespace} for gvr: {}/{}, Resource={}",
            api.group, api.version, api.plural
        ));
    }

    pub(super) fn remain(&mut self, resource: &Resource, count: usize, finalizers: BTreeMap<String, usize>) {
        self.remaining
            .push(format!("{} has {count} resource instances", resource.dotted()));
        for (finalizer, count) in finalizers {
            *self.finalizers.entry(finalizer).or_insert(0) += count;
        }
    }

    /// Did something go wrong, so that what was seen is not all there is?
    pub(super) fn is_trouble(&self) -> bool {
        !self.undiscovered.is_empty() || !self.failures.is_empty()
    }

    /// Reason and message of a condition that is true.
    fn trouble(&self, kind: &str) -> Option<(&'static str, String)> {
        let sorted = |texts: &[String]| {
            let mut texts = texts.to_vec();
            texts.sort();
            texts.join(", ")
        };
        match kind {
            "NamespaceDeletionDiscoveryFailure" if !self.undiscovered.is_empty() => {
                let message = format!(
                    "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
                    self.undiscovered.len(),
                    sorted(&self.undiscovered)
                );
                Some(("DiscoveryFailed", message))
            }
            "NamespaceDeletionContentFailure" if !self.failures.is_empty() => {
                let message = format!(
                    "Failed to delete all resource types, {} remaining: {}",
                    self.failures.len(),
                    sorted(&self.failures)
                );
                Some(("ContentDeletionFailed", message))
            }
            "NamespaceContentRemaining" if !self.remaining.is_empty() => {
                let message = format!("Some resources are remaining: {}", sorted(&self.remaining));
                Some(("SomeResourcesRemain", message))
            }
            "NamespaceFinalizersRemaining" if !self.finalizers.is_empty() => {
                let texts = self.finalizers.iter();
                let texts: Vec<String> = texts
                    .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
                    .collect();
                let message = format!(
                    "Some content in the namespace has finalizers remaining: {}",
                    sorted(&texts)
                );
                Some(("SomeFinalizerRemain", message))
            }
            _ => None,
        }
    }

    /// Brings conditions up to date. True if one changed.
    pub(super) fn update(&self, conditions: &mut Vec<NamespaceCondition>, now: &Time) -> bool {
        let mut changed = false;
        for (kind, reason, message) in CONDITIONS {
            let trouble = self.trouble(kind);
            let status = if trouble.is_some() { "True" } else { "False" };
            let (reason, message) = trouble.unwrap_or((reason, message.to_owned()));
            let wanted = NamespaceCondition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_transition_time: Some(now.clone()),
            };
            match conditions.iter_mut().find(|condition| condition.type_ == kind) {
                None => conditions.push(wanted),
                Some(own)
                    if own.status == wanted.status && own.reason == wanted.reason && own.message == wanted.message =>
                {
                    continue;
                }
                Some(own) => {
                    let since = (own.status == wanted.status).then(|| own.last_transition_time.clone());
                    *own = wanted;
                    if let Some(since) = since {
                        own.last_transition_time = since;
                    }
                }
            }
            changed = true;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn text(conditions: &[NamespaceCondition]) -> String {
        let line = |condition: &NamespaceCondition| {
            format!(
                "{}={} {}: {}",
                condition.type_,
                condition.status,
                condition.reason.as_deref().unwrap_or_default(),
                condition.message.as_deref().unwrap_or_default()
            )
        };
        conditions.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn conditions_are_worded_as_kubernetes_words_them() {
        let now = Time(jiff::Timestamp::UNIX_EPOCH);
        let mut conditions = Vec::new();
        let findings = Findings {
            undiscovered: Vec::new(),
            failures: vec!["no".to_owned()],
            remaining: vec!["pods. has 2 resource instances".to_owned()],
            finalizers: BTreeMap::from([("example.com/held".to_owned(), 2)]),
        };
        assert!(findings.update(&mut conditions, &now));
        expect![[r#"
            NamespaceDeletionDiscoveryFailure=False ResourcesDiscovered: All resources successfully discovered
            NamespaceDeletionGroupVersionParsingFailure=False ParsedGroupVersions: All legacy kube types successfully parsed
            NamespaceDeletionContentFailure=True ContentDeletionFailed: Failed to delete all resource types, 1 remaining: no
            NamespaceContentRemaining=True SomeResourcesRemain: Some resources are remaining: pods. has 2 resource instances
            NamespaceFinalizersRemaining=True SomeFinalizerRemain: Some content in the namespace has finalizers remaining: example.com/held in 2 resource instances"#]]
        .assert_eq(&text(&conditions));
        assert!(!findings.update(&mut conditions, &now), "nothing new");
        assert!(Findings::default().update(&mut conditions, &now));
        assert!(conditions.iter().all(|condition| condition.status == "False"));
    }
}
