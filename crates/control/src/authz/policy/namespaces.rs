//! Roles in the system's namespaces.

use super::{EVENTS, Entry, READ, named, rule};

const LEASES: Entry = rule("coordination.k8s.io", "leases", "create get list update watch");
const CANDIDATES: Entry = rule("coordination.k8s.io", "leasecandidates", "create get list update watch");

/// Namespace, name, rules.
pub(super) static ROLES: &[(&str, &str, &[Entry])] = &[
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        &[
            rule("core", "configmaps", READ),
            named("core", "configmaps", "cluster-info", "update"),
            EVENTS,
        ],
    ),
    (
        "kube-system",
        "extension-apiserver-authentication-reader",
        &[named("core", "configmaps", "extension-apiserver-authentication", READ)],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        &[
            rule("core", "configmaps", "watch"),
            named("core", "configmaps", "kube-controller-manager", "get update"),
            LEASES,
            CANDIDATES,
        ],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        &[
            rule("core", "configmaps", "watch"),
            named("core", "configmaps", "kube-scheduler", "get update"),
            LEASES,
            CANDIDATES,
        ],
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        &[rule("core", "secrets", READ)],
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        &[rule("core", "configmaps", "create get list watch")],
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        &[rule("core", "secrets", "delete get list watch"), EVENTS],
    ),
];

/// Namespace, name, role, subjects.
pub(super) static BINDINGS: &[(&str, &str, &str, &str)] = &[
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        "account=bootstrap-signer",
    ),
    (
        "kube-system",
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        "user=system:kube-controller-manager user=system:kube-scheduler",
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        "user=system:kube-controller-manager account=kube-controller-manager account=leader-election-controller",
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        "user=system:kube-scheduler account=kube-scheduler",
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        "account=bootstrap-signer",
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        "system:controller:cloud-provider",
        "account=cloud-provider",
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        "system:controller:token-cleaner",
        "account=token-cleaner",
    ),
];
