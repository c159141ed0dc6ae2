//! Cluster roles of controllers. Each is bound to the service account of kube-system its name ends with.

use super::{EVENTS, Entry, READ, Table, named, role, rule};

pub(super) const PREFIX: &str = "system:controller:";

/// What a controller of something that owns pods needs.
const OWNED_PODS: Entry = rule("core", "pods", "create delete list patch watch");
const REVISIONS: Entry = rule(
    "apps",
    "controllerrevisions",
    "create delete get list patch update watch",
);

pub(super) static ALL: &[Table] = &[
    role(
        "system:controller:attachdetach-controller",
        &[
            rule("core", "persistentvolumes persistentvolumeclaims", "list watch"),
            rule("core", "nodes", READ),
            rule("core", "nodes/status", "patch update"),
            rule("core", "pods", "list watch"),
            EVENTS,
            rule("storage.k8s.io", "volumeattachments", "create delete get list watch"),
            rule("storage.k8s.io", "csidrivers", READ),
            rule("storage.k8s.io", "csinodes", READ),
        ],
    ),
    role(
        "system:controller:certificate-controller",
        &[
            rule(
                "certificates.k8s.io",
                "certificatesigningrequests",
                "delete get list watch",
            ),
            rule(
                "certificates.k8s.io",
                "certificatesigningrequests/status certificatesigningrequests/approval",
                "update",
            ),
            named(
                "certificates.k8s.io",
                "signers",
                "kubernetes.io/kube-apiserver-client-kubelet",
                "approve",
            ),
            named(
                "certificates.k8s.io",
                "signers",
                "kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet
                 kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown",
                "sign",
            ),
            rule("authorization.k8s.io", "subjectaccessreviews", "create"),
            EVENTS,
        ],
    ),
    role(
        "system:controller:clusterrole-aggregation-controller",
        &[rule(
            "rbac.authorization.k8s.io",
            "clusterroles",
            "escalate get list patch update watch",
        )],
    ),
    role(
        "system:controller:cronjob-controller",
        &[
            rule("batch", "cronjobs", "get list update watch"),
            rule("batch", "jobs", "create delete get list patch update watch"),
            rule("batch", "cronjobs/status", "update"),
            rule("batch", "cronjobs/finalizers", "update"),
            rule("core", "pods", "delete list watch"),
            EVENTS,
        ],
    ),
    role(
        "system:controller:daemon-set-controller",
        &[
            rule("apps extensions", "daemonsets", READ),
            rule("apps extensions", "daemonsets/status", "update"),
            rule("apps extensions", "daemonsets/finalizers", "update"),
            rule("core", "nodes", "list watch"),
            OWNED_PODS,
            rule("core", "pods/binding", "create"),
            REVISIONS,
            EVENTS,
        ],
    ),
    role(
        "system:controller:deployment-controller",
        &[
            rule("apps extensions", "deployments", "get list update watch"),
            rule("apps extensions", "deployments/status", "update"),
            rule("apps extensions", "deployments/finalizers", "update"),
            rule(
                "apps extensions",
                "replicasets",
                "create delete get list patch update watch",
            ),
            rule("core", "pods", "get list update watch"),
            EVENTS,
        ],
    ),
    role(
        "system:controller:device-taint-eviction-controller",
        &[
            rule("core", "pods", "delete get list watch"),
            rule("core", "pods/status", "patch update"),
            rule("resource.k8s.io", "resourceclaims", READ),
            rule("resource.k8s.io", "resourceslices", READ),
            rule("resource.k8s.io", "deviceclasses", READ),
            EVENTS,
        ],
    ),
    role(
        "system:controller:disruption-controller",
        &[
            rule("apps extensions", "deployments", READ),
            rule("apps extensions", "replicasets", READ),
            rule("core", "replicationcontrollers", READ),
            rule("policy", "poddisruptionbudgets", READ),
            rule("apps", "statefulsets", READ),
            rule("policy", "poddisruptionbudgets/status", "update"),
            rule("core", "pods/status", "patch update"),
            rule("*", "*/scale", "get"),
            EVENTS,
        ],
    ),
    role(
        "system:controller:endpoint-controller",
        &[
            rule("core", "services pods", READ),
            rule("core", "endpoints", "create delete get list update watch"),
            rule("core", "endpoints/restricted", "create"),
            EVENTS,
        ],
    ),
    role(
        "system:controller:endpointslice-controller",
        &[
            rule("core", "services pods nodes", READ),
            rule("core", "services/finalizers", "update"),
            rule(
                "discovery.k8s.io",
                "endpointslices",
                "create delete get list update watch",
            ),
            EVENTS,
        ],
    ),
    role(
        "system:controller:endpointslicemirroring-controller",
        &[
            rule("core", "services endpoints", READ),
            rule("core", "services/finalizers", "update"),
            rule("core", "endpoints/finalizers", "update"),
            rule(
                "discovery.k8s.io",
                "endpointslices",
                "create delete get list update watch",
            ),
            EVENTS,
        ],
    ),
    role(
        "system:controller:ephemeral-volume-controller",
        &[
            rule("core", "pods", READ),
            rule("core", "pods/finalizers", "update"),
            rule("core", "persistentvolumeclaims", "create get list watch"),
            EVENTS,
        ],
    ),
    role(
        "system:controller:expand-controller",
        &[
            rule("core", "persistentvolumes", "get list patch update watch"),
            rule("core", "persistentvolumeclaims/status", "patch update"),
            rule("core", "persistentvolumeclaims", READ),
            EVENTS,
            rule("core", "services", "get"),
        ],
    ),
    role(
        "system:controller:generic-garbage-collector",
        &[rule("*", "*", "delete get list patch update watch"), EVENTS],
    ),
    role(
        "system:controller:horizontal-pod-autoscaler",
        &[
            rule("autoscaling", "horizontalpodautoscalers", READ),
            rule("autoscaling", "horizontalpodautoscalers/status", "update"),
            rule("*", "*/scale", "get update"),
            rule("core", "pods", "list watch"),
            rule("metrics.k8s.io", "pods", "list watch"),
            rule("custom.metrics.k8s.io", "*", READ),
            rule("external.metrics.k8s.io", "*", READ),
            EVENTS,
        ],
    ),
    role(
        "system:controller:job-controller",
        &[
            rule("batch", "jobs", "get list patch update watch"),
            rule("batch", "jobs/status", "update"),
            rule("batch", "jobs/finalizers", "update"),
            OWNED_PODS,
            EVENTS,
        ],
    ),
    role(
        "system:controller:legacy-service-account-token-cleaner",
        &[
            named(
                "core",
                "configmaps",
                "kube-apiserver-legacy-service-account-token-tracking",
                "get",
            ),
            rule("core", "secrets", "delete patch"),
        ],
    ),
    role(
        "system:controller:namespace-controller",
        &[
            rule("core", "namespaces", "delete get list watch"),
            rule("core", "namespaces/finalize namespaces/status", "update"),
            rule("*", "*", "delete deletecollection get list watch"),
        ],
    ),
    role(
        "system:controller:node-controller",
        &[
            rule("core", "nodes", "delete get list patch update watch"),
            rule("core", "nodes/status", "patch update"),
            rule("core", "pods/status", "patch update"),
            rule("core", "pods", "delete get list watch"),
            EVENTS,
        ],
    ),
    role(
        "system:controller:persistent-volume-binder",
        &[
            rule("core", "persistentvolumes", "create delete get list update watch"),
            rule("core", "persistentvolumes/status", "update"),
            rule("core", "persistentvolumeclaims", "get list update watch"),
            rule("core", "persistentvolumeclaims/status", "update"),
            rule("core", "pods", "create delete get list watch"),
            rule("storage.k8s.io", "storageclasses", READ),
            rule("core", "nodes", "list watch"),
            EVENTS,
            rule("core", "events", "watch"),
            rule("core", "services", "get"),
        ],
    ),
    role(
        "system:controller:pod-garbage-collector",
        &[
            rule("core", "pods", "delete list watch"),
            rule("core", "nodes", READ),
            rule("core", "pods/status", "patch"),
        ],
    ),
    role(
        "system:controller:pv-protection-controller",
        &[rule("core", "persistentvolumes", "get list update watch"), EVENTS],
    ),
    role(
        "system:controller:pvc-protection-controller",
        &[
            rule("core", "persistentvolumeclaims", "get list update watch"),
            rule("core", "persistentvolumeclaims/status", "update"),
            rule("core", "pods", READ),
            EVENTS,
        ],
    ),
    role(
        "system:controller:replicaset-controller",
        &[
            rule("apps extensions", "replicasets", "get list update watch"),
            rule("apps extensions", "replicasets/status", "update"),
            rule("apps extensions", "replicasets/finalizers", "update"),
            OWNED_PODS,
            EVENTS,
        ],
    ),
    role(
        "system:controller:replication-controller",
        &[
            rule("core", "replicationcontrollers", "get list update watch"),
            rule("core", "replicationcontrollers/status", "update"),
            rule("core", "replicationcontrollers/finalizers", "update"),
            OWNED_PODS,
            EVENTS,
        ],
    ),
    role(
        "system:controller:resource-claim-controller",
        &[
            rule("core", "pods", READ),
            rule("core", "pods/finalizers", "update"),
            rule("resource.k8s.io", "resourceclaims", "create delete get list watch"),
            rule(
                "resource.k8s.io",
                "resourceclaims resourceclaims/status",
                "patch update",
            ),
            rule("core", "pods/status", "patch update"),
            EVENTS,
        ],
    ),
    role(
        "system:controller:resourcequota-controller",
        &[
            rule("*", "*", "list watch"),
            rule("core", "resourcequotas/status", "update"),
            EVENTS,
        ],
    ),
    role(
        "system:controller:root-ca-cert-publisher",
        &[rule("core", "configmaps", "create update"), EVENTS],
    ),
    role(
        "system:controller:route-controller",
        &[
            rule("core", "nodes", "list watch"),
            rule("core", "nodes/status", "patch"),
            EVENTS,
        ],
    ),
    role(
        "system:controller:selinux-warning-controller",
        &[
            EVENTS,
            rule("core", "persistentvolumes", READ),
            rule("core", "persistentvolumeclaims", READ),
            rule("core", "pods", READ),
            rule("storage.k8s.io", "csidrivers", READ),
        ],
    ),
    role(
        "system:controller:service-account-controller",
        &[rule("core", "serviceaccounts", "create"), EVENTS],
    ),
    role(
        "system:controller:service-cidrs-controller",
        &[
            rule("networking.k8s.io", "servicecidrs", "get list patch update watch"),
            rule("networking.k8s.io", "servicecidrs/finalizers", "patch update"),
            rule("networking.k8s.io", "servicecidrs/status", "patch update"),
            rule("networking.k8s.io", "ipaddresses", READ),
            EVENTS,
        ],
    ),
    role(
        "system:controller:service-controller",
        &[
            rule("core", "services", READ),
            rule("core", "services/status", "patch update"),
            rule("core", "nodes", "list watch"),
            EVENTS,
        ],
    ),
    role(
        "system:controller:statefulset-controller",
        &[
            rule("core", "pods", "list watch"),
            rule("apps", "statefulsets", READ),
            rule("apps", "statefulsets/status", "update"),
            rule("apps", "statefulsets/finalizers", "update"),
            rule("core", "pods", "create delete get patch update"),
            REVISIONS,
            rule("core", "persistentvolumeclaims", "create get list watch"),
            EVENTS,
            rule("core", "persistentvolumeclaims", "delete update"),
            rule("core", "pods/finalizers", "update"),
        ],
    ),
    role(
        "system:controller:ttl-after-finished-controller",
        &[rule("batch", "jobs", "delete get list watch"), EVENTS],
    ),
    role(
        "system:controller:ttl-controller",
        &[rule("core", "nodes", "list patch update watch"), EVENTS],
    ),
    role(
        "system:controller:validatingadmissionpolicy-status-controller",
        &[
            rule("admissionregistration.k8s.io", "validatingadmissionpolicies", READ),
            rule(
                "admissionregistration.k8s.io",
                "validatingadmissionpolicies/status",
                "get patch update",
            ),
            EVENTS,
        ],
    ),
    role(
        "system:controller:volumeattributesclass-protection-controller",
        &[
            rule("core", "persistentvolumeclaims", READ),
            rule("core", "persistentvolumes", READ),
            rule("storage.k8s.io", "volumeattributesclasses", "get list update watch"),
            EVENTS,
        ],
    ),
];
