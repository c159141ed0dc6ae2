//! What keeping the owners of fields costs, in microseconds per object: `cargo run --release -p catamaran-api --example owners`.

use std::hint::black_box;
use std::time::Instant;

use catamaran_api::patch::apply::{self, Managers, Set, Versions, Write};
use catamaran_api::schema::{Node, Schemas};
use jiff::Timestamp;
use serde_json::{Value, json};

const ROUNDS: u32 = 20_000;

struct Pods(Node<'static>);

impl Versions for Pods {
    fn node(&self, _: &str) -> Option<Node<'_>> {
        Some(self.0)
    }

    fn convert(&self, _: &Value, _: &str) -> Option<Value> {
        None
    }
}

fn pod() -> Value {
    let container = |name: &str| {
        json!({"name": name, "image": "registry.example/app:v1", "imagePullPolicy": "IfNotPresent", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}], "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"})
    };
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default", "labels": {"app": "x", "tier": "y"}, "annotations": {"note": "z"}},
        "spec": {"containers": [container("a"), container("b")], "volumes": [{"name": "v", "emptyDir": {}}], "restartPolicy": "Always",
            "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30}})
}

fn measure(what: &str, mut work: impl FnMut()) {
    (0..ROUNDS / 10).for_each(|_| work());
    let start = Instant::now();
    (0..ROUNDS).for_each(|_| work());
    let each = start.elapsed() / ROUNDS;
    println!("{what}: {:.1} µs", each.as_secs_f64() * 1e6);
}

fn main() {
    let Some(node) = Schemas::builtin().node_of_kind("v1", "Pod") else {
        return;
    };
    let (versions, ignored) = (Pods(node), Set::of_fields(&[&["status"]]));
    let write = |subresource| Write {
        versions: &versions,
        api_version: "v1",
        subresource,
        manager: "bench",
        ignored: &ignored,
        now: Timestamp::UNIX_EPOCH,
    };
    let (empty, object) = (json!({}), pod());
    measure("create", || {
        black_box(apply::update(&write(""), &empty, &object, Managers::default()).encode());
    });
    let entries = apply::update(&write(""), &empty, &object, Managers::default())
        .encode()
        .unwrap_or_default();
    let mut live = object.clone();
    live["metadata"]["uid"] = "1".into();
    let mut ready = live.clone();
    ready["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "podIPs": [{"ip": "10.0.0.1"}]});
    let none = Set::default();
    let status = Write {
        ignored: &none,
        ..write("status")
    };
    measure("status update", || {
        let managers = Managers::decode(&entries).unwrap_or_default();
        black_box(apply::update(&status, &live, &ready, managers).encode());
    });
    measure("apply, nothing to do", || {
        black_box(apply::apply(&write(""), &live, &object, Managers::default(), true).is_ok());
    });
}
