//! The collector against a model of a cluster: any graph, deleted in any way, watched in any order.

use super::attempt::{self, Cluster, Failure, Finalizer, Live, References};
use super::decide::Propagation;
use super::graph::{Graph, Identity, Owner, Seen, Uid, Work};
use crate::framework::queue::Queue;
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
struct Object {
    identity: Identity,
    version: u64,
    owners: Vec<Owner>,
    being_deleted: bool,
    orphan: bool,
    foreground: bool,
}

impl Object {
    fn seen(&self) -> Seen {
        Seen {
            identity: self.identity.clone(),
            owners: self.owners.clone(),
            being_deleted: self.being_deleted,
            orphan: self.orphan,
            foreground: self.foreground,
        }
    }
}

enum Event {
    Is(Seen),
    Was(Uid),
}

/// An API server with objects of one namespaced and one cluster-wide type.
#[derive(Default)]
struct Model {
    /// By namespace and name.
    objects: BTreeMap<(Arc<str>, Arc<str>), Object>,
    events: VecDeque<Event>,
    clock: u64,
    /// What must never happen.
    crimes: Vec<String>,
}

impl Model {
    fn changed(&mut self, key: &(Arc<str>, Arc<str>)) {
        self.clock += 1;
        let clock = self.clock;
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        object.version = clock;
        if object.being_deleted && !object.orphan && !object.foreground {
            let uid = Arc::clone(&object.identity.uid);
            self.objects.remove(key);
            self.events.push_back(Event::Was(uid));
        } else {
            self.events.push_back(Event::Is(object.seen()));
        }
    }

    fn delete(&mut self, key: &(Arc<str>, Arc<str>), propagation: Propagation) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        object.being_deleted = true;
        object.orphan = propagation == Propagation::Orphan;
        object.foreground = propagation == Propagation::Foreground;
        self.changed(key);
    }

    fn of(&self, owner: &Owner, namespace: &Arc<str>) -> Option<&Object> {
        let found = self.objects.get(&place(&owner.kind, namespace, &owner.name))?;
        (found.identity.uid == owner.uid && found.identity.kind == owner.kind).then_some(found)
    }

    fn has_solid_owner(&self, object: &Object) -> bool {
        object.owners.iter().any(|owner| {
            self.of(owner, &object.identity.namespace)
                .is_some_and(|owner| !(owner.being_deleted && owner.foreground))
        })
    }
}

fn place(kind: &str, namespace: &Arc<str>, name: &Arc<str>) -> (Arc<str>, Arc<str>) {
    let namespace = if kind == "Thing" {
        Arc::clone(namespace)
    } else {
        "".into()
    };
    (namespace, format!("{kind}/{name}").into())
}

fn key(identity: &Identity) -> (Arc<str>, Arc<str>) {
    place(&identity.kind, &identity.namespace, &identity.name)
}

struct Shared(Mutex<Model>);

impl Shared {
    fn with<T>(
        &self,
        identity: &Identity,
        change: impl FnOnce(&mut Model, &(Arc<str>, Arc<str>)) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut model = self.0.lock();
        let key = key(identity);
        match model.objects.get(&key) {
            Some(object) if object.identity.uid == identity.uid => change(&mut model, &key),
            _ => Err(Failure::Gone),
        }
    }
}

#[async_trait::async_trait]
impl Cluster for Shared {
    fn is_namespaced(&self, _: &Arc<str>, kind: &Arc<str>) -> Result<bool, Failure> {
        Ok(&**kind == "Thing")
    }

    async fn look(&self, identity: &Identity) -> Result<Option<Live>, Failure> {
        let model = self.0.lock();
        Ok(model.objects.get(&key(identity)).map(|object| Live {
            uid: Arc::clone(&object.identity.uid),
            version: object.version.to_string(),
            owners: object.owners.clone(),
            being_deleted: object.being_deleted,
            orphan: object.orphan,
            foreground: object.foreground,
        }))
    }

    async fn change_references(&self, identity: &Identity, change: References) -> Result<(), Failure> {
        self.with(identity, |model, key| {
            let object = model.objects.get_mut(key).ok_or(Failure::Gone)?;
            match change {
                References::Drop(uids) => object.owners.retain(|owner| !uids.contains(&owner.uid)),
                References::Unblock => object.owners.iter_mut().for_each(|owner| owner.blocks = false),
            }
            model.changed(key);
            Ok(())
        })
    }

