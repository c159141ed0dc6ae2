//! Pods whose images come from a real registry: Linux images made of Debian packages, wasm artifacts made from C, Go and
//! JavaScript. They run, and they run on when the registry is gone.
//!
//! `build-roots.sh` and `build-guests.sh` make what is served, in `$CATA_REAL_CACHE` (default: `target/real`).

#[path = "../common/mod.rs"]
mod common;
mod kit;
mod server;
mod tokens;

use common::{Cluster, have, http_get, refusal, stdout, text, until};
use kit::{Kit, docker_config};
use serde_json::{Value, json};
use server::{Access, Registry};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use std::process::Command;
use tokens::TokenServer;

/// Like `Cluster::wait_for`, with the patience that compiling an engine of 14 MB takes in an unoptimised build.
#[track_caller]
fn wait_for(cluster: &Cluster, pod: &str, condition: &str) {
    let pod = format!("pod/{pod}");
    let mut wait = cluster.cata(&["wait", &pod, &format!("--for={condition}"), "--timeout=180s"]);
    let output = wait.output().expect("cata");
    if !output.status.success() {
        let page = stdout(&mut cluster.cata(&["describe", &pod]));
        panic!("{pod} never reached {condition}: {}\n{page}", text(&output.stderr));
    }
}

/// The lines of a log in alphabetical order: what goes to two streams has none.
#[track_caller]
fn log(cluster: &Cluster, pod: &str, container: &str) -> Vec<String> {
    let log = stdout(&mut cluster.cata(&["logs", pod, "-c", container]));
    let mut lines: Vec<String> = log.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[track_caller]
fn page(cluster: &Cluster, pod: &str) -> String {
    stdout(&mut cluster.cata(&["describe", "pod", pod]))
}

/// Events are written aside, so they may come after what they tell of.
#[track_caller]
fn event(cluster: &Cluster, pod: &str, words: &str) {
    until(words, || page(cluster, pod).contains(words).then_some(()));
}

fn fleet(registry: &Registry, shell: &str) -> String {
    r#"
{apiVersion: v1, kind: ConfigMap, metadata: {name: conf}, data: {app.json: '{"level": 3, "name": "boat"}', note: "calm sea\n"}}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - {name: nginx, image: 'HOST/library/nginx:v1', command: [nginx, -g, daemon off;], ports: [{containerPort: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: mixed}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: service, image: 'HOST/guests/js:v1', ports: [{containerPort: 8080}]}
  - name: caller
    image: HOST/library/busybox:v1
    command: [sh, -c, 'until wget -qO- "http://127.0.0.1:8080/?name=boat" 2>/dev/null; do sleep 0.1; done; exec sleep 3600']
---
apiVersion: v1
kind: Pod
metadata: {name: c}
spec:
  restartPolicy: Never
  volumes: [{name: conf, configMap: {name: conf}}, {name: data, emptyDir: {}}]
  containers:
  - name: main
    image: HOST/guests/c:v1
    args: [hello, --cat, /conf/note, --write, /data/x, kept, --cat, /data/x, --write, /conf/x, never, --list, /conf, --cat, /etc/passwd, --exit, "7", two words]
    env: [{name: REPORT_A, value: "1"}, {name: REPORT_POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
    volumeMounts: [{name: conf, mountPath: /conf}, {name: data, mountPath: /data}]
---
apiVersion: v1
kind: Pod
metadata: {name: go}
spec:
  restartPolicy: Never
  volumes: [{name: conf, configMap: {name: conf}}]
  containers:
  - name: main
    image: HOST/guests/go:v1
    args: [--json, /conf/app.json, --cat, /conf/note, done]
    env: [{name: REPORT_LEVEL, value: "3"}]
    volumeMounts: [{name: conf, mountPath: /conf}]
---
apiVersion: v1
kind: Pod
metadata: {name: shell}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: SHELL
    command: [sh, -c, 'echo "uid $(id -u)"; busybox | head -n 1 | cut -d" " -f1; ls -ld /tmp | cut -c1-10; readlink /bin']
"#
    .replace("HOST", &registry.host)
    .replace("SHELL", shell)
}

/// Waits for the whole fleet and asks everybody for their answer.
#[track_caller]
fn answers(cluster: &Cluster) {
    wait_for(cluster, "shell", "jsonpath={.status.phase}=Succeeded");
    assert_eq!(
        log(cluster, "shell", "main"),
        ["BusyBox", "drwxrwxrwt", "uid 0", "usr/bin"]
    );

    wait_for(cluster, "c", "jsonpath={.status.phase}=Failed");
    let terminated = "{.status.containerStatuses[0].state.terminated.reason}/{.status.containerStatuses[0].state.terminated.exitCode}";
    assert_eq!(cluster.get("pod/c", terminated), "Error/7");
    let expected = [
        "arg 1 hello",
        "arg 18 two words",
        "cat /conf/note: calm sea",
        "cat /data/x: kept",
        "cat /etc/passwd: No such file or directory",
        "env REPORT_A=1",
        "env REPORT_POD=c",
        "leaving with 7",
        "list /conf: app.json",
        "list /conf: note",
        "write /conf/x: Operation not permitted",
        "write /data/x: done",
    ];
    assert_eq!(log(cluster, "c", "main"), expected);

    wait_for(cluster, "go", "jsonpath={.status.phase}=Succeeded");
    let expected = [
        "arg 5 done",
        "cat /conf/note: calm sea",
        "env REPORT_LEVEL=3",
        "go wasip1/wasm",
        "json level = 3",
        "json name = boat",
        "leaving with 0",
        "sum 28",
    ];
    assert_eq!(log(cluster, "go", "main"), expected);
    services_answer(cluster);
}

/// What a service answers. Just after a restart its status may still tell of the life before, so it is read again.
#[track_caller]
fn ask(cluster: &Cluster, pod: &str, port: u16, path: &str) -> String {
    wait_for(cluster, pod, "condition=Ready");
    let pod = format!("pod/{pod}");
    until(&format!("{pod} to answer"), || {
        http_get(&cluster.get(&pod, "{.status.podIP}"), port, path).ok()
    })
}

/// The half of the fleet that never ends.
#[track_caller]
fn services_answer(cluster: &Cluster) {
    let answer = ask(cluster, "web", 80, "/");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with("\r\n\r\ncatamaran carries nginx\n"), "{answer}");
    until("the access log", || {
        log(cluster, "web", "nginx")
            .iter()
            .any(|line| line.contains("\"GET / HTTP/1.1\" 200"))
            .then_some(())
    });

    let answer = ask(cluster, "mixed", 8080, "/?name=shore");
    let body = r#"{"language":"JavaScript","method":"GET","name":"shore","accept":null}"#;
    assert!(
        answer.contains("content-type: application/json") && answer.contains(body),
        "{answer}"
    );
    assert!(ask(cluster, "mixed", 8080, "/nowhere").starts_with("HTTP/1.1 404"));
    let heard = until("the neighbour on localhost", || log(cluster, "mixed", "caller").pop());
    assert_eq!(heard, body.replace("shore", "boat"));
    until("what the service says", || {
        log(cluster, "mixed", "service")
            .contains(&"GET /nowhere".to_owned())
            .then_some(())
    });
}

#[track_caller]
fn delete_all(cluster: &Cluster) {
    stdout(&mut cluster.cata(&["delete", "pods", "--all", "--now"]));
}

#[test]
fn pods_run_from_a_registry_and_without_it() {
    let Some(kit) = Kit::open() else { return };
    let Some(mut registry) = Registry::start(&Access::Everybody) else {
        return;
    };
    for image in ["library/busybox", "library/nginx", "guests/c", "guests/go", "guests/js"] {
        let kind = image.rsplit('/').next().expect("a name");
        kit.push(kind, &registry.name(&format!("{image}:v1")));
    }
    let digest = kit.push("busybox", &registry.name("tools/shell:latest"));
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    let fleet = fleet(&registry, &registry.name(&format!("tools/shell@{digest}")));

    cluster.apply(&fleet);
    answers(&cluster);
    event(&cluster, "web", "Successfully pulled image");
    let id = cluster.get("pod/shell", "{.status.containerStatuses[0].imageID}");
    assert!(id.ends_with(&digest), "{id}");

    let images = stdout(&mut cluster.cata(&["image", "ls"]));
    for name in [
        "library/busybox:v1",
        "library/nginx:v1",
        "guests/c:v1",
        "guests/go:v1",
        "guests/js:v1",
    ] {
        assert!(images.contains(&registry.name(name)), "{images}");
    }

    registry.stop();
    delete_all(&cluster);
    cluster.apply(&fleet);
    answers(&cluster);
    event(&cluster, "web", "already present on machine");

    cluster.stop();
    cluster.boot(&[]);
    services_answer(&cluster);
    delete_all(&cluster);
    cluster.apply(&fleet);
    answers(&cluster);

    let always = "{apiVersion: v1, kind: Pod, metadata: {name: always}, spec: {containers: [{name: c, image: 'NAME', imagePullPolicy: Always}]}}";
    cluster.apply(&always.replace("NAME", &registry.name("guests/c:v1")));
    wait_for(
        &cluster,
        "always",
        "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ImagePullBackOff",
    );
    let message = cluster.get("pod/always", "{.status.containerStatuses[0].state.waiting.message}");
    let expected = format!("registry {} is unreachable", registry.host);
    assert!(
        message.starts_with("Back-off pulling image") && message.contains(&expected),
        "{message}"
    );
    assert!(message.contains("Connection refused"), "{message}");
    cluster.stop();
}

/// A pod that reports, with credentials from a secret unless it is empty.
fn reporter(name: &str, image: &str, secret: &str) -> String {
    let secrets = if secret.is_empty() {
        String::new()
    } else {
        format!("imagePullSecrets: [{{name: {secret}}}], ")
    };
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: Never, {secrets}containers: [{{name: main, image: '{image}'}}]}}}}\n---\n"
    )
}

