//! Who owns whom, as the watches show it, and what follows from each change: pure.
//!
//! Nodes are objects by uid. A node is *observed* once a watch has shown its object; before that it is only what references say
//! about it, which may be wrong: its object may not exist, or have another name. Such a node is looked up; if nothing is found,
//! it *vanishes*, and whoever refers to it that way is attempted.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Owners that were looked for in vain and are not looked for again.
const ABSENT_REMEMBERED: usize = 500;

pub(crate) type Uid = Arc<str>;

/// Which object is meant. The order is that in which other spellings of an owner are tried.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) kind: Arc<str>,
    pub(crate) api_version: Arc<str>,
    /// Empty for an object without one.
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) uid: Uid,
}

/// An owner reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) api_version: Arc<str>,
    pub(crate) kind: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) uid: Uid,
    /// Does the owner's deletion in the foreground wait for this dependent?
    pub(crate) blocks: bool,
}

impl Owner {
    /// The object that is meant, were it in this namespace.
    pub(crate) fn identity(&self, namespace: &Arc<str>) -> Identity {
        Identity {
            kind: Arc::clone(&self.kind),
            api_version: Arc::clone(&self.api_version),
            namespace: Arc::clone(namespace),
            name: Arc::clone(&self.name),
            uid: Arc::clone(&self.uid),
        }
    }

    fn names(&self, identity: &Identity) -> bool {
        self.uid == identity.uid
            && self.kind == identity.kind
            && self.api_version == identity.api_version
            && self.name == identity.name
    }
}

/// What a watch shows of an object.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) identity: Identity,
    pub(crate) owners: Vec<Owner>,
    pub(crate) being_deleted: bool,
    /// Finalizers of the collector.
    pub(crate) orphan: bool,
    pub(crate) foreground: bool,
}

/// What is to be done after a change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Work {
    /// See whether the object has to go, or may go.
    Attempt(Uid),
    /// Take the object out of its dependents' references, and then let it go.
    Orphan(Uid),
    /// Tell that a reference names an owner in another namespace.
    Report(Box<(Identity, Owner)>),
}

#[derive(Debug)]
struct Node {
    identity: Identity,
    observed: bool,
    being_deleted: bool,
    /// Its deletion waits for its dependents.
    waits: bool,
    orphans: bool,
    owners: Vec<Owner>,
    dependents: HashSet<Uid>,
}

/// A node at one moment, for whoever works on it.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) identity: Identity,
    pub(crate) observed: bool,
    pub(crate) being_deleted: bool,
    pub(crate) waits: bool,
    pub(crate) dependents: Vec<Dependent>,
    /// Owners that are known not to exist.
    pub(crate) absent: HashSet<Identity>,
}

#[derive(Clone, Debug)]
pub(crate) struct Dependent {
    pub(crate) identity: Identity,
    pub(crate) waits: bool,
    /// Does it hold up the deletion of the item?
    pub(crate) blocks: bool,
}

/// All nodes.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: HashMap<Uid, Node>,
    absent: HashSet<Identity>,
    absent_order: VecDeque<Identity>,
}

impl Graph {
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// What only references tell of: the owner, and whoever says so.
    #[cfg(test)]
    pub(crate) fn hearsay(&self) -> Vec<(Uid, Vec<Uid>)> {
        let unobserved = self.nodes.iter().filter(|(_, node)| !node.observed);
        unobserved
            .map(|(uid, node)| (uid.clone(), node.dependents.iter().cloned().collect()))
            .collect()
    }

