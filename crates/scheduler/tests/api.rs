//! The whole scheduler against an API in memory: what it writes, when, and when not.

mod fake;

use catamaran_scheduler::{Config, Error, run};
use fake::Fake;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Running {
    task: JoinHandle<Result<(), Error>>,
    shutdown: CancellationToken,
}

fn start(fake: &Fake) -> Running {
    let config = Config {
        client: fake.client(),
        name: "default-scheduler".to_owned(),
    };
    let shutdown = CancellationToken::new();
    Running {
        task: tokio::spawn(run(config, shutdown.clone())),
        shutdown,
    }
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        self.task
            .await
            .expect("the scheduler does not panic")
            .expect("the scheduler ends well");
    }
}

fn cpu(amount: &str) -> Value {
    json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": amount } } }] })
}

#[tokio::test]
async fn a_new_pod_is_bound_and_says_so() {
    let fake = Fake::new();
    fake.add_node("n1", "4", &json!({}));
    let running = start(&fake);
    fake.add_pod("p", &json!({}));
    fake.until("p is bound", |state| state.node_of("p") == Some("n1")).await;
    fake.until("its event is there", |state| !state.events.is_empty()).await;
    let expected = "p Normal Scheduled default-scheduler: Successfully assigned default/p to n1";
    assert_eq!(fake.see(fake::State::event_texts), [expected]);
    running.stop().await;
}

