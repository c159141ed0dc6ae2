//! APIServices of what this server serves itself: made by it, so that one list shows who serves what.
//!
//! Those of built-in groups are made at the start; those of defined kinds come and go with them. A label tells them apart from
//! those that people made.

use crate::http::priorities;
use crate::registry::Table;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec};
use std::collections::{BTreeMap, HashMap, HashSet};

/// On objects that this server makes.
const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Made at the start; who deletes it later has it gone until the next.
const ON_START: &str = "onstart";
/// Kept as it should be.
const ALWAYS: &str = "true";

/// Questions are no resources of the registry.
const QUESTIONS: [&str; 2] = ["authentication.k8s.io/v1", "authorization.k8s.io/v1"];

/// What has to be done, by names.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) create: Vec<APIService>,
    pub(super) replace: Vec<APIService>,
    pub(super) delete: Vec<String>,
}

/// Is this always served here, although no kind of it is stored?
pub(super) fn is_ours(api_version: &str) -> bool {
    QUESTIONS.contains(&api_version)
}

/// Groups and versions that this server serves: `apps/v1`, and whether they are built in.
pub(super) fn served(table: &Table) -> BTreeMap<String, bool> {
    let mut served: BTreeMap<String, bool> = QUESTIONS.iter().map(|own| ((*own).to_owned(), true)).collect();
    for resource in table.resources() {
        let builtin = matches!(resource.kind, crate::kinds::KindRef::Builtin(_));
        served.insert(resource.api_version.clone(), builtin);
    }
    served
}

/// Pure: from what is served and the APIServices there are to what has to change. `starting`: nobody can have deleted any yet.
pub(super) fn plan(served: &BTreeMap<String, bool>, existing: &[APIService], starting: bool) -> Plan {
    let mut plan = Plan::default();
    let mut wanted = HashSet::new();
    let named = existing
        .iter()
        .filter_map(|one| Some((one.metadata.name.as_deref()?, one)));
    let by_name: HashMap<&str, &APIService> = named.collect();
    for (api_version, builtin) in served {
        let object = object(api_version, *builtin);
        let name = object.metadata.name.clone().unwrap_or_default();
        match by_name.get(name.as_str()).copied() {
            None if starting || !builtin => plan.create.push(object),
            // What people made of it is theirs.
            Some(found) if label(found).is_some() && found.spec != object.spec => {
                let mut object = object;
                object
                    .metadata
                    .resource_version
                    .clone_from(&found.metadata.resource_version);
                plan.replace.push(object);
            }
            _ => {}
        }
        wanted.insert(name);
    }
    for found in existing {
        let name = found.metadata.name.clone().unwrap_or_default();
        if label(found) == Some(ALWAYS) && !wanted.contains(&name) {
            plan.delete.push(name);
        }
    }
    plan
}

fn label(object: &APIService) -> Option<&str> {
    object.metadata.labels.as_ref()?.get(LABEL).map(String::as_str)
}

fn object(api_version: &str, builtin: bool) -> APIService {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let (group_priority, version_priority) = priorities(group, version);
    let label = if builtin { ON_START } else { ALWAYS };
    APIService {
        metadata: ObjectMeta {
            name: Some(format!("{version}.{group}")),
            labels: Some([(LABEL.to_owned(), label.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(APIServiceSpec {
            group: Some(group.to_owned()).filter(|group| !group.is_empty()),
            version: Some(version.to_owned()),
            group_priority_minimum: group_priority,
            version_priority,
            ..APIServiceSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(objects: &[APIService]) -> Vec<&str> {
        objects
            .iter()
            .filter_map(|object| object.metadata.name.as_deref())
            .collect()
    }

    #[test]
    fn objects_follow_what_is_served() {
        let served: BTreeMap<String, bool> = [
            ("v1".to_owned(), true),
            ("apps/v1".to_owned(), true),
            ("example.com/v1".to_owned(), false),
        ]
        .into();
        let first = plan(&served, &[], true);
        assert_eq!(names(&first.create), ["v1.apps", "v1.example.com", "v1."]);
        assert_eq!(plan(&served, &first.create, false), Plan::default());
        // Who deletes one of a built-in group meant it; a defined one comes back.
        assert_eq!(names(&plan(&served, &[], false).create), ["v1.example.com"]);
        let mut changed = first.create.clone();
        changed[0].spec.as_mut().expect("a spec").version_priority = 7;
        let again = plan(&served, &changed, false);
        assert_eq!(names(&again.replace), ["v1.apps"]);
        changed[0].metadata.labels = None;
        assert_eq!(plan(&served, &changed, false), Plan::default());
        let gone = plan(&[("v1".to_owned(), true)].into(), &first.create, false);
        assert_eq!(gone.delete, ["v1.example.com"]);
    }
}
