"""PyPI `kubernetes`: ports of a pod over WebSocket channels, the protocol that knows no half-close."""

import sys

from kubernetes import client, config, watch
from kubernetes.stream import portforward

NAMESPACE = sys.argv[1]

config.load_kube_config()
core = client.CoreV1Api()
container = client.V1Container(name="web", image="host/hello:v1")
core.create_namespaced_pod(
    NAMESPACE, client.V1Pod(metadata=client.V1ObjectMeta(name="hello"), spec=client.V1PodSpec(containers=[container]))
)
for event in watch.Watch().stream(core.list_namespaced_pod, NAMESPACE, timeout_seconds=60):
    conditions = event["object"].status.conditions or []
    if any(condition.type == "Ready" and condition.status == "True" for condition in conditions):
        break

forward = portforward(core.connect_get_namespaced_pod_portforward, "hello", NAMESPACE, ports="8080,81")
web = forward.socket(8080)
web.setblocking(True)
web.sendall(b"GET / HTTP/1.1\r\nHost: hello\r\nConnection: close\r\n\r\n")
answer = b""
while piece := web.recv(4096):
    answer += piece
assert answer.startswith(b"HTTP/1.1 200"), answer
error = forward.error(81)
assert error and "failed to connect to localhost:81 inside namespace" in error, error

print("ok")
