//! Cluster roles for people, for the parts of the system that are no controllers, and who has them.

use super::{EVENTS, Entry, READ, READ_UPDATE, READ_WRITE, Table, WRITE, named, paths, role, rule};

const CERTIFICATES: &str = "certificates.k8s.io";

pub(super) static ALL: &[Table] = &[
    role("cluster-admin", &[rule("*", "*", "*"), paths("*", "*")]),
    gathering("admin", ""),
    gathering("edit", "admin"),
    gathering("view", "edit"),
    joining(
        "admin",
        "system:aggregate-to-admin",
        &[
            rule("authorization.k8s.io", "localsubjectaccessreviews", "create"),
            rule("rbac.authorization.k8s.io", "roles rolebindings", READ_WRITE),
        ],
    ),
    joining("edit", "system:aggregate-to-edit", EDIT),
    joining("view", "system:aggregate-to-view", VIEW),
    role(
        "system:auth-delegator",
        &[
            rule("authentication.k8s.io", "tokenreviews", "create"),
            rule("authorization.k8s.io", "subjectaccessreviews", "create"),
        ],
    ),
    role(
        "system:basic-user",
        &[
            rule(
                "authorization.k8s.io",
                "selfsubjectaccessreviews selfsubjectrulesreviews",
                "create",
            ),
            rule("authentication.k8s.io", "selfsubjectreviews", "create"),
        ],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[rule(CERTIFICATES, "certificatesigningrequests/nodeclient", "create")],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[rule(
            CERTIFICATES,
            "certificatesigningrequests/selfnodeclient",
            "create",
        )],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &[named(
            CERTIFICATES,
            "signers",
            "kubernetes.io/kube-apiserver-client",
            "approve",
        )],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &[named(
            CERTIFICATES,
            "signers",
            "kubernetes.io/kube-apiserver-client-kubelet",
            "approve",
        )],
    ),
    role(
        "system:certificates.k8s.io:kubelet-serving-approver",
        &[named(
            CERTIFICATES,
            "signers",
            "kubernetes.io/kubelet-serving",
            "approve",
        )],
    ),
    role(
        "system:certificates.k8s.io:legacy-unknown-approver",
        &[named(
            CERTIFICATES,
            "signers",
            "kubernetes.io/legacy-unknown",
            "approve",
        )],
    ),
    role(
        "system:discovery",
        &[paths(
            "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/",
            "get",
        )],
    ),
    role(
        "system:heapster",
        &[
            rule("core", "events pods nodes namespaces", READ),
            rule("extensions", "deployments", READ),
        ],
    ),
    role("system:kube-aggregator", &[rule("core", "services endpoints", READ)]),
    role(
        "system:kube-controller-manager",
        &[
            EVENTS,
            rule("coordination.k8s.io", "leases", "create"),
            named("coordination.k8s.io", "leases", "kube-controller-manager", "get update"),
            rule("core", "secrets serviceaccounts", "create"),
            rule("core", "secrets", "delete"),
            rule("core", "namespaces secrets serviceaccounts configmaps", "get"),
            rule("core", "secrets serviceaccounts", "update"),
            rule("authentication.k8s.io", "tokenreviews", "create"),
            rule("authorization.k8s.io", "subjectaccessreviews", "create"),
            rule("*", "*", "list watch"),
            rule("core", "serviceaccounts/token", "create"),
        ],
    ),
    role("system:kube-dns", &[rule("core", "endpoints services", "list watch")]),
    role("system:kube-scheduler", SCHEDULER),
    role(
        "system:kubelet-api-admin",
        &[
            rule("core", "nodes", READ),
            rule("core", "nodes", "proxy"),
            rule("core", "nodes/log nodes/metrics nodes/proxy nodes/stats", "*"),
            rule("core", "nodes/configz nodes/healthz nodes/pods", "*"),
        ],
    ),
    role(
        "system:monitoring",
        &[
            paths(
                "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*",
                "get",
            ),
            rule("core", "nodes/metrics", "get"),
        ],
    ),
    role("system:node", NODE),
    role(
        "system:node-bootstrapper",
        &[rule(
            CERTIFICATES,
            "certificatesigningrequests",
            "create get list watch",
        )],
    ),
    role(
        "system:node-problem-detector",
        &[
            rule("core", "nodes", "get"),
            rule("core", "nodes/status", "patch"),
            EVENTS,
        ],
    ),
    role(
        "system:node-proxier",
        &[
            rule("core", "services endpoints", "list watch"),
            rule("core", "nodes", READ),
            EVENTS,
            rule("networking.k8s.io", "servicecidrs", "list watch"),
            rule("discovery.k8s.io", "endpointslices", "list watch"),
        ],
    ),
    role(
        "system:persistent-volume-provisioner",
        &[
            rule("core", "persistentvolumes", "create delete get list watch"),
            rule("core", "persistentvolumeclaims", "get list update watch"),
            rule("storage.k8s.io", "storageclasses", READ),
            rule("core", "events", "watch"),
            EVENTS,
        ],
    ),
    role(
        "system:public-info-viewer",
        &[paths("/healthz /livez /readyz /version /version/", "get")],
    ),
    role(
        "system:service-account-issuer-discovery",
        &[paths(
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
            "get",
        )],
    ),
    role(
        "system:volume-scheduler",
        &[
            rule("core", "persistentvolumes", READ_UPDATE),
            rule("storage.k8s.io", "storageclasses", READ),
            rule("core", "persistentvolumeclaims", READ_UPDATE),
        ],
    ),
];

