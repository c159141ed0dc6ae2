//! What is to become of an object, given what its owners turned out to be: pure.

use super::graph::Uid;

/// What an owner reference leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Footing {
    /// An owner that stays.
    Solid,
    /// Nothing.
    Dangling,
    /// An owner that goes as soon as its dependents are gone.
    Waiting,
}

/// How an object is to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Orphan,
    Foreground,
    Background,
}

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    /// It stays, without these references.
    DropReferences(Vec<Uid>),
    Delete {
        propagation: Propagation,
        /// First, its references are not to block anybody: it is part of a circle in which all wait for each other.
        unblock: bool,
    },
}

/// What is known of an object besides its owners.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    /// It has dependents …
    pub(crate) has_dependents: bool,
    /// … and one of them waits for its own.
    pub(crate) has_waiting_dependent: bool,
    /// Finalizers of the collector that it has already.
    pub(crate) orphan: bool,
    pub(crate) foreground: bool,
}

/// Decides about an object that is not being deleted.
pub(crate) fn judge(references: &[(Uid, Footing)], facts: Facts) -> Verdict {
    let count = |footing| references.iter().filter(|(_, own)| *own == footing).count();
    if references.is_empty() {
        return Verdict::Keep;
    }
    if count(Footing::Solid) > 0 {
        let useless = references.iter().filter(|(_, footing)| *footing != Footing::Solid);
        let useless: Vec<Uid> = useless.map(|(uid, _)| uid.clone()).collect();
        return if useless.is_empty() {
            Verdict::Keep
        } else {
            Verdict::DropReferences(useless)
        };
    }
    if count(Footing::Waiting) > 0 && facts.has_dependents {
        return Verdict::Delete {
            propagation: Propagation::Foreground,
            unblock: facts.has_waiting_dependent,
        };
    }
    // The last of the family: what it was marked with before is how it goes.
    let propagation = if facts.orphan {
        Propagation::Orphan
    } else if facts.foreground {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    Verdict::Delete {
        propagation,
        unblock: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(footings: &[Footing], facts: Facts) -> Verdict {
        let references: Vec<(Uid, Footing)> = footings
            .iter()
            .enumerate()
            .map(|(index, footing)| (index.to_string().into(), *footing))
            .collect();
        judge(&references, facts)
    }

    #[test]
    fn a_solid_owner_keeps_it() {
        use Footing::{Dangling, Solid, Waiting};
        assert_eq!(of(&[], Facts::default()), Verdict::Keep);
        assert_eq!(of(&[Solid], Facts::default()), Verdict::Keep);
        let useless = Verdict::DropReferences(vec!["1".into(), "2".into()]);
        assert_eq!(of(&[Solid, Dangling, Waiting], Facts::default()), useless);
    }

    #[test]
    fn without_one_it_goes_the_way_its_family_goes() {
        use Footing::{Dangling, Waiting};
        let parent = Facts {
            has_dependents: true,
            ..Facts::default()
        };
        let delete = |propagation, unblock| Verdict::Delete { propagation, unblock };
        assert_eq!(of(&[Dangling], parent), delete(Propagation::Background, false));
        assert_eq!(of(&[Dangling, Waiting], parent), delete(Propagation::Foreground, false));
        assert_eq!(of(&[Waiting], Facts::default()), delete(Propagation::Background, false));
        let circle = Facts {
            has_waiting_dependent: true,
            ..parent
        };
        assert_eq!(of(&[Waiting], circle), delete(Propagation::Foreground, true));
        let marked = Facts {
            orphan: true,
            ..Facts::default()
        };
        assert_eq!(of(&[Dangling], marked), delete(Propagation::Orphan, false));
    }
}
