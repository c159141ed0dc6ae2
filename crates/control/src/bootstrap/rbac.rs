//! The roles and bindings every cluster has, made at the first start and mended at every later one: what is missing is
//! added, what was added stays.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#auto-reconciliation>

use super::is_conflict;
use crate::authz::policy::{self, AUTOUPDATE};
use crate::authz::rule::{self, Rule};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::fmt::Debug;

/// Writes at a time: the store commits those that wait together at once.
const AT_ONCE: usize = 64;

/// Makes and mends everything. Cluster roles that gather the rules of others have them when this returns.
pub(super) async fn ensure(client: &Client) -> kube::Result<()> {
    let mut cluster_roles = policy::cluster_roles();
    fill(&mut cluster_roles);
    let roles = policy::roles();
    futures::try_join!(
        ensure_all(Api::all(client.clone()), client, cluster_roles),
        ensure_all(Api::all(client.clone()), client, policy::cluster_role_bindings()),
        ensure_all(Api::all(client.clone()), client, roles),
        ensure_all(Api::all(client.clone()), client, policy::role_bindings()),
    )?;
    Ok(())
}

/// Fills in what the roles gather from one another, as the controller for that does later.
fn fill(roles: &mut [ClusterRole]) {
    // A gathered role may itself gather; the longest chain of the default ones is three.
    for _ in 0..3 {
        let all = roles.to_vec();
        for role in roles.iter_mut() {
            if let Some(rules) = gathered(role, &all) {
                role.rules = Some(rules);
            }
        }
    }
}

/// The rules of all roles that a role gathers, by name, each once. `None` if it gathers none.
fn gathered(role: &ClusterRole, all: &[ClusterRole]) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_ref()?;
    let mut all: Vec<&ClusterRole> = all.iter().collect();
    all.sort_by_key(|other| other.metadata.name.as_deref());
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        let wanted = selector.match_labels.iter().flatten();
        for other in &all {
            let labels = other.labels();
            if other.name_any() == role.name_any() || !wanted.clone().all(|(key, value)| labels.get(key) == Some(value))
            {
                continue;
            }
            for rule in other.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Some(rules)
}

/// What the four kinds have in common.
trait Policy: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned {
    /// Adds what `wanted` has and `self` lacks. True: the object has to be replaced as a whole.
    fn mend(&mut self, wanted: &Self) -> bool;
    fn api(client: &Client, namespace: Option<&str>) -> Api<Self>;
}

