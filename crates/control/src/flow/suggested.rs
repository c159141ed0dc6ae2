//! The objects every cluster begins with: the two levels and schemas that have to be there, and those that Kubernetes
//! suggests. The first are put right whenever they are not; the others only while their annotation says that nobody took
//! them over.

use super::rules::{FlowSchema, PriorityLevelConfiguration};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

/// While this is `true`, the specification is ours.
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// Nobody may change these.
const MANDATORY: &[&str] = &["exempt", "catch-all"];

/// Name, shares, lendable percent, queues, hand size.
const LIMITED: &[(&str, i32, i32, i32, i32)] = &[
    ("global-default", 20, 50, 128, 6),
    ("leader-election", 10, 0, 16, 4),
    ("node-high", 40, 25, 64, 6),
    ("system", 30, 33, 64, 6),
    ("workload-high", 40, 50, 128, 6),
    ("workload-low", 100, 90, 128, 6),
];
const QUEUE_LENGTH: i32 = 50;

/// All of them.
pub(super) fn objects() -> (Vec<FlowSchema>, Vec<PriorityLevelConfiguration>) {
    let schemas = schemas().into_iter().map(read).collect();
    let levels = levels().into_iter().map(read).collect();
    (schemas, levels)
}

fn read<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("the objects are written down here")
}

fn object(name: &str, spec: &Value) -> Value {
    json!({ "metadata": { "name": name, "annotations": { AUTO_UPDATE: "true" } }, "spec": spec })
}

fn levels() -> Vec<Value> {
    let mut levels = vec![
        object(
            "exempt",
            &json!({ "type": "Exempt", "exempt": { "nominalConcurrencyShares": 0, "lendablePercent": 0 } }),
        ),
        object(
            "catch-all",
            &json!({ "type": "Limited", "limited": {
                "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": { "type": "Reject" },
            } }),
        ),
    ];
    levels.extend(LIMITED.iter().map(|(name, shares, lendable, queues, hand)| {
        let queuing = json!({ "queues": queues, "handSize": hand, "queueLengthLimit": QUEUE_LENGTH });
        object(
            name,
            &json!({ "type": "Limited", "limited": {
                "nominalConcurrencyShares": shares,
                "lendablePercent": lendable,
                "limitResponse": { "type": "Queue", "queuing": queuing },
            } }),
        )
    }));
    levels
}

fn schemas() -> Vec<Value> {
    let everybody = || groups(&["system:unauthenticated", "system:authenticated"]);
    let nodes = || groups(&["system:nodes"]);
    let kube_system =
        || json!({ "kind": "ServiceAccount", "serviceAccount": { "name": "*", "namespace": "kube-system" } });
    let mut leaders = users(&["system:kube-controller-manager", "system:kube-scheduler"]);
    leaders.push(kube_system());
    let leases = || resources(&["*"], "coordination.k8s.io", &["leases"], false);
    let probes = json!({ "verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"] });
    vec![
        schema("exempt", "exempt", 1, "", &all(&groups(&["system:masters"]))),
        schema("catch-all", "catch-all", 10_000, "ByUser", &all(&everybody())),
        schema(
            "probes",
            "exempt",
            2,
            "",
            &json!({ "subjects": everybody(), "nonResourceRules": [probes] }),
        ),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            "ByUser",
            &json!({ "subjects": leaders, "resourceRules": [
                resources(&["get", "create", "update"], "coordination.k8s.io", &["leases"], false),
            ] }),
        ),
        schema(
            "system-node-high",
            "node-high",
            400,
            "ByUser",
            &json!({ "subjects": nodes(), "resourceRules": [
                resources(&["*"], "", &["nodes", "nodes/status"], true),
                leases(),
            ] }),
        ),
        schema("system-nodes", "system", 500, "ByUser", &all(&nodes())),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            "ByNamespace",
            &all(&users(&["system:kube-controller-manager"])),
        ),
        schema(
            "kube-scheduler",
            "workload-high",
            800,
            "ByNamespace",
            &all(&users(&["system:kube-scheduler"])),
        ),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            "ByNamespace",
            &all(&[kube_system()]),
        ),
        schema(
            "service-accounts",
            "workload-low",
            9_000,
            "ByUser",
            &all(&groups(&["system:serviceaccounts"])),
        ),
        schema("global-default", "global-default", 9_900, "ByUser", &all(&everybody())),
    ]
}

fn schema(name: &str, level: &str, precedence: i32, distinguisher: &str, rule: &Value) -> Value {
    let mut spec = json!({
        "priorityLevelConfiguration": { "name": level },
        "matchingPrecedence": precedence,
        "rules": [rule],
    });
    if !distinguisher.is_empty() {
        spec["distinguisherMethod"] = json!({ "type": distinguisher });
    }
    object(name, &spec)
}

fn users(names: &[&str]) -> Vec<Value> {
    let user = |name: &&str| json!({ "kind": "User", "user": { "name": name } });
    names.iter().map(user).collect()
}

fn groups(names: &[&str]) -> Vec<Value> {
    let group = |name: &&str| json!({ "kind": "Group", "group": { "name": name } });
    names.iter().map(group).collect()
}

fn resources(verbs: &[&str], group: &str, plurals: &[&str], cluster_scope: bool) -> Value {
    json!({
        "verbs": verbs,
        "apiGroups": [group],
        "resources": plurals,
        "namespaces": ["*"],
        "clusterScope": cluster_scope,
    })
}

/// Everything these subjects ask for.
fn all(subjects: &[Value]) -> Value {
    json!({
        "subjects": subjects,
        "resourceRules": [resources(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
    })
}

/// Creates what is missing and puts right what is ours. All at once, so that the store commits them together.
pub(crate) async fn ensure(client: &Client) -> kube::Result<()> {
    let (schemas, levels) = objects();
    let levels = levels.into_iter().map(|level| {
        put(client, level, |wanted, found| {
            let same = wanted.spec == found.spec;
            found.spec.clone_from(&wanted.spec);
            same
        })
    });
    let schemas = schemas.into_iter().map(|schema| {
        put(client, schema, |wanted, found| {
            let same = wanted.spec == found.spec;
            found.spec.clone_from(&wanted.spec);
            same
        })
    });
    futures::future::try_join(
        futures::future::try_join_all(levels),
        futures::future::try_join_all(schemas),
    )
    .await
    .map(drop)
}

/// `same` compares, and makes the second one like the first.
async fn put<K>(client: &Client, wanted: K, same: impl Fn(&K, &mut K) -> bool) -> kube::Result<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let name = wanted.name_any();
    let Some(mut found) = api.get_opt(&name).await? else {
        return match api.create(&PostParams::default(), &wanted).await {
            Err(error) if is_conflict(&error) => Ok(()),
            other => other.map(drop),
        };
    };
    let ours =
        MANDATORY.contains(&name.as_str()) || found.annotations().get(AUTO_UPDATE).map(String::as_str) == Some("true");
    if !ours || same(&wanted, &mut found) {
        return Ok(());
    }
    match api.replace(&name, &PostParams::default(), &found).await {
        // Somebody else was at it; the next round looks again.
        Err(error) if is_conflict(&error) => Ok(()),
        other => other.map(drop),
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}
