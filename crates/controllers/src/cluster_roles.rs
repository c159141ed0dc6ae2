//! A ClusterRole with an `aggregationRule` has the rules of all roles its selectors choose.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles>

use crate::framework::drive::{Change, Next, drive, source};
use crate::framework::requests::{is_conflict, is_not_found};
use catamaran_api::Path;
use catamaran_api::selector::Selector;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::{ListParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

pub(crate) async fn run(client: Client, shutdown: CancellationToken) {
    let roles = watcher(
        Api::<PartialObjectMeta<ClusterRole>>::all(client.clone()),
        watcher::Config::default(),
    );
    // Any role may be chosen by any other: there is one key for all of them, and what comes together is done once.
    let sources = vec![source("cluster roles", roles, |_: Change<_>| vec![()])];
    drive("clusterrole-aggregation", sources, 1, shutdown, |()| {
        aggregate(client.clone())
    })
    .await;
}

async fn aggregate(client: Client) -> kube::Result<Next> {
    let api: Api<ClusterRole> = Api::all(client);
    let mut roles = api.list(&ListParams::default()).await?.items;
    roles.sort_by_key(ResourceExt::name_any);
    for role in &roles {
        let Some(rules) = wanted(role, &roles) else { continue };
        if role.rules.clone().unwrap_or_default() == rules {
            continue;
        }
        let mut role = role.clone();
        role.rules = Some(rules);
        match api.replace(&role.name_any(), &PostParams::default(), &role).await {
            // The watch tells of whatever it is now.
            Err(error) if !(is_not_found(&error) || is_conflict(&error)) => return Err(error),
            _ => {}
        }
    }
    Ok(Next::Done)
}

/// Pure: the rules a role should have, each once, in the order of the names of the roles they come from. `None` if it says its
/// rules itself.
fn wanted(role: &ClusterRole, roles: &[ClusterRole]) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_ref()?;
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        let Ok(selector) = Selector::from_object(selector, &Path::ROOT) else {
            continue;
        };
        for other in roles {
            if other.name_any() == role.name_any() || !selector.matches(other.labels()) {
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