async fn ensure_all<K: Policy>(all: Api<K>, client: &Client, wanted: Vec<K>) -> kube::Result<()> {
    let present = all.list(&ListParams::default()).await?;
    let key = |object: &K| (object.namespace(), object.name_any());
    let present: HashMap<_, K> = present.items.into_iter().map(|object| (key(&object), object)).collect();
    let writes = wanted.into_iter().map(|wanted| {
        let present = present.get(&key(&wanted)).cloned();
        ensure_one(client, wanted, present)
    });
    futures::stream::iter(writes)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn ensure_one<K: Policy>(client: &Client, wanted: K, present: Option<K>) -> kube::Result<()> {
    let api = K::api(client, wanted.namespace().as_deref());
    let params = PostParams::default();
    let ignore_conflict = |result: kube::Result<K>| match result {
        Err(error) if !is_conflict(&error) => Err(error),
        _ => Ok(()),
    };
    let Some(present) = present else {
        return ignore_conflict(api.create(&params, &wanted).await);
    };
    if present
        .annotations()
        .get(AUTOUPDATE)
        .is_some_and(|value| value == "false")
    {
        return Ok(());
    }
    let mut mended = present.clone();
    if mended.mend(&wanted) {
        api.delete(&present.name_any(), &DeleteParams::default()).await?;
        return ignore_conflict(api.create(&params, &wanted).await);
    }
    let meta = mended.meta_mut();
    add(&mut meta.labels, wanted.meta().labels.as_ref());
    add(&mut meta.annotations, wanted.meta().annotations.as_ref());
    let json = |object: &K| serde_json::to_value(object).map_err(kube::Error::SerdeError);
    if json(&mended)? == json(&present)? {
        return Ok(());
    }
    ignore_conflict(api.replace(&present.name_any(), &params, &mended).await)
}

type Map = std::collections::BTreeMap<String, String>;

fn add(own: &mut Option<Map>, wanted: Option<&Map>) {
    for (key, value) in wanted.into_iter().flatten() {
        own.get_or_insert_default().insert(key.clone(), value.clone());
    }
}

fn mend_rules(own: &mut Option<Vec<PolicyRule>>, wanted: Option<&Vec<PolicyRule>>) {
    let compiled =
        |list: Option<&Vec<PolicyRule>>| -> Vec<Rule> { list.into_iter().flatten().cloned().map(Rule::from).collect() };
    let present = compiled(own.as_ref());
    for rule in wanted.into_iter().flatten() {
        if !rule::missing(&present, &[Rule::from(rule.clone())]).is_empty() {
            own.get_or_insert_default().push(rule.clone());
        }
    }
}

fn mend_subjects(own: &mut Option<Vec<Subject>>, wanted: Option<&Vec<Subject>>) {
    for subject in wanted.into_iter().flatten() {
        if !own.iter().flatten().any(|known| known == subject) {
            own.get_or_insert_default().push(subject.clone());
        }
    }
}

fn mend_binding(
    role: &RoleRef,
    wanted_role: &RoleRef,
    own: &mut Option<Vec<Subject>>,
    wanted: Option<&Vec<Subject>>,
) -> bool {
    mend_subjects(own, wanted);
    role != wanted_role
}

fn mend_aggregation(own: &mut Option<AggregationRule>, wanted: Option<&AggregationRule>) {
    let Some(wanted) = wanted else { return };
    let selectors = own
        .get_or_insert_default()
        .cluster_role_selectors
        .get_or_insert_default();
    for selector in wanted.cluster_role_selectors.iter().flatten() {
        if !selectors.contains(selector) {
            selectors.push(selector.clone());
        }
    }
}

impl Policy for ClusterRole {
    fn mend(&mut self, wanted: &Self) -> bool {
        if wanted.aggregation_rule.is_none() {
            mend_rules(&mut self.rules, wanted.rules.as_ref());
        }
        mend_aggregation(&mut self.aggregation_rule, wanted.aggregation_rule.as_ref());
        false
    }

    fn api(client: &Client, _: Option<&str>) -> Api<Self> {
        Api::all(client.clone())
    }
}

impl Policy for ClusterRoleBinding {
    fn mend(&mut self, wanted: &Self) -> bool {
        mend_binding(
            &self.role_ref,
            &wanted.role_ref,
            &mut self.subjects,
            wanted.subjects.as_ref(),
        )
    }

    fn api(client: &Client, _: Option<&str>) -> Api<Self> {
        Api::all(client.clone())
    }
}

impl Policy for Role {
    fn mend(&mut self, wanted: &Self) -> bool {
        mend_rules(&mut self.rules, wanted.rules.as_ref());
        false
    }

    fn api(client: &Client, namespace: Option<&str>) -> Api<Self> {
        namespaced(client, namespace)
    }
}

impl Policy for RoleBinding {
    fn mend(&mut self, wanted: &Self) -> bool {
        mend_binding(
            &self.role_ref,
            &wanted.role_ref,
            &mut self.subjects,
            wanted.subjects.as_ref(),
        )
    }

    fn api(client: &Client, namespace: Option<&str>) -> Api<Self> {
        namespaced(client, namespace)
    }
}

fn namespaced<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), namespace.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_has_what_edit_and_view_have() {
        let mut roles = policy::cluster_roles();
        fill(&mut roles);
        let rules = |name: &str| {
            let role = roles.iter().find(|role| role.name_any() == name).unwrap();
            role.rules.clone().unwrap()
        };
        let (admin, edit, view) = (rules("admin"), rules("edit"), rules("view"));
        assert!(view.iter().all(|rule| edit.contains(rule)));
        assert!(edit.iter().all(|rule| admin.contains(rule)));
        assert!(admin.len() > edit.len() && edit.len() > view.len() && view.len() > 8);
    }

    #[test]
    fn what_was_added_stays_and_what_is_missing_comes_back() {
        let wanted = policy::cluster_roles()
            .into_iter()
            .find(|role| role.name_any() == "system:basic-user")
            .unwrap();
        let mut own = wanted.clone();
        own.rules.as_mut().unwrap().remove(0);
        let extra = PolicyRule {
            verbs: vec!["get".to_owned()],
            api_groups: Some(vec![String::new()]),
            resources: Some(vec!["pods".to_owned()]),
            ..PolicyRule::default()
        };
        own.rules.as_mut().unwrap().push(extra.clone());
        own.mend(&wanted);
        let rules = own.rules.clone().unwrap();
        assert_eq!(rules.len(), 3);
        assert!(rules.contains(&extra) && rules.contains(&wanted.rules.as_ref().unwrap()[0]));
        let before = own.clone();
        own.mend(&wanted);
        assert_eq!(own, before, "once mended it is left alone");
    }
}