    /// A watch showed an object, new or changed.
    pub(crate) fn observe(&mut self, seen: &Seen) -> Vec<Work> {
        let mut work = Vec::new();
        let uid = Arc::clone(&seen.identity.uid);
        let (was_waiting, was_orphaning) = match self.nodes.get_mut(&uid) {
            None => {
                let node = Node {
                    identity: seen.identity.clone(),
                    observed: true,
                    being_deleted: false,
                    waits: false,
                    orphans: false,
                    owners: Vec::new(),
                    dependents: HashSet::new(),
                };
                self.nodes.insert(Arc::clone(&uid), node);
                (false, false)
            }
            Some(node) => {
                let before = (node.waits, node.orphans);
                let first = !std::mem::replace(&mut node.observed, true);
                node.identity = seen.identity.clone();
                if first {
                    self.correct(&seen.identity, &mut work);
                }
                before
            }
        };
        self.set_owners(&uid, &seen.owners, &mut work);
        if let Some(node) = self.nodes.get_mut(&uid) {
            node.being_deleted = seen.being_deleted;
            node.waits = seen.being_deleted && seen.foreground;
            node.orphans = seen.being_deleted && seen.orphan;
            if node.orphans && !was_orphaning {
                work.push(Work::Orphan(Arc::clone(&uid)));
            } else if node.waits && !was_waiting {
                work.extend(node.dependents.iter().cloned().map(Work::Attempt));
                work.push(Work::Attempt(uid));
            }
        }
        work
    }

    /// What was known of an owner only from references is known now; some of them may have called it otherwise.
    fn correct(&self, identity: &Identity, work: &mut Vec<Work>) {
        for (dependent, _) in self.partition(identity).1 {
            let elsewhere = !identity.namespace.is_empty() && dependent.identity.namespace != identity.namespace;
            if elsewhere && let Some(owner) = dependent.owners.iter().find(|owner| owner.uid == identity.uid) {
                work.push(Work::Report(Box::new((dependent.identity.clone(), owner.clone()))));
            }
            work.push(Work::Attempt(Arc::clone(&dependent.identity.uid)));
        }
    }

    fn set_owners(&mut self, uid: &Uid, owners: &[Owner], work: &mut Vec<Work>) {
        let Some(node) = self.nodes.get_mut(uid) else { return };
        if node.owners == owners {
            return;
        }
        let identity = node.identity.clone();
        let before = std::mem::replace(&mut node.owners, owners.to_vec());
        // What lives in no namespace may not have been judged because of a reference that is gone now.
        let is_gone = |old: &Owner| owners.iter().all(|owner| owner.uid != old.uid);
        let mut doubtful = identity.namespace.is_empty() && before.iter().any(is_gone);
        for owner in owners {
            if before.iter().all(|other| other.uid != owner.uid) {
                doubtful |= self.attach(&identity, owner, work);
            }
        }
        if doubtful {
            work.push(Work::Attempt(Arc::clone(uid)));
        }
        for old in &before {
            let still = owners.iter().find(|owner| owner.uid == old.uid);
            // Whoever waited for this one may be able to go now.
            if old.blocks && still.is_none_or(|owner| !owner.blocks) && self.nodes.contains_key(&old.uid) {
                work.push(Work::Attempt(Arc::clone(&old.uid)));
            }
            if still.is_none() {
                self.detach(uid, &old.uid);
            }
        }
    }

    /// Notes a dependent with its owner. True if it is to be judged: the reference may be wrong, or the owner's deletion is on its way
    /// already and told all whom it knew.
    fn attach(&mut self, dependent: &Identity, owner: &Owner, work: &mut Vec<Work>) -> bool {
        let Some(node) = self.nodes.get_mut(&owner.uid) else {
            let node = Node {
                identity: owner.identity(&dependent.namespace),
                observed: false,
                being_deleted: false,
                waits: false,
                orphans: false,
                owners: Vec::new(),
                dependents: HashSet::from([Arc::clone(&dependent.uid)]),
            };
            self.nodes.insert(Arc::clone(&owner.uid), node);
            work.push(Work::Attempt(Arc::clone(&owner.uid)));
            return false;
        };
        node.dependents.insert(Arc::clone(&dependent.uid));
        let namespaced = !node.identity.namespace.is_empty();
        let elsewhere = node.identity.namespace != dependent.namespace;
        if namespaced && elsewhere {
            if node.observed {
                work.push(Work::Report(Box::new((dependent.clone(), owner.clone()))));
            }
            return true;
        }
        node.waits || !owner.names(&node.identity) || (elsewhere && !node.observed)
    }

