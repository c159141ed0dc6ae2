//! Which names the definitions of each group have, so that no two have one.
//!
//! Names are first come, first served; those of built-in kinds were there first. When one becomes free (its definition is gone,
//! or calls itself something else), the definitions of the group that wait for names are looked at again.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionNames;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// All names, by group.
#[derive(Default)]
pub(super) struct Names {
    groups: HashMap<String, Group>,
    /// Groups in which a name became free.
    freed: BTreeSet<String>,
}

#[derive(Default)]
struct Group {
    /// Who has a name, by the name.
    resources: Owners,
    kinds: Owners,
    /// What each has.
    owned: HashMap<Arc<str>, Owned>,
}

/// Usually one. Two only if both had the name before anybody looked.
type Owners = HashMap<String, Vec<Arc<str>>>;

#[derive(Default)]
struct Owned {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Owned {
    fn of(names: &CustomResourceDefinitionNames) -> Self {
        let resources = [Some(&names.plural), names.singular.as_ref()];
        let resources = resources
            .into_iter()
            .flatten()
            .chain(names.short_names.iter().flatten());
        let kinds = [Some(&names.kind), names.list_kind.as_ref()];
        let set = |names: &mut dyn Iterator<Item = &String>| names.filter(|name| !name.is_empty()).cloned().collect();
        Owned {
            resources: set(&mut resources.into_iter()),
            kinds: set(&mut kinds.into_iter().flatten()),
        }
    }
}

/// The names of a group as one of its definitions sees them: those that others have are taken.
pub(super) struct Taken<'n> {
    group: Option<&'n Group>,
    own: &'n str,
}

impl Taken<'_> {
    pub(super) fn resource(&self, name: &str) -> bool {
        self.group
            .is_some_and(|group| has_other(&group.resources, name, self.own))
    }

    pub(super) fn kind(&self, name: &str) -> bool {
        self.group.is_some_and(|group| has_other(&group.kinds, name, self.own))
    }
}

fn has_other(owners: &Owners, name: &str, own: &str) -> bool {
    let owners = owners.get(name).map(Vec::as_slice).unwrap_or_default();
    owners.iter().any(|owner| **owner != *own)
}

impl Names {
    /// What is taken for a definition.
    pub(super) fn taken<'n>(&'n self, group: &str, definition: &'n str) -> Taken<'n> {
        Taken {
            group: self.groups.get(group),
            own: definition,
        }
    }

    /// Notes what a definition has now.
    pub(super) fn set(&mut self, group: &str, definition: &str, names: &CustomResourceDefinitionNames) {
        self.replace(group, definition, Owned::of(names));
    }

    /// A definition is gone.
    pub(super) fn remove(&mut self, group: &str, definition: &str) {
        self.replace(group, definition, Owned::default());
        if let Some(own) = self.groups.get_mut(group) {
            own.owned.remove(definition);
            if own.owned.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    /// A group in which a name became free since it was asked last.
    pub(super) fn take_freed(&mut self) -> Option<String> {
        self.freed.pop_first()
    }

    fn replace(&mut self, group: &str, definition: &str, new: Owned) {
        let own = self.groups.entry(group.to_owned()).or_default();
        let owner: Arc<str> = definition.into();
        let old = own.owned.remove(definition).unwrap_or_default();
        let mut freed = false;
        for (owners, old, new) in [
            (&mut own.resources, &old.resources, &new.resources),
            (&mut own.kinds, &old.kinds, &new.kinds),
        ] {
            for name in old.difference(new) {
                freed = true;
                let Some(all) = owners.get_mut(name) else { continue };
                all.retain(|other| **other != *definition);
                if all.is_empty() {
                    owners.remove(name);
                }
            }
            for name in new.difference(old) {
                owners.entry(name.clone()).or_default().push(Arc::clone(&owner));
            }
        }
        own.owned.insert(owner, new);
        if freed {
            self.freed.insert(group.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(plural: &str, short: &[&str]) -> CustomResourceDefinitionNames {
        CustomResourceDefinitionNames {
            plural: plural.to_owned(),
            kind: plural.to_uppercase(),
            short_names: Some(short.iter().map(|name| (*name).to_owned()).collect()),
            ..CustomResourceDefinitionNames::default()
        }
    }

    #[test]
    fn a_name_is_free_when_nobody_else_has_it() {
        let mut all = Names::default();
        all.set("g", "a", &names("as", &["x", "y"]));
        all.set("h", "c", &names("cs", &["z"]));
        let taken = |all: &Names, name: &str| all.taken("g", "b").resource(name);
        assert!(taken(&all, "as") && taken(&all, "x") && !taken(&all, "z") && !taken(&all, "AS"));
        assert!(all.taken("g", "b").kind("AS") && !all.taken("g", "a").kind("AS"));
        assert_eq!(all.take_freed(), None);
        all.set("g", "a", &names("as", &["y"]));
        assert!(!taken(&all, "x") && taken(&all, "y"));
        assert_eq!((all.take_freed().as_deref(), all.take_freed()), (Some("g"), None));
        // Who had the same name keeps it from others.
        all.set("g", "b", &names("bs", &["y"]));
        all.remove("g", "a");
        assert!(all.taken("g", "c").resource("y") && !taken(&all, "y"));
        all.remove("g", "b");
        assert!(all.groups.keys().eq(["h"]), "nothing is left of a group");
    }
}