fn pull_secret(name: &str, registry: &Registry, password: &str) -> String {
    let config = docker_config(registry, password);
    format!(
        "{{apiVersion: v1, kind: Secret, type: kubernetes.io/dockerconfigjson, metadata: {{name: {name}}}, stringData: {{.dockerconfigjson: '{config}'}}}}\n---\n"
    )
}

/// Waits until a pod's image is not pulled, and returns what is said about it: in the status and as events.
#[track_caller]
fn pull_failure(cluster: &Cluster, pod: &str) -> String {
    wait_for(
        cluster,
        pod,
        "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ImagePullBackOff",
    );
    for words in ["Failed to pull image", "Error: ErrImagePull", "Back-off pulling image"] {
        event(cluster, pod, words);
    }
    cluster.get(
        &format!("pod/{pod}"),
        "{.status.containerStatuses[0].state.waiting.message}",
    )
}

#[test]
fn passwords_come_from_pull_secrets_and_refusals_are_said() {
    let Some(kit) = Kit::open() else { return };
    let Some(registry) = Registry::start(&Access::Basic) else {
        return;
    };
    let (image, private) = (registry.name("fleet/report:v1"), registry.name("fleet/private:v1"));
    stdout(
        kit.cata(&["image", "pack", "--tag", &image, "--wasm"])
            .arg(kit.guest("c")),
    );
    let refused = refusal(&mut kit.cata(&["image", "push", &image]));
    assert!(
        refused.contains("unauthorized") && refused.contains("--docker-config"),
        "{refused}"
    );
    kit.log_in(&registry);
    kit.push("c", &image);
    kit.push("c", &private);

    let Some(mut cluster) = Cluster::start(&[]) else { return };
    let mut manifest = pull_secret("right", &registry, server::PASSWORD) + &pull_secret("wrong", &registry, "guessed");
    manifest += &reporter("no-secret", &private, "");
    manifest += &reporter("wrong-password", &private, "wrong");
    manifest += &reporter("absent-secret", &private, "absent");
    manifest += &reporter("missing-tag", &registry.name("fleet/report:v9"), "right");
    manifest += &reporter("missing-repository", &registry.name("fleet/nothing:v1"), "right");
    manifest += &reporter("good", &image, "right");
    manifest +=
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: crew}, imagePullSecrets: [{name: right}]}\n---\n";
    let with_account =
        reporter("member", &image, "").replace("restartPolicy", "serviceAccountName: crew, restartPolicy");
    manifest += &with_account;
    cluster.apply(&manifest);

    wait_for(&cluster, "good", "jsonpath={.status.phase}=Succeeded");
    assert_eq!(log(&cluster, "good", "main"), ["leaving with 0"]);
    wait_for(&cluster, "member", "jsonpath={.status.phase}=Succeeded");
    assert_eq!(cluster.get("pod/member", "{.spec.imagePullSecrets[0].name}"), "right");
    event(
        &cluster,
        "absent-secret",
        "Unable to retrieve some image pull secrets (absent)",
    );
    for pod in ["no-secret", "wrong-password", "absent-secret"] {
        let message = pull_failure(&cluster, pod);
        assert!(
            message.contains(&private) && message.contains("unauthorized"),
            "{pod}: {message}"
        );
        assert!(!message.contains("guessed"), "{message}");
    }
    for (pod, image) in [
        ("missing-tag", "fleet/report:v9"),
        ("missing-repository", "fleet/nothing:v1"),
    ] {
        let message = pull_failure(&cluster, pod);
        assert!(
            message.contains(&registry.name(image)) && message.contains("manifest unknown"),
            "{pod}: {message}"
        );
    }
    // The right password, later: nothing has to be deleted for the pod to get on.
    cluster.apply(&pull_secret("absent", &registry, server::PASSWORD));
    wait_for(&cluster, "absent-secret", "jsonpath={.status.phase}=Succeeded");
    cluster.stop();
}