    async fn delete(&self, identity: &Identity, version: &str, propagation: Propagation) -> Result<(), Failure> {
        self.with(identity, |model, key| {
            let object = model.objects.get(key).ok_or(Failure::Gone)?.clone();
            if object.version.to_string() != version {
                return Err(Failure::Conflict);
            }
            if model.has_solid_owner(&object) {
                model.crimes.push(format!("{object:?} was deleted under its owner"));
            }
            model.delete(key, propagation);
            Ok(())
        })
    }

    async fn remove_finalizer(&self, identity: &Identity, finalizer: Finalizer) -> Result<(), Failure> {
        self.with(identity, |model, key| {
            let object = model.objects.get_mut(key).ok_or(Failure::Gone)?;
            match finalizer {
                Finalizer::Orphan => object.orphan = false,
                Finalizer::Foreground => object.foreground = false,
            }
            model.changed(key);
            Ok(())
        })
    }
}

/// Runs the collector until nothing happens any more. False if that takes too long.
fn collect(cluster: &Shared, graph: &mut Graph, queue: &mut Queue<Work>, order: &mut impl FnMut() -> bool) -> bool {
    let mut now = Instant::now();
    for _ in 0..20_000 {
        // Watches and workers take turns as it happens.
        let event = if order() {
            cluster.0.lock().events.pop_front()
        } else {
            None
        };
        if let Some(event) = event {
            let work = match event {
                Event::Is(seen) => graph.observe(&seen),
                Event::Was(uid) => graph.remove(&uid),
            };
            work.into_iter().for_each(|work| queue.add(work));
            continue;
        }
        let Some(work) = queue.take(now) else {
            if cluster.0.lock().events.is_empty() {
                match queue.next_due() {
                    None => return true,
                    Some(due) => now = due.max(now) + Duration::from_millis(1),
                }
            }
            continue;
        };
        let (Work::Attempt(uid) | Work::Orphan(uid)) = &work else {
            queue.succeeded(&work);
            continue;
        };
        let Some(item) = graph.item(uid) else {
            queue.succeeded(&work);
            continue;
        };
        let result = futures::executor::block_on(async {
            match &work {
                Work::Orphan(_) => attempt::orphan(cluster, &item).await,
                _ => attempt::attempt(cluster, &item).await,
            }
        });
        match result {
            Ok(outcome) => {
                outcome.absent.into_iter().for_each(|owner| graph.note_absent(owner));
                if outcome.again {
                    queue.failed(&work, now);
                } else {
                    queue.succeeded(&work);
                }
                outcome.work.into_iter().for_each(|work| queue.add(work));
                if let Some(vanished) = outcome.vanished {
                    graph.vanish(&vanished).into_iter().for_each(|work| queue.add(work));
                }
            }
            Err(_) => queue.failed(&work, now),
        }
    }
    false
}

/// An object: is it cluster-wide, its namespace, and its owners: by index, whether they block, and whether the reference has
/// the right uid.
type Plan = (bool, bool, Vec<(usize, bool, bool)>);

fn identity(index: usize, plan: &Plan) -> Identity {
    let (cluster_wide, second, _) = plan;
    Identity {
        kind: if *cluster_wide { "Global" } else { "Thing" }.into(),
        api_version: "v1".into(),
        namespace: match (cluster_wide, second) {
            (true, _) => "",
            (false, false) => "a",
            (false, true) => "b",
        }
        .into(),
        name: format!("o{index}").into(),
        uid: format!("u{index}").into(),
    }
}

fn build(plans: &[Plan]) -> Model {
    let mut model = Model::default();
    for (index, plan) in plans.iter().enumerate() {
        let own = identity(index, plan);
        let owners = plan.2.iter().map(|(owner, blocks, right)| {
            let at = owner % (plans.len() + 1);
            // One past the end is an owner that never was.
            let mut owner = plans
                .get(at)
                .map_or_else(|| identity(at, &(false, false, Vec::new())), |plan| identity(at, plan));
            if !right {
                owner.uid = format!("{}x", owner.uid).into();
            }
            Owner {
                api_version: owner.api_version,
                kind: owner.kind,
                name: owner.name,
                uid: owner.uid,
                blocks: *blocks,
            }
        });
        let mut owners: Vec<Owner> = owners.collect();
        // A cluster-wide object with an owner in a namespace is a mistake that is left alone.
        owners.retain(|owner| !(plan.0 && &*owner.kind == "Thing"));
        owners.dedup_by(|a, b| a.uid == b.uid);
        let object = Object {
            identity: own.clone(),
            version: 0,
            owners,
            being_deleted: false,
            orphan: false,
            foreground: false,
        };
        let key = key(&own);
        model.objects.insert(key.clone(), object);
        model.changed(&key);
    }
    model
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let owner = (0..12_usize, any::<bool>(), prop::bool::weighted(0.9));
    let plan = (
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        prop::collection::vec(owner, 0..3),
    );
    prop::collection::vec(plan, 1..10)
}

