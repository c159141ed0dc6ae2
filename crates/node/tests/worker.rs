//! A worker with a scripted machine and a scripted API server: no kernel, no sockets, and a clock that jumps.

use async_trait::async_trait;
use catamaran_node::PodKey;
use catamaran_node::machine::{
    Failure, Machine, Prepared, Reported, Reports, Retry, SandboxUp, Severity, StartFailure, StartRequest,
    StartedAttempt,
};
use catamaran_node::resize::Verdict;
use catamaran_node::worker::{Clock, Message, Start, Worker};
use catamaran_node::world::{Ended, Intent, RestartPolicy, Sandbox, Slot, World};
use catamaran_shim::client::Event;
use catamaran_shim::spec::Exit;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

/// Everything that happened, in order, one word or two each.
#[derive(Default)]
struct Journal {
    lines: Mutex<Vec<String>>,
    changed: Notify,
}

impl Journal {
    fn add(&self, line: impl Into<String>) {
        self.lines.lock().expect("not poisoned").push(line.into());
        self.changed.notify_waiters();
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("not poisoned").clone()
    }

    async fn until(&self, what: &str) {
        loop {
            let changed = self.changed.notified();
            if self.lines().iter().any(|line| line.contains(what)) {
                return;
            }
            changed.await;
        }
    }

    async fn until_count(&self, what: &str, count: usize) {
        loop {
            let changed = self.changed.notified();
            if self.lines().iter().filter(|line| line.contains(what)).count() >= count {
                return;
            }
            changed.await;
        }
    }
}

#[derive(Default)]
struct Fake {
    journal: Arc<Journal>,
    shim: Mutex<Option<mpsc::UnboundedSender<Event>>>,
    ids: Mutex<HashMap<String, String>>,
    images: Mutex<Vec<Failure>>,
    resizes: Mutex<Vec<Result<Vec<String>, String>>>,
    reports_fail: Mutex<usize>,
    image_takes: SignedDuration,
    clock: Arc<JumpingClock>,
}

impl Fake {
    fn exit(&self, container: &str, code: i32) {
        let id = self.ids.lock().expect("not poisoned")[container].clone();
        let now = Timestamp::UNIX_EPOCH;
        let exit = Exit {
            code,
            signal: None,
            oom_killed: false,
            started_at: now,
            finished_at: self.clock.now(),
            message: String::new(),
        };
        let shim = self.shim.lock().expect("not poisoned");
        shim.as_ref()
            .expect("a sandbox")
            .send(Event::Exited { id, exit })
            .expect("the worker listens");
    }
}

#[async_trait]
impl Machine for Fake {
    async fn create_sandbox(&self, _: &Arc<Pod>) -> Result<SandboxUp, Failure> {
        self.journal.add("sandbox");
        let (sender, events) = mpsc::unbounded_channel();
        *self.shim.lock().expect("not poisoned") = Some(sender);
        Ok(SandboxUp {
            ip: [10, 0, 0, 9].into(),
            events,
        })
    }

    async fn image(&self, _: &Arc<Pod>, container: &str) -> Result<Prepared, Failure> {
        self.clock.until(self.clock.now() + self.image_takes).await;
        self.journal.add(format!("image {container}"));
        match self.images.lock().expect("not poisoned").pop() {
            Some(failure) => Err(failure),
            None => Ok(Arc::new(())),
        }
    }

    async fn start(&self, _: &Arc<Pod>, request: &StartRequest, _: &Prepared) -> Result<StartedAttempt, StartFailure> {
        self.ids
            .lock()
            .expect("not poisoned")
            .insert(request.container.clone(), request.id.clone());
        self.journal
            .add(format!("start {} {}", request.container, request.attempt));
        Ok(StartedAttempt {
            started_at: self.clock.now(),
            user: None,
            image_id: "sha256:1".into(),
            ended: None,
        })
    }

    async fn stop(&self, _: &Arc<Pod>, _: &str) {
        self.journal.add("stop");
    }

    async fn kill(&self, _: &PodKey, _: &str) {
        self.journal.add("kill");
    }

