//! How much is told about a request. Pure.

use super::event::Stage;
use crate::authn::Identity;
use serde::Deserialize;

/// How much is told.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

/// What rules see of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) verb: &'a str,
    /// Group, plural, subresource, namespace and name; `None` for paths that are no resources.
    pub(crate) resource: Option<[&'a str; 5]>,
    pub(crate) path: &'a str,
}

/// What is told about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) level: Level,
    omit_stages: Vec<Stage>,
    pub(crate) omit_managed_fields: bool,
}

impl Plan {
    pub(super) fn tells(&self, stage: Stage) -> bool {
        !self.omit_stages.contains(&stage)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Policy {
    api_version: String,
    kind: String,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    paths: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

impl Policy {
    pub(super) fn parse(text: &str) -> Result<Policy, String> {
        let value = catamaran_api::body::parse(catamaran_api::body::Format::Yaml, text.as_bytes())
            .map_err(|error| error.to_string())?
            .value;
        let mut policy: Policy = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if policy.api_version != "audit.k8s.io/v1" || policy.kind != "Policy" {
            return Err("it is no Policy of audit.k8s.io/v1".to_owned());
        }
        if policy.rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".to_owned());
        }
        for (index, rule) in policy.rules.iter_mut().enumerate() {
            let about_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
            if about_resources && !rule.paths.is_empty() {
                return Err(format!(
                    "rules[{index}].nonResourceURLs: rules cannot apply to both regular resources and non-resource URLs"
                ));
            }
            // What no event of this policy shall tell, no rule does.
            rule.omit_stages.extend(policy.omit_stages.iter().copied());
        }
        Ok(policy)
    }

    /// The first rule that fits decides; without one, nothing is told.
    pub(super) fn plan(&self, subject: &Subject<'_>) -> Option<Plan> {
        let rule = self.rules.iter().find(|rule| rule.fits(subject))?;
        (rule.level > Level::None).then(|| Plan {
            level: rule.level,
            omit_stages: rule.omit_stages.clone(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        })
    }
}

impl Rule {
    fn fits(&self, subject: &Subject<'_>) -> bool {
        let has = |wanted: &[String], value: &str| wanted.iter().any(|own| own == value);
        let groups = &subject.identity.groups;
        let by_user = self.users.is_empty() || has(&self.users, &subject.identity.user);
        let by_group = self.user_groups.is_empty() || groups.iter().any(|group| has(&self.user_groups, group));
        let by_verb = self.verbs.is_empty() || has(&self.verbs, subject.verb);
        if !(by_user && by_group && by_verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return subject
                .resource
                .is_some_and(|[group, plural, subresource, namespace, name]| {
                    (self.namespaces.is_empty() || has(&self.namespaces, namespace))
                        && (self.resources.is_empty()
                            || self
                                .resources
                                .iter()
                                .any(|own| own.fit(group, plural, subresource, name)))
                });
        }
        self.paths.is_empty()
            || (subject.resource.is_none() && self.paths.iter().any(|own| path_fits(own, subject.path)))
    }
}

impl Resources {
    fn fit(&self, group: &str, plural: &str, subresource: &str, name: &str) -> bool {
        if self.group != group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !self.resource_names.iter().any(|own| own == name) {
            return false;
        }
        self.resources.iter().any(|own| match own.split_once('/') {
            _ if own == "*" => true,
            None => subresource.is_empty() && own == plural,
            Some(("*", wanted)) => !subresource.is_empty() && wanted == subresource,
            Some((wanted, "*")) => wanted == plural,
            Some((wanted, below)) => wanted == plural && below == subresource,
        })
    }
}

fn path_fits(wanted: &str, path: &str) -> bool {
    wanted == "*" || wanted == path || wanted.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  nonResourceURLs: ['/healthz*', /version]
- level: None
  users: [system:kube-scheduler]
  verbs: [watch]
- level: Request
  resources: [{group: '', resources: [secrets]}, {group: apps, resources: ['deployments/*'], resourceNames: [web]}]
  omitManagedFields: false
- level: RequestResponse
  userGroups: [admins]
  namespaces: [prod]
- level: Metadata
  omitStages: [ResponseStarted]
";

    #[track_caller]
    fn check(
        user: &str,
        groups: &[&str],
        verb: &str,
        resource: Option<[&str; 5]>,
        path: &str,
        expected: Option<Level>,
    ) {
        let policy = Policy::parse(POLICY).unwrap();
        let identity = Identity::authenticated(user, groups);
        let plan = policy.plan(&Subject {
            identity: &identity,
            verb,
            resource,
            path,
        });
        assert_eq!(plan.map(|plan| plan.level), expected);
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let pods = Some(["", "pods", "", "prod", "a"]);
        check("a", &[], "get", None, "/healthz/ping", None);
        check("a", &[], "get", None, "/api", Some(Level::Metadata));
        check("system:kube-scheduler", &[], "watch", pods, "", None);
        check("system:kube-scheduler", &[], "list", pods, "", Some(Level::Metadata));
        check(
            "a",
            &[],
            "get",
            Some(["", "secrets", "", "prod", "a"]),
            "",
            Some(Level::Request),
        );
        check(
            "a",
            &[],
            "get",
            Some(["", "secrets", "x", "prod", "a"]),
            "",
            Some(Level::Metadata),
        );
        check(
            "a",
            &[],
            "update",
            Some(["apps", "deployments", "scale", "x", "web"]),
            "",
            Some(Level::Request),
        );
        check(
            "a",
            &[],
            "update",
            Some(["apps", "deployments", "scale", "x", "api"]),
            "",
            Some(Level::Metadata),
        );
        check("a", &["admins"], "get", pods, "", Some(Level::RequestResponse));
        check("a", &["admins"], "get", None, "/metrics", Some(Level::Metadata));
    }

    #[test]
    fn stages_are_left_out_by_rule_and_policy() {
        let policy = Policy::parse(POLICY).unwrap();
        let identity = Identity::authenticated("a", &[]);
        let plan = |resource| {
            let subject = Subject {
                identity: &identity,
                verb: "get",
                resource,
                path: "/x",
            };
            policy.plan(&subject).unwrap()
        };
        let (other, secrets) = (plan(None), plan(Some(["", "secrets", "", "a", "b"])));
        assert!(!other.tells(Stage::RequestReceived) && !other.tells(Stage::ResponseStarted));
        assert!(other.tells(Stage::ResponseComplete) && secrets.tells(Stage::ResponseStarted));
        assert!(other.omit_managed_fields && !secrets.omit_managed_fields);
    }

    #[test]
    fn policies_that_make_no_sense_are_refused() {
        let refuse = |text: &str| Policy::parse(text).unwrap_err();
        assert_eq!(
            refuse("apiVersion: audit.k8s.io/v1\nkind: Policy\n"),
            "loaded illegal policy with 0 rules"
        );
        assert_eq!(
            refuse("apiVersion: v1\nkind: Policy\n"),
            "it is no Policy of audit.k8s.io/v1"
        );
        let both =
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, nonResourceURLs: [/x], namespaces: [a]}]";
        assert!(refuse(both).starts_with("rules[0].nonResourceURLs: "));
        assert!(refuse("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: All}]").contains("unknown variant"));
    }
}
