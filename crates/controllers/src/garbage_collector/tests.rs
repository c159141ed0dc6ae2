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

/// What the watch of `Hidden` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Watch {
    #[default]
    Works,
    /// It has shown nothing yet, but lists are answered.
    Late,
    /// As where objects cannot be converted: lists with some in them fail, too.
    Broken,
}

/// An API server with objects of a cluster-wide type, a namespaced one, and another namespaced one whose watch has troubles.
#[derive(Default)]
struct Model {
    /// By namespace and name.
    objects: BTreeMap<(Arc<str>, Arc<str>), Object>,
    events: VecDeque<Event>,
    hidden: Watch,
    withheld: VecDeque<Event>,
    /// Told about wrong references: the object, and the owner that it names.
    reports: Vec<(Uid, Uid)>,
    /// Whose dependents are to stay.
    orphaning: BTreeMap<Uid, Arc<str>>,
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
        let events = if &*object.identity.kind == "Hidden" && self.hidden != Watch::Works {
            &mut self.withheld
        } else {
            &mut self.events
        };
        if object.being_deleted && !object.orphan && !object.foreground {
            events.push_back(Event::Was(Arc::clone(&object.identity.uid)));
            self.objects.remove(key);
        } else {
            events.push_back(Event::Is(object.seen()));
        }
    }

    /// A user's deletion.
    fn ask(&mut self, key: &(Arc<str>, Arc<str>), propagation: Propagation) {
        if let Some(object) = self.objects.get(key) {
            let identity = object.identity.clone();
            if propagation == Propagation::Orphan {
                self.orphaning.insert(identity.uid, identity.namespace);
            } else {
                self.orphaning.remove(&identity.uid);
            }
        }
        self.delete(key, propagation);
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

    /// Objects that name this one as owner, with the right uid and where that can be.
    fn dependents<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = (&'a Object, &'a Owner)> {
        self.objects.values().flat_map(move |object| {
            let reached = identity.namespace.is_empty() || identity.namespace == object.identity.namespace;
            let owners = object
                .owners
                .iter()
                .filter(move |owner| reached && owner.uid == identity.uid);
            owners.map(move |owner| (object, owner))
        })
    }

    /// Does it wait, in the end, for an object that nobody will touch? As in Kubernetes, a reference that cannot be right holds up
    /// the owner that it names all the same.
    fn is_stuck(&self, object: &Object, met: &mut Vec<Uid>) -> bool {
        if !(object.being_deleted && object.foreground) || met.contains(&object.identity.uid) {
            return false;
        }
        met.push(object.identity.uid.clone());
        let uid = &object.identity.uid;
        let holds = |dependent: &&Object| {
            let mut owners = dependent.owners.iter();
            owners.any(|owner| owner.blocks && owner.uid == *uid)
        };
        let mut holding = self.objects.values().filter(holds);
        holding.any(|dependent| is_left_alone(dependent) || self.is_stuck(dependent, met))
    }
}

/// What lives in no namespace and names an owner in one is never judged.
fn is_left_alone(object: &Object) -> bool {
    object.identity.namespace.is_empty() && object.owners.iter().any(|owner| is_namespaced(&owner.kind))
}

fn is_namespaced(kind: &str) -> bool {
    kind != "Global"
}

fn place(kind: &str, namespace: &Arc<str>, name: &Arc<str>) -> (Arc<str>, Arc<str>) {
    let namespace = if is_namespaced(kind) {
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
        Ok(is_namespaced(kind))
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
            if is_left_alone(&object) {
                model
                    .crimes
                    .push(format!("{object:?} was judged by an owner it cannot have"));
            }
            let was_let_go = |owner: &Owner| match model.orphaning.get(&owner.uid) {
                Some(namespace) => namespace.is_empty() || *namespace == object.identity.namespace,
                None => false,
            };
            if object.owners.iter().any(was_let_go) {
                model.crimes.push(format!("{object:?} was to outlive its owner"));
            }
            model.delete(key, propagation);
            Ok(())
        })
    }

    async fn remove_finalizer(&self, identity: &Identity, finalizer: Finalizer) -> Result<(), Failure> {
        self.with(identity, |model, key| {
            let hidden = |(object, owner): (&Object, &Owner)| &*object.identity.kind == "Hidden" && owner.blocks;
            if finalizer == Finalizer::Foreground && model.dependents(identity).any(hidden) {
                model.crimes.push(format!("{identity:?} did not wait"));
            }
            let object = model.objects.get_mut(key).ok_or(Failure::Gone)?;
            match finalizer {
                Finalizer::Orphan => object.orphan = false,
                Finalizer::Foreground => object.foreground = false,
            }
            model.changed(key);
            Ok(())
        })
    }

    async fn unseen_dependents(&self, identity: &Identity) -> Result<Vec<Seen>, Failure> {
        let model = self.0.lock();
        let mut hidden = model.objects.values().filter(|object| {
            &*object.identity.kind == "Hidden"
                && (identity.namespace.is_empty() || identity.namespace == object.identity.namespace)
        });
        match model.hidden {
            Watch::Works => Ok(Vec::new()),
            Watch::Broken if hidden.next().is_some() => Err(trouble()),
            Watch::Broken => Ok(Vec::new()),
            Watch::Late => Ok(hidden
                .filter(|object| object.owners.iter().any(|owner| owner.uid == identity.uid))
                .map(Object::seen)
                .collect()),
        }
    }
}