#[test]
fn tokens_are_fetched_for_what_is_pulled() {
    let Some(kit) = Kit::open() else { return };
    let Some(tokens) = TokenServer::start() else { return };
    let access = Access::Tokens {
        realm: &tokens.realm,
        certificate: &tokens.certificate,
    };
    let Some(registry) = Registry::start(&access) else {
        return;
    };
    let (public, private) = (registry.name("public/report:v1"), registry.name("private/report:v1"));
    kit.log_in(&registry);
    kit.push("c", &public);
    kit.push("c", &private);
    let asked = || std::mem::take(&mut *tokens.asked.lock().expect("lock"));
    let pushed = asked();
    assert!(
        pushed
            .iter()
            .any(|line| line.starts_with("captain repository:public/report:pull,push")),
        "{pushed:?}"
    );

    let Some(mut cluster) = Cluster::start(&[]) else { return };
    let mut manifest = pull_secret("right", &registry, server::PASSWORD) + &pull_secret("wrong", &registry, "guessed");
    manifest += &reporter("anybody", &public, "");
    manifest += &reporter("nobody", &private, "");
    manifest += &reporter("guesser", &private, "wrong");
    cluster.apply(&manifest);
    wait_for(&cluster, "anybody", "jsonpath={.status.phase}=Succeeded");
    assert!(pull_failure(&cluster, "nobody").contains("unauthorized"));
    assert!(pull_failure(&cluster, "guesser").contains("wrong password"));
    let asked_for = asked();
    assert!(
        asked_for
            .iter()
            .any(|line| line.starts_with("- repository:public/report:pull")),
        "{asked_for:?}"
    );
    assert!(
        asked_for.iter().all(|line| !line.starts_with("captain")),
        "{asked_for:?}"
    );

    cluster.apply(&reporter("captain", &private, "right"));
    wait_for(&cluster, "captain", "jsonpath={.status.phase}=Succeeded");
    assert!(
        asked()
            .iter()
            .any(|line| line.starts_with("captain repository:private/report:pull"))
    );
    cluster.stop();
}