    fn fits(&self, pod: &Pod) -> Verdict {
        let asked = pod.spec.iter().flat_map(|spec| &spec.containers);
        let mut asked =
            asked.filter_map(|container| container.resources.as_ref()?.requests.as_ref()?.get("cpu").cloned());
        match asked.next().map(|amount| amount.0) {
            Some(amount) if amount == "1000" => Verdict::Infeasible("too much".into()),
            _ => Verdict::Fits,
        }
    }

    async fn note_grant(&self, _: &Arc<Pod>) {}

    async fn resize(&self, _: &Arc<Pod>, containers: &[(String, String)]) -> Result<Vec<String>, String> {
        let names: Vec<_> = containers.iter().map(|(name, _)| name.as_str()).collect();
        self.journal.add(format!("resize {}", names.join(" ")));
        match self.resizes.lock().expect("not poisoned").pop() {
            Some(result) => result,
            None => Ok(Vec::new()),
        }
    }

    async fn last_words(&self, _: &Arc<Pod>, _: &str, _: &str, _: u32, ended: Ended) -> Ended {
        ended
    }

    async fn remove_container(&self, _: &PodKey, container: &str, _: &str, keep_logs_from: u32) {
        self.journal.add(format!("forget {container} before {keep_logs_from}"));
    }

    async fn remove_sandbox(&self, _: &PodKey) -> Result<(), String> {
        self.journal.add("remove sandbox");
        Ok(())
    }

    fn clean(&self, _: &PodKey, logs: bool) {
        self.journal.add(if logs { "clean all" } else { "clean" });
    }

    async fn mark_rerun(&self, _: &PodKey) {}

    async fn unmount(&self, _: &PodKey) {
        self.journal.add("unmount");
    }

    async fn refresh_volumes(&self, _: &Arc<Pod>) {
        self.journal.add("refresh");
    }
}

#[async_trait]
impl Reports for Fake {
    async fn status(&self, _: &PodKey, status: &PodStatus) -> Reported {
        let mut failures = self.reports_fail.lock().expect("not poisoned");
        if *failures > 0 {
            *failures -= 1;
            self.journal.add("report fails");
            return Reported::Failed;
        }
        drop(failures);
        let ready = status
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == "Ready" && c.status == "True");
        let states = status.container_statuses.iter().flatten().map(|container| {
            let state = container.state.clone().unwrap_or_default();
            let waiting = state.waiting.and_then(|waiting| waiting.reason);
            let ended = state.terminated.and_then(|ended| ended.reason);
            format!(
                "{}={}",
                container.name,
                waiting.or(ended).unwrap_or_else(|| "running".into())
            )
        });
        let phase = status.phase.clone().unwrap_or_default();
        let states: Vec<_> = states.collect();
        self.journal.add(format!(
            "status {phase} {} {}",
            if ready { "ready" } else { "-" },
            states.join(" ")
        ));
        Reported::Done
    }

    async fn delete(&self, _: &PodKey) -> Reported {
        self.journal.add("delete");
        Reported::Done
    }

    fn event(&self, _: &Arc<Pod>, _: Option<&str>, severity: Severity, reason: &str, _: &str) {
        if severity == Severity::Warning || reason.starts_with("Resize") {
            self.journal.add(format!("event {reason}"));
        }
    }
}

fn base() -> Timestamp {
    Timestamp::from_second(1_767_225_600).expect("in range")
}

/// A clock that jumps to the earliest instant somebody waits for, once nothing else can happen.
#[derive(Default)]
struct JumpingClock {
    elapsed: Mutex<SignedDuration>,
    waiting: Mutex<BTreeMap<(Timestamp, u64), ()>>,
    next: Mutex<u64>,
}

/// Turns of the runtime after which everything that could happen has happened.
const QUIET_TURNS: usize = 64;

impl JumpingClock {
    fn elapsed(&self) -> SignedDuration {
        *self.elapsed.lock().expect("not poisoned")
    }
}

struct Waiting<'a> {
    clock: &'a JumpingClock,
    key: (Timestamp, u64),
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.clock.waiting.lock().expect("not poisoned").remove(&self.key);
    }
}