/// A failure of no particular kind.
fn trouble() -> Failure {
    Failure::UnknownType {
        api_version: "v1".into(),
        kind: "Hidden".into(),
    }
}

fn show(event: Event, graph: &mut Graph) -> Vec<Work> {
    match event {
        Event::Is(seen) => graph.observe(&seen),
        Event::Was(uid) => graph.remove(&uid),
    }
}

/// The watch comes through: once it has shown everything, it is one like the others.
fn mend(cluster: &Shared, graph: &mut Graph, queue: &mut Queue<Work>) {
    let mut model = cluster.0.lock();
    for event in std::mem::take(&mut model.withheld) {
        show(event, graph).into_iter().for_each(|work| queue.add(work));
    }
    model.hidden = Watch::Works;
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
            let work = show(event, graph);
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
        let uid = match &work {
            Work::Attempt(uid) | Work::Orphan(uid) => uid,
            Work::Report(report) => {
                let (dependent, owner) = &**report;
                let told = (dependent.uid.clone(), owner.uid.clone());
                cluster.0.lock().reports.push(told);
                queue.succeeded(&work);
                continue;
            }
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
                for seen in &outcome.seen {
                    graph.observe(seen).into_iter().for_each(|work| queue.add(work));
                }
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

/// An object: its type, whether it is in the second namespace, and its owners: by index, whether they block, and whether the
/// reference has the right uid.
type Plan = (&'static str, bool, Vec<(usize, bool, bool)>);

fn identity(index: usize, plan: &Plan) -> Identity {
    let (kind, second, _) = plan;
    Identity {
        kind: (*kind).into(),
        api_version: "v1".into(),
        namespace: match (is_namespaced(kind), second) {
            (false, _) => "",
            (true, false) => "a",
            (true, true) => "b",
        }
        .into(),
        name: format!("o{index}").into(),
        uid: format!("u{index}").into(),
    }
}

fn build(plans: &[Plan], hidden: Watch) -> Model {
    let mut model = Model {
        hidden,
        ..Model::default()
    };
    for (index, plan) in plans.iter().enumerate() {
        let own = identity(index, plan);
        let owners = plan.2.iter().map(|(owner, blocks, right)| {
            let at = owner % (plans.len() + 1);
            // One past the end is an owner that never was.
            let mut owner = plans.get(at).map_or_else(
                || identity(at, &("Thing", false, Vec::new())),
                |plan| identity(at, plan),
            );
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
        // What cannot be seen owns nothing, so that it is no part of a circle.
        owners.retain(|owner| &*owner.kind != "Hidden");
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
    let kind = prop_oneof![3 => Just("Thing"), 1 => Just("Global"), 1 => Just("Hidden")];
    let plan = (kind, prop::bool::weighted(0.2), prop::collection::vec(owner, 0..3));
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
        hidden in prop_oneof![Just(Watch::Works), Just(Watch::Late), Just(Watch::Broken)],
    ) {
        let cluster = Shared(Mutex::new(build(&plans, hidden)));
        let (mut graph, mut queue) = (Graph::default(), Queue::default());
        let mut turn = 0_usize;
        let mut order = || { turn += 1; order[turn % order.len()] || turn.is_multiple_of(3) };
        prop_assert!(collect(&cluster, &mut graph, &mut queue, &mut order) || hidden == Watch::Broken, "it does not end");
        untold(&cluster.0.lock())?;
        for (index, how) in deletions {
            let mut model = cluster.0.lock();
            let key = model.objects.keys().nth(index % model.objects.len().max(1)).cloned();
            if let Some(key) = key {
                model.ask(&key, how);
            }
        }
        let ends = collect(&cluster, &mut graph, &mut queue, &mut order);
        prop_assert!(ends || hidden == Watch::Broken, "it does not end");
        mend(&cluster, &mut graph, &mut queue);
        prop_assert!(collect(&cluster, &mut graph, &mut queue, &mut order), "it does not end");
        let model = cluster.0.lock();
        prop_assert!(model.crimes.is_empty(), "{:?}", model.crimes);
        for object in model.objects.values() {
            prop_assert!(
                !object.being_deleted || model.is_stuck(object, &mut Vec::new()),
                "{object:?} is left half deleted"
            );
            prop_assert!(
                object.owners.is_empty()
                    || is_left_alone(object)
                    || object.being_deleted
                    || model.has_solid_owner(object),
                "{object:?} has no owner any more"
            );
        }
        let hearsay = graph.hearsay();
        prop_assert_eq!(graph.len() - hearsay.len(), model.objects.len(), "the graph is what there is");
        for (owner, said_by) in hearsay {
            let is_left_alone = |uid: &Uid| model.objects.values().any(|object| object.identity.uid == *uid && is_left_alone(object));
            prop_assert!(said_by.iter().any(is_left_alone), "{owner} is remembered without need");
        }
    }
}

/// A reference to an owner in another namespace is told about, if both are there.
fn untold(model: &Model) -> Result<(), TestCaseError> {
    for owner in model
        .objects
        .values()
        .filter(|owner| !owner.identity.namespace.is_empty())
    {
        for object in model.objects.values() {
            let elsewhere = object.identity.namespace != owner.identity.namespace;
            let names = object.owners.iter().any(|named| named.uid == owner.identity.uid);
            let unseen = model.hidden != Watch::Works && &*object.identity.kind == "Hidden";
            let told = (object.identity.uid.clone(), owner.identity.uid.clone());
            prop_assert!(
                !(elsewhere && names) || unseen || model.reports.contains(&told),
                "nobody was told that {object:?} names {owner:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn orphans_lose_their_owner_and_stay() {
    let plans: Vec<Plan> = vec![("Thing", false, vec![]), ("Thing", false, vec![(0, true, true)])];
    let cluster = Shared(Mutex::new(build(&plans, Watch::Works)));
    let (mut graph, mut queue) = (Graph::default(), Queue::default());
    assert!(collect(&cluster, &mut graph, &mut queue, &mut || true));
    cluster.0.lock().ask(&key(&identity(0, &plans[0])), Propagation::Orphan);
    assert!(collect(&cluster, &mut graph, &mut queue, &mut || true));
    let model = cluster.0.lock();
    let left: Vec<&Object> = model.objects.values().collect();
    assert_eq!(left.len(), 1);
    assert_eq!(&*left[0].identity.name, "o1");
    assert!(left[0].owners.is_empty());
}

/// Whether an object can be let go does not depend on whether the watches of its dependents come through.
#[test]
fn dependents_that_no_watch_shows_are_not_forgotten() {
    for how in [Propagation::Orphan, Propagation::Foreground] {
        for hidden in [Watch::Late, Watch::Broken] {
            let plans: Vec<Plan> = vec![
                ("Thing", false, vec![]),
                ("Hidden", false, vec![(0, true, true)]),
                // Nothing of the resource is where this one is: it does not wait for anything.
                ("Thing", true, vec![]),
            ];
            let cluster = Shared(Mutex::new(build(&plans, hidden)));
            let (mut graph, mut queue) = (Graph::default(), Queue::default());
            assert!(collect(&cluster, &mut graph, &mut queue, &mut || true));
            for index in [0, 2] {
                let key = key(&identity(index, &plans[index]));
                cluster.0.lock().ask(&key, how);
            }
            let ends = collect(&cluster, &mut graph, &mut queue, &mut || true);
            assert_eq!(ends, hidden == Watch::Late);
            let count = |cluster: &Shared| cluster.0.lock().objects.len();
            let while_hidden = count(&cluster);
            mend(&cluster, &mut graph, &mut queue);
            assert!(collect(&cluster, &mut graph, &mut queue, &mut || true));
            let model = cluster.0.lock();
            assert!(model.crimes.is_empty(), "{:?}", model.crimes);
            let expected = usize::from(how == Propagation::Orphan);
            assert_eq!(model.objects.len(), expected, "{how:?} {hidden:?}");
            // Both are there as long as nobody can tell.
            let meanwhile = if hidden == Watch::Broken { 2 } else { expected };
            assert_eq!(while_hidden, meanwhile, "{how:?} {hidden:?}");
        }
    }
}

#[test]
fn a_type_that_goes_away_holds_nobody_up() {
    let plans: Vec<Plan> = vec![("Thing", false, vec![]), ("Hidden", false, vec![(0, true, true)])];
    let cluster = Shared(Mutex::new(build(&plans, Watch::Works)));
    let (mut graph, mut queue) = (Graph::default(), Queue::default());
    assert!(collect(&cluster, &mut graph, &mut queue, &mut || true));
    let owner = identity(0, &plans[0]);
    {
        let mut model = cluster.0.lock();
        // Its dependent would go, but for a finalizer of somebody else; then its type does, and nothing more is said of it.
        model.delete(&key(&owner), Propagation::Foreground);
        let dependent = key(&identity(1, &plans[1]));
        model.objects.remove(&dependent);
        let Some(Event::Is(seen)) = model.events.pop_front() else {
            panic!("a change")
        };
        drop(graph.observe(&seen));
    }
    let work = graph.forget_type("v1", "Hidden");
    assert_eq!(work, [Work::Attempt(owner.uid.clone())]);
    work.into_iter().for_each(|work| queue.add(work));
    assert!(collect(&cluster, &mut graph, &mut queue, &mut || true));
    assert!(cluster.0.lock().objects.is_empty());
    assert_eq!(graph.len(), 0);
}

#[test]
fn owners_of_a_type_that_went_away_are_looked_up() {
    let plans: Vec<Plan> = vec![("Hidden", false, vec![]), ("Thing", false, vec![])];
    let mut model = build(&plans, Watch::Works);
    let (owner, dependent) = (identity(0, &plans[0]), identity(1, &plans[1]));
    let reference = Owner {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        blocks: false,
    };
    model
        .objects
        .get_mut(&key(&dependent))
        .expect("object")
        .owners
        .push(reference);
    model.changed(&key(&dependent));
    let cluster = Shared(Mutex::new(model));
    let (mut graph, mut queue) = (Graph::default(), Queue::default());
    assert!(collect(&cluster, &mut graph, &mut queue, &mut || true));
    cluster.0.lock().objects.remove(&key(&owner));
    let work = graph.forget_type("v1", "Hidden");
    assert_eq!(work, [Work::Attempt(owner.uid.clone())]);
    work.into_iter().for_each(|work| queue.add(work));
    assert!(collect(&cluster, &mut graph, &mut queue, &mut || true));
    assert!(cluster.0.lock().objects.is_empty(), "nothing is left of either");
}

/// Such a reference can never be right, so it is no reason to delete anything, be there an object of that name or not.
#[test]
fn what_lives_in_no_namespace_is_left_alone_by_owners_in_one() {
    for exists in [false, true] {
        let mut plans: Vec<Plan> = vec![("Global", false, vec![])];
        if exists {
            plans.push(("Thing", false, vec![]));
        }
        let mut model = build(&plans, Watch::Works);
        let owner = identity(1, &("Thing", false, vec![]));
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

/// Also of an object that an attempt found gone before its watch did, and forgot.
#[tokio::test]
async fn every_deletion_is_told() {
    use super::{Change, Collector, Done, Monitor, Outcome};
    use crate::framework::discovery::{Discovery, Resource};
    use crate::framework::fake::Fake;
    use crate::touched::{Concern, Touched};
    use tokio_util::sync::CancellationToken;

    let key = ("a".to_owned(), "counts".to_owned());
    let touched = Touched::default();
    let listener = touched.listen(|_| true);
    listener.follow(key.clone(), Concern::Named(["p".to_owned()].into()));
    let mut collector = Collector::new(Fake::default().client(), touched);
    let monitor = Monitor {
        resource: Arc::new(Resource::of_test("pods")),
        stop: futures::stream::AbortHandle::new_pair().0,
        listed: None,
    };
    collector.monitors.insert(0, monitor);
    let identity = Identity {
        kind: "Test".into(),
        api_version: "v1".into(),
        namespace: "a".into(),
        name: "p".into(),
        uid: "u".into(),
    };
    let seen = Seen {
        identity: identity.clone(),
        owners: Vec::new(),
        being_deleted: false,
        orphan: false,
        foreground: false,
    };
    collector.changed(0, Change::Is(seen));
    assert_eq!(listener.take_dirty(), [key.clone()].into());

    let outcome = Outcome {
        vanished: Some(identity.clone()),
        ..Outcome::default()
    };
    let id = collector.work.spawn(async { Ok(Outcome::default()) }).id();
    collector.running.insert(id, Work::Attempt(Arc::clone(&identity.uid)));
    let done: Done = (id, Ok(outcome));
    let (discovery, _) = Discovery::new(Fake::default().client(), CancellationToken::new());
    collector.done(Ok(done), &discovery);
    assert_eq!(listener.take_dirty(), [key.clone()].into());

    collector.changed(0, Change::Was(identity));
    assert_eq!(listener.take_dirty(), [key].into());
}
