//! kubectl of the version whose API this is, verb by verb, on kinds that need no node.

use super::Tier;
use crate::common::{refusal, stdout, text};

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "host/tools:v1", env: [{name: A, value: "1"}, {name: B, value: "2"}]}
"#;

fn manifest(tier: &Tier, name: &str, text: &str) -> String {
    let path = tier.cluster.directory.path().join(name);
    std::fs::write(&path, text).expect("write");
    path.to_str().expect("utf-8").to_owned()
}

#[test]
fn apply_on_either_side() {
    let Some(tier) = Tier::start() else { return };
    let k = |arguments: &[&str]| stdout(&mut tier.kubectl(arguments));
    let web = manifest(&tier, "web.yaml", WEB);
    assert_eq!(k(&["apply", "-f", &web]), "deployment.apps/web created\n");
    assert_eq!(k(&["apply", "-f", &web]), "deployment.apps/web unchanged\n");

    // From the client's side to the server's: kubectl takes over what it applied before.
    assert_eq!(
        k(&["apply", "--server-side", "-f", &web]),
        "deployment.apps/web serverside-applied\n"
    );
    let managers = k(&[
        "get",
        "deploy",
        "web",
        "--show-managed-fields",
        "-o",
        r#"jsonpath={range .metadata.managedFields[*]}{.manager} {.operation}{"\n"}{end}"#,
    ]);
    assert!(managers.contains("kubectl Apply\n"), "{managers}");
    assert!(!managers.contains("kubectl-client-side-apply"), "{managers}");

    // Somebody else's field is a conflict, until it is taken by force.
    let other = manifest(&tier, "other.yaml", &WEB.replace(r#"value: "2""#, r#"value: "3""#));
    let refused = refusal(&mut tier.kubectl(&["apply", "--server-side", "--field-manager=other", "-f", &other]));
    assert!(
        refused.contains("Apply failed with 1 conflict: conflict with \"kubectl\"")
            && refused.contains(".spec.template.spec.containers[name=\"web\"].env[name=\"B\"].value"),
        "{refused}"
    );
    k(&[
        "apply",
        "--server-side",
        "--field-manager=other",
        "--force-conflicts",
        "-f",
        &other,
    ]);
    let value = "jsonpath={.spec.template.spec.containers[0].env[?(@.name==\"B\")].value}";
    assert_eq!(k(&["get", "deploy", "web", "-o", value]), "3");

    // What is applied no more goes, if nobody else wants it.
    let fewer = manifest(&tier, "fewer.yaml", &WEB.replace(r#"{name: A, value: "1"}, "#, ""));
    k(&["apply", "--server-side", "--force-conflicts", "-f", &fewer]);
    let names = "jsonpath={.spec.template.spec.containers[0].env[*].name}";
    assert_eq!(
        k(&["get", "deploy", "web", "-o", names]),
        "A B",
        "the other manager still applies A"
    );
    let scale = r#"{"spec": {"replicas": 3}}"#;
    k(&[
        "patch",
        "deploy",
        "web",
        "--subresource=scale",
        "--type=merge",
        "-p",
        scale,
    ]);
    let diff = tier
        .kubectl(&["diff", "--server-side", "--force-conflicts", "-f", &fewer])
        .output()
        .expect("kubectl");
    assert_eq!(diff.status.code(), Some(1), "{}", text(&diff.stderr));
    assert!(text(&diff.stdout).contains("-  replicas: 3") && text(&diff.stdout).contains("+  replicas: 0"));
}

#[test]
fn verbs_and_outputs() {
    let Some(tier) = Tier::start() else { return };
    let k = |arguments: &[&str]| stdout(&mut tier.kubectl(arguments));
    k(&["create", "deployment", "web", "--image=host/tools:v1", "--replicas=0"]);
    k(&["create", "service", "clusterip", "web", "--tcp=80:8080"]);
    k(&["create", "configmap", "conf", "--from-literal=a=1"]);
    k(&["create", "secret", "generic", "word", "--from-literal=p=s3cret"]);
    k(&["create", "job", "once", "--image=host/tools:v1", "--dry-run=server"]);
    k(&[
        "create",
        "cronjob",
        "often",
        "--image=host/tools:v1",
        "--schedule=*/5 * * * *",
    ]);
    k(&["create", "ingress", "web", "--rule=example.com/*=web:80"]);
    k(&["create", "quota", "q", "--hard=pods=3"]);
    k(&[
        "create",
        "poddisruptionbudget",
        "pdb",
        "--selector=app=web",
        "--min-available=1",
    ]);
    k(&["create", "priorityclass", "high", "--value=1000"]);
    k(&["create", "role", "reader", "--verb=get,list", "--resource=configmaps"]);
    k(&[
        "create",
        "rolebinding",
        "reader",
        "--role=reader",
        "--serviceaccount=default:default",
    ]);
    k(&["create", "clusterrole", "looker", "--verb=get", "--resource=nodes"]);
    k(&[
        "create",
        "clusterrolebinding",
        "looker",
        "--clusterrole=looker",
        "--user=ann",
    ]);
    assert!(
        k(&["create", "token", "default"]).split('.').count() == 3,
        "a token has three parts"
    );
    k(&["autoscale", "deployment", "web", "--min=1", "--max=3", "--cpu=50%"]);

    let all = k(&["get", "all"]);
    for name in [
        "deployment.apps/web",
        "service/web",
        "service/kubernetes",
        "cronjob.batch/often",
        "horizontalpodautoscaler.autoscaling/web",
    ] {
        assert!(all.contains(name), "{name} is not in\n{all}");
    }
    for output in [
        "wide",
        "yaml",
        "json",
        "name",
        "jsonpath={.metadata.name}",
        "custom-columns=N:.metadata.name",
        "go-template={{.metadata.name}}",
    ] {
        for kind in [
            "deploy/web",
            "svc/web",
            "cm/conf",
            "hpa/web",
            "pdb/pdb",
            "ing/web",
            "quota/q",
        ] {
            assert!(!k(&["get", kind, "-o", output]).is_empty(), "{kind} as {output}");
        }
    }
    for kind in [
        "deploy/web",
        "svc/web",
        "hpa/web",
        "pdb/pdb",
        "ing/web",
        "quota/q",
        "cronjob/often",
        "role/reader",
        "ns/default",
    ] {
        assert!(k(&["describe", kind]).contains("Name:"), "{kind}");
    }

    k(&["scale", "deploy/web", "--replicas=2"]);
    assert_eq!(k(&["get", "deploy", "web", "-o", "jsonpath={.spec.replicas}"]), "2");
    k(&["set", "image", "deploy/web", "*=host/tools:v2"]);
    k(&["set", "env", "deploy/web", "X=1"]);
    k(&["label", "deploy/web", "tier=front"]);
    k(&["annotate", "deploy/web", "note=x"]);
    k(&["rollout", "pause", "deploy/web"]);
    k(&["expose", "deployment", "web", "--name=again", "--port=80"]);
    k(&[
        "patch",
        "deploy/web",
        "--type=json",
        "-p",
        r#"[{"op": "test", "path": "/spec/replicas", "value": 2}]"#,
    ]);
    k(&["taint", "nodes", "node-1", "a=b:NoSchedule"]);

    assert_eq!(k(&["auth", "can-i", "create", "pods"]), "yes\n");
    let no = tier
        .kubectl(&[
            "auth",
            "can-i",
            "delete",
            "cm",
            "--as=system:serviceaccount:default:default",
        ])
        .output()
        .expect("kubectl");
    assert_eq!((text(&no.stdout).as_str(), no.status.code()), ("no\n", Some(1)));
    assert_eq!(
        k(&[
            "auth",
            "can-i",
            "list",
            "cm",
            "--as=system:serviceaccount:default:default"
        ]),
        "yes\n"
    );
    assert!(k(&["auth", "can-i", "--list", "--as=ann"]).contains("nodes"));
    let refused = refusal(&mut tier.kubectl(&["get", "secrets", "--as=ann"]));
    assert_eq!(
        refused,
        "Error from server (Forbidden): secrets is forbidden: User \"ann\" cannot list resource \"secrets\" in API group \"\" in the \
         namespace \"default\"\n"
    );
    assert!(k(&["auth", "whoami"]).contains("system:masters"));
    assert!(k(&["cluster-info"]).contains("is running at"));
    assert!(k(&["api-resources"]).contains("customresourcedefinitions"));
    assert!(k(&["api-versions"]).contains("autoscaling/v2\n"));
    for path in [
        "deployment.spec.strategy",
        "crd.spec.versions",
        "hpa.spec.metrics",
        "netpol.spec.ingress",
        "pod.spec.containers.resizePolicy",
    ] {
        let page = k(&["explain", path]);
        assert!(page.contains("DESCRIPTION:"), "{path}:\n{page}");
    }
    assert!(k(&["explain", "deployment", "--recursive"]).contains("progressDeadlineSeconds"));
}

#[test]
fn deletion_cascades_as_it_is_told() {
    let Some(tier) = Tier::start() else { return };
    let k = |arguments: &[&str]| stdout(&mut tier.kubectl(arguments));
    let family = |name: &str| {
        k(&["create", "configmap", name]);
        let uid = k(&["get", "cm", name, "-o", "jsonpath={.metadata.uid}"]);
        let child = format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}-child, ownerReferences: [{{apiVersion: v1, kind: ConfigMap, \
             name: {name}, uid: {uid}, blockOwnerDeletion: true}}]}}}}"
        );
        k(&["create", "-f", &manifest(&tier, "child.yaml", &child)]);
    };
    for (cascade, child_stays) in [("background", false), ("foreground", false), ("orphan", true)] {
        family(cascade);
        k(&[
            "delete",
            "cm",
            cascade,
            &format!("--cascade={cascade}"),
            "--timeout=60s",
        ]);
        let child = format!("cm/{cascade}-child");
        if child_stays {
            assert_eq!(k(&["get", &child, "-o", "jsonpath={.metadata.ownerReferences}"]), "");
        } else {
            k(&["wait", &child, "--for=delete", "--timeout=60s"]);
        }
    }

    // A namespace says what holds it, and goes once nothing does.
    k(&["create", "namespace", "held"]);
    let held =
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: held, namespace: held, finalizers: [example.com/hold]}}";
    k(&["create", "-f", &manifest(&tier, "held.yaml", held)]);
    k(&["delete", "namespace", "held", "--wait=false"]);
    k(&[
        "wait",
        "namespace/held",
        "--for=condition=NamespaceFinalizersRemaining",
        "--timeout=60s",
    ]);
    let message = "jsonpath={.status.conditions[?(@.type==\"NamespaceFinalizersRemaining\")].message}";
    assert_eq!(
        k(&["get", "namespace", "held", "-o", message]),
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
    );
    k(&[
        "patch",
        "cm",
        "held",
        "-n",
        "held",
        "--type=merge",
        "-p",
        r#"{"metadata": {"finalizers": null}}"#,
    ]);
    k(&["wait", "namespace/held", "--for=delete", "--timeout=60s"]);
}