/// Nobody is answered before everybody has asked: a scheduler that waited for one binding before the next would hang.
#[tokio::test]
async fn a_burst_is_bound_together_and_fits() {
    let fake = Fake::new();
    for node in ["n1", "n2", "n3", "n4"] {
        fake.add_node(node, "25", &json!({}));
    }
    fake.hold("binding");
    let running = start(&fake);
    for index in 0..100 {
        fake.add_pod(&format!("p{index}"), &cpu("1"));
    }
    fake.until("all ask for their binding", |state| state.log.len() == 100)
        .await;
    fake.release("binding");
    let bound_to = |state: &fake::State, node: &str| {
        (0..100)
            .filter(|index| state.node_of(&format!("p{index}")) == Some(node))
            .count()
    };
    fake.until("every node has its share, none more than fits", |state| {
        ["n1", "n2", "n3", "n4"].iter().all(|node| bound_to(state, node) == 25)
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_pod_without_a_place_says_why_and_is_bound_when_one_comes() {
    let fake = Fake::new();
    let running = start(&fake);
    fake.add_pod("p", &json!({ "nodeSelector": { "disk": "ssd" } }));
    let none = "PodScheduled=False Unschedulable: no nodes available to schedule pods";
    fake.until("the condition tells", |state| {
        state.condition("p").as_deref() == Some(none)
    })
    .await;
    fake.add_node("n1", "4", &json!({}));
    let unfit = "PodScheduled=False Unschedulable: 0/1 nodes are available: 1 node(s) didn't match Pod's node \
                 affinity/selector. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is \
                 not helpful for scheduling.";
    fake.until("the condition follows the cluster", |state| {
        state.condition("p").as_deref() == Some(unfit)
    })
    .await;
    fake.add_node("n1", "4", &json!({ "disk": "ssd" }));
    fake.until("p is bound", |state| state.node_of("p") == Some("n1")).await;
    fake.until("the events tell all of it", |state| state.events.len() == 3)
        .await;
    let events = fake.see(fake::State::event_texts);
    assert_eq!(
        events[0],
        "p Warning FailedScheduling default-scheduler: no nodes available to schedule pods"
    );
    assert!(events[1].starts_with("p Warning FailedScheduling default-scheduler: 0/1 nodes are available: 1 node(s)"));
    assert!(events[2].starts_with("p Normal Scheduled default-scheduler: Successfully assigned"));
    running.stop().await;
}

#[tokio::test]
async fn a_deleted_pod_makes_room() {
    let fake = Fake::new();
    fake.add_node("n1", "1", &json!({}));
    fake.add_pod("first", &cpu("1"));
    let running = start(&fake);
    fake.until("the first is bound", |state| state.node_of("first").is_some())
        .await;
    fake.add_pod("second", &cpu("1"));
    fake.until("the second waits", |state| state.condition("second").is_some())
        .await;
    fake.delete_pod("first");
    fake.until("the second is bound", |state| state.node_of("second") == Some("n1"))
        .await;
    running.stop().await;
}

/// A later pod that is bound shows that the earlier ones were looked at.
#[tokio::test]
async fn pods_of_others_gated_and_deleted_ones_are_left_alone() {
    let fake = Fake::new();
    fake.add_node("n1", "4", &json!({}));
    fake.add_pod("of-another", &json!({ "schedulerName": "mine" }));
    fake.add_pod("gated", &json!({ "schedulingGates": [{ "name": "example.com/wait" }] }));
    fake.add_pod("placed", &json!({ "nodeName": "n1" }));
    let running = start(&fake);
    fake.add_pod("ours", &json!({}));
    fake.until("ours is bound", |state| state.node_of("ours").is_some())
        .await;
    assert_eq!(fake.see(|state| state.log.clone()), ["bind ours n1"]);
    fake.add_pod("gated", &json!({ "schedulingGates": [] }));
    fake.until("the gate opens", |state| state.node_of("gated").is_some())
        .await;
    running.stop().await;
}

#[tokio::test]
async fn higher_priority_goes_first() {
    let fake = Fake::new();
    fake.add_node("n1", "1", &json!({}));
    fake.add_pod("low", &cpu("1"));
    let mut high = cpu("1");
    high["priority"] = json!(1_000);
    fake.add_pod("very-important", &high);
    let running = start(&fake);
    fake.until("the important one is bound", |state| {
        state.node_of("very-important").is_some()
    })
    .await;
    fake.until("the other waits", |state| state.condition("low").is_some())
        .await;
    running.stop().await;
}

#[tokio::test]
async fn failed_bindings_are_tried_again() {
    let fake = Fake::new();
    fake.add_node("n1", "1", &json!({}));
    fake.edit(|state| state.binding_failures.extend([500, 503, 409]));
    let running = start(&fake);
    fake.add_pod("p", &cpu("1"));
    fake.until("p is bound in the end", |state| state.node_of("p") == Some("n1"))
        .await;
    assert_eq!(fake.see(|state| state.log.len()), 4, "three failures and a success");
    running.stop().await;
}

/// The room a failed binding had taken is given back at once.
#[tokio::test]
async fn a_binding_of_a_pod_that_is_gone_frees_its_room() {
    let fake = Fake::new();
    fake.add_node("n1", "1", &json!({}));
    fake.edit(|state| state.binding_failures.push_back(404));
    let running = start(&fake);
    fake.add_pod("gone", &cpu("1"));
    fake.add_pod("next", &cpu("1"));
    fake.until("the next one is bound", |state| state.node_of("next") == Some("n1"))
        .await;
    running.stop().await;
}

/// Written after the binding, the condition would say that a bound pod is not scheduled.
#[tokio::test]
async fn a_binding_waits_for_the_condition_under_way() {
    let fake = Fake::new();
    fake.hold("status");
    let running = start(&fake);
    fake.add_pod("p", &json!({}));
    fake.until("the condition is under way", |state| state.log == ["status p"])
        .await;
    fake.add_node("n1", "4", &json!({}));
    fake.add_pod("other", &json!({}));
    fake.until("the other pod is bound", |state| state.node_of("other").is_some())
        .await;
    assert_eq!(fake.see(|state| state.node_of("p").map(str::to_owned)), None);
    fake.release("status");
    fake.until("p is bound too", |state| state.node_of("p").is_some()).await;
    assert_eq!(
        fake.see(|state| state.condition("p")),
        Some("PodScheduled=True : ".to_owned())
    );
    running.stop().await;
}

/// Neither the condition it wrote itself nor a heartbeat is a reason to try, and write, again.
#[tokio::test]
async fn waiting_is_quiet() {
    let fake = Fake::new();
    fake.add_node("n1", "1", &json!({}));
    fake.add_pod("big", &cpu("2"));
    let running = start(&fake);
    fake.until("the condition tells", |state| state.condition("big").is_some())
        .await;
    for round in 0..5 {
        fake.add_node("n1", "1", &json!({}));
        let probe = format!("probe-{round}");
        fake.add_pod(&probe, &json!({}));
        fake.until("a later pod is bound", |state| state.node_of(&probe).is_some())
            .await;
    }
    let about_big = fake.see(|state| state.log.iter().filter(|line| line.contains("big")).count());
    assert_eq!(about_big, 1);
    fake.until("all events are written", |state| state.events.len() >= 6)
        .await;
    let events = fake.see(|state| {
        state
            .event_texts()
            .iter()
            .filter(|text| text.starts_with("big"))
            .count()
    });
    assert_eq!(events, 1);
    running.stop().await;
}

/// What happened while the watch was down is found out from the new list, deletions included.
#[tokio::test]
async fn a_watch_that_was_cut_off_starts_anew() {
    let fake = Fake::new();
    fake.add_node("n1", "1", &json!({}));
    fake.add_pod("first", &cpu("1"));
    let running = start(&fake);
    fake.until("the first is bound", |state| state.node_of("first").is_some())
        .await;
    fake.add_pod("second", &cpu("1"));
    fake.until("the second waits", |state| state.condition("second").is_some())
        .await;
    fake.forget_history(|fake| fake.delete_pod("first"));
    fake.until("the second is bound", |state| state.node_of("second") == Some("n1"))
        .await;
    running.stop().await;
}
