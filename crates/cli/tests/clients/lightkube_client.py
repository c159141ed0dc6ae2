"""lightkube: apply, list, watch, subresources, and a generic resource."""

import sys

from lightkube import ApiError, Client
from lightkube.generic_resource import create_namespaced_resource, load_in_cluster_generic_resources
from lightkube.models.core_v1 import ServicePort, ServiceSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import StatefulSet
from lightkube.resources.core_v1 import ConfigMap, Service
from lightkube.types import PatchType

NAMESPACE = sys.argv[1]
client = Client(namespace=NAMESPACE, field_manager="lightkube-test")

first = client.apply(ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="light"), data={"a": "1", "b": "2"}))
again = client.apply(ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="light"), data={"a": "1"}))
assert again.data == {"a": "1"}, "a field that is applied no more is gone"
same = client.apply(ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="light"), data={"a": "1"}))
assert same.metadata.resourceVersion == again.metadata.resourceVersion, "an apply that changes nothing writes nothing"

client.patch(ConfigMap, "light", {"data": {"c": "3"}}, patch_type=PatchType.STRATEGIC)
client.patch(ConfigMap, "light", [{"op": "add", "path": "/data/d", "value": "4"}], patch_type=PatchType.JSON)
assert client.get(ConfigMap, "light").data == {"a": "1", "c": "3", "d": "4"}
try:
    client.patch(
        ConfigMap,
        "light",
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "light"}, "data": {"c": "other"}},
        patch_type=PatchType.APPLY,
        field_manager="somebody-else",
    )
    raise AssertionError("a conflict went unnoticed")
except ApiError as error:
    assert error.status.code == 409 and error.status.details.causes[0].reason == "FieldManagerConflict", error.status

service = client.create(
    Service(metadata=ObjectMeta(name="light"), spec=ServiceSpec(ports=[ServicePort(port=80, name="http")], selector={"a": "b"}))
)
assert service.spec.clusterIP and service.spec.sessionAffinity == "None"
for operation, changed in client.watch(Service, fields={"metadata.name": "light"}, server_timeout=30):
    assert (operation, changed.metadata.name) == ("ADDED", "light")
    break

stateful = StatefulSet.from_dict(
    {
        "metadata": {"name": "light"},
        "spec": {
            "serviceName": "light",
            "replicas": 1,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "host/tools:v1"}]}},
        },
    }
)
made = client.create(stateful)
assert made.spec.podManagementPolicy == "OrderedReady" and made.spec.updateStrategy.type == "RollingUpdate"
scale = client.get(StatefulSet.Scale, "light")
scale.spec.replicas = 3
assert client.replace(scale, "light").spec.replicas == 3
client.delete(StatefulSet, "light")

# Kinds out of the cluster's definitions.
load_in_cluster_generic_resources(client)
Lease = create_namespaced_resource("coordination.k8s.io", "v1", "Lease", "leases")
lease = client.create(Lease(metadata=ObjectMeta(name="light"), spec={"holderIdentity": "me", "leaseDurationSeconds": 10}))
assert lease.spec["holderIdentity"] == "me"
assert [item.metadata.name for item in client.list(Lease)] == ["light"]
print("ok")
