"""An operator on kopf with a kind of its own: a ConfigMap for every Harbour, a finalizer, a status, a daemonless life.

    kopf run --standalone --namespace NAMESPACE kopf_operator.py
"""

import kopf
import kubernetes


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_):
    settings.posting.level = 30
    settings.persistence.finalizer = "harbours.example.com/kopf"


@kopf.on.create("example.com", "v1", "harbours")
def created(spec, name, namespace, patch, **_):
    child = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-berths"}, "data": {"berths": str(spec["berths"])}}
    kopf.adopt(child)
    kubernetes.config.load_kube_config()
    kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, child)
    patch.status["phase"] = "Open"


@kopf.on.update("example.com", "v1", "harbours", field="spec.berths")
def updated(new, name, namespace, **_):
    kubernetes.client.CoreV1Api().patch_namespaced_config_map(f"{name}-berths", namespace, {"data": {"berths": str(new)}})


@kopf.on.delete("example.com", "v1", "harbours")
def deleted(name, namespace, **_):
    note = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-closed"}}
    kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, note)
