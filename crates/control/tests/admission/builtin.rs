use crate::common::Cluster;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "i"}]}})
}

#[tokio::test]
async fn namespaces_enforce_what_their_labels_say() {
    let cluster = Cluster::start().await;
    let mut privileged = pod("bad");
    privileged["spec"]["hostNetwork"] = json!(true);
    cluster.post(PODS, &privileged).await.ok();
    cluster.post(PODS, &pod("good")).await.ok();

    let labels = |labels: Value| json!({"metadata": {"labels": labels}});
    let namespace = "/api/v1/namespaces/default";
    let raised = labels(
        json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}),
    );
    let answer = cluster.patch(namespace, "merge", &raised).await;
    answer.ok();
    assert_eq!(
        answer.warnings,
        [
            "299 - \"existing pods in namespace \\\"default\\\" violate the new PodSecurity enforce level \\\"baseline:latest\\\"\"",
            "299 - \"bad: host namespaces\""
        ]
    );
    privileged["metadata"]["name"] = json!("worse");
    assert_eq!(
        cluster.post(PODS, &privileged).await.failure(),
        "403 Forbidden: pods \"worse\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
    );
    let warned = cluster.post(PODS, &pod("fine")).await;
    warned.ok();
    assert!(
        warned.warnings[0].starts_with(
            "299 - \"would violate PodSecurity \\\"restricted:latest\\\": allowPrivilegeEscalation != false"
        ),
        "{:?}",
        warned.warnings
    );
    let bad = labels(json!({"pod-security.kubernetes.io/enforce": "strict"}));
    assert_eq!(
        cluster.patch(namespace, "merge", &bad).await.failure(),
        "422 Invalid: Namespace \"default\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \
         \"strict\": must be one of privileged, baseline, restricted"
    );
}

#[tokio::test]
async fn priorities_come_from_classes() {
    let cluster = Cluster::start().await;
    let plain = cluster.post(PODS, &pod("plain")).await.ok();
    assert_eq!(
        (&plain["spec"]["priority"], &plain["spec"]["preemptionPolicy"]),
        (&json!(0), &json!("PreemptLowerPriority"))
    );
    assert!(plain["spec"]["priorityClassName"].is_null());

    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = |name: &str, value: i32, global: bool| json!({"metadata": {"name": name}, "value": value, "globalDefault": global, "preemptionPolicy": "Never"});
    cluster.post(classes, &class("usual", 5, true)).await.ok();
    assert_eq!(
        cluster.post(classes, &class("other", 6, true)).await.failure(),
        "403 Forbidden: priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass usual is already marked as default. \
         Only one default can exist"
    );
    let usual = cluster.post(PODS, &pod("usual")).await.ok();
    assert_eq!(usual["spec"]["priorityClassName"], "usual");
    assert_eq!(
        (&usual["spec"]["priority"], &usual["spec"]["preemptionPolicy"]),
        (&json!(5), &json!("Never"))
    );

    let mut own = pod("own");
    own["spec"]["priority"] = json!(7);
    assert_eq!(
        cluster.post(PODS, &own).await.failure(),
        "403 Forbidden: pods \"own\" is forbidden: the integer value of priority (7) must not be provided in pod spec; priority \
         admission controller computed 5 from the given PriorityClass name"
    );
    let mut unknown = pod("unknown");
    unknown["spec"]["priorityClassName"] = json!("none");
    assert_eq!(
        cluster.post(PODS, &unknown).await.failure(),
        "403 Forbidden: pods \"unknown\" is forbidden: no PriorityClass with name none was found"
    );
    let mut critical = pod("critical");
    critical["spec"]["priorityClassName"] = json!("system-node-critical");
    let critical = cluster.post(PODS, &critical).await.ok();
    assert_eq!(critical["spec"]["priority"], 2_000_001_000);
}