#[test]
fn tags_move_and_damage_is_noticed() {
    let Some(kit) = Kit::open() else { return };
    let Some(registry) = Registry::start(&Access::Everybody) else {
        return;
    };
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    let name = registry.name("fleet/moving");
    kit.push("c", &format!("{name}:latest"));
    cluster.apply(&reporter("first", &name, ""));
    wait_for(&cluster, "first", "jsonpath={.status.phase}=Succeeded");
    assert_eq!(log(&cluster, "first", "main"), ["leaving with 0"]);

    // No tag means `latest`, and that is asked for every time; who says otherwise keeps what is there.
    let second = kit.push("go", &format!("{name}:latest"));
    let settled = "{apiVersion: v1, kind: Pod, metadata: {name: settled}, spec: {restartPolicy: Never, containers: [{name: main, image: 'NAME', imagePullPolicy: IfNotPresent}]}}\n";
    cluster.apply(&settled.replace("NAME", &name));
    wait_for(&cluster, "settled", "jsonpath={.status.phase}=Succeeded");
    assert_eq!(log(&cluster, "settled", "main"), ["leaving with 0"]);
    cluster.apply(&reporter("second", &name, ""));
    wait_for(&cluster, "second", "jsonpath={.status.phase}=Succeeded");
    assert_eq!(
        log(&cluster, "second", "main"),
        ["go wasip1/wasm", "leaving with 0", "sum 28"]
    );
    let id = cluster.get("pod/second", "{.status.containerStatuses[0].imageID}");
    assert!(id.ends_with(&second), "{id}");

    let damaged = registry.name("fleet/damaged:v1");
    kit.push("js", &damaged);
    let module = kit.module(&damaged);
    registry.corrupt(&module);
    cluster.apply(&reporter("damaged", &damaged, ""));
    let message = pull_failure(&cluster, "damaged");
    assert!(message.contains("digest") && message.contains(&module), "{message}");
    // What was read is not kept: with the right bytes the pod gets on.
    registry.corrupt(&module);
    until("the image to be pulled after all", || {
        let images = stdout(&mut cluster.cata(&["image", "ls"]));
        images.contains(&damaged).then_some(())
    });
    cluster.stop();
}

