//! The audit log, through the real stack.

mod common;

use common::Cluster;
use serde_json::{Value, json};
use std::path::Path;

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- level: None
  users: [system:apiserver, system:kube-controller-manager]
- level: None
  userGroups: [system:serviceaccounts]
- level: RequestResponse
  resources: [{group: '', resources: [configmaps]}]
  omitStages: [RequestReceived]
- level: Metadata
  resources: [{group: '', resources: [secrets]}]
";

fn events(path: &Path, wanted: impl Fn(&Value) -> bool, count: usize) -> Vec<Value> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let text = std::fs::read_to_string(path).unwrap();
        let found: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(&wanted)
            .collect();
        if found.len() >= count {
            return found;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{count} events are not in\n{text}"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_told_as_the_policy_wants_it() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, log) = (dir.path().join("policy.yaml"), dir.path().join("audit.log"));
    std::fs::write(&policy, POLICY).unwrap();
    let cluster = Cluster::start_with(tempfile::tempdir().unwrap(), Some("mem:"), |config| {
        config.audit = Some(catamaran_control::audit::Config {
            policy_file: policy,
            log: catamaran_control::audit::LogConfig {
                path: log.clone(),
                mode: catamaran_control::audit::Mode::Blocking,
                max_megabytes: 0,
                max_backups: 0,
                max_days: 0,
            },
        });
    })
    .await;
    let maps = "/api/v1/namespaces/default/configmaps";
    cluster
        .post(maps, &json!({ "metadata": { "name": "a" }, "data": { "k": "v" } }))
        .await
        .ok();
    cluster.get(&format!("{maps}/missing")).await;
    let secret = json!({ "metadata": { "name": "s" }, "stringData": { "k": "very secret" } });
    cluster
        .send(
            "POST",
            "/api/v1/namespaces/default/secrets",
            &[
                ("content-type", "application/json"),
                ("audit-id", "my-own-id"),
                ("user-agent", "test/1"),
            ],
            secret.to_string(),
        )
        .await
        .ok();
    let mut watch = cluster.watch(&format!("{maps}?watch=1&timeoutSeconds=1")).await;
    while watch.next().await.is_some() {}

    let of = |resource: &'static str| {
        move |event: &Value| event["objectRef"]["resource"] == resource && event["user"]["username"] == "tester"
    };
    let about_maps = events(&log, of("configmaps"), 4);
    let told: Vec<String> = about_maps
        .iter()
        .map(|event| {
            format!(
                "{} {} {}",
                event["verb"].as_str().unwrap(),
                event["stage"].as_str().unwrap(),
                event["responseStatus"]["code"]
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "create ResponseComplete 201",
            "get ResponseComplete 404",
            "watch ResponseStarted 200",
            "watch ResponseComplete 200",
        ]
    );
    let created = &about_maps[0];
    assert_eq!(created["level"], "RequestResponse");
    assert_eq!(created["requestObject"]["data"]["k"], "v");
    assert_eq!(created["responseObject"]["metadata"]["name"], "a");
    assert!(created["responseObject"]["metadata"].get("managedFields").is_none());
    assert_eq!(created["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!(created["objectRef"]["namespace"], "default");
    assert_eq!(created["requestURI"], maps);
    let missing = &about_maps[1]["responseStatus"];
    assert_eq!(
        (&missing["reason"], &missing["status"]),
        (&json!("NotFound"), &json!("Failure"))
    );

    let secrets = events(&log, of("secrets"), 2);
    assert_eq!(secrets[0]["stage"], "RequestReceived");
    assert_eq!(secrets[1]["stage"], "ResponseComplete");
    assert_eq!(secrets[1]["auditID"], "my-own-id");
    assert_eq!(secrets[1]["userAgent"], "test/1");
    assert_eq!(secrets[1]["responseStatus"], json!({ "metadata": {}, "code": 201 }));
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains("very secret") && !text.contains("dmVyeSBzZWNy"));
    assert!(
        !text.contains("\"system:apiserver\""),
        "what the policy leaves out is left out"
    );
}
