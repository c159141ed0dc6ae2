"""kr8s: discovery, selectors, scaling, labels, a kind it has never heard of."""

import sys

import kr8s
from kr8s.objects import ConfigMap, CustomResourceDefinition, Deployment, new_class

NAMESPACE = sys.argv[1]
api = kr8s.api()
assert api.version()["major"] == "1"
assert any(resource["kind"] == "Deployment" for resource in api.api_resources())
assert api.whoami()

for number in range(3):
    ConfigMap(
        {"metadata": {"name": f"k-{number}", "namespace": NAMESPACE, "labels": {"n": str(number)}}, "data": {"a": "1"}}
    ).create()
chosen = [item.name for item in kr8s.get("configmaps", namespace=NAMESPACE, label_selector="n in (0,2)")]
assert sorted(chosen) == ["k-0", "k-2"], chosen
one = ConfigMap.get("k-1", namespace=NAMESPACE)
one.patch({"data": {"a": "2"}})
one.label({"seen": "yes"})
one.annotate({"note": "x"})
one.refresh()
assert one.data["a"] == "2" and one.labels["seen"] == "yes" and one.annotations["note"] == "x"

web = Deployment(
    {
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "host/tools:v1"}]},
            },
        },
    }
)
web.create()
web.patch({"spec": {"replicas": 4}}, subresource="scale")
web.refresh()
assert web.replicas == 4, web.raw
web.delete()

# A definition is usable at once.
CustomResourceDefinition(
    {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "boats.kr8s.example.com"},
        "spec": {
            "group": "kr8s.example.com",
            "names": {"kind": "Boat", "plural": "boats", "singular": "boat", "shortNames": ["bt"]},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {
                                    "type": "object",
                                    "properties": {
                                        "hulls": {"type": "integer", "minimum": 1, "default": 2},
                                        "name": {"type": "string"},
                                    },
                                },
                                "status": {"type": "object", "properties": {"afloat": {"type": "boolean"}}},
                            },
                        }
                    },
                }
            ],
        },
    }
).create()
Boat = new_class("Boat", version="kr8s.example.com/v1", namespaced=True)
boat = Boat({"metadata": {"name": "cat", "namespace": NAMESPACE}, "spec": {"name": "cat", "unknown": 1}})
boat.create()
boat.refresh()
assert boat.spec.hulls == 2 and "unknown" not in boat.raw["spec"], boat.raw
boat.patch({"status": {"afloat": True}}, subresource="status")
boat.refresh()
assert boat.status.afloat is True
try:
    Boat({"metadata": {"name": "none", "namespace": NAMESPACE}, "spec": {"hulls": 0}}).create()
    raise AssertionError("a boat without hulls")
except kr8s.ServerError as error:
    assert error.response.status_code == 422, error
    assert "should be greater than or equal to 1" in error.response.text, error.response.text
boat.delete()
CustomResourceDefinition.get("boats.kr8s.example.com").delete()
print("ok")