fn skopeo(verb: &str) -> Command {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", verb]);
    command
}

#[test]
fn images_of_other_tools_run_and_ours_are_read_by_them() {
    let Some(kit) = Kit::open() else { return };
    if !have("skopeo") || !have("umoci") {
        return;
    }
    let Some(registry) = Registry::start(&Access::Everybody) else {
        return;
    };
    let layout = kit.builder.path().join("layout");
    umoci_images(&kit, &layout);
    add_index(
        &layout,
        "many",
        &[("linux", "s390x", "report"), ("linux", "amd64", "busybox")],
    );
    add_index(
        &layout,
        "foreign",
        &[("linux", "s390x", "busybox"), ("wasip1", "wasm", "report")],
    );
    let local = |tag: &str| format!("oci:{}:{tag}", layout.display());
    // Only layers that are not compressed yet get the wanted compression, and only where skopeo knows no other.
    let Some(elsewhere) = Registry::start(&Access::Everybody) else {
        return;
    };
    let plain = format!("dir:{}", kit.builder.path().join("plain").display());
    stdout(skopeo("copy").args(["--dest-decompress", &local("busybox"), &plain]));
    let zstd = elsewhere.name("other/zstd:v1");
    let names = ["docker", "gzip", "report", "many", "foreign"].map(|name| registry.name(&format!("other/{name}:v1")));
    let [docker, gzip, report, many, foreign] = &names;
    let copies: [(&str, &str, &[&str]); 6] = [
        (&local("busybox"), docker, &["--format", "v2s2"]),
        (&local("busybox"), gzip, &["--format", "oci"]),
        (&plain, &zstd, &["--format", "oci", "--dest-compress-format", "zstd"]),
        (&local("report"), report, &["--format", "oci"]),
        (&local("many"), many, &["--multi-arch", "all"]),
        (&local("foreign"), foreign, &["--multi-arch", "all"]),
    ];
    for (source, name, options) in copies {
        let mut copy = skopeo("copy");
        stdout(
            copy.arg("--dest-tls-verify=false")
                .args(options)
                .args([source, &format!("docker://{name}")]),
        );
    }
    let kinds = [
        (docker, "docker.distribution.manifest.v2"),
        (gzip, "tar+gzip"),
        (&zstd, "tar+zstd"),
    ];
    for (name, kind) in kinds {
        let raw = stdout(skopeo("inspect").args(["--raw", "--tls-verify=false", &format!("docker://{name}")]));
        assert!(raw.contains(kind), "skopeo made something else of {name}: {raw}");
    }

    let Some(mut cluster) = Cluster::start(&[]) else { return };
    let images = [
        ("docker", docker),
        ("gzip", gzip),
        ("zstd", &zstd),
        ("many", many),
        ("report", report),
        ("foreign", foreign),
    ];
    let pods: String = images.map(|(name, image)| reporter(name, image, "")).concat();
    cluster.apply(&pods);
    for name in ["docker", "gzip", "zstd", "many"] {
        wait_for(&cluster, name, "jsonpath={.status.phase}=Succeeded");
        assert_eq!(
            log(&cluster, name, "main"),
            ["first gone", "second layer", "working in /srv as 33"],
            "{name}"
        );
    }
    for name in ["report", "foreign"] {
        wait_for(&cluster, name, "jsonpath={.status.phase}=Succeeded");
        let expected = [
            "arg 1 from",
            "arg 2 rootfs",
            "cat /etc/motto: fluctuat",
            "env REPORT_BY=umoci",
            "leaving with 0",
        ];
        assert_eq!(log(&cluster, name, "main"), expected, "{name}");
    }
    cluster.stop();

    ours_are_read(&kit, &registry);
}

