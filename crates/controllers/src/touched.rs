//! Where something changed, for whoever has to look again when it does. The garbage collector watches everything already; this
//! lets others profit without watches of their own.

use crate::framework::discovery::Resource;
use crate::framework::drive::{Signal, Source};
use futures::StreamExt as _;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Namespace and name of an object.
pub(crate) type Key = (String, String);

/// Shared by who tells and who listens.
#[derive(Clone, Default)]
pub(crate) struct Touched(Arc<Mutex<Vec<Listener>>>);

impl Touched {
    /// Changes of the resources that are chosen, from now on.
    pub(crate) fn listen(&self, chosen: fn(&Resource) -> bool) -> Listener {
        let listener = Listener(Arc::new(Inner {
            chosen,
            followed: Mutex::default(),
            dirty: Mutex::default(),
            news: Notify::new(),
        }));
        self.0.lock().push(listener.clone());
        listener
    }

    /// This object changed, or is gone.
    pub(crate) fn touch(&self, resource: &Resource, namespace: &str, name: &str) {
        for listener in self.0.lock().iter() {
            listener.touch(resource, Some((namespace, name)));
        }
    }

    /// Any object of the resource may have changed: its watch began anew.
    pub(crate) fn touch_all(&self, resource: &Resource) {
        for listener in self.0.lock().iter() {
            listener.touch(resource, None);
        }
    }
}

/// Which changes in the namespace of a key concern it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Concern {
    Any,
    /// Those of objects with these names.
    Named(BTreeSet<String>),
}

/// Keys that are to be looked at again. Holds at most one entry per key that is followed, and one per key that is dirty.
#[derive(Clone)]
pub(crate) struct Listener(Arc<Inner>);

struct Inner {
    chosen: fn(&Resource) -> bool,
    /// By namespace and name.
    followed: Mutex<BTreeMap<String, BTreeMap<String, Concern>>>,
    dirty: Mutex<BTreeSet<Key>>,
    news: Notify,
}

impl Listener {
    /// From now on such changes are told. What was noticed before under another concern still is.
    pub(crate) fn follow(&self, (namespace, name): Key, concern: Concern) {
        let mut followed = self.0.followed.lock();
        followed.entry(namespace).or_default().insert(name, concern);
    }

    pub(crate) fn leave(&self, (namespace, name): &Key) {
        let mut followed = self.0.followed.lock();
        if let Some(names) = followed.get_mut(namespace) {
            names.remove(name);
            if names.is_empty() {
                followed.remove(namespace);
            }
        }
    }

    fn touch(&self, resource: &Resource, object: Option<(&str, &str)>) {
        if !(self.0.chosen)(resource) {
            return;
        }
        let followed = self.0.followed.lock();
        let mut dirty: Vec<Key> = Vec::new();
        let mut note = |namespace: &str, name: &str| dirty.push((namespace.to_owned(), name.to_owned()));
        match object {
            Some((namespace, object)) => {
                for (name, concern) in followed.get(namespace).into_iter().flatten() {
                    if matches!(concern, Concern::Any)
                        || matches!(concern, Concern::Named(names) if names.contains(object))
                    {
                        note(namespace, name);
                    }
                }
            }
            None => followed
                .iter()
                .flat_map(|(namespace, names)| names.keys().map(move |name| (namespace, name)))
                .for_each(|(namespace, name)| note(namespace, name)),
        }
        drop(followed);
        if !dirty.is_empty() {
            self.0.dirty.lock().extend(dirty);
            self.0.news.notify_one();
        }
    }

    /// The keys that are touched, each once after changes were gathered for a while.
    pub(crate) fn source(&self, gather: Duration) -> Source<Key> {
        let first = futures::stream::once(async { Signal::Synced });
        let rest = futures::stream::unfold(self.clone(), move |listener| async move {
            let dirty = listener.next(gather).await;
            Some((futures::stream::iter(dirty.into_iter().map(Signal::Touched)), listener))
        });
        first.chain(rest.flatten()).boxed()
    }

    /// The keys that are touched so far, at once.
    #[cfg(test)]
    pub(crate) fn take_dirty(&self) -> BTreeSet<Key> {
        std::mem::take(&mut *self.0.dirty.lock())
    }

    #[cfg(test)]
    pub(crate) fn follows(&self, (namespace, name): &Key) -> bool {
        let followed = self.0.followed.lock();
        followed.get(namespace).is_some_and(|names| names.contains_key(name))
    }

    async fn next(&self, gather: Duration) -> BTreeSet<Key> {
        loop {
            self.0.news.notified().await;
            tokio::time::sleep(gather).await;
            let dirty = std::mem::take(&mut *self.0.dirty.lock());
            if !dirty.is_empty() {
                return dirty;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("a".to_owned(), name.to_owned())
    }

    fn dirty(listener: &Listener) -> Vec<String> {
        let dirty = listener.take_dirty();
        dirty.into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn only_what_concerns_a_key_touches_it() {
        let touched = Touched::default();
        let (pods, secrets) = (Resource::of_test("pods"), Resource::of_test("secrets"));
        let listener = touched.listen(|resource| resource.api.plural == "pods");
        listener.follow(key("any"), Concern::Any);
        listener.follow(key("named"), Concern::Named(BTreeSet::from(["p".to_owned()])));
        touched.touch(&pods, "a", "p");
        assert_eq!(dirty(&listener), ["any", "named"]);
        touched.touch(&pods, "a", "q");
        assert_eq!(dirty(&listener), ["any"]);
        touched.touch(&pods, "b", "p");
        touched.touch(&secrets, "a", "p");
        assert!(dirty(&listener).is_empty());
        touched.touch_all(&pods);
        assert_eq!(dirty(&listener), ["any", "named"]);
        listener.leave(&key("any"));
        touched.touch_all(&pods);
        assert_eq!(dirty(&listener), ["named"]);
    }
}
