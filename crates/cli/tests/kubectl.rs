//! Unmodified kubectl against a running cluster, as its users use it.

mod common;

use common::{Cluster, have, refusal, stdout, text, until};

fn cluster() -> Option<Cluster> {
    if !have("kubectl") {
        return None;
    }
    let cluster = Cluster::start(&[])?;
    cluster.pack_images();
    Some(cluster)
}

const MIXED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: mixed, labels: {app: mixed}}
spec:
  terminationGracePeriodSeconds: 3
  containers:
  - {name: web, image: host/hello:v1, ports: [{containerPort: 8080}]}
  - {name: sh, image: host/tools:v1, command: [bash, -c, 'trap "exit 0" TERM; echo started; while true; do read -rt 1 <> <(:); done']}
"#;

#[test]
fn apply_get_describe_logs_exec_label_delete() {
    let Some(mut cluster) = cluster() else { return };
    let path = cluster.directory.path().join("mixed.yaml");
    std::fs::write(&path, MIXED).expect("write");
    let path = path.to_str().expect("utf-8");
    let k = |arguments: &[&str]| stdout(&mut cluster.kubectl(arguments));

    assert_eq!(k(&["apply", "-f", path]), "pod/mixed created\n");
    assert_eq!(
        k(&["wait", "--for=condition=Ready", "pod/mixed", "--timeout=60s"]),
        "pod/mixed condition met\n"
    );
    assert_eq!(k(&["apply", "-f", path]), "pod/mixed unchanged\n");

    let wide = k(&["get", "pods", "-o", "wide"]);
    let mut lines = wide.lines();
    let headers: Vec<&str> = lines
        .next()
        .expect("headers")
        .split("  ")
        .map(str::trim)
        .filter(|h| !h.is_empty())
        .collect();
    assert_eq!(
        headers,
        [
            "NAME",
            "READY",
            "STATUS",
            "RESTARTS",
            "AGE",
            "IP",
            "NODE",
            "NOMINATED NODE",
            "READINESS GATES"
        ]
    );
    assert!(
        lines
            .next()
            .is_some_and(|row| row.contains("2/2") && row.contains("Running") && row.contains("node-1"))
    );

    // Events are written aside, after the status.
    until("the events of the pod", || {
        let page = k(&["describe", "pod", "mixed"]);
        let words = [
            "Successfully assigned default/mixed to node-1",
            "Started",
            "Pulled",
            "QoS Class",
            "BestEffort",
        ];
        words.iter().all(|words| page.contains(words)).then_some(())
    });
    assert!(k(&["describe", "node", "node-1"]).contains("Ready"));
    assert_eq!(k(&["logs", "mixed", "-c", "sh"]), "started\n");
    assert_eq!(k(&["exec", "mixed", "-c", "sh", "--", "bash", "-c", "echo hi"]), "hi\n");
    let output = cluster
        .kubectl(&["exec", "mixed", "-c", "sh", "--", "bash", "-c", "exit 3"])
        .output()
        .expect("kubectl");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));

    k(&["label", "pod", "mixed", "tier=front"]);
    assert_eq!(k(&["get", "pods", "-l", "tier=front", "-o", "name"]), "pod/mixed\n");
    k(&["annotate", "pod", "mixed", "note=x"]);
    k(&[
        "patch",
        "pod",
        "mixed",
        "--type=json",
        "-p",
        r#"[{"op":"remove","path":"/metadata/labels/tier"}]"#,
    ]);
    assert_eq!(k(&["get", "pods", "-l", "tier=front", "-o", "name"]), "");
    assert!(k(&["explain", "pod.spec.containers"]).contains("image"));
    assert!(k(&["api-resources"]).contains("runtimeclasses"));
    assert!(k(&["get", "--raw", "/readyz?verbose"]).contains("readyz check passed"));
    assert!(k(&["events", "--for", "pod/mixed"]).contains("Scheduled"));
    assert!(k(&["delete", "pod", "mixed"]).contains("deleted"));
    assert!(refusal(&mut cluster.kubectl(&["get", "pod", "mixed"])).contains("NotFound"));
    cluster.stop();
}