    /// An object does not depend on that owner any more. Of an owner that only references told of, nothing is left without them.
    fn detach(&mut self, dependent: &Uid, owner: &Uid) {
        let Some(node) = self.nodes.get_mut(owner) else { return };
        node.dependents.remove(dependent);
        if !node.observed && node.dependents.is_empty() {
            self.nodes.remove(owner);
        }
    }

    /// A watch showed that an object is gone.
    pub(crate) fn remove(&mut self, uid: &Uid) -> Vec<Work> {
        let Some(node) = self.nodes.remove(uid) else {
            return Vec::new();
        };
        let mut work = Vec::new();
        if !node.dependents.is_empty() {
            self.note_absent(node.identity.clone());
        }
        work.extend(node.dependents.into_iter().map(Work::Attempt));
        for owner in &node.owners {
            self.detach(uid, &owner.uid);
            if self.nodes.get(&owner.uid).is_some_and(|above| above.waits) {
                work.push(Work::Attempt(Arc::clone(&owner.uid)));
            }
        }
        work
    }

    /// Somebody looked for an object, and there is none of this identity.
    pub(crate) fn vanish(&mut self, identity: &Identity) -> Vec<Work> {
        let Some(node) = self.nodes.get(&identity.uid) else {
            return Vec::new();
        };
        if node.observed && node.identity == *identity {
            return self.remove(&identity.uid);
        }
        let (matching, others) = self.partition(identity);
        if !node.observed && others.is_empty() {
            return self.remove(&identity.uid);
        }
        let mut work: Vec<Work> = matching
            .iter()
            .map(|node| Work::Attempt(Arc::clone(&node.identity.uid)))
            .collect();
        let is_absent = !matching.is_empty();
        let mut replacement = None;
        if !node.observed && node.identity == *identity {
            replacement = alternative(others.iter().map(|(node, owner)| (*node, *owner)), identity);
        }
        if is_absent {
            self.note_absent(identity.clone());
        }
        if let Some(replacement) = replacement
            && let Some(node) = self.nodes.get_mut(&identity.uid)
        {
            node.identity = replacement;
            work.push(Work::Attempt(Arc::clone(&identity.uid)));
        }
        work
    }

    /// Dependents whose reference means this identity, and those whose reference has its uid and means another one.
    fn partition(&self, identity: &Identity) -> (Vec<&Node>, Vec<(&Node, &Owner)>) {
        let (mut matching, mut others) = (Vec::new(), Vec::new());
        let Some(node) = self.nodes.get(&identity.uid) else {
            return (matching, others);
        };
        for dependent in node.dependents.iter().filter_map(|uid| self.nodes.get(uid)) {
            let elsewhere = !identity.namespace.is_empty() && identity.namespace != dependent.identity.namespace;
            let references = dependent.owners.iter().filter(|owner| owner.uid == identity.uid);
            let mut is_match = false;
            for owner in references {
                if !elsewhere && owner.names(identity) {
                    is_match = true;
                } else {
                    others.push((dependent, owner));
                }
            }
            if is_match {
                matching.push(dependent);
            }
        }
        (matching, others)
    }

    pub(crate) fn note_absent(&mut self, identity: Identity) {
        if !self.absent.insert(identity.clone()) {
            return;
        }
        self.absent_order.push_back(identity);
        if self.absent_order.len() > ABSENT_REMEMBERED
            && let Some(oldest) = self.absent_order.pop_front()
        {
            self.absent.remove(&oldest);
        }
    }

