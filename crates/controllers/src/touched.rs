//! Which namespaces something changed in, for whoever counts what is in a namespace. The garbage collector watches everything
//! already; this lets others profit without watches of their own.

use crate::framework::discovery::Resource;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Shared by who tells and who listens. Holds at most one entry per namespace of interest.
#[derive(Clone, Default)]
pub(crate) struct Touched(Arc<Inner>);

#[derive(Default)]
struct Inner {
    of_interest: Mutex<HashSet<String>>,
    dirty: Mutex<BTreeSet<String>>,
    news: Notify,
}

impl Touched {
    /// Something of this resource changed.
    pub(crate) fn touch(&self, resource: &Resource, namespace: &str) {
        let counts_itself = resource.group.is_empty() && resource.api.plural == "resourcequotas";
        if counts_itself || !self.0.of_interest.lock().contains(namespace) {
            return;
        }
        self.0.dirty.lock().insert(namespace.to_owned());
        self.0.news.notify_one();
    }

    /// From now on changes in these namespaces, and no others, are told.
    pub(crate) fn interest(&self, namespaces: HashSet<String>) {
        *self.0.of_interest.lock() = namespaces;
    }

    /// The namespaces in which something changed since the last call, once there are some and changes were gathered for a while.
    pub(crate) async fn next(&self, gather: Duration) -> BTreeSet<String> {
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