const fn gathering(name: &'static str, joins: &'static str) -> Table {
    Table {
        name,
        joins,
        gathers: name,
        rules: &[],
    }
}

const fn joining(joins: &'static str, name: &'static str, rules: &'static [Entry]) -> Table {
    Table {
        name,
        joins,
        gathers: "",
        rules,
    }
}

/// Cluster role, which names its binding too, and subjects.
pub(super) static BINDINGS: &[(&str, &str)] = &[
    ("cluster-admin", "group=system:masters"),
    ("system:monitoring", "group=system:monitoring"),
    ("system:discovery", "group=system:authenticated"),
    ("system:basic-user", "group=system:authenticated"),
    (
        "system:public-info-viewer",
        "group=system:authenticated group=system:unauthenticated",
    ),
    ("system:node-proxier", "user=system:kube-proxy"),
    ("system:kube-controller-manager", "user=system:kube-controller-manager"),
    ("system:kube-dns", "account=kube-dns"),
    ("system:kube-scheduler", "user=system:kube-scheduler"),
    ("system:volume-scheduler", "user=system:kube-scheduler"),
    // Nodes have what the node authorizer gives them; the binding stays, for those who add to it.
    ("system:node", ""),
    (
        "system:service-account-issuer-discovery",
        "group=system:serviceaccounts",
    ),
];

const EDIT: &[Entry] = &[
    rule(
        "core",
        "pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy",
        READ,
    ),
    rule("core", "serviceaccounts", "impersonate"),
    rule("core", "pods pods/attach pods/proxy pods/exec pods/portforward", WRITE),
    rule("core", "pods/eviction", "create"),
    rule(
        "core",
        "replicationcontrollers replicationcontrollers/scale serviceaccounts services services/proxy
         persistentvolumeclaims configmaps secrets events",
        WRITE,
    ),
    rule("core", "serviceaccounts/token", "create"),
    rule(
        "apps",
        "statefulsets statefulsets/scale daemonsets deployments deployments/scale deployments/rollback
         replicasets replicasets/scale",
        WRITE,
    ),
    rule("autoscaling", "horizontalpodautoscalers", WRITE),
    rule("batch", "jobs cronjobs", WRITE),
    rule(
        "extensions",
        "daemonsets deployments deployments/scale deployments/rollback ingresses replicasets replicasets/scale
         replicationcontrollers/scale networkpolicies",
        WRITE,
    ),
    rule("policy", "poddisruptionbudgets", WRITE),
    rule("networking.k8s.io", "networkpolicies ingresses", WRITE),
    rule("coordination.k8s.io", "leases", READ_WRITE),
    rule("resource.k8s.io", "resourceclaims resourceclaimtemplates", WRITE),
];