    /// What to know to work on a node; `None` if it is not there any more.
    pub(crate) fn item(&self, uid: &Uid) -> Option<Item> {
        let node = self.nodes.get(uid)?;
        let dependents = node.dependents.iter().filter_map(|uid| self.nodes.get(uid));
        let nowhere: Arc<str> = "".into();
        let spellings = node
            .owners
            .iter()
            .flat_map(|owner| [owner.identity(&nowhere), owner.identity(&node.identity.namespace)]);
        Some(Item {
            identity: node.identity.clone(),
            observed: node.observed,
            being_deleted: node.being_deleted,
            waits: node.waits,
            dependents: dependents
                .map(|dependent| Dependent {
                    identity: dependent.identity.clone(),
                    waits: dependent.waits,
                    blocks: dependent
                        .owners
                        .iter()
                        .any(|owner| owner.uid == node.identity.uid && owner.blocks)
                        && !(node.waits && self.waits_for(dependent, uid)),
                })
                .collect(),
            absent: spellings.filter(|spelling| self.absent.contains(spelling)).collect(),
        })
    }

    /// Does the node wait, itself or through others that wait, for that object? Two that wait for each other would do so for ever.
    fn waits_for(&self, node: &Node, uid: &Uid) -> bool {
        let mut met = HashSet::new();
        let mut rest = vec![node];
        while let Some(node) = rest.pop() {
            if !node.waits {
                continue;
            }
            if node.identity.uid == *uid {
                return true;
            }
            let dependents = node.dependents.iter().filter(|dependent| met.insert(*dependent));
            let dependents = dependents.filter_map(|dependent| self.nodes.get(dependent));
            rest.extend(dependents.filter(|dependent| {
                let owners = &dependent.owners;
                owners
                    .iter()
                    .any(|owner| owner.uid == node.identity.uid && owner.blocks)
            }));
        }
        false
    }

    /// The observed objects of a type, to find out which of them a new list does not have.
    pub(crate) fn observed(&self, api_version: &str, kind: &str) -> impl Iterator<Item = &Uid> {
        self.nodes
            .iter()
            .filter(move |(_, node)| {
                node.observed && *node.identity.kind == *kind && *node.identity.api_version == *api_version
            })
            .map(|(uid, _)| uid)
    }

    /// A type is not watched any more: nothing is known of its objects but what references say. Owners that wait for one of them
    /// may have waited long enough, and whether those that have dependents are still there is to be seen.
    pub(crate) fn forget_type(&mut self, api_version: &str, kind: &str) -> Vec<Work> {
        let uids: Vec<Uid> = self.observed(api_version, kind).cloned().collect();
        let mut work = Vec::new();
        for uid in uids {
            let Some(node) = self.nodes.get_mut(&uid) else { continue };
            node.observed = false;
            node.being_deleted = false;
            node.waits = false;
            node.orphans = false;
            let owners = std::mem::take(&mut node.owners);
            let is_owner = !node.dependents.is_empty();
            for owner in owners {
                self.detach(&uid, &owner.uid);
                if self.nodes.get(&owner.uid).is_some_and(|above| above.waits) {
                    work.push(Work::Attempt(Arc::clone(&owner.uid)));
                }
            }
            if is_owner {
                work.push(Work::Attempt(uid));
            } else {
                self.nodes.remove(&uid);
            }
        }
        work
    }
}

/// Another spelling of an owner of which one spelling turned out not to exist: the one that follows it in order, else the first.
fn alternative<'a>(references: impl Iterator<Item = (&'a Node, &'a Owner)>, absent: &Identity) -> Option<Identity> {
    let cluster_wide = absent.namespace.is_empty();
    let mut spellings: Vec<Identity> = references
        .map(|(dependent, owner)| {
            let mut spelling = owner.identity(&dependent.identity.namespace);
            if cluster_wide && spelling.kind == absent.kind && spelling.api_version == absent.api_version {
                spelling.namespace = "".into();
            }
            spelling
        })
        .filter(|spelling| spelling != absent)
        .collect();
    spellings.sort();
    let following = spellings.iter().find(|spelling| *spelling > absent);
    following.or(spellings.first()).cloned()
}
