//! What pods can ask for, on a real node: Linux-only, wasm-only and mixed.

mod common;

use common::{Cluster, refusal, stdout, text, until};
use std::process::Stdio;

fn cluster() -> Option<Cluster> {
    let cluster = Cluster::start(&[])?;
    cluster.pack_images();
    Some(cluster)
}

/// A pod that ends: what it printed.
#[track_caller]
fn log_of_finished(cluster: &Cluster, pod: &str) -> String {
    cluster.wait_for(&format!("pod/{pod}"), "jsonpath={.status.phase}=Succeeded");
    stdout(&mut cluster.cata(&["logs", pod]))
}

#[test]
fn configuration_volumes_and_init_containers() {
    let Some(mut cluster) = cluster() else { return };
    cluster.apply(
        r#"
{apiVersion: v1, kind: ConfigMap, metadata: {name: conf}, data: {greeting: hallo, app.conf: "level = 1\n"}}
---
{apiVersion: v1, kind: Secret, metadata: {name: creds}, stringData: {password: hunter2}}
---
apiVersion: v1
kind: Pod
metadata: {name: configured, labels: {app: x}}
spec:
  restartPolicy: Never
  hostname: boat
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: conf, configMap: {name: conf}}
  - {name: creds, secret: {secretName: creds, defaultMode: 0400}}
  initContainers:
  - name: prepare
    image: host/tools:v1
    command: [bash, -c, 'echo prepared > /shared/note']
    volumeMounts: [{name: shared, mountPath: /shared}]
  containers:
  - name: main
    image: host/tools:v1
    env:
    - {name: GREETING, valueFrom: {configMapKeyRef: {name: conf, key: greeting}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: creds, key: password}}}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: BOTH, value: "$(GREETING)/$(POD)/$$(POD)"}
    command: [bash, -c]
    args:
    - |
      echo "env $BOTH $PASSWORD"
      echo "host $(hostname)"
      cat /shared/note /conf/app.conf
      stat -L -c 'mode %a' /creds/password
      touch /conf/x 2>/dev/null || echo "configMap is read-only"
      touch /etc/x && echo "root is writable"
      id -u
    volumeMounts:
    - {name: shared, mountPath: /shared}
    - {name: conf, mountPath: /conf}
    - {name: creds, mountPath: /creds, readOnly: true}
"#,
    );
    let log = log_of_finished(&cluster, "configured");
    let expected = "env hallo/configured/$(POD) hunter2\nhost boat\nprepared\nlevel = 1\nmode 400\nconfigMap is read-only\nroot is writable\n0\n";
    assert_eq!(log, expected);
    cluster.stop();
}

#[test]
fn security_contexts_reach_the_kernel() {
    let Some(mut cluster) = cluster() else { return };
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: confined}
spec:
  restartPolicy: Never
  securityContext: {runAsUser: 1234, runAsGroup: 2345, fsGroup: 3456, supplementalGroups: [4567]}
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: main
    image: host/tools:v1
    securityContext:
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}
    command: [bash, -c]
    args:
    - |
      echo "$(id -u):$(id -g):$(id -G)"
      touch /x 2>/dev/null || echo "root is read-only"
      touch /data/x && stat -c 'group %g' /data/x
      while read -r name value; do
        case $name in CapEff:|NoNewPrivs:|Seccomp:) echo "$name $value";; esac
      done < /proc/self/status
    volumeMounts: [{name: data, mountPath: /data}]
"#,
    );
    let log = log_of_finished(&cluster, "confined");
    assert!(log.starts_with("1234:2345:2345 "), "{log}");
    for words in [
        "3456",
        "4567",
        "root is read-only",
        "group 3456",
        "CapEff: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
    ] {
        assert!(log.contains(words), "{words} in {log}");
    }
    cluster.stop();
}