#[async_trait]
impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        base() + self.elapsed()
    }

    async fn until(&self, at: Timestamp) {
        let key = {
            let mut next = self.next.lock().expect("not poisoned");
            *next += 1;
            (at, *next)
        };
        self.waiting.lock().expect("not poisoned").insert(key, ());
        let waiting = Waiting { clock: self, key };
        while self.now() < at {
            for _ in 0..QUIET_TURNS {
                tokio::task::yield_now().await;
            }
            let first = self.waiting.lock().expect("not poisoned").keys().next().copied();
            if first == Some(waiting.key) {
                *self.elapsed.lock().expect("not poisoned") = at.duration_since(base());
            }
        }
    }
}

fn pod(spec: Value) -> Arc<Pod> {
    let meta = json!({"name": "p", "namespace": "ns", "uid": "u", "generation": 1});
    let mut spec = spec;
    spec["terminationGracePeriodSeconds"] = json!(30);
    Arc::new(serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a pod"))
}

fn one_container(policy: &str) -> Arc<Pod> {
    pod(json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "i"}]}))
}

fn deleted(pod: &Pod, grace: i64) -> Arc<Pod> {
    let mut pod = pod.clone();
    let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(base());
    pod.metadata.deletion_timestamp = Some(at);
    pod.metadata.deletion_grace_period_seconds = Some(grace);
    Arc::new(pod)
}

struct Running {
    fake: Arc<Fake>,
    inbox: mpsc::UnboundedSender<Message>,
    task: JoinHandle<()>,
}

fn run(pod: &Arc<Pod>, fake: Fake) -> Running {
    let spec = pod.spec.as_ref().expect("a spec");
    let init = spec.init_containers.iter().flatten().map(|c| Slot::new(&c.name, true));
    let slots = init
        .chain(spec.containers.iter().map(|c| Slot::new(&c.name, false)))
        .collect();
    let world = World {
        now: base(),
        restart_policy: RestartPolicy::parse(spec.restart_policy.as_deref()),
        intent: Intent::Run,
        sandbox: Sandbox::Absent,
        sandbox_hold: None,
        slots,
        reported: false,
        active_deadline: spec
            .active_deadline_seconds
            .map(|seconds| base() + SignedDuration::from_secs(seconds)),
        evicted: None,
        finished: false,
    };
    let start = Start {
        pod: pod.clone(),
        world,
        sandbox: None,
        start_time: base(),
        last_ip: None,
        adopted: false,
    };
    let fake = Arc::new(fake);
    let clock = fake.clock.clone();
    let key = PodKey {
        namespace: "ns".into(),
        name: "p".into(),
        uid: "u".into(),
    };
    let worker = Worker::new(key, start, fake.clone(), fake.clone(), clock, [10, 0, 0, 1].into());
    let (inbox, receiver) = mpsc::unbounded_channel();
    Running {
        fake,
        inbox,
        task: tokio::spawn(worker.run(receiver)),
    }
}

impl Running {
    fn journal(&self) -> &Journal {
        &self.fake.journal
    }

    fn statuses(&self) -> Vec<String> {
        self.journal()
            .lines()
            .into_iter()
            .filter(|line| line.starts_with("status"))
            .collect()
    }
}

#[tokio::test]
async fn from_bound_to_ready_there_is_one_status_write() {
    let spec = json!({"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}],
                      "initContainers": [{"name": "i", "image": "i"}]});
    let running = run(&pod(spec), Fake::default());
    running.journal().until("start i 0").await;
    running.fake.exit("i", 0);
    running.journal().until("status").await;
    assert_eq!(running.statuses(), ["status Running ready a=running b=running"]);
}

#[tokio::test]
async fn a_slow_start_shows_what_it_waits_for() {
    let fake = Fake {
        image_takes: SignedDuration::from_secs(20),
        ..Fake::default()
    };
    let running = run(&one_container("Always"), fake);
    running.journal().until("ready").await;
    assert_eq!(
        running.statuses(),
        ["status Pending - a=ContainerCreating", "status Running ready a=running"]
    );
}

