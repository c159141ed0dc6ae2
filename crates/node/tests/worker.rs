//! A worker with a scripted machine and a scripted API server: no kernel, no sockets, and a clock that jumps.

use async_trait::async_trait;
use catamaran_node::PodKey;
use catamaran_node::machine::{
    Changed, Failure, Machine, Prepared, Reported, Reports, Retry, SandboxUp, Severity, StartFailure, StartRequest,
    StartedAttempt,
};
use catamaran_node::resize::{Granted, Resizes, Verdict};
use catamaran_node::worker::{Clock, Message, Start, Worker};
use catamaran_node::world::{Attempt, Ended, Intent, RestartPolicy, Role, Sandbox, Slot, World};
use catamaran_shim::client::Event;
use catamaran_shim::spec::Exit;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
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
    resizes: Mutex<Vec<Result<Changed, String>>>,
    resize_takes: SignedDuration,
    /// Messages of `Killing` events.
    killings: Mutex<Vec<String>>,
    /// When the pod became ready, as every status said.
    ready_since: Mutex<Vec<Option<Timestamp>>>,
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

/// The CPU the pod's first container asks for.
fn cpu(pod: &Pod) -> String {
    amount(pod, |resources| resources.requests.as_ref())
}

/// What its CPU is limited to.
fn limit(pod: &Pod) -> String {
    amount(pod, |resources| resources.limits.as_ref())
}