#[test]
fn configuration_objects_and_namespaces() {
    let Some(mut cluster) = cluster() else { return };
    let k = |arguments: &[&str]| stdout(&mut cluster.kubectl(arguments));
    assert_eq!(k(&["create", "namespace", "shop"]), "namespace/shop created\n");
    k(&["create", "configmap", "conf", "-n", "shop", "--from-literal=a=b"]);
    k(&["create", "secret", "generic", "s", "-n", "shop", "--from-literal=p=q"]);
    assert_eq!(
        k(&["get", "configmap", "conf", "-n", "shop", "-o", "jsonpath={.data.a}"]),
        "b"
    );
    k(&["run", "web", "-n", "shop", "--image=host/hello:v1", "--port=8080"]);
    k(&[
        "wait",
        "-n",
        "shop",
        "--for=condition=Ready",
        "pod/web",
        "--timeout=60s",
    ]);
    assert!(k(&["get", "all", "-A"]).contains("web"));
    k(&["delete", "namespace", "shop"]);
    assert!(refusal(&mut cluster.kubectl(&["get", "namespace", "shop"])).contains("NotFound"));
    assert_eq!(k(&["get", "pods", "-A", "-o", "name"]), "");
    assert!(k(&["get", "serviceaccounts", "-n", "default"]).contains("default"));
    assert!(k(&["get", "runtimeclasses"]).contains("wasm"));
    cluster.stop();
}

/// kubectl's typed clients send protobuf for these, and nothing else.
#[test]
fn typed_clients() {
    let Some(mut cluster) = cluster() else { return };
    let k = |arguments: &[&str]| stdout(&mut cluster.kubectl(arguments));
    k(&["create", "namespace", "wire"]);
    k(&["config", "set-context", "--current", "--namespace=wire"]);
    k(&["create", "serviceaccount", "robot"]);
    k(&[
        "create",
        "configmap",
        "conf",
        "--from-literal=a=1",
        "--from-literal=b=yes",
    ]);
    let credentials = [
        "--docker-server=r.example",
        "--docker-username=u",
        "--docker-password=p",
    ];
    k(&[&["create", "secret", "docker-registry", "pull"], &credentials[..]].concat());
    k(&[
        "create",
        "secret",
        "generic",
        "bytes",
        "--from-literal=k=\u{e9}",
        "--type=example.com/own",
    ]);
    assert_eq!(
        k(&["get", "secret", "bytes", "-o", "jsonpath={.type} {.data.k}"]),
        "example.com/own w6k="
    );
    assert_eq!(
        k(&["get", "secret", "pull", "-o", "jsonpath={.type}"]),
        "kubernetes.io/dockerconfigjson"
    );
    let again = refusal(&mut cluster.kubectl(&["create", "serviceaccount", "robot"]));
    assert!(again.contains("already exists"), "{again}");
    let nameless = refusal(&mut cluster.kubectl(&["create", "namespace", "No_Name"]));
    assert!(
        nameless.contains("metadata.name: Invalid value: \"No_Name\""),
        "{nameless}"
    );

    k(&["cordon", "node-1"]);
    assert_eq!(
        k(&["get", "node", "node-1", "-o", "jsonpath={.spec.unschedulable}"]),
        "true"
    );
    k(&["uncordon", "node-1"]);
    k(&["taint", "node", "node-1", "a=b:NoSchedule"]);
    assert_eq!(
        k(&["get", "node", "node-1", "-o", "jsonpath={.spec.taints[0].key}"]),
        "a"
    );
    k(&["taint", "node", "node-1", "a-"]);

    // The modes are octal, the values of labels and data are words.
    let manifest = cluster.directory.path().join("octal.yaml");
    std::fs::write(&manifest, OCTAL).expect("write");
    k(&["apply", "--server-side=false", "-f", manifest.to_str().expect("utf-8")]);
    stdout(&mut cluster.cata(&["delete", "pod", "octal", "-n", "wire"]));
    stdout(&mut cluster.cata(&["apply", "-n", "wire", "-f", manifest.to_str().expect("utf-8")]));
    k(&["wait", "--for=condition=Ready", "pod/octal", "--timeout=60s"]);
    assert_eq!(
        k(&[
            "get",
            "pod",
            "octal",
            "-o",
            "jsonpath={.spec.volumes[0].configMap.defaultMode}"
        ]),
        "256"
    );
    assert_eq!(k(&["exec", "octal", "--", "bash", "-c", "echo $ON"]), "yes\n");
    let yaml = k(&["get", "pod", "octal", "-o", "yaml"]);
    assert!(
        yaml.contains("value: \"yes\"") && yaml.contains("defaultMode: 256"),
        "{yaml}"
    );
    let ours = stdout(&mut cluster.cata(&["get", "pod", "octal", "-n", "wire", "-o", "yaml"]));
    assert_eq!(ours, yaml, "kubectl and cata write the same YAML");

    k(&[
        "drain",
        "node-1",
        "--force",
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--grace-period=1",
    ]);
    assert_eq!(k(&["get", "pods", "-o", "name"]), "");
    cluster.stop();
}

