//! The client verbs on an API server alone: kubectl's words, flags and exit codes. Nothing here needs root.

mod common;

use common::{Running, cata, refusal, stdout, text};
use std::path::{Path, PathBuf};
use std::process::Command;

struct Server {
    directory: tempfile::TempDir,
    running: Running,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let data_dir = directory.path().join("data");
        let mut command = cata();
        command.arg("server").arg("--data-dir").arg(&data_dir);
        let mut running = Running::start(command.args(["--api-port", "0"]));
        running.line("API server at");
        Self { directory, running }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("data/kubeconfig")
    }

    fn cata(&self, arguments: &str) -> Command {
        let mut command = cata();
        command
            .args(arguments.split(' '))
            .env("KUBECONFIG", self.kubeconfig())
            .current_dir(self.directory.path());
        command
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        std::fs::write(path, text).expect("write");
    }

    fn stop(mut self) {
        self.running.signal(rustix::process::Signal::TERM);
        assert!(self.running.wait().0.success());
    }
}

fn config_map(name: &str, value: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, labels: {{tier: {value}}}}}, data: {{k: {value}}}}}\n"
    )
}

/// Standard error of a command that may succeed or fail.
fn errors(command: &mut Command) -> String {
    text(&command.output().expect("cata").stderr)
}

#[test]
fn objects_of_manifests() {
    let server = Server::start();
    server.write("m/b-10.yaml", &config_map("b-10", "front"));
    server.write("m/b-9.yaml", &config_map("b-9", "back"));
    server.write("m/deep/c.yaml", &config_map("c", "deep"));
    let out = |arguments: &str| stdout(&mut server.cata(arguments));
    let refused = |arguments: &str| refusal(&mut server.cata(arguments));

    assert_eq!(
        out("apply -f m --dry-run=client"),
        "configmap/b-10 created (dry run)\nconfigmap/b-9 created (dry run)\n"
    );
    assert_eq!(out("create -f m/b-9.yaml"), "configmap/b-9 created\n");
    assert_eq!(
        refused("create -f m/b-9.yaml"),
        "Error from server (AlreadyExists): cannot create configmap/b-9: configmaps \"b-9\" already exists\n"
    );
    let warned = errors(&mut server.cata("apply -f m"));
    assert!(
        warned.starts_with("Warning: resource configmaps/b-9 is missing"),
        "{warned}"
    );
    assert_eq!(warned.lines().count(), 1, "{warned}");
    assert_eq!(out("apply -f m"), "configmap/b-10 unchanged\nconfigmap/b-9 unchanged\n");

    assert_eq!(out("get -f m -o name"), "configmap/b-10\nconfigmap/b-9\n");
    assert_eq!(
        out("get cm -l tier --sort-by=.metadata.name -o name"),
        "configmap/b-9\nconfigmap/b-10\n"
    );
    let table = out("get cm -l tier -L tier --no-headers --sort-by={.data.k}");
    let cells: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        cells.iter().map(|row| (row[0], row[3])).collect::<Vec<_>>(),
        [("b-9", "back"), ("b-10", "front")]
    );
    assert_eq!(out("get --raw /livez"), "ok");

    assert_eq!(
        refused("delete -f m/deep -n other"),
        "Error from server (NotFound): configmaps \"c\" not found\n"
    );
    server.write(
        "own.yaml",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: own}}",
    );
    assert!(refused("apply -f own.yaml -n other").contains("does not match the namespace \"other\""));
    assert!(refused("apply -f https://example.org/x.yaml").contains("download it"));
    assert_eq!(
        out("delete -f m"),
        "configmap \"b-10\" deleted from default namespace\nconfigmap \"b-9\" deleted from default namespace\n"
    );
    assert_eq!(out("delete cm -l tier"), "No resources found\n");
    server.stop();
}

