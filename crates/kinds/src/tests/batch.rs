//! Goldens of jobs and cron jobs.

use super::{check, check_created, check_row, check_status, check_warnings, decode, errors_of, kind};
use catamaran_api::Errors;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

fn job(spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": "j", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]}}}});
    let fields = object["spec"].as_object_mut().expect("a spec");
    fields.extend(spec.as_object().expect("fields").clone());
    object
}

/// Errors of a job as it is created, with its selector.
fn refused(spec: Value, expected: &Expect) {
    let kind = kind("Job");
    let mut object = decode(kind, job(spec));
    kind.prepare_create(&mut *object);
    let mut errors = Errors::new();
    kind.validate(&*object, &mut errors);
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn jobs_select_their_own_pods() {
    check_created(
        "Job",
        job(json!({})),
        &expect![[r#"
        {
          "metadata": {
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "name": "j",
            "uid": "u"
          },
          "spec": {
            "backoffLimit": 6,
            "completionMode": "NonIndexed",
            "completions": 1,
            "manualSelector": false,
            "parallelism": 1,
            "podReplacementPolicy": "TerminatingOrFailed",
            "selector": {
              "matchLabels": {
                "batch.kubernetes.io/controller-uid": "u"
              }
            },
            "suspend": false,
            "template": {
              "metadata": {
                "labels": {
                  "batch.kubernetes.io/controller-uid": "u",
                  "batch.kubernetes.io/job-name": "j",
                  "controller-uid": "u",
                  "job-name": "j"
                }
              },
              "spec": {
                "containers": [
                  {
                    "image": "i:1",
                    "imagePullPolicy": "IfNotPresent",
                    "name": "c",
                    "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File"
                  }
                ],
                "dnsPolicy": "ClusterFirst",
                "restartPolicy": "Never",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "terminationGracePeriodSeconds": 30
              }
            }
          },
          "status": {}
        }"#]],
    );
    refused(json!({}), &expect![""]);
    refused(
        json!({"template": {"metadata": {"labels": {"job-name": "other"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}),
        &expect![[
            r#"spec.template.metadata.labels[job-name]: Invalid value: {"batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"j","controller-uid":"u","job-name":"other"}: must be 'j'"#
        ]],
    );
    refused(
        json!({"manualSelector": true}),
        &expect![[r#"
        spec.selector: Required value
        spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`"#]],
    );
}

#[test]
fn refusals_of_jobs() {
    refused(
        json!({"parallelism": -1, "maxFailedIndexes": 1, "managedBy": "me", "completionMode": "Some", "podReplacementPolicy": "Now",
            "successPolicy": {"rules": []}, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}),
        &expect![[r#"
            spec.parallelism: Invalid value: -1: must be greater than or equal to 0
            spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified
            spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")
            spec.completionMode: Unsupported value: "Some": supported values: "NonIndexed", "Indexed"
            spec.successPolicy: Invalid value: {"rules":[]}: requires indexed completion mode
            spec.podReplacementPolicy: Unsupported value: "Now": supported values: "Failed", "TerminatingOrFailed"
            spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#]],
    );
    refused(
        json!({"completionMode": "Indexed", "parallelism": 200_000, "completions": 3, "backoffLimitPerIndex": 1, "maxFailedIndexes": 5,
            "successPolicy": {"rules": [{}, {"succeededIndexes": "0-5", "succeededCount": 9}]}}),
        &expect![[r#"
            spec.parallelism: Invalid value: 200000: must be less than or equal to 100000 when completion mode is Indexed
            spec.maxFailedIndexes: Invalid value: 5: must be less than or equal to completions
            spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified
            spec.successPolicy.rules[1].succeededIndexes: Invalid value: "0-5": error parsing succeededIndexes: too large index: "5"
            spec.successPolicy.rules[1].succeededCount: Invalid value: 9: must be less than or equal to 3 (the number of specified completions)
            spec.successPolicy.rules[1].succeededCount: Invalid value: 9: must be less than or equal to 0 (the number of indexes in the specified succeededIndexes field)"#]],
    );
    refused(
        json!({"podFailurePolicy": {"rules": [{"action": ""}, {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [3, 0, 3], "containerName": "x"}},
            {"action": "Ignore", "onPodConditions": [{"type": "a b", "status": "Maybe"}], "onExitCodes": {"operator": "", "values": []}}]},
            "template": {"spec": {"restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "i"}]}}}),
        &expect![[r#"
            spec.podFailurePolicy.rules[0].action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]
            spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required
            spec.podFailurePolicy.rules[1].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set
            spec.podFailurePolicy.rules[1].onExitCodes.containerName: Invalid value: "x": must be one of the container or initContainer names in the pod template
            spec.podFailurePolicy.rules[1].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator
            spec.podFailurePolicy.rules[1].onExitCodes.values[2]: Duplicate value: 3
            spec.podFailurePolicy.rules[1].onExitCodes.values: Invalid value: [3,0,3]: must be ordered
            spec.podFailurePolicy.rules[2].onExitCodes.operator: Required value: valid values: ["In" "NotIn"]
            spec.podFailurePolicy.rules[2].onExitCodes.values: Invalid value: []: at least one value is required
            spec.podFailurePolicy.rules[2].onPodConditions[0].type: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.podFailurePolicy.rules[2].onPodConditions[0].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown"
            spec.podFailurePolicy.rules[2]: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported
            spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified"#]],
    );
}

#[test]
fn what_may_change_about_jobs() {
    let old = job(json!({"completions": 2, "parallelism": 2, "selector": {"matchLabels": {"a": "b"}}}));
    let mut new = old.clone();
    new["spec"]["completions"] = 3.into();
    new["spec"]["selector"]["matchLabels"]["a"] = "c".into();
    new["spec"]["template"]["spec"]["hostNetwork"] = true.into();
    new["spec"]["completionMode"] = "Indexed".into();
    check(
        "Job",
        &[old, new],
        &expect![[r#"
        spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism
        spec.selector: Invalid value: {"matchLabels":{"a":"c"}}: field is immutable
        spec.template: Invalid value: {"metadata":{},"spec":{"containers":[{"image":"i:1","imagePullPolicy":"IfNotPresent","name":"c","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","hostNetwork":true,"restartPolicy":"Never","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}: field is immutable
        spec.completionMode: Invalid value: "Indexed": field is immutable"#]],
    );
    let indexed = |completions: i32, parallelism: i32| {
        job(json!({"completionMode": "Indexed", "completions": completions, "parallelism": parallelism}))
    };
    check("Job", &[indexed(2, 2), indexed(3, 3)], &expect![""]);
    check(
        "Job",
        &[indexed(2, 2), indexed(3, 2)],
        &expect!["spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism"],
    );
    let mut placed = job(json!({"suspend": true}));
    placed["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"});
    check("Job", &[job(json!({"suspend": true})), placed], &expect![""]);
}

#[test]
fn statuses_of_jobs() {
    let with = |status: Value| {
        let mut object = job(json!({}));
        object["status"] = status;
        object
    };
    let condition = |kind: &str| json!({"type": kind, "status": "True"});
    check_status(
        "Job",
        with(json!({"failed": 2, "conditions": [condition("FailureTarget")], "startTime": "2026-01-01T00:00:00Z"})),
        with(
            json!({"failed": 1, "active": 1, "ready": 2, "completedIndexes": "1", "failedIndexes": "2",
            "conditions": [condition("Complete"), condition("Failed")], "uncountedTerminatedPods": {"failed": ["a", "a"]}}),
        ),
        &expect![[r#"
            status.uncountedTerminatedPods.failed[1]: Duplicate value: "a"
            status.ready: Invalid value: 2: cannot set more ready pods than active
            status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions
            status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition
            status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition
            status.active: Invalid value: 1: active>0 is invalid for finished job
            status.startTime: Required value: startTime is required for finished job
            status.uncountedTerminatedPods: Invalid value: {"failed":["a","a"]}: uncountedTerminatedPods needs to be empty for finished job
            status.completionTime: Required value: completionTime is required for Complete jobs
            status.completedIndexes: Invalid value: "1": error parsing completedIndexes: too large index: "1"
            status.completedIndexes: Invalid value: "1": cannot set non-empty completedIndexes when non-indexed completion mode
            status.failedIndexes: Invalid value: "2": cannot set non-null failedIndexes when backoffLimitPerIndex is null
            status.conditions: Invalid value: cannot disable the terminal FailureTarget=True condition
            status.failed: Invalid value: 1: cannot decrease the failed counter
            status.startTime: Required value: startTime cannot be removed for unsuspended job"#]],
    );
    let done = json!({"succeeded": 1, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T01:01:00Z",
        "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]});
    check_status("Job", with(json!({})), with(done.clone()), &expect![""]);
    check_row(
        "Job",
        with(done),
        &expect![[r#"
        Name: "j"
        Status: "Complete"
        Completions: "1/1"
        Duration: "61m"
        Age: "24h"
        Containers (wide): "c"
        Images (wide): "i:1"
        Selector (wide): "<none>""#]],
    );
    check_row(
        "Job",
        job(json!({"parallelism": 3})),
        &expect![[r#"
        Name: "j"
        Status: "Running"
        Completions: "0/1 of 3"
        Duration: ""
        Age: "24h"
        Containers (wide): "c"
        Images (wide): "i:1"
        Selector (wide): "<none>""#]],
    );
}

#[test]
fn cron_jobs() {
    let cron = |spec: Value| {
        let mut object = json!({"metadata": {"name": "c"}, "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": job(json!({}))["spec"]}}});
        let fields = object["spec"].as_object_mut().expect("a spec");
        fields.extend(spec.as_object().expect("fields").clone());
        object
    };
    check_created(
        "CronJob",
        cron(json!({})),
        &expect![[r#"
        {
          "metadata": {
            "name": "c"
          },
          "spec": {
            "concurrencyPolicy": "Allow",
            "failedJobsHistoryLimit": 1,
            "jobTemplate": {
              "metadata": {},
              "spec": {
                "template": {
                  "metadata": {},
                  "spec": {
                    "containers": [
                      {
                        "image": "i:1",
                        "imagePullPolicy": "IfNotPresent",
                        "name": "c",
                        "resources": {},
                        "terminationMessagePath": "/dev/termination-log",
                        "terminationMessagePolicy": "File"
                      }
                    ],
                    "dnsPolicy": "ClusterFirst",
                    "restartPolicy": "Never",
                    "schedulerName": "default-scheduler",
                    "securityContext": {},
                    "terminationGracePeriodSeconds": 30
                  }
                }
              }
            },
            "schedule": "*/5 * * * *",
            "successfulJobsHistoryLimit": 3,
            "suspend": false
          },
          "status": {}
        }"#]],
    );
    let errors = [
        json!({}),
        json!({"schedule": ""}),
        json!({"schedule": "TZ=UTC 61 * * * *", "timeZone": "Europe/Berlin"}),
        json!({"timeZone": "Moon/Base", "concurrencyPolicy": "Sometimes", "successfulJobsHistoryLimit": -1, "startingDeadlineSeconds": -1}),
        json!({"timeZone": "local"}),
        json!({"timeZone": "a b"}),
        json!({"jobTemplate": {"spec": {"manualSelector": true, "selector": {}, "template": {"spec": {"containers": []}}}}}),
    ]
    .map(|spec| errors_of("CronJob", &cron(spec)));
    expect![[r#"

        spec.schedule: Required value
        spec.schedule: Invalid value: "TZ=UTC 61 * * * *": end of range (61) above maximum (59): 61
        spec.schedule: Invalid value: "TZ=UTC 61 * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead
        spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0
        spec.timeZone: Invalid value: "Moon/Base": unknown time zone Moon/Base
        spec.concurrencyPolicy: Unsupported value: "Sometimes": supported values: "Allow", "Forbid", "Replace"
        spec.successfulJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0
        spec.timeZone: Invalid value: "local": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones
        spec.timeZone: Invalid value: "local": unknown time zone local
        spec.timeZone: Invalid value: "a b": unknown time zone a b
        spec.jobTemplate.spec.template.spec.containers: Required value
        spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
        spec.jobTemplate.spec.selector: Invalid value: {}: `selector` will be auto-generated
        spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false""#]].assert_eq(&errors.join("\n"));
    check_row(
        "CronJob",
        {
            let mut object = cron(json!({"suspend": true}));
            object["status"] = json!({"lastScheduleTime": "2026-01-01T23:55:00Z"});
            object
        },
        &expect![[r#"
            Name: "c"
            Schedule: "*/5 * * * *"
            Timezone: "<none>"
            Suspend: "True"
            Active: 0
            Last Schedule: "5m"
            Age: "<unknown>"
            Containers (wide): "c"
            Images (wide): "i:1"
            Selector (wide): "<none>""#]],
    );
    check_warnings(
        "CronJob",
        cron(json!({"schedule": "CRON_TZ=UTC * * * * *"})),
        &expect![
            "CRON_TZ or TZ used in schedule is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
        ],
    );
}
