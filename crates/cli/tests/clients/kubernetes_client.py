"""PyPI `kubernetes`: the generated clients and the dynamic one, as scripts use them."""

import sys

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException

NAMESPACE = sys.argv[1]

config.load_kube_config()
core, apps, batch = client.CoreV1Api(), client.AppsV1Api(), client.BatchV1Api()
authorization, rbac = client.AuthorizationV1Api(), client.RbacAuthorizationV1Api()


def deployment(replicas):
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels={"app": "web"}),
        spec=client.V1PodSpec(containers=[client.V1Container(name="web", image="host/tools:v1")]),
    )
    return client.V1Deployment(
        metadata=client.V1ObjectMeta(name="web", labels={"app": "web"}),
        spec=client.V1DeploymentSpec(
            replicas=replicas, selector=client.V1LabelSelector(match_labels={"app": "web"}), template=template
        ),
    )


# Typed objects come back with Kubernetes' defaults.
made = apps.create_namespaced_deployment(NAMESPACE, deployment(2))
assert made.spec.strategy.type == "RollingUpdate", made.spec.strategy
assert made.spec.strategy.rolling_update.max_surge == "25%"
assert made.spec.progress_deadline_seconds == 600 and made.spec.revision_history_limit == 10
assert made.spec.template.spec.restart_policy == "Always"
assert made.spec.template.spec.containers[0].image_pull_policy == "IfNotPresent"
assert made.metadata.generation == 1 and made.metadata.managed_fields

# Scale is a subresource of its own type.
scale = apps.read_namespaced_deployment_scale("web", NAMESPACE)
assert (scale.kind, scale.spec.replicas, scale.status.selector) == ("Scale", 2, "app=web"), scale
apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 5}})
assert apps.read_namespaced_deployment("web", NAMESPACE).spec.replicas == 5

# What may not change does not.
try:
    apps.patch_namespaced_deployment("web", NAMESPACE, {"spec": {"selector": {"matchLabels": {"app": "other"}}}})
    raise AssertionError("the selector of a deployment changed")
except ApiException as error:
    assert error.status == 422 and "field is immutable" in error.body, error

# A stale version is a conflict, a missing object is not found, both as Status.
made.spec.replicas = 1
try:
    apps.replace_namespaced_deployment("web", NAMESPACE, made)
    raise AssertionError("a stale object was written")
except ApiException as error:
    assert error.status == 409 and "the object has been modified" in error.body, error
try:
    core.read_namespaced_config_map("nothing", NAMESPACE)
    raise AssertionError("nothing was found")
except ApiException as error:
    assert error.status == 404 and '"reason":"NotFound"' in error.body.replace(" ", ""), error

# Pages are one consistent list, whatever is written in between.
for number in range(25):
    core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(metadata={"name": f"page-{number:02}", "labels": {"p": "y"}}))
names, token, versions = [], None, set()
while True:
    page = core.list_namespaced_config_map(NAMESPACE, label_selector="p=y", limit=7, _continue=token)
    names += [item.metadata.name for item in page.items]
    versions.add(page.metadata.resource_version)
    token = page.metadata._continue
    if not token:
        break
    core.patch_namespaced_config_map("page-24", NAMESPACE, {"data": {"touched": str(len(names))}})
assert names == [f"page-{number:02}" for number in range(25)], names
assert len(versions) == 1, versions

# A watch from a version tells what happened since.
start = core.list_namespaced_config_map(NAMESPACE, label_selector="p=y").metadata.resource_version
core.delete_namespaced_config_map("page-00", NAMESPACE)
core.patch_namespaced_config_map("page-01", NAMESPACE, {"metadata": {"labels": {"p": None}}})
seen = []
for event in watch.Watch().stream(
    core.list_namespaced_config_map, NAMESPACE, label_selector="p=y", resource_version=start, timeout_seconds=30
):
    seen.append((event["type"], event["object"].metadata.name))
    if len(seen) == 2:
        break
assert seen == [("DELETED", "page-00"), ("DELETED", "page-01")], seen

