//! One rule of a role: what it allows, and what it covers of another. Pure.

use super::{Attempt, AttemptedResource};
use catamaran_api::field::quote;
use k8s_openapi::api::rbac::v1::PolicyRule;
use std::collections::BTreeSet;

/// A rule. `*` stands for everything of its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    pub(crate) groups: Vec<String>,
    /// Plurals, `plural/subresource` or `*/subresource`.
    pub(crate) resources: Vec<String>,
    /// Empty: all.
    pub(crate) names: Vec<String>,
    /// Paths that are no resources; one that ends in `*` stands for all that begin like it.
    pub(crate) paths: Vec<String>,
}

impl From<PolicyRule> for Rule {
    fn from(rule: PolicyRule) -> Self {
        Rule {
            verbs: rule.verbs,
            groups: rule.api_groups.unwrap_or_default(),
            resources: rule.resources.unwrap_or_default(),
            names: rule.resource_names.unwrap_or_default(),
            paths: rule.non_resource_urls.unwrap_or_default(),
        }
    }
}

impl From<Rule> for PolicyRule {
    fn from(rule: Rule) -> Self {
        let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
        PolicyRule {
            verbs: rule.verbs,
            api_groups: some(rule.groups),
            resources: some(rule.resources),
            resource_names: some(rule.names),
            non_resource_urls: some(rule.paths),
        }
    }
}

/// Everything.
pub(crate) fn full_authority() -> Vec<Rule> {
    let all = || vec!["*".to_owned()];
    vec![
        Rule {
            verbs: all(),
            groups: all(),
            resources: all(),
            ..Rule::default()
        },
        Rule {
            verbs: all(),
            paths: all(),
            ..Rule::default()
        },
    ]
}

impl Rule {
    pub(crate) fn allows(&self, attempt: &Attempt<'_>) -> bool {
        if !has_or_all(&self.verbs, attempt.verb) {
            return false;
        }
        match &attempt.resource {
            Some(resource) => {
                has_or_all(&self.groups, resource.group)
                    && self.names_resource(resource)
                    && (self.names.is_empty() || self.names.iter().any(|name| name == resource.name))
            }
            None => self.paths.iter().any(|path| path_covers(path, attempt.path)),
        }
    }

    fn names_resource(&self, wanted: &AttemptedResource<'_>) -> bool {
        self.resources.iter().any(|own| {
            if own == "*" {
                return true;
            }
            if wanted.subresource.is_empty() {
                return own == wanted.plural;
            }
            own.split_once('/')
                .is_some_and(|(plural, rest)| rest == wanted.subresource && (plural == "*" || plural == wanted.plural))
        })
    }

    /// Does it allow whatever `other`, a single item of [`items`](Self::items), allows?
    fn covers(&self, other: &Rule) -> bool {
        has_all(&self.verbs, &other.verbs)
            && has_all(&self.groups, &other.groups)
            && other.resources.iter().all(|resource| self.covers_resource(resource))
            && other
                .paths
                .iter()
                .all(|path| self.paths.iter().any(|own| path_covers(own, path)))
            && (self.names.is_empty()
                || (!other.names.is_empty() && other.names.iter().all(|name| self.names.contains(name))))
    }

    fn covers_resource(&self, wanted: &str) -> bool {
        self.resources.iter().any(|own| {
            own == "*"
                || own == wanted
                || matches!((own.strip_prefix("*/"), wanted.split_once('/')), (Some(any), Some((_, rest))) if any == rest)
        })
    }

    /// The rule as rules with one verb, one group and resource and at most one name, or one path, each.
    fn items(&self) -> Vec<Rule> {
        let mut items = Vec::new();
        let one = |text: &String| vec![text.clone()];
        for group in &self.groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let item = Rule {
                        verbs: one(verb),
                        groups: one(group),
                        resources: one(resource),
                        ..Rule::default()
                    };
                    if self.names.is_empty() {
                        items.push(item.clone());
                    }
                    items.extend(self.names.iter().map(|name| Rule {
                        names: one(name),
                        ..item.clone()
                    }));
                }
            }
        }
        for path in &self.paths {
            items.extend(self.verbs.iter().map(|verb| Rule {
                verbs: one(verb),
                paths: one(path),
                ..Rule::default()
            }));
        }
        items
    }

    /// `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`
    fn describe(&self) -> String {
        let parts = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.paths),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| format!("{name}:{}", quote_list(list)))
            .collect();
        format!("{{{}}}", parts.join(", "))
    }
}

/// As Go's `%q` shows a list.
pub(crate) fn quote_list(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| quote(text)).collect();
    format!("[{}]", quoted.join(" "))
}