fn deletions() -> impl Strategy<Value = Vec<(usize, Propagation)>> {
    let how = prop_oneof![
        Just(Propagation::Background),
        Just(Propagation::Foreground),
        Just(Propagation::Orphan)
    ];
    prop::collection::vec((0..10_usize, how), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_graph_converges_and_nothing_with_a_live_owner_is_deleted(
        plans in plans(),
        deletions in deletions(),
        order in prop::collection::vec(any::<bool>(), 64),
    ) {
        let cluster = Shared(Mutex::new(build(&plans)));
        let (mut graph, mut queue) = (Graph::default(), Queue::default());
        let mut turn = 0_usize;
        let mut order = || { turn += 1; order[turn % order.len()] || turn.is_multiple_of(3) };
        prop_assert!(collect(&cluster, &mut graph, &mut queue, &mut order), "it does not end");
        for (index, how) in deletions {
            let mut model = cluster.0.lock();
            let key = model.objects.keys().nth(index % model.objects.len().max(1)).cloned();
            if let Some(key) = key {
                model.delete(&key, how);
            }
        }
        prop_assert!(collect(&cluster, &mut graph, &mut queue, &mut order), "it does not end");
        let model = cluster.0.lock();
        prop_assert!(model.crimes.is_empty(), "{:?}", model.crimes);
        for object in model.objects.values() {
            prop_assert!(!object.being_deleted, "{object:?} is left half deleted");
            prop_assert!(
                object.owners.is_empty() || model.has_solid_owner(object),
                "{object:?} has no owner any more"
            );
        }
        prop_assert_eq!(graph.len(), model.objects.len(), "the graph is what there is");
    }
}

#[test]
fn orphans_lose_their_owner_and_stay() {
    let plans: Vec<Plan> = vec![(false, false, vec![]), (false, false, vec![(0, true, true)])];
    let cluster = Shared(Mutex::new(build(&plans)));
    let (mut graph, mut queue) = (Graph::default(), Queue::default());
    assert!(collect(&cluster, &mut graph, &mut queue, &mut || true));
    cluster
        .0
        .lock()
        .delete(&key(&identity(0, &plans[0])), Propagation::Orphan);
    assert!(collect(&cluster, &mut graph, &mut queue, &mut || true));
    let model = cluster.0.lock();
    let left: Vec<&Object> = model.objects.values().collect();
    assert_eq!(left.len(), 1);
    assert_eq!(&*left[0].identity.name, "o1");
    assert!(left[0].owners.is_empty());
}

/// Such a reference can never be right, so it is no reason to delete anything, be there an object of that name or not.
#[test]
fn what_lives_in_no_namespace_is_left_alone_by_owners_in_one() {
    for exists in [false, true] {
        let mut plans: Vec<Plan> = vec![(true, false, vec![])];
        if exists {
            plans.push((false, false, vec![]));
        }
        let mut model = build(&plans);
        let owner = identity(1, &(false, false, vec![]));
        let dependent = key(&identity(0, &plans[0]));
        if let Some(object) = model.objects.get_mut(&dependent) {
            object.owners.push(Owner {
                api_version: owner.api_version.clone(),
                kind: owner.kind.clone(),
                name: owner.name.clone(),
                uid: owner.uid.clone(),
                blocks: false,
            });
        }
        model.changed(&dependent);
        let cluster = Shared(Mutex::new(model));
        let (mut graph, mut queue) = (Graph::default(), Queue::default());
        assert!(collect(&cluster, &mut graph, &mut queue, &mut || true));
        cluster.0.lock().delete(&key(&owner), Propagation::Background);
        assert!(collect(&cluster, &mut graph, &mut queue, &mut || true));
        let model = cluster.0.lock();
        let left: Vec<_> = model.objects.keys().collect();
        assert_eq!(left, [&dependent], "the owner existed: {exists}");
        assert_eq!(model.objects[&dependent].owners.len(), 1);
    }
}