#[tokio::test]
async fn deletion_is_graceful_reported_and_complete() {
    let pod = one_container("Always");
    let running = run(&pod, Fake::default());
    running.journal().until("ready").await;
    running
        .inbox
        .send(Message::Pod(deleted(&pod, 30)))
        .expect("the worker listens");
    running.journal().until("stop").await;
    running.fake.exit("a", 0);
    let journal = running.fake.journal.clone();
    running.task.await.expect("ends");
    let lines = journal.lines();
    let after: Vec<_> = lines
        .iter()
        .skip_while(|line| *line != "stop")
        .map(String::as_str)
        .collect();
    assert!(
        after.contains(&"remove sandbox") && !after.contains(&"kill"),
        "{lines:?}"
    );
    let position = |what: &str| after.iter().position(|line| line.starts_with(what)).expect(what);
    assert!(
        position("status Succeeded") < position("delete") && position("delete") < position("clean all"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn what_does_not_stop_is_killed_at_the_deadline() {
    let pod = one_container("Always");
    let running = run(&pod, Fake::default());
    running.journal().until("ready").await;
    let before = running.fake.clock.elapsed();
    running
        .inbox
        .send(Message::Pod(deleted(&pod, 30)))
        .expect("the worker listens");
    running.journal().until("kill").await;
    assert!(running.fake.clock.elapsed() - before >= SignedDuration::from_secs(30));
    running.fake.exit("a", 137);
    running.task.await.expect("ends");
}

#[tokio::test]
async fn crashes_back_off_and_keep_one_dead_container() {
    let running = run(&one_container("Always"), Fake::default());
    for attempt in 0..4 {
        running.journal().until(&format!("start a {attempt}")).await;
        running.journal().until_count("status Running ready", 1).await;
        tokio::task::yield_now().await;
        running.fake.exit("a", 1);
    }
    running.journal().until("start a 4").await;
    // 0 + 10 + 20 + 40 s
    assert!(
        running.fake.clock.elapsed() >= SignedDuration::from_secs(70),
        "{:?}",
        running.fake.clock.elapsed()
    );
    running.journal().until("forget a before 2").await;
    assert!(
        running
            .statuses()
            .iter()
            .any(|line| line.contains("a=CrashLoopBackOff")),
        "{:?}",
        running.statuses()
    );
    assert!(running.journal().lines().iter().any(|line| line == "event BackOff"));
}

#[tokio::test]
async fn a_pull_that_fails_is_tried_again() {
    let failure = Failure {
        reason: "ErrImagePull".into(),
        message: "m".into(),
        retry: Retry::PullBackoff,
    };
    let fake = Fake {
        images: Mutex::new(vec![failure]),
        ..Fake::default()
    };
    let running = run(&one_container("Always"), fake);
    running.journal().until("ready").await;
    let statuses = running.statuses();
    assert_eq!(
        statuses.first().map(String::as_str),
        Some("status Pending - a=ErrImagePull")
    );
    assert!(
        statuses.contains(&"status Pending - a=ImagePullBackOff".to_owned()),
        "{statuses:?}"
    );
    assert!(running.fake.clock.elapsed() >= SignedDuration::from_secs(10));
}

#[tokio::test]
async fn a_finished_pod_is_reported_before_its_sandbox_goes() {
    let running = run(&one_container("Never"), Fake::default());
    running.journal().until("ready").await;
    running.fake.exit("a", 0);
    running.journal().until("clean").await;
    let lines = running.journal().lines();
    let position = |what: &str| lines.iter().position(|line| line.starts_with(what)).expect(what);
    assert!(position("status Succeeded") < position("remove sandbox"), "{lines:?}");
    assert!(!lines.contains(&"clean all".to_owned()), "logs stay: {lines:?}");
}

#[tokio::test]
async fn an_api_server_that_is_away_is_told_later() {
    let fake = Fake {
        reports_fail: Mutex::new(3),
        ..Fake::default()
    };
    let running = run(&one_container("Always"), fake);
    running.journal().until("ready").await;
    assert_eq!(
        running
            .journal()
            .lines()
            .iter()
            .filter(|line| *line == "report fails")
            .count(),
        3
    );
}

#[tokio::test]
async fn the_active_deadline_fails_the_pod_and_keeps_the_object() {
    let spec = json!({"activeDeadlineSeconds": 5, "containers": [{"name": "a", "image": "i"}]});
    let running = run(&pod(spec), Fake::default());
    running.journal().until("stop").await;
    running.fake.exit("a", 143);
    running.journal().until("clean").await;
    let lines = running.journal().lines();
    assert!(
        lines.iter().any(|line| line.starts_with("status Failed")) && !lines.contains(&"delete".to_owned()),
        "{lines:?}"
    );
}

#[tokio::test]
async fn an_evicted_pod_fails_once_and_keeps_its_object() {
    let running = run(&one_container("Always"), Fake::default());
    running.journal().until("ready").await;
    for _ in 0..2 {
        let message = "too big".to_owned();
        running
            .inbox
            .send(Message::Evict { message })
            .expect("the worker listens");
    }
    running.journal().until("stop").await;
    running.fake.exit("a", 0);
    running.journal().until("clean").await;
    let lines = running.journal().lines();
    assert!(
        lines.iter().any(|line| line.starts_with("status Failed")) && !lines.contains(&"delete".to_owned()),
        "{lines:?}"
    );
    assert_eq!(
        lines.iter().filter(|line| line.contains("Evicted")).count(),
        1,
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_shutdown_leaves_the_object_alone() {
    let running = run(&one_container("Never"), Fake::default());
    running.journal().until("ready").await;
    running
        .inbox
        .send(Message::Shutdown {
            max_grace: Duration::from_secs(5),
        })
        .expect("the worker listens");
    running.journal().until("stop").await;
    running.fake.exit("a", 0);
    let journal = running.fake.journal.clone();
    running.task.await.expect("ends");
    let lines = journal.lines();
    assert_eq!(
        lines.iter().filter(|line| line.starts_with("status")).count(),
        1,
        "{lines:?}"
    );
    assert!(
        lines.contains(&"unmount".to_owned()) && !lines.contains(&"delete".to_owned()),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_dead_pod_shim_is_replaced() {
    let running = run(&one_container("Always"), Fake::default());
    running.journal().until("ready").await;
    running
        .fake
        .shim
        .lock()
        .expect("not poisoned")
        .as_ref()
        .expect("a sandbox")
        .send(Event::Gone)
        .expect("listens");
    running.journal().until("start a 1").await;
    let lines = running.journal().lines();
    assert_eq!(lines.iter().filter(|line| *line == "sandbox").count(), 2, "{lines:?}");
}

#[tokio::test]
async fn a_pod_whose_object_is_gone_is_ended_at_once() {
    let running = run(&one_container("Always"), Fake::default());
    running.journal().until("ready").await;
    running.inbox.send(Message::Gone).expect("the worker listens");
    running.journal().until("kill").await;
    running.fake.exit("a", 137);
    let journal = running.fake.journal.clone();
    running.task.await.expect("ends");
    assert!(!journal.lines().contains(&"delete".to_owned()));
}

#[tokio::test]
async fn a_container_that_is_added_runs_once_beside_the_others() {
    let running = run(&one_container("Always"), Fake::default());
    running.journal().until("ready").await;
    let with = |names: &[&str]| {
        let added: Vec<_> = names.iter().map(|name| json!({"name": name, "image": "dbg"})).collect();
        pod(
            json!({"restartPolicy": "Always", "containers": [{"name": "a", "image": "i"}], "ephemeralContainers": added}),
        )
    };
    running
        .inbox
        .send(Message::Pod(with(&["d"])))
        .expect("the worker listens");
    running.journal().until("start d 0").await;
    running.fake.exit("d", 1);
    running
        .inbox
        .send(Message::Pod(with(&["d", "e"])))
        .expect("the worker listens");
    running.journal().until("start e 0").await;
    let lines = running.journal().lines();
    let starts: Vec<_> = lines.iter().filter(|line| line.starts_with("start")).collect();
    assert_eq!(starts, ["start a 0", "start d 0", "start e 0"], "{lines:?}");
    assert!(
        !lines
            .iter()
            .any(|line| line.contains("stop") || line.contains("event BackOff")),
        "{lines:?}"
    );
}

fn with_cpu(amount: &str, generation: i64, policy: &str) -> Arc<Pod> {
    let resources = json!({"requests": {"cpu": amount}});
    let policies = json!([{"resourceName": "cpu", "restartPolicy": policy}]);
    let container = json!({"name": "a", "image": "i", "resources": resources, "resizePolicy": policies});
    let mut pod = Pod::clone(&pod(json!({"restartPolicy": "Always", "containers": [container]})));
    pod.metadata.generation = Some(generation);
    Arc::new(pod)
}

#[tokio::test]
async fn a_resize_that_fits_is_done_in_place() {
    let running = run(&with_cpu("1", 1, "NotRequired"), Fake::default());
    running.journal().until("ready").await;
    running
        .inbox
        .send(Message::Pod(with_cpu("2", 2, "NotRequired")))
        .expect("the worker listens");
    running.journal().until("event ResizeCompleted").await;
    let lines = running.journal().lines();
    let after: Vec<_> = lines
        .iter()
        .skip_while(|line| *line != "event ResizeStarted")
        .filter(|line| !line.starts_with("status"))
        .collect();
    assert_eq!(
        after,
        ["event ResizeStarted", "resize a", "event ResizeCompleted"],
        "{lines:?}"
    );
}

#[tokio::test]
async fn who_wants_a_restart_for_it_gets_one() {
    let running = run(&with_cpu("1", 1, "RestartContainer"), Fake::default());
    running.journal().until("ready").await;
    running
        .inbox
        .send(Message::Pod(with_cpu("2", 2, "RestartContainer")))
        .expect("the worker listens");
    running.journal().until("stop").await;
    running.fake.exit("a", 143);
    running.journal().until("event ResizeCompleted").await;
    let lines = running.journal().lines();
    assert!(
        lines.contains(&"start a 1".to_owned()) && !lines.iter().any(|line| line.starts_with("resize")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn what_the_machine_cannot_change_in_place_is_started_again() {
    let fake = Fake {
        resizes: Mutex::new(vec![Ok(vec!["a".into()]), Err("no".into())]),
        ..Fake::default()
    };
    let running = run(&with_cpu("1", 1, "NotRequired"), fake);
    running.journal().until("ready").await;
    running
        .inbox
        .send(Message::Pod(with_cpu("2", 2, "NotRequired")))
        .expect("the worker listens");
    running.journal().until("stop").await;
    running.fake.exit("a", 143);
    running.journal().until("event ResizeCompleted").await;
    let lines = running.journal().lines();
    let events: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("event Resize") || line.starts_with("resize"))
        .collect();
    assert_eq!(
        events,
        [
            "event ResizeStarted",
            "resize a",
            "event ResizeError",
            "resize a",
            "event ResizeCompleted"
        ],
        "{lines:?}"
    );
}

#[tokio::test]
async fn what_is_too_much_is_said_once_and_can_be_taken_back() {
    let running = run(&with_cpu("1", 1, "NotRequired"), Fake::default());
    running.journal().until("ready").await;
    running
        .inbox
        .send(Message::Pod(with_cpu("1000", 2, "NotRequired")))
        .expect("the worker listens");
    running.journal().until("event ResizeInfeasible").await;
    running
        .inbox
        .send(Message::Pod(with_cpu("1000", 2, "NotRequired")))
        .expect("the worker listens");
    running
        .inbox
        .send(Message::Pod(with_cpu("2", 3, "NotRequired")))
        .expect("the worker listens");
    running.journal().until("event ResizeCompleted").await;
    let lines = running.journal().lines();
    assert_eq!(
        lines.iter().filter(|line| line.contains("Infeasible")).count(),
        1,
        "{lines:?}"
    );
}