/// Images as umoci makes them, in an OCI layout: `busybox` of two layers, the second of which deletes from the first, and
/// `report`, a root file system with a wasm entrypoint.
fn umoci_images(kit: &Kit, layout: &Path) {
    let umoci = |words: &str, rest: &[&str]| {
        let words = words.replace("LAYOUT", layout.to_str().expect("utf-8"));
        stdout(Command::new("umoci").args(words.split(' ')).args(rest));
    };
    let path = |path: &Path| path.to_str().expect("utf-8").to_owned();
    umoci("init --layout LAYOUT", &[]);
    umoci("new --image LAYOUT:busybox", &[]);
    let added = kit.builder.path().join("added");
    std::fs::write(&added, "").expect("write");
    umoci("insert --image LAYOUT:busybox", &[&path(&kit.root_of("busybox")), "/"]);
    umoci("insert --image LAYOUT:busybox", &[&path(&added), "/srv/first"]);
    umoci("insert --image LAYOUT:busybox", &[&path(&added), "/srv/second"]);
    umoci("insert --image LAYOUT:busybox --whiteout", &["/srv/first"]);
    let script =
        "[ -e first ] || echo first gone; [ -e second ] && echo second layer; echo working in $(pwd) as $(id -u)";
    umoci(
        "config --image LAYOUT:busybox --os linux --architecture amd64 --config.user 33 --config.workingdir /srv",
        &[
            "--config.entrypoint=/bin/sh",
            "--config.entrypoint=-c",
            "--config.cmd",
            script,
            "--config.env",
            "PATH=/bin",
        ],
    );

    umoci("new --image LAYOUT:report", &[]);
    std::fs::write(&added, "fluctuat\n").expect("write");
    umoci(
        "insert --image LAYOUT:report",
        &[&path(&kit.guest("c")), "/report.wasm"],
    );
    umoci("insert --image LAYOUT:report", &[&path(&added), "/etc/motto"]);
    umoci(
        "config --image LAYOUT:report --os wasip1 --architecture wasm --config.entrypoint /report.wasm --config.env REPORT_BY=umoci",
        &[
            "--config.cmd=from",
            "--config.cmd=rootfs",
            "--config.cmd=--cat",
            "--config.cmd=/etc/motto",
        ],
    );
}

