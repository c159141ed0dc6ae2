//! Pods and nodes as the watches showed them, plus the pods that are assumed to be where a binding was just sent.
//!
//! A snapshot is a list of shared nodes: taking one copies pointers, and a node is copied only when it changes while a
//! snapshot still holds it.

use crate::node::{NodeFacts, NodeView};
use crate::pod::{PodKey, PodView};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// All nodes at one moment, in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    nodes: Vec<Arc<NodeView>>,
}

impl Snapshot {
    pub fn nodes(&self) -> impl Iterator<Item = &NodeView> {
        self.nodes.iter().map(|node| &**node)
    }
}

/// What changed for pods that found no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing they could hope for.
    None,
    /// There may be room now.
    Hope,
}

/// The state decisions are made on.
#[derive(Default)]
pub struct Cluster {
    nodes: BTreeMap<String, Arc<NodeView>>,
    pods: HashMap<PodKey, Known>,
}

struct Known {
    pod: Arc<PodView>,
    /// Where it counts: on its node, or on the one it is assumed to get.
    place: Option<String>,
}

impl Cluster {
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            nodes: self.nodes.values().cloned().collect(),
        }
    }

    pub fn pod(&self, key: &PodKey) -> Option<&Arc<PodView>> {
        self.pods.get(key).map(|known| &known.pod)
    }

    /// Whether a binding of the pod was sent, and no watch has shown its effect yet.
    pub fn is_assumed(&self, key: &PodKey) -> bool {
        self.pods
            .get(key)
            .is_some_and(|known| known.pod.node_name.is_none() && known.place.is_some())
    }

    pub fn pod_keys(&self) -> impl Iterator<Item = &PodKey> {
        self.pods.keys()
    }

    pub fn node_names(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(String::as_str)
    }

    /// A node as it is now.
    pub fn set_node(&mut self, facts: NodeFacts) -> Change {
        match self.nodes.get_mut(&facts.name) {
            Some(node) if node.facts == facts => Change::None,
            Some(node) => {
                Arc::make_mut(node).facts = facts;
                Change::Hope
            }
            None => {
                let name = facts.name.clone();
                let mut node = NodeView::new(facts);
                let on_it = self.pods.values().filter(|known| known.place.as_deref() == Some(&name));
                on_it.for_each(|known| node.add(&known.pod));
                self.nodes.insert(name, Arc::new(node));
                Change::Hope
            }
        }
    }

    /// A node is gone. What its absence changes is only the sentence, which waiting pods should still hear.
    pub fn remove_node(&mut self, name: &str) -> Change {
        match self.nodes.remove(name) {
            Some(_) => Change::Hope,
            None => Change::None,
        }
    }

    /// A pod as it is now. An assumed pod that is still shown without a node keeps its assumption.
    pub fn set_pod(&mut self, pod: PodView) -> Change {
        let pod = Arc::new(pod);
        let before = self.pods.remove(&pod.key);
        let mut change = Change::None;
        let mut place = pod.node_name.clone();
        if let Some(known) = &before {
            self.leave(known);
            if known.pod.uid != pod.uid {
                change = hope_if(known.place.is_some());
            } else if place.is_none() {
                place.clone_from(&known.place);
            } else if known.place.is_some() && (known.place != place || known.pod.requests != pod.requests) {
                // It went elsewhere than was assumed, or shrank.
                change = Change::Hope;
            }
        }
        let known = Known { pod, place };
        self.enter(&known);
        self.pods.insert(known.pod.key.clone(), known);
        change
    }

    /// A pod is gone, or has ended and takes nothing any more.
    pub fn remove_pod(&mut self, key: &PodKey) -> Change {
        let Some(known) = self.pods.remove(key) else {
            return Change::None;
        };
        self.leave(&known);
        hope_if(known.place.is_some())
    }

    /// From now on the pod counts on `node`, until the watch shows where it is or [`Cluster::forget`].
    pub fn assume(&mut self, key: &PodKey, node: &str) {
        if let Some(mut known) = self.pods.remove(key) {
            self.leave(&known);
            known.place = Some(node.to_owned());
            self.enter(&known);
            self.pods.insert(key.clone(), known);
        }
    }

    /// A binding failed: unless the watch showed the pod on a node since, it is nowhere.
    pub fn forget(&mut self, key: &PodKey, uid: &str) -> Change {
        let assumed = |known: &Known| &*known.pod.uid == uid && known.pod.node_name.is_none() && known.place.is_some();
        if !self.pods.get(key).is_some_and(assumed) {
            return Change::None;
        }
        if let Some(mut known) = self.pods.remove(key) {
            self.leave(&known);
            known.place = None;
            self.pods.insert(key.clone(), known);
        }
        Change::Hope
    }

    fn enter(&mut self, known: &Known) {
        if let Some(node) = self.place_of(known) {
            node.add(&known.pod);
        }
    }

    fn leave(&mut self, known: &Known) {
        if let Some(node) = self.place_of(known) {
            node.remove(&known.pod);
        }
    }

    fn place_of(&mut self, known: &Known) -> Option<&mut NodeView> {
        self.nodes.get_mut(known.place.as_deref()?).map(Arc::make_mut)
    }
}

fn hope_if(room: bool) -> Change {
    if room { Change::Hope } else { Change::None }
}

impl Change {
    pub fn or(self, other: Change) -> Change {
        hope_if(self == Change::Hope || other == Change::Hope)
    }
}