#[tokio::test]
async fn ingresses_get_the_default_class() {
    let cluster = Cluster::start().await;
    let ingresses = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let ingress = |name: &str| json!({"metadata": {"name": name}, "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}});
    let without = cluster.post(ingresses, &ingress("a")).await.ok();
    assert!(without["spec"]["ingressClassName"].is_null());
    let class = json!({"metadata": {"name": "front", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
        "spec": {"controller": "example.org/front"}});
    cluster
        .post("/apis/networking.k8s.io/v1/ingressclasses", &class)
        .await
        .ok();
    let with = cluster.post(ingresses, &ingress("b")).await.ok();
    assert_eq!(with["spec"]["ingressClassName"], "front");
}

#[tokio::test]
async fn runtime_classes_bring_their_overhead_and_nobody_else_does() {
    let cluster = Cluster::start().await;
    let class = json!({"metadata": {"name": "heavy"}, "handler": "oci", "overhead": {"podFixed": {"memory": "64Mi"}},
        "scheduling": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "x", "operator": "Exists"}]}});
    cluster.post("/apis/node.k8s.io/v1/runtimeclasses", &class).await.ok();
    let mut heavy = pod("heavy");
    heavy["spec"]["runtimeClassName"] = json!("heavy");
    let created = cluster.post(PODS, &heavy).await.ok();
    assert_eq!(created["spec"]["overhead"], json!({"memory": "64Mi"}));
    assert_eq!(created["spec"]["nodeSelector"], json!({"disk": "ssd"}));
    heavy["metadata"]["name"] = json!("other");
    heavy["spec"]["nodeSelector"] = json!({"disk": "hdd"});
    assert_eq!(
        cluster.post(PODS, &heavy).await.failure(),
        "403 Forbidden: pods \"other\" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[disk] = ssd; \
         pod.spec.nodeSelector[disk] = hdd"
    );
    let mut light = pod("light");
    light["spec"]["overhead"] = json!({"memory": "1Mi"});
    assert_eq!(
        cluster.post(PODS, &light).await.failure(),
        "403 Forbidden: pods \"light\" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined \
         Overhead"
    );
    let mut unknown = pod("unknown");
    unknown["spec"]["runtimeClassName"] = json!("none");
    assert_eq!(
        cluster.post(PODS, &unknown).await.failure(),
        "403 Forbidden: pods \"unknown\" is forbidden: pod rejected: RuntimeClass \"none\" not found"
    );
}

#[tokio::test]
async fn limit_ranges_fill_in_and_bound() {
    let cluster = Cluster::start().await;
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "500m"}}]}});
    cluster
        .post("/api/v1/namespaces/default/limitranges", &range)
        .await
        .ok();
    let filled = cluster.post(PODS, &pod("filled")).await.ok();
    assert_eq!(
        filled["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "200m"}, "requests": {"cpu": "100m"}})
    );
    assert_eq!(
        filled["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container a; cpu limit for container a"
    );
    let mut big = pod("big");
    big["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}});
    assert_eq!(
        cluster.post(PODS, &big).await.failure(),
        "403 Forbidden: pods \"big\" is forbidden: maximum cpu usage per Container is 500m, but limit is 1"
    );
}

#[tokio::test]
async fn a_quota_is_never_exceeded_however_many_ask_at_once() {
    let cluster = Cluster::start().await;
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "5", "configmaps": "1"}}});
    cluster.post(quotas, &quota).await.ok();
    // As the recount does it.
    let status =
        json!({"status": {"hard": {"pods": "5", "configmaps": "1"}, "used": {"pods": "0", "configmaps": "1"}}});
    cluster
        .patch(&format!("{quotas}/q/status"), "merge", &status)
        .await
        .ok();

    let pods: Vec<Value> = (0..40).map(|index| pod(&format!("p{index}"))).collect();
    let answers = futures::future::join_all(pods.iter().map(|pod| cluster.post(PODS, pod))).await;
    let made = answers.iter().filter(|answer| answer.code == 201).count();
    assert_eq!(made, 5);
    for answer in answers.iter().filter(|answer| answer.code != 201) {
        let message = answer.failure();
        let (name, rest) = message.split_once(" is forbidden: ").unwrap();
        assert!(name.starts_with("403 Forbidden: pods \"p"), "{name}");
        assert_eq!(
            rest,
            "exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5"
        );
    }
    let used = cluster.get(&format!("{quotas}/q")).await.ok();
    assert_eq!(used["status"]["used"], json!({"pods": "5", "configmaps": "1"}));

    let map = json!({"metadata": {"name": "a"}});
    assert_eq!(
        cluster
            .post("/api/v1/namespaces/default/configmaps", &map)
            .await
            .failure(),
        "403 Forbidden: configmaps \"a\" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=1, limited: \
         configmaps=1"
    );
    let dry = cluster
        .patch(
            &format!("{quotas}/q/status"),
            "merge",
            &json!({"status": {"used": {"pods": "4"}}}),
        )
        .await;
    dry.ok();
    cluster.post(&format!("{PODS}?dryRun=All"), &pod("dry")).await.ok();
    let used = cluster.get(&format!("{quotas}/q")).await.ok();
    assert_eq!(used["status"]["used"]["pods"], "4", "a dry run costs nothing");
}

