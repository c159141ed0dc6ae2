//! The dispatcher among tasks that come, wait, give up and go.

use super::*;
use crate::authn::Identity;
use rules::DigestResource;
use std::sync::atomic::{AtomicUsize, Ordering};

fn found(flow: &Flow, user: &str, groups: &[&str], group: &str, plural: &str) -> Found {
    let identity = Identity::authenticated(user, groups);
    flow.classify(&Digest {
        identity: &identity,
        verb: "update",
        resource: Some(DigestResource {
            group,
            plural,
            subresource: "",
            namespace: "default",
        }),
        path: "",
    })
}

fn executing(flow: &Flow, level: &str) -> (u64, u64) {
    let stats = flow.stats();
    let level = stats.iter().find(|own| own.name == level).unwrap();
    (level.executing, level.waiting)
}

/// Somebody sends hundreds of requests that take for ever; a node's lease is renewed at once, again and again.
#[tokio::test]
async fn a_noisy_client_does_not_keep_nodes_from_their_leases() {
    let flow = Flow::new();
    let noisy = found(&flow, "noisy", &[], "", "pods");
    assert_eq!(noisy.schema.name, "global-default");
    let (served, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..2_000 {
        let (flow, noisy) = (Arc::clone(&flow), noisy.clone());
        let (served, refused) = (Arc::clone(&served), Arc::clone(&refused));
        tasks.spawn(async move {
            match flow.turn(&noisy, 1).await {
                Ok(_turn) => {
                    served.fetch_add(1, Ordering::Relaxed);
                    std::future::pending::<()>().await;
                }
                Err(_) => drop(refused.fetch_add(1, Ordering::Relaxed)),
            }
        });
    }
    while executing(&flow, "global-default").1
        + refused.load(Ordering::Relaxed) as u64
        + (served.load(Ordering::Relaxed) as u64)
        < 2_000
    {
        tokio::task::yield_now().await;
    }
    assert!(
        served.load(Ordering::Relaxed) > 49,
        "it gets what is its own, and what others lend"
    );
    assert!(refused.load(Ordering::Relaxed) > 0, "and no endless line");
    assert_eq!(executing(&flow, "global-default").1, 300);

    let node = found(
        &flow,
        "system:node:n1",
        &["system:nodes"],
        "coordination.k8s.io",
        "leases",
    );
    assert_eq!(node.schema.level_name, "node-high");
    for _ in 0..1_000 {
        let turn = flow.turn(&node, 1);
        let mut turn = std::pin::pin!(turn);
        // At once: without any other task having to do anything.
        let poll = futures::poll!(turn.as_mut());
        assert!(matches!(poll, std::task::Poll::Ready(Ok(Some(_)))));
    }
    // Somebody quiet at the very level of the noise waits for one turn, not for hundreds.
    let quiet = found(&flow, "quiet", &[], "", "pods");
    let waiting = tokio::spawn({
        let flow = Arc::clone(&flow);
        async move { flow.turn(&quiet, 1).await.is_ok() }
    });
    while executing(&flow, "global-default").1 < 301 {
        tokio::task::yield_now().await;
    }
    tasks.abort_all();
    while tasks.join_next().await.is_some() {}
    assert!(waiting.await.unwrap());
    assert_eq!(executing(&flow, "global-default"), (0, 0), "everything was given back");
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let flow = Flow::with_patience(Duration::from_millis(1));
    let noisy = found(&flow, "noisy", &[], "", "pods");
    let mut turns = Vec::new();
    let refusal = loop {
        match flow.turn(&noisy, 10).await {
            Ok(turn) => turns.push(turn),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal, Refusal::TimeOut);
    assert_eq!(executing(&flow, "global-default").1, 0);
    drop(turns);
    assert!(flow.turn(&noisy, 10).await.is_ok());
}

#[tokio::test]
async fn lists_cost_by_their_length() {
    let flow = Flow::new();
    let alice = found(&flow, "alice", &[], "", "pods");
    assert_eq!(flow.seats_of_list(&alice, 0), 1);
    assert_eq!(flow.seats_of_list(&alice, 100), 1);
    assert_eq!(flow.seats_of_list(&alice, 101), 2);
    assert_eq!(flow.seats_of_list(&alice, 5_000), 8, "at most this part of the level");
}