/// Adds an image index to a layout: a name for images of several platforms, each given by its tag there.
fn add_index(layout: &Path, tag: &str, images: &[(&str, &str, &str)]) {
    let top = layout.join("index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&top).expect("index")).expect("JSON");
    let named = |name: &str| {
        let all = index["manifests"].as_array().into_iter().flatten();
        let mut found = all.filter(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == name);
        found.next().expect("an image of that name").clone()
    };
    let entries: Vec<Value> = images
        .iter()
        .map(|(os, architecture, name)| {
            let mut entry = named(name);
            entry["platform"] = json!({"os": os, "architecture": architecture});
            entry["annotations"] = json!({});
            entry
        })
        .collect();
    let media_type = "application/vnd.oci.image.index.v1+json";
    let blob = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}).to_string();
    let digest: String = Sha256::digest(&blob).iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(layout.join("blobs/sha256").join(&digest), &blob).expect("write");
    let entry = json!({
        "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": blob.len(),
        "annotations": {"org.opencontainers.image.ref.name": tag},
    });
    index["manifests"].as_array_mut().expect("a list").push(entry);
    std::fs::write(top, index.to_string()).expect("write");
}

/// What we push is what others expect: skopeo verifies every digest while it copies, and its copies are images to us.
fn ours_are_read(kit: &Kit, registry: &Registry) {
    for kind in ["busybox", "c"] {
        let name = registry.name(&format!("ours/{kind}:v1"));
        let digest = kit.push(kind, &name);
        let remote = format!("docker://{name}");
        let raw = stdout(skopeo("inspect").args(["--raw", "--tls-verify=false", &remote]));
        let manifest: Value = serde_json::from_str(&raw).expect("a manifest");
        assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
        let copy = format!("oci:{}:{kind}", kit.builder.path().join("copies").display());
        stdout(skopeo("copy").args(["--preserve-digests", "--src-tls-verify=false", &remote, &copy]));
        let copied = stdout(skopeo("inspect").args(["--raw", &copy]));
        assert_eq!(copied, raw, "{kind}: copied as it is");
        stdout(&mut kit.cata(&["image", "rm", &name]));
        let layout = kit.builder.path().join("copies");
        let imported = stdout(&mut kit.cata(&["image", "import", layout.to_str().expect("utf-8"), "--tag", &name]));
        assert!(imported.contains(&digest), "{imported}");
        std::fs::remove_dir_all(layout).expect("remove");
    }
    let archive = kit.builder.path().join("busybox.tar");
    let target = format!(
        "docker-archive:{}:{}",
        archive.display(),
        registry.name("ours/archived:v1")
    );
    let source = format!("docker://{}", registry.name("ours/busybox:v1"));
    stdout(skopeo("copy").args(["--src-tls-verify=false", &source, &target]));
    let imported = stdout(&mut kit.cata(&["image", "import", archive.to_str().expect("utf-8")]));
    assert!(imported.contains("ours/archived:v1"), "{imported}");
}