fn amount(pod: &Pod, list: impl Fn(&ResourceRequirements) -> Option<&BTreeMap<String, Quantity>>) -> String {
    let first = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let resources = first.and_then(|container| container.resources.as_ref());
    let amount = resources.and_then(|resources| list(resources)?.get("cpu"));
    amount.map_or_else(|| "-".to_owned(), |amount| amount.0.clone())
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

    async fn stop(&self, _: &Arc<Pod>, id: &str, again: bool) {
        let ids = self.ids.lock().expect("not poisoned");
        let name = ids.iter().find(|(_, own)| *own == id).map_or("?", |(name, _)| name);
        let why = if again { " to start again" } else { "" };
        self.journal.add(format!("stop {name}{why}"));
    }

    async fn kill(&self, _: &PodKey, _: &str) {
        self.journal.add("kill");
    }

    async fn grant(&self, pod: &Arc<Pod>, running: &[(String, String)]) -> Verdict {
        let names: Vec<_> = running.iter().map(|(name, _)| name.as_str()).collect();
        let cpu = cpu(pod);
        self.journal.add(format!("grant {cpu} to {}", names.join(" ")));
        match cpu.as_str() {
            "1000" => Verdict::Infeasible("too much".into()),
            "500" => Verdict::Deferred("not now".into()),
            _ => Verdict::Fits,
        }
    }

    async fn resize(
        &self,
        pod: &Arc<Pod>,
        room: &Arc<Pod>,
        containers: &[(String, String)],
    ) -> Result<Changed, String> {
        let names: Vec<_> = containers.iter().map(|(name, _)| name.clone()).collect();
        self.journal.add(format!("room {}", limit(room)));
        self.clock.until(self.clock.now() + self.resize_takes).await;
        self.journal
            .add(format!("resize to {} of {}", limit(pod), names.join(" ")));
        match self.resizes.lock().expect("not poisoned").pop() {
            Some(result) => result,
            None => Ok(Changed {
                changed: names,
                ..Changed::default()
            }),
        }
    }

    async fn settle(&self, pod: &Arc<Pod>) -> Result<(), String> {
        self.journal.add(format!("settle {}", limit(pod)));
        Ok(())
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
        let mut conditions = status.conditions.iter().flatten();
        let condition = conditions.find(|c| c.type_ == "Ready" && c.status == "True");
        let ready = condition.is_some();
        let since = condition.and_then(|condition| Some(condition.last_transition_time.as_ref()?.0));
        self.ready_since.lock().expect("not poisoned").push(since);
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

    fn event(&self, _: &Arc<Pod>, _: Option<&str>, severity: Severity, reason: &str, message: &str) {
        if reason == "Killing" {
            self.killings.lock().expect("not poisoned").push(message.to_owned());
        }
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
    run_from(start_of(pod), fake)
}

/// A pod that nobody has seen before.
fn start_of(pod: &Arc<Pod>) -> Start {
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
        unintroduced: false,
        finished: false,
    };
    Start {
        pod: pod.clone(),
        world,
        resizes: Resizes::of(pod),
        sandbox: None,
        start_time: base(),
        last_ip: None,
        adopted: false,
    }
}

/// The same pod as another agent left it: its containers run, and know of nothing the API server says.
fn adopted(pod: &Arc<Pod>, granted: Granted, fake: &Fake) -> Start {
    let mut start = start_of(pod);
    let (sender, events) = mpsc::unbounded_channel();
    *fake.shim.lock().expect("not poisoned") = Some(sender);
    start.sandbox = Some(SandboxUp {
        ip: [10, 0, 0, 9].into(),
        events,
    });
    start.world.unintroduced = true;
    start.resizes = Resizes::recovered(granted);
    for slot in &mut start.world.slots {
        let id = format!("{}-0", slot.name);
        fake.ids
            .lock()
            .expect("not poisoned")
            .insert(slot.name.clone(), id.clone());
        slot.current = Some(Attempt {
            id,
            number: 0,
            image_id: "sha256:1".into(),
            user: None,
            started_at: base(),
            ended: None,
        });
        let resources = resources_of(pod, &slot.name);
        start.resizes.set_held(&slot.name, vec![resources]);
    }
    start
}

fn resources_of(pod: &Pod, name: &str) -> ResourceRequirements {
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let found = containers.find(|container| container.name == name);
    found
        .and_then(|container| container.resources.clone())
        .unwrap_or_default()
}

fn run_from(start: Start, fake: Fake) -> Running {
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
        .skip_while(|line| *line != "stop a")
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
    let resources = json!({"requests": {"cpu": amount}, "limits": {"cpu": amount}});
    let policies = json!([{"resourceName": "cpu", "restartPolicy": policy}]);
    let container = json!({"name": "a", "image": "i", "resources": resources, "resizePolicy": policies});
    let mut pod = Pod::clone(&pod(json!({"restartPolicy": "Always", "containers": [container]})));
    pod.metadata.generation = Some(generation);
    Arc::new(pod)
}

impl Running {
    fn send(&self, pod: Arc<Pod>) {
        self.inbox.send(Message::Pod(pod)).expect("the worker listens");
    }

    /// What happened from the first line that is `from`, without statuses.
    fn since(&self, from: &str) -> Vec<String> {
        let lines = self.journal().lines().into_iter();
        let told = lines.skip_while(|line| line != from);
        told.filter(|line| !line.starts_with("status")).collect()
    }
}

#[tokio::test]
async fn a_resize_that_fits_is_done_in_place() {
    let running = run(&with_cpu("1", 1, "NotRequired"), Fake::default());
    running.journal().until("ready").await;
    running.send(with_cpu("2", 2, "NotRequired"));
    running.journal().until("event ResizeCompleted").await;
    assert_eq!(
        running.since("grant 2 to a"),
        [
            "grant 2 to a",
            "event ResizeStarted",
            "room 2",
            "resize to 2 of a",
            "settle 2",
            "event ResizeCompleted"
        ]
    );
    // Down: the pod as a whole last.
    running.send(with_cpu("500m", 3, "NotRequired"));
    running.journal().until_count("event ResizeCompleted", 2).await;
    let after = running.since("grant 500m to a");
    assert_eq!(
        after[2..],
        ["room 2", "resize to 500m of a", "settle 500m", "event ResizeCompleted"]
    );
}

#[tokio::test]
async fn who_wants_a_restart_for_it_gets_one_when_there_is_room() {
    let running = run(&with_cpu("1", 1, "RestartContainer"), Fake::default());
    running.journal().until("ready").await;
    running.send(with_cpu("2", 2, "RestartContainer"));
    running.journal().until("stop").await;
    running.fake.exit("a", 143);
    running.journal().until("event ResizeCompleted").await;
    assert_eq!(
        *running.fake.killings.lock().expect("not poisoned"),
        ["Container a resize requires restart"]
    );
    assert_eq!(
        running.since("event ResizeStarted"),
        [
            "event ResizeStarted",
            "room 2",
            "resize to 2 of ",
            "stop a to start again",
            "image a",
            "start a 1",
            "settle 2",
            "event ResizeCompleted"
        ]
    );
}

#[tokio::test]
async fn who_does_not_run_is_started_in_a_pod_that_has_room_for_it() {
    let running = run(&with_cpu("1", 1, "NotRequired"), Fake::default());
    running.journal().until("ready").await;
    for attempt in 0..2 {
        running.journal().until(&format!("start a {attempt}")).await;
        tokio::task::yield_now().await;
        running.fake.exit("a", 1);
    }
    running.journal().until("CrashLoopBackOff").await;
    running.send(with_cpu("2", 2, "NotRequired"));
    running.journal().until("start a 2").await;
    let lines = running.since("event ResizeStarted");
    assert_eq!(
        lines[..3],
        ["event ResizeStarted", "settle 2", "event ResizeCompleted"],
        "{lines:?}"
    );
    // One of two waits: room first, for it may start at any time.
    let two = |cpu: &str, generation| {
        let mut pod = Pod::clone(&with_cpu(cpu, generation, "NotRequired"));
        let spec = pod.spec.as_mut().expect("a spec");
        let mut other = spec.containers[0].clone();
        other.name = "b".to_owned();
        spec.containers.insert(0, other);
        Arc::new(pod)
    };
    let running = run(&two("1", 1), Fake::default());
    running.journal().until("ready").await;
    running.fake.exit("b", 1);
    running.journal().until("start b 1").await;
    tokio::task::yield_now().await;
    running.fake.exit("b", 1);
    running.journal().until("CrashLoopBackOff").await;
    running.send(two("2", 2));
    running.journal().until("start b 2").await;
    let lines = running.since("event ResizeStarted");
    assert_eq!(lines[1..3], ["room 2", "resize to 2 of a"], "{lines:?}");
}

#[tokio::test]
async fn who_is_about_to_start_again_finds_room() {
    let running = run(&with_cpu("1", 1, "NotRequired"), Fake::default());
    running.journal().until("ready").await;
    let other_image = |cpu: &str, generation| {
        let mut pod = Pod::clone(&with_cpu(cpu, generation, "NotRequired"));
        pod.spec.as_mut().expect("a spec").containers[0].image = Some("j".to_owned());
        Arc::new(pod)
    };
    running.send(other_image("1", 2));
    running.journal().until("stop a to start again").await;
    running.send(other_image("2", 3));
    running.journal().until("event ResizeStarted").await;
    running.journal().until("room 2").await;
    running.fake.exit("a", 143);
    running.journal().until("event ResizeCompleted").await;
    let lines = running.since("room 2");
    let position = |what: &str| lines.iter().position(|line| line == what).expect(what);
    assert!(position("resize to 2 of ") < position("start a 1"), "{lines:?}");
    assert!(position("start a 1") < position("settle 2"), "{lines:?}");
}

#[tokio::test]
async fn nothing_is_started_while_room_is_made() {
    let fake = Fake {
        resize_takes: SignedDuration::from_secs(5),
        ..Fake::default()
    };
    let running = run(&with_cpu("1", 1, "NotRequired"), fake);
    running.journal().until("ready").await;
    running.send(with_cpu("2", 2, "NotRequired"));
    running.journal().until("room 2").await;
    running.fake.exit("a", 1);
    running.journal().until("start a 1").await;
    let lines = running.since("room 2");
    let position = |what: &str| lines.iter().position(|line| line == what).expect(what);
    assert!(position("resize to 2 of a") < position("start a 1"), "{lines:?}");
}

#[tokio::test]
async fn what_the_machine_cannot_change_in_place_is_started_again() {
    let again = Changed {
        restarts: vec!["a".into()],
        ..Changed::default()
    };
    let fake = Fake {
        resizes: Mutex::new(vec![Ok(again), Err("no".into())]),
        ..Fake::default()
    };
    let running = run(&with_cpu("1", 1, "NotRequired"), fake);
    running.journal().until("ready").await;
    running.send(with_cpu("2", 2, "NotRequired"));
    running.journal().until("stop").await;
    running.fake.exit("a", 143);
    running.journal().until("event ResizeCompleted").await;
    assert_eq!(
        running.since("event ResizeStarted"),
        [
            "event ResizeStarted",
            "room 2",
            "resize to 2 of a",
            "event ResizeError",
            "room 2",
            "resize to 2 of a",
            "stop a to start again",
            "image a",
            "start a 1",
            "settle 2",
            "event ResizeCompleted"
        ]
    );
}

#[tokio::test]
async fn a_change_that_failed_halfway_is_written_again_when_it_is_taken_back() {
    let halfway = Changed {
        error: Some("no".into()),
        ..Changed::default()
    };
    let fake = Fake {
        resizes: Mutex::new(vec![Ok(halfway)]),
        ..Fake::default()
    };
    let running = run(&with_cpu("1", 1, "NotRequired"), fake);
    running.journal().until("ready").await;
    running.send(with_cpu("2", 2, "NotRequired"));
    running.journal().until("event ResizeError").await;
    running.send(with_cpu("1", 3, "NotRequired"));
    running.journal().until("event ResizeCompleted").await;
    let after = running.since("grant 1 to a");
    assert_eq!(
        after[1..],
        [
            "event ResizeStarted",
            "room 2",
            "resize to 1 of a",
            "settle 1",
            "event ResizeCompleted"
        ]
    );
}

#[tokio::test]
async fn one_that_fails_keeps_nobody_from_being_started_again() {
    let two = |cpu: &str, generation| {
        let mut pod = Pod::clone(&with_cpu(cpu, generation, "NotRequired"));
        let spec = pod.spec.as_mut().expect("a spec");
        let mut other = spec.containers[0].clone();
        other.name = "w".to_owned();
        spec.containers.push(other);
        Arc::new(pod)
    };
    let mixed = Changed {
        changed: Vec::new(),
        restarts: vec!["w".into()],
        error: Some("no".into()),
    };
    let fake = Fake {
        resizes: Mutex::new(vec![Ok(mixed)]),
        ..Fake::default()
    };
    let running = run(&two("2", 1), fake);
    running.journal().until("ready").await;
    running.send(two("1", 2));
    running.journal().until("stop w to start again").await;
    running.fake.exit("w", 143);
    running.journal().until("event ResizeCompleted").await;
    let lines = running.since("event ResizeStarted");
    let position = |what: &str| lines.iter().position(|line| line == what).expect(what);
    // What is in force last has its room until then.
    assert!(
        position("start w 1") < position("settle 1") && !lines.contains(&"stop a to start again".to_owned()),
        "{lines:?}"
    );
}

#[tokio::test]
async fn what_is_too_much_is_said_once_and_can_be_taken_back() {
    let running = run(&with_cpu("1", 1, "NotRequired"), Fake::default());
    running.journal().until("ready").await;
    running.send(with_cpu("1000", 2, "NotRequired"));
    running.journal().until("event ResizeInfeasible").await;
    running.send(with_cpu("1000", 2, "NotRequired"));
    running.send(with_cpu("500", 3, "NotRequired"));
    running.journal().until_count("grant 500 to a", 3).await;
    running.send(with_cpu("2", 4, "NotRequired"));
    running.journal().until("event ResizeCompleted").await;
    let lines = running.journal().lines();
    let count = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    assert_eq!(
        (count("Infeasible"), count("grant 1000"), count("ResizeDeferred")),
        (1, 1, 1),
        "{lines:?}"
    );
}

#[tokio::test]
async fn an_adopted_pod_goes_on_with_what_was_granted_and_asks_for_nothing_yet() {
    let (before, asked) = (
        with_cpu("1", 1, "RestartContainer"),
        with_cpu("2", 2, "RestartContainer"),
    );
    let fake = Fake::default();
    let running = run_from(adopted(&before, Granted::resized(&asked), &fake), fake);
    running.journal().until("stop").await;
    assert_eq!(running.statuses(), [""; 0]);
    running.fake.exit("a", 143);
    running.journal().until("event ResizeCompleted").await;
    let lines: Vec<_> = running.journal().lines();
    let told: Vec<_> = lines.iter().filter(|line| !line.starts_with("status")).collect();
    assert_eq!(
        told,
        [
            "room 2",
            "resize to 2 of ",
            "stop a to start again",
            "image a",
            "start a 1",
            "settle 2",
            "event ResizeCompleted"
        ],
        "{lines:?}"
    );
}

#[tokio::test]
async fn an_adopted_pod_is_ready_since_it_was() {
    let pod = one_container("Always");
    let fake = Fake::default();
    let running = run_from(adopted(&pod, Granted::default(), &fake), fake);
    let mut known = Pod::clone(&pod);
    let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"});
    known.status = serde_json::from_value(json!({"conditions": [condition]})).expect("a status");
    for _ in 0..QUIET_TURNS {
        tokio::task::yield_now().await;
    }
    running.send(Arc::new(known));
    running.journal().until("ready").await;
    let since = running.fake.ready_since.lock().expect("not poisoned").clone();
    assert_eq!(since, ["2025-01-01T00:00:00Z".parse().ok()]);
}

#[tokio::test]
async fn an_adopted_pod_is_asked_for_again_when_it_is_known_and_its_refusal_is_no_news() {
    let before = with_cpu("1", 1, "NotRequired");
    let mut asked = Pod::clone(&with_cpu("1000", 2, "NotRequired"));
    let condition = json!({"type": "PodResizePending", "status": "True", "reason": "Infeasible", "message": "too much", "observedGeneration": 2});
    asked.status = serde_json::from_value(json!({"conditions": [condition]})).expect("a status");
    let fake = Fake::default();
    let running = run_from(adopted(&before, Granted::of(&before), &fake), fake);
    running.send(Arc::new(asked));
    running.journal().until("grant 1000 to a").await;
    running.send(with_cpu("2", 3, "NotRequired"));
    running.journal().until("event ResizeCompleted").await;
    let lines = running.journal().lines();
    assert!(!lines.iter().any(|line| line.contains("Infeasible")), "{lines:?}");
    assert_eq!(
        lines.iter().filter(|line| line.starts_with("room")).count(),
        1,
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_container_that_was_told_to_end_is_started_again_by_the_next_agent() {
    let pod = one_container("Never");
    let fake = Fake::default();
    let mut start = adopted(&pod, Granted::of(&pod), &fake);
    start.world.slots[0].rerun = true;
    let running = run_from(start, fake);
    running.journal().until("stop a to start again").await;
    running.fake.exit("a", 0);
    running.journal().until("start a 1").await;
}

#[tokio::test]
async fn every_container_whose_image_changed_is_replaced() {
    let with_images = |image: &str| {
        let containers = ["a", "b", "c"].map(|name| json!({"name": name, "image": image}));
        pod(json!({"restartPolicy": "Always", "containers": containers}))
    };
    let running = run(&with_images("i"), Fake::default());
    running.journal().until("ready").await;
    running.send(with_images("j"));
    for name in ["a", "b", "c"] {
        running.journal().until(&format!("stop {name} to start again")).await;
        running.fake.exit(name, 143);
        running.journal().until(&format!("start {name} 1")).await;
    }
}

#[tokio::test]
async fn an_added_container_waits_until_it_is_known_whether_it_ran() {
    let with = |status: Value| {
        let spec = json!({"restartPolicy": "Always", "containers": [{"name": "a", "image": "i"}],
                          "ephemeralContainers": [{"name": "d", "image": "dbg"}]});
        let mut pod = Pod::clone(&pod(spec));
        pod.status = serde_json::from_value(status).expect("a status");
        Arc::new(pod)
    };
    let fake = Fake::default();
    let mut start = adopted(&with(Value::Null), Granted::default(), &fake);
    start.world.slots.push(Slot::of("d", Role::Ephemeral));
    let running = run_from(start, fake);
    for _ in 0..QUIET_TURNS {
        tokio::task::yield_now().await;
    }
    let ended = json!({"containerID": "catamaran://d-0", "exitCode": 0, "reason": "Completed", "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:00Z"});
    let known = json!({"ephemeralContainerStatuses": [{"name": "d", "image": "dbg", "imageID": "", "ready": false, "restartCount": 0,
        "containerID": "catamaran://d-0", "state": {"terminated": ended}}]});
    running.send(with(known));
    running.send(deleted(&with(Value::Null), 1));
    running.journal().until("stop a").await;
    let lines = running.journal().lines();
    assert!(
        !lines.iter().any(|line| line.contains("dbg") || line.contains(" d")),
        "{lines:?}"
    );
}