const VIEW: &[Entry] = &[
    rule(
        "core",
        "pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status endpoints
         persistentvolumeclaims persistentvolumeclaims/status configmaps",
        READ,
    ),
    rule(
        "core",
        "limitranges resourcequotas bindings events pods/status resourcequotas/status namespaces/status
         replicationcontrollers/status pods/log",
        READ,
    ),
    rule("core", "namespaces", READ),
    rule("discovery.k8s.io", "endpointslices", READ),
    rule(
        "apps",
        "controllerrevisions statefulsets statefulsets/status statefulsets/scale daemonsets daemonsets/status deployments
         deployments/status deployments/scale replicasets replicasets/status replicasets/scale",
        READ,
    ),
    rule(
        "autoscaling",
        "horizontalpodautoscalers horizontalpodautoscalers/status",
        READ,
    ),
    rule("batch", "jobs cronjobs cronjobs/status jobs/status", READ),
    rule(
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status
         replicasets replicasets/scale replicasets/status replicationcontrollers/scale networkpolicies",
        READ,
    ),
    rule("policy", "poddisruptionbudgets poddisruptionbudgets/status", READ),
    rule("networking.k8s.io", "networkpolicies ingresses ingresses/status", READ),
    rule(
        "resource.k8s.io",
        "resourceclaims resourceclaims/status resourceclaimtemplates",
        READ,
    ),
];

/// Also what the node authorizer grants where it does not divide objects up among nodes.
pub(super) const NODE: &[Entry] = &[
    rule("authentication.k8s.io", "tokenreviews", "create"),
    rule(
        "authorization.k8s.io",
        "subjectaccessreviews localsubjectaccessreviews",
        "create",
    ),
    rule("core", "services", READ),
    rule("core", "nodes", "create get list watch"),
    rule("core", "nodes/status", "patch update"),
    rule("core", "nodes", "patch update"),
    rule("core", "events", "create patch update"),
    rule("core", "pods", READ),
    rule("core", "pods", "create delete"),
    rule("core", "pods/status", "patch update"),
    rule("core", "pods/eviction", "create"),
    rule("core", "secrets configmaps", READ),
    rule("core", "persistentvolumeclaims persistentvolumes", "get"),
    rule("core", "endpoints", "get"),
    rule(CERTIFICATES, "certificatesigningrequests", "create get list watch"),
    rule("coordination.k8s.io", "leases", "create delete get patch update"),
    rule("storage.k8s.io", "volumeattachments", "get"),
    rule("core", "serviceaccounts/token", "create"),
    rule("core", "persistentvolumeclaims/status", "get patch update"),
    rule("storage.k8s.io", "csidrivers", READ),
    rule("storage.k8s.io", "csinodes", "create delete get patch update"),
    rule("node.k8s.io", "runtimeclasses", READ),
    rule("resource.k8s.io", "resourceclaims", "get"),
    rule("resource.k8s.io", "resourceslices", "deletecollection"),
    rule("core", "serviceaccounts", "get"),
];

const SCHEDULER: &[Entry] = &[
    EVENTS,
    rule("coordination.k8s.io", "leases", "create"),
    named(
        "coordination.k8s.io",
        "leases",
        "kube-scheduler",
        "get list update watch",
    ),
    rule("coordination.k8s.io", "leasecandidates", READ_WRITE),
    rule("core", "nodes", READ),
    rule("core", "pods", "delete get list watch"),
    rule("core", "pods/binding bindings", "create"),
    rule("core", "pods/status", "patch update"),
    rule("core", "services replicationcontrollers", READ),
    rule("apps extensions", "replicasets", READ),
    rule("apps", "statefulsets", READ),
    rule("policy", "poddisruptionbudgets", READ),
    rule("core", "persistentvolumeclaims persistentvolumes", READ),
    rule("authentication.k8s.io", "tokenreviews", "create"),
    rule("authorization.k8s.io", "subjectaccessreviews", "create"),
    rule("storage.k8s.io", "csinodes", READ),
    rule("storage.k8s.io", "volumeattachments", READ),
    rule("core", "namespaces", READ),
    rule("storage.k8s.io", "csidrivers", READ),
    rule("storage.k8s.io", "csistoragecapacities", READ),
    rule("resource.k8s.io", "deviceclasses", READ),
    rule("resource.k8s.io", "resourceclaims", READ_UPDATE),
    rule("resource.k8s.io", "resourceclaims/status", READ_UPDATE),
    rule("core", "pods/finalizers", "update"),
    rule("resource.k8s.io", "resourceslices", READ),
];