#[test]
fn restarts_back_off_and_exit_codes_and_previous_logs_are_kept() {
    let Some(mut cluster) = cluster() else { return };
    cluster.apply(
        r#"
{apiVersion: v1, kind: Pod, metadata: {name: crashing}, spec: {containers: [{name: c, image: host/tools:v1, command: [bash, -c, 'echo life; exit 7']}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: failing}, spec: {restartPolicy: Never, containers: [{name: c, image: host/tools:v1, command: [bash, -c, 'exit 3']}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: hungry}, spec: {restartPolicy: Never, containers: [{name: c, image: host/tools:v1, resources: {limits: {memory: 20Mi}}, command: [bash, -c, 'x=aaaa; while true; do x=$x$x; done']}]}}
"#,
    );
    let state = "{.status.containerStatuses[0].state.waiting.reason}";
    cluster.wait_for("pod/crashing", &format!("jsonpath={state}=CrashLoopBackOff"));
    assert_eq!(
        cluster.get(
            "pod/crashing",
            "{.status.containerStatuses[0].lastState.terminated.exitCode}"
        ),
        "7"
    );
    let table = stdout(&mut cluster.cata(&["get", "pods"]));
    assert!(table.contains("CrashLoopBackOff"), "{table}");
    assert_eq!(stdout(&mut cluster.cata(&["logs", "crashing", "--previous"])), "life\n");

    cluster.wait_for("pod/failing", "jsonpath={.status.phase}=Failed");
    assert_eq!(
        cluster.get(
            "pod/failing",
            "{.status.containerStatuses[0].state.terminated.exitCode}"
        ),
        "3"
    );

    let reason = "jsonpath={.status.containerStatuses[0].state.terminated.reason}=OOMKilled";
    cluster.wait_for("pod/hungry", reason);
    cluster.stop();
}

#[test]
fn exec_logs_and_graceful_deletion() {
    let Some(mut cluster) = cluster() else { return };
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: served}
spec:
  terminationGracePeriodSeconds: 30
  containers:
  - {name: web, image: host/hello:v1, ports: [{containerPort: 8080}]}
  - name: sh
    image: host/tools:v1
    command: [bash, -c, 'trap "echo bye; exit 0" TERM; echo up; while true; do read -rt 1 <> <(:); done']
"#,
    );
    cluster.wait_for("pod/served", "condition=Ready");
    let said = stdout(&mut cluster.cata(&[
        "exec",
        "served",
        "-c",
        "sh",
        "--",
        "bash",
        "-c",
        "echo out; echo $((6*7))",
    ]));
    assert_eq!(said, "out\n42\n");

    let output = cluster
        .cata(&["exec", "served", "-c", "sh", "--", "bash", "-c", "exit 42"])
        .output()
        .expect("cata");
    assert_eq!(output.status.code(), Some(42));
    assert!(text(&output.stderr).contains("command terminated with exit code 42"));

    let mut child = cluster
        .cata(&["exec", "-i", "served", "-c", "sh", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cata");
    let lines: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    let mut stdin = child.stdin.take().expect("stdin");
    let sent = lines.clone();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, sent.as_bytes()).expect("write"));
    let output = child.wait_with_output().expect("cata");
    writer.join().expect("writer");
    assert!(
        output.status.success() && text(&output.stdout) == lines,
        "what goes in comes out, whole"
    );

    let refused = refusal(&mut cluster.cata(&["exec", "served", "-c", "web", "--", "bash"]));
    assert!(refused.contains("wasm"), "{refused}");

    let pid = cluster.get("pod/served", "{.metadata.uid}");
    assert!(!pid.is_empty());
    let mut follow = cluster
        .cata(&["logs", "-f", "served", "-c", "sh"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("cata");
    let mut log = std::io::BufReader::new(follow.stdout.take().expect("stdout"));
    let mut said = String::new();
    std::io::BufRead::read_line(&mut log, &mut said).expect("the log");
    assert_eq!(said, "up\n", "the follower is there before the pod goes");
    stdout(&mut cluster.cata(&["delete", "pod", "served"]));
    std::io::Read::read_to_string(&mut log, &mut said).expect("the log");
    assert!(follow.wait().expect("cata").success());
    assert_eq!(said, "up\nbye\n", "SIGTERM was answered before the pod went");
    let gone = refusal(&mut cluster.cata(&["get", "pod", "served"]));
    assert!(
        gone.contains("Error from server (NotFound): pods \"served\" not found"),
        "{gone}"
    );
    cluster.stop();
}

#[test]
fn unschedulable_pods_say_why_and_are_placed_when_they_fit() {
    let Some(mut cluster) = cluster() else { return };
    cluster.apply(
        r#"
{apiVersion: v1, kind: Pod, metadata: {name: picky}, spec: {nodeSelector: {deck: upper}, containers: [{name: c, image: host/hello:v1}]}}
"#,
    );
    cluster.wait_for("pod/picky", "condition=PodScheduled=False");
    let message = cluster.get("pod/picky", "{.status.conditions[?(@.type=='PodScheduled')].message}");
    assert!(
        message.starts_with("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."),
        "{message}"
    );
    let node = r#"{apiVersion: v1, kind: Node, metadata: {name: node-1, labels: {deck: upper}}}"#;
    cluster.apply(node);
    cluster.wait_for("pod/picky", "condition=Ready");
    cluster.stop();
}

#[test]
fn what_cannot_run_says_so_on_the_pod() {
    let Some(mut cluster) = cluster() else { return };
    cluster.apply(
        r#"
{apiVersion: v1, kind: Pod, metadata: {name: nowhere}, spec: {containers: [{name: c, image: '127.0.0.1:9/none:v1'}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: never}, spec: {containers: [{name: c, image: 'host/absent:v1', imagePullPolicy: Never}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: missing}, spec: {containers: [{name: c, image: host/tools:v1, envFrom: [{configMapRef: {name: none}}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: probing}, spec: {containers: [{name: c, image: host/tools:v1, livenessProbe: {exec: {command: ['true']}}}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: typo}, spec: {containers: [{name: c, image: host/tools:v1, command: [bahs]}]}}
"#,
    );
    let waiting = |pod: &str| {
        until(&format!("{pod} to wait"), || {
            let reason = cluster.get(
                &format!("pod/{pod}"),
                "{.status.containerStatuses[0].state.waiting.reason}",
            );
            let message = cluster.get(
                &format!("pod/{pod}"),
                "{.status.containerStatuses[0].state.waiting.message}",
            );
            (!reason.is_empty() && reason != "ContainerCreating").then_some((reason, message))
        })
    };
    assert!(["ErrImagePull", "ImagePullBackOff"].contains(&waiting("nowhere").0.as_str()));
    assert_eq!(waiting("never").0, "ErrImageNeverPull");
    let (reason, message) = waiting("missing");
    assert_eq!(
        (reason.as_str(), message.as_str()),
        ("CreateContainerConfigError", "configmap \"none\" not found")
    );
    let (reason, message) = waiting("probing");
    assert!(
        reason == "CreateContainerConfigError" && message.contains("livenessProbe"),
        "{reason}: {message}"
    );
    let typo = until("typo to be refused", || {
        let status = cluster.get("pod/typo", "{.status.containerStatuses[0]}");
        status.contains("bahs").then_some(status)
    });
    assert!(
        typo.contains("127") || typo.contains("128") || typo.contains("RunContainerError"),
        "{typo}"
    );
    cluster.stop();
}

#[test]
fn a_pod_reads_the_api_as_its_service_account() {
    let Some(mut cluster) = cluster() else { return };
    let mut pack = cluster.cata(&["image", "pack", "--tag", "host/cata:v1", "--from-host"]);
    stdout(pack.args([env!("CARGO_BIN_EXE_cata"), "/bin/bash", "/bin/cat"]));
    let manifest = r#"
{apiVersion: v1, kind: ServiceAccount, metadata: {name: reader}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  restartPolicy: Never
  serviceAccountName: reader
  containers:
  - name: main
    image: host/cata:v1
    command: [bash, -c]
    args:
    - |
      dir=/var/run/secrets/kubernetes.io/serviceaccount
      cata=CATA
      echo "namespace $(cat $dir/namespace)"
      cat > /config <<END
      apiVersion: v1
      kind: Config
      current-context: pod
      contexts: [{name: pod, context: {cluster: pod, user: pod}}]
      clusters: [{name: pod, cluster: {server: 'https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT', certificate-authority: $dir/ca.crt}}]
      users: [{name: pod, user: {tokenFile: $dir/token}}]
      END
      $cata get --kubeconfig /config configmaps -o name
      $cata get --kubeconfig /config secrets 2>&1 || true
"#;
    cluster.apply(&manifest.replace("CATA", env!("CARGO_BIN_EXE_cata")));
    let log = log_of_finished(&cluster, "client");
    assert!(
        log.starts_with("namespace default\nconfigmap/kube-root-ca.crt\n"),
        "{log}"
    );
    let denied = "User \"system:serviceaccount:default:reader\" cannot list resource \"secrets\" in API group \"\"";
    assert!(log.contains(denied), "{log}");
    cluster.stop();
}