const OCTAL: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: octal}
spec:
  terminationGracePeriodSeconds: 0x1
  enableServiceLinks: off
  volumes:
  - {name: conf, configMap: {name: conf, defaultMode: 0400, optional: no}}
  containers:
  - name: sh
    image: host/tools:v1
    command: [bash, -c, 'trap "exit 0" TERM; while true; do read -rt 1 <> <(:); done']
    env: [{name: "ON", value: "yes"}]
    volumeMounts: [{name: conf, mountPath: /conf}]
"#;

const LIST: &str = r#"
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: one}, data: {k: v}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: two}, data: {k: v}}
"#;

#[test]
fn lists_edits_patches_and_questions() {
    if !have("kubectl") {
        return;
    }
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    let file = |name: &str, content: &str| {
        let path = cluster.directory.path().join(name);
        std::fs::write(&path, content).expect("write");
        path.to_str().expect("utf-8").to_owned()
    };
    let k = |arguments: &[&str]| stdout(&mut cluster.kubectl(arguments));
    let value = |name: &str| k(&["get", "configmap", name, "-o", "jsonpath={.data.k}"]);

    let list = file("list.yaml", LIST);
    assert_eq!(
        k(&["create", "-f", &list]),
        "configmap/one created\nconfigmap/two created\n"
    );
    assert_eq!(
        k(&["replace", "-f", &list]),
        "configmap/one replaced\nconfigmap/two replaced\n"
    );
    k(&["apply", "-f", &list]);
    let typo = file("typo.yaml", &LIST.replace("data:", "dato:"));
    assert!(refusal(&mut cluster.kubectl(&["create", "-f", &typo])).contains("unknown field \"dato\""));

    let changed = file("changed.yaml", &LIST.replace("k: v", "k: w"));
    let difference = cluster.kubectl(&["diff", "-f", &changed]).output().expect("kubectl");
    assert_eq!(difference.status.code(), Some(1), "{}", text(&difference.stderr));
    assert!(text(&difference.stdout).contains("+  k: w"));
    let edit = cluster
        .kubectl(&["edit", "configmap", "one"])
        .env("KUBE_EDITOR", "sed -i s/k:.v/k:\\ x/")
        .output();
    assert!(edit.expect("kubectl").status.success());
    assert_eq!(value("one"), "x");

    for (how, patch) in [
        ("strategic", r#"{"data":{"k":"strategic"}}"#),
        ("merge", r#"{"data":{"k":"merge"}}"#),
        ("json", r#"[{"op":"replace","path":"/data/k","value":"json"}]"#),
    ] {
        k(&["patch", "configmap", "one", "--type", how, "-p", patch]);
        assert_eq!(value("one"), how);
    }
    assert_eq!(
        k(&["get", "configmaps", "--chunk-size=1", "-o", "name"])
            .lines()
            .count(),
        3,
        "with that of the cluster's CA"
    );

    let dry = k(&["delete", "configmaps", "--all", "--dry-run=server"]);
    assert_eq!(dry.matches("(server dry run)").count(), 3);
    k(&["delete", "configmaps", "--all"]);
    // The CA comes back.
    assert!(!k(&["get", "configmaps", "-o", "name"]).contains("configmap/one"));

    assert!(k(&["auth", "whoami"]).contains("system:admin"));
    assert_eq!(k(&["auth", "can-i", "create", "pods"]), "yes\n");
    assert!(k(&["auth", "can-i", "--list"]).contains("*.*"));
    assert!(k(&["auth", "whoami", "--as=bob"]).contains("bob"));
    assert!(k(&["api-versions"]).contains("authorization.k8s.io/v1"));
    assert!(k(&["explain", "pod.spec.containers.ports", "--recursive"]).contains("containerPort"));
    assert!(k(&["explain", "pods", "--output=plaintext-openapiv2"]).contains("apiVersion"));
    assert!(k(&["get", "--raw", "/api/v1/namespaces/default"]).contains("\"kind\":\"Namespace\""));
    cluster.stop();
}