# The dynamic client finds everything by discovery and applies server-side.
everything = dynamic.DynamicClient(client.ApiClient())
deployments = everything.resources.get(api_version="apps/v1", kind="Deployment")
applied = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 3}}
try:
    everything.server_side_apply(deployments, body=applied, name="web", namespace=NAMESPACE, field_manager="script")
    raise AssertionError("somebody else's field was taken without force")
except ApiException as error:
    assert error.status == 409 and "conflict with" in str(error.body), error.body
result = everything.server_side_apply(
    deployments, body=applied, name="web", namespace=NAMESPACE, field_manager="script", force_conflicts=True
)
assert result.spec.replicas == 3
owners = {entry.manager: entry.operation for entry in result.metadata.managedFields}
assert owners["script"] == "Apply", owners

# Rights: a role, a binding, and a review of what follows from them.
rbac.create_namespaced_role(
    NAMESPACE,
    client.V1Role(
        metadata={"name": "reader"}, rules=[client.V1PolicyRule(api_groups=[""], resources=["configmaps"], verbs=["get", "list"])]
    ),
)
rbac.create_namespaced_role_binding(
    NAMESPACE,
    client.V1RoleBinding(
        metadata={"name": "reader"},
        role_ref=client.V1RoleRef(api_group="rbac.authorization.k8s.io", kind="Role", name="reader"),
        subjects=[client.RbacV1Subject(kind="ServiceAccount", name="default", namespace=NAMESPACE)],
    ),
)
user = f"system:serviceaccount:{NAMESPACE}:default"


def may(verb, resource):
    attributes = client.V1ResourceAttributes(namespace=NAMESPACE, verb=verb, resource=resource)
    spec = client.V1SubjectAccessReviewSpec(user=user, resource_attributes=attributes)
    return authorization.create_subject_access_review(client.V1SubjectAccessReview(spec=spec)).status.allowed


assert may("list", "configmaps") and not may("delete", "configmaps") and not may("list", "secrets")

# A service account's token is that account, with its rights and no others.
request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600))
token = core.create_namespaced_service_account_token("default", NAMESPACE, request).status.token
own = client.Configuration.get_default_copy()
own.cert_file = own.key_file = None
own.api_key = {"authorization": f"Bearer {token}"}
as_account = client.CoreV1Api(client.ApiClient(own))
assert as_account.read_namespaced_config_map("page-02", NAMESPACE)
try:
    as_account.list_namespaced_secret(NAMESPACE)
    raise AssertionError("a service account saw secrets")
except ApiException as error:
    assert error.status == 403 and f'User \\"{user}\\" cannot list resource \\"secrets\\"' in error.body, error.body

# Deletion: the owner goes, and what it owns goes after it.
owner = core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(metadata={"name": "owner"}))
reference = client.V1OwnerReference(api_version="v1", kind="ConfigMap", name="owner", uid=owner.metadata.uid)
core.create_namespaced_config_map(
    NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="owned", owner_references=[reference]))
)
start = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
core.delete_namespaced_config_map("owner", NAMESPACE, propagation_policy="Background")
for event in watch.Watch().stream(
    core.list_namespaced_config_map, NAMESPACE, field_selector="metadata.name=owned", resource_version=start, timeout_seconds=30
):
    if event["type"] == "DELETED":
        break
else:
    raise AssertionError("what the owner owned is still there")

# Jobs and services, for the shape of what comes back.
job = batch.create_namespaced_job(
    NAMESPACE,
    client.V1Job(
        metadata={"name": "once"},
        spec=client.V1JobSpec(
            suspend=True,
            template=client.V1PodTemplateSpec(
                spec=client.V1PodSpec(restart_policy="Never", containers=[client.V1Container(name="a", image="host/tools:v1")])
            ),
        ),
    ),
)
assert job.spec.backoff_limit == 6 and job.spec.selector.match_labels, job.spec
service = core.create_namespaced_service(
    NAMESPACE, client.V1Service(metadata={"name": "web"}, spec=client.V1ServiceSpec(selector={"app": "web"}, ports=[{"port": 80}]))
)
assert service.spec.cluster_ip and service.spec.ports[0].target_port == 80 and service.spec.type == "ClusterIP"
print("ok")