/// A manifest may define a kind and then use it; what is deleted with its definition is not in the way of the rest.
#[test]
fn a_kind_and_its_objects_in_one_manifest() {
    let server = Server::start();
    let definition = "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: crons.ex.io}, \
        spec: {group: ex.io, scope: Namespaced, names: {plural: crons, singular: cron, kind: Cron, listKind: CronList}, \
        versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, \
        properties: {spec: {type: object, properties: {every: {type: string}}}}}}}]}}\n";
    let object = "{apiVersion: ex.io/v1, kind: Cron, metadata: {name: c}, spec: {every: day}}\n";
    server.write(
        "all.yaml",
        &[definition, object, &config_map("last", "x")].join("---\n"),
    );
    let out = |arguments: &str| stdout(&mut server.cata(arguments));
    assert_eq!(
        out("apply -f all.yaml"),
        "customresourcedefinition.apiextensions.k8s.io/crons.ex.io created\ncron.ex.io/c created\nconfigmap/last created\n"
    );
    assert_eq!(out("get crons -o jsonpath={.items[*].spec.every}"), "day");
    assert_eq!(
        out("delete crd crons.ex.io"),
        "customresourcedefinition.apiextensions.k8s.io \"crons.ex.io\" deleted\n"
    );
    let gone = server.cata("delete -f all.yaml").output().expect("cata");
    assert_eq!(
        text(&gone.stdout),
        "configmap \"last\" deleted from default namespace\n"
    );
    assert!(text(&gone.stderr).contains("no matches for kind \"Cron\" in version \"ex.io/v1\""));
    assert!(!gone.status.success());
    server.stop();
}

#[test]
fn server_side_apply() {
    let server = Server::start();
    let out = |arguments: &str| stdout(&mut server.cata(arguments));
    let refused = |arguments: &str| refusal(&mut server.cata(arguments));
    server.write(
        "a.yaml",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: '1', z: '1'}}",
    );
    server.write(
        "b.yaml",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: '2'}}",
    );
    assert_eq!(
        out("apply --server-side -f a.yaml --dry-run=server"),
        "configmap/a serverside-applied (server dry run)\n"
    );
    assert_eq!(out("apply --server-side -f a.yaml"), "configmap/a serverside-applied\n");
    let conflict = refused("apply --server-side --field-manager=other -f b.yaml");
    assert!(
        conflict.starts_with("Error from server (Conflict): cannot apply configmap/a"),
        "{conflict}"
    );
    assert!(
        conflict.contains("--force-conflicts") && conflict.contains("conflict with \"cata\": .data.x"),
        "{conflict}"
    );
    out("apply --server-side --force-conflicts --field-manager=other -f b.yaml");
    assert_eq!(out("get cm a -o jsonpath={.data.x}{.data.z}"), "21");
    assert!(refused("apply --force-conflicts -f b.yaml").contains("--server-side"));
    assert!(refused("apply --server-side --dry-run=client -f b.yaml").contains("--dry-run=server"));
    server.stop();
}

#[test]
fn words_and_warnings() {
    let server = Server::start();
    let out = |arguments: &str| stdout(&mut server.cata(arguments));
    let refused = |arguments: &str| refusal(&mut server.cata(arguments));
    assert_eq!(
        refused("get pods x"),
        "Error from server (NotFound): pods \"x\" not found\n"
    );
    assert_eq!(
        refused("get ns default nope -o name"),
        "Error from server (NotFound): namespaces \"nope\" not found\n"
    );
    assert!(refused("get pods -A x").contains("across all namespaces"));
    assert!(refused("get pods/x/log").contains("single resource and name"));
    assert!(refused("get").contains("cata api-resources"));
    assert!(refused("exec x ls").contains("after --"));
    assert_eq!(
        refused("wait ns/default --for=condition=Nope --timeout=50ms"),
        "error: timed out waiting for the condition on namespaces/default\n"
    );
    assert_eq!(out("wait pod/x --for=delete"), "");
    assert_eq!(out("logs -l app=none"), "");

    // What the server warns of reaches the user, once.
    server.write(
        "probe.yaml",
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: x, misspelt: 1}]}}",
    );
    let warned = errors(&mut server.cata("create -f probe.yaml --validate=warn"));
    assert_eq!(warned, "Warning: unknown field \"spec.containers[0].misspelt\"\n");

    let kubeconfig = server.kubeconfig();
    let list = std::env::join_paths([Path::new("/none"), &kubeconfig]).expect("paths");
    assert_eq!(
        stdout(server.cata("get ns default -o name").env("KUBECONFIG", list)),
        "namespace/default\n"
    );
    let none = refusal(server.cata("get ns --data-dir nowhere").env_remove("KUBECONFIG"));
    assert!(none.contains("there is no cluster in"), "{none}");
    let other = Server::start();
    let port = |server: &Server| {
        let text = std::fs::read_to_string(server.kubeconfig()).expect("kubeconfig");
        let address = text.split("https://").nth(1).expect("server");
        address.split_whitespace().next().expect("address").to_owned()
    };
    let wrong = refused(&format!("get ns --server https://{}", port(&other)));
    assert!(wrong.contains("not the one this kubeconfig was made for"), "{wrong}");
    other.stop();
    let gone = refused("get ns --server https://127.0.0.1:1");
    assert!(gone.contains("cannot be reached (Connection refused"), "{gone}");
    server.stop();
}