/// What of `wanted` no rule of `own` allows, in words: one line per resource, sorted. Empty if everything is covered.
pub(crate) fn missing(own: &[Rule], wanted: &[Rule]) -> Vec<String> {
    let mut missing: Vec<Rule> = Vec::new();
    for item in wanted.iter().flat_map(Rule::items) {
        if own.iter().any(|rule| rule.covers(&item)) {
            continue;
        }
        let same = |known: &&mut Rule| {
            item.paths.is_empty()
                && known.groups == item.groups
                && known.resources == item.resources
                && known.names == item.names
                && known.paths.is_empty()
        };
        match missing.iter_mut().find(same) {
            Some(known) => known.verbs.extend(item.verbs),
            None => missing.push(item),
        }
    }
    let lines: BTreeSet<String> = missing.iter().map(Rule::describe).collect();
    lines.into_iter().collect()
}

fn has_or_all(list: &[String], wanted: &str) -> bool {
    list.iter().any(|own| own == "*" || own == wanted)
}

fn has_all(list: &[String], wanted: &[String]) -> bool {
    wanted.iter().all(|wanted| has_or_all(list, wanted))
}

fn path_covers(own: &str, wanted: &str) -> bool {
    own == "*" || own == wanted || (own.ends_with('*') && wanted.starts_with(own.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::Identity;
    use expect_test::expect;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> Rule {
        let list = |text: &str| text.split_whitespace().map(|word| word.replace("core", "")).collect();
        Rule {
            verbs: list(verbs),
            groups: list(groups),
            resources: list(resources),
            names: list(names),
            paths: Vec::new(),
        }
    }

    #[track_caller]
    fn check(rule: &Rule, verb: &str, group: &str, resource: &str, name: &str, expected: bool) {
        let identity = Identity::anonymous();
        let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let attempt = Attempt {
            verb,
            resource: Some(AttemptedResource {
                group,
                plural,
                subresource,
                name,
                ..AttemptedResource::default()
            }),
            ..Attempt::new(&identity)
        };
        assert_eq!(
            rule.allows(&attempt),
            expected,
            "{rule:?} {verb} {group} {resource} {name}"
        );
    }

    #[test]
    fn rules_allow() {
        let pods = rule("get list", "core", "pods pods/log", "");
        check(&pods, "get", "", "pods", "a", true);
        check(&pods, "get", "", "pods/log", "a", true);
        check(&pods, "get", "", "pods/exec", "a", false);
        check(&pods, "watch", "", "pods", "", false);
        check(&pods, "get", "apps", "pods", "", false);
        let all = rule("*", "*", "*", "");
        check(&all, "escalate", "x", "y/z", "", true);
        let scale = rule("get", "*", "*/scale", "");
        check(&scale, "get", "apps", "deployments/scale", "a", true);
        check(&scale, "get", "apps", "deployments", "a", false);
        check(&scale, "get", "apps", "deployments/status", "a", false);
        let named = rule("get", "core", "secrets", "a b");
        check(&named, "get", "", "secrets", "b", true);
        check(&named, "get", "", "secrets", "", false);
        let bare = rule("get", "core", "pods", "");
        check(&bare, "get", "", "pods/log", "", false);
    }

    #[test]
    fn paths() {
        for (own, wanted, expected) in [
            ("*", "/x", true),
            ("/healthz/*", "/healthz/ping", true),
            ("/healthz/*", "/healthz", false),
            ("/healthz*", "/healthz", true),
            ("/version", "/version/", false),
        ] {
            assert_eq!(path_covers(own, wanted), expected, "{own} {wanted}");
        }
    }

    #[test]
    fn what_is_missing() {
        let own = [
            rule("get list watch", "core", "pods */scale", ""),
            rule("*", "core", "secrets", "a"),
        ];
        assert!(missing(&own, &[rule("get", "core", "pods deployments/scale", "x")]).is_empty());
        assert!(missing(&own, &[rule("update", "core", "secrets", "a")]).is_empty());
        let wanted = [
            rule("get delete create", "core", "pods", ""),
            rule("get", "core apps", "deployments", ""),
            rule("get", "core", "secrets", ""),
        ];
        expect![[r#"
            {APIGroups:[""], Resources:["deployments"], Verbs:["get"]}
            {APIGroups:[""], Resources:["pods"], Verbs:["delete" "create"]}
            {APIGroups:[""], Resources:["secrets"], Verbs:["get"]}
            {APIGroups:["apps"], Resources:["deployments"], Verbs:["get"]}"#]]
        .assert_eq(&missing(&own, &wanted).join("\n"));
    }
}
