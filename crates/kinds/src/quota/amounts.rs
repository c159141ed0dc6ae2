//! Arithmetic on lists of amounts.

use catamaran_api::quantity::Quantity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;
use std::collections::BTreeMap;

/// Amounts by the name of their resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// Amounts of an object. What is no quantity (validation refuses it) is left out.
pub fn of_wire(list: Option<&BTreeMap<String, WireQuantity>>) -> Amounts {
    list.into_iter()
        .flatten()
        .filter_map(|(name, quantity)| Some((name.clone(), Quantity::parse(&quantity.0).ok()?)))
        .collect()
}

/// Amounts as they stand in an object.
pub fn to_wire(amounts: &Amounts) -> BTreeMap<String, WireQuantity> {
    amounts
        .iter()
        .map(|(name, quantity)| (name.clone(), WireQuantity(quantity.to_string())))
        .collect()
}

/// `a + b`, name by name.
pub fn add(mut a: Amounts, b: &Amounts) -> Amounts {
    for (name, quantity) in b {
        match a.get_mut(name) {
            Some(own) => *own += *quantity,
            None => {
                a.insert(name.clone(), *quantity);
            }
        }
    }
    a
}

/// `a - b`, name by name, and never below zero.
pub fn subtract(mut a: Amounts, b: &Amounts) -> Amounts {
    for (name, quantity) in b {
        let own = a.entry(name.clone()).or_insert(Quantity::ZERO);
        *own -= *quantity;
        if own.is_negative() {
            *own = Quantity::ZERO;
        }
    }
    a
}

/// Only those whose name is among the keys of `names`.
pub fn masked<V>(amounts: &Amounts, names: &BTreeMap<String, V>) -> Amounts {
    amounts
        .iter()
        .filter(|(name, _)| names.contains_key(*name))
        .map(|(name, quantity)| (name.clone(), *quantity))
        .collect()
}

/// Only those that are something.
pub fn without_zeros(mut amounts: Amounts) -> Amounts {
    amounts.retain(|_, quantity| !quantity.is_zero());
    amounts
}

/// Are all of them nothing?
pub fn is_zero(amounts: &Amounts) -> bool {
    amounts.values().all(|quantity| quantity.is_zero())
}

/// The larger of both, name by name.
pub(super) fn larger(mut a: Amounts, b: &Amounts) -> Amounts {
    for (name, quantity) in b {
        let own = a.entry(name.clone()).or_insert(*quantity);
        if *quantity > *own {
            *own = *quantity;
        }
    }
    a
}