#[tokio::test]
async fn claims_are_protected_classed_and_grow_only_where_their_class_lets_them() {
    let cluster = Cluster::start().await;
    let class = |name: &str, expandable: bool| {
        json!({"metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "example.org/p", "allowVolumeExpansion": expandable})
    };
    cluster
        .post("/apis/storage.k8s.io/v1/storageclasses", &class("fast", false))
        .await
        .ok();
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let created = cluster.post(claims, &claim).await.ok();
    assert_eq!(created["spec"]["storageClassName"], "fast");
    assert_eq!(
        created["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    let grow = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let refused = cluster.patch(&format!("{claims}/c"), "merge", &grow).await;
    assert!(matches!(refused.code, 403 | 422), "{}", refused.text);
}

#[tokio::test]
async fn what_policies_say_about_types_is_in_their_status() {
    let cluster = Cluster::start().await;
    let policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let policy = json!({"metadata": {"name": "p"}, "spec": {
        "matchConstraints": {"resourceRules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]},
        "validations": [{"expression": "object.spec.replicas > 1"}]}});
    let mut events = cluster.watch(&format!("{policies}?watch=true")).await;
    cluster.post(policies, &policy).await.ok();
    let checked = loop {
        let event = events.next().await.expect("the watch ended");
        if event["object"]["status"]["observedGeneration"] == 1 {
            break event;
        }
    };
    let warning = &checked["object"]["status"]["typeChecking"]["expressionWarnings"][0];
    assert_eq!(warning["fieldRef"], "spec.validations[0].expression");
    assert!(
        warning["warning"]
            .as_str()
            .unwrap()
            .contains("undefined field 'replicas'"),
        "{warning}"
    );
}

/// What the server demands of namespaces that say nothing, who is exempt, and which plugins are left out.
#[tokio::test]
async fn the_server_is_configured_as_its_files_say() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("admission.yaml");
    let text = r"
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {enforce: baseline, enforce-version: latest, warn: restricted}
    exemptions: {usernames: [ann], runtimeClasses: [wasm], namespaces: [kube-system]}
";
    std::fs::write(&file, text).unwrap();
    let cluster = Cluster::start_with(tempfile::tempdir().unwrap(), Some("mem:"), |config| {
        config.admission.file = Some(file);
        config.admission.disable = vec!["ServiceAccount".to_owned()];
    })
    .await;
    let pod = |name: &str, class: Option<&str>| {
        let spec = json!({
            "hostNetwork": true, "runtimeClassName": class, "containers": [{"name": "c", "image": "i"}],
        });
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    };
    let pods = |namespace: &str| format!("/api/v1/namespaces/{namespace}/pods");
    let refused = cluster.post(&pods("default"), &pod("host", None)).await;
    assert_eq!(
        refused.failure(),
        "403 Forbidden: pods \"host\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
    );
    let made = cluster.post(&pods("kube-system"), &pod("host", None)).await.ok();
    assert!(
        made["spec"]["serviceAccountName"].is_null(),
        "the plugin that sets it is off"
    );
    cluster.post(&pods("default"), &pod("class", Some("wasm"))).await.ok();
    let headers = [
        ("content-type", "application/json"),
        ("impersonate-user", "ann"),
        ("impersonate-group", "system:masters"),
    ];
    let body = pod("ann", None).to_string();
    cluster.send("POST", &pods("default"), &headers, body).await.ok();

    let namespaces = "/api/v1/namespaces";
    let strict = json!({
        "metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    });
    let warned = cluster
        .patch(&format!("{namespaces}/kube-system"), "merge", &strict)
        .await;
    assert_eq!(
        warned.warnings,
        [
            r#"299 - "namespace \"kube-system\" is exempt from Pod Security, and the policy (enforce=restricted:latest) will be ignored""#
        ]
    );
}
