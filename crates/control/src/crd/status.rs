//! The status of a definition: which names it may have, and whether it is served. Pure.

use super::names::Taken;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition, CustomResourceDefinitionStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The status as it has to be.
pub(super) fn of(
    definition: &CustomResourceDefinition,
    taken: &Taken<'_>,
    now: &Time,
) -> CustomResourceDefinitionStatus {
    let mut status = definition.status.clone().unwrap_or_default();
    let requested = &definition.spec.names;
    let mut accepted = status.accepted_names.clone().unwrap_or_default();
    let mut conflict: Option<(&str, String)> = None;
    let mut claim = |wanted: &str, own: &str, is_taken: bool, reason: &'static str| {
        let free = wanted == own || !is_taken;
        if !free {
            conflict = Some((reason, in_use(wanted)));
        }
        free
    };
    let text = |name: &Option<String>| name.clone().unwrap_or_default();
    let is_taken = taken.resource(&requested.plural);
    if claim(&requested.plural, &accepted.plural, is_taken, "PluralConflict") {
        accepted.plural.clone_from(&requested.plural);
    }
    if claim(
        &text(&requested.singular),
        &text(&accepted.singular),
        taken.resource(&text(&requested.singular)),
        "SingularConflict",
    ) {
        accepted.singular.clone_from(&requested.singular);
    }
    let own = accepted.short_names.clone().unwrap_or_default();
    let wanted = requested.short_names.clone().unwrap_or_default();
    let all_free = wanted.iter().all(|name| own.contains(name) || !taken.resource(name));
    if all_free {
        accepted.short_names.clone_from(&requested.short_names);
    }
    let is_taken = taken.kind(&requested.kind);
    if claim(&requested.kind, &accepted.kind, is_taken, "KindConflict") {
        accepted.kind.clone_from(&requested.kind);
    }
    if claim(
        &text(&requested.list_kind),
        &text(&accepted.list_kind),
        taken.kind(&text(&requested.list_kind)),
        "ListKindConflict",
    ) {
        accepted.list_kind.clone_from(&requested.list_kind);
    }
    if !all_free && conflict.is_none() {
        let refused = wanted.iter().filter(|name| taken.resource(name) && !own.contains(name));
        let texts: Vec<String> = refused.map(|name| in_use(name)).collect();
        let text = if texts.len() == 1 {
            texts.concat()
        } else {
            format!("[{}]", texts.join(", "))
        };
        conflict = Some(("ShortNamesConflict", text));
    }
    accepted.categories.clone_from(&requested.categories);
    status.accepted_names = Some(accepted);
    let free = conflict.is_none();
    let (names_status, reason, message) = match conflict {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => ("False", reason, message),
    };
    set(&mut status, "NamesAccepted", names_status, reason, message, now);
    let established = condition(&status, "Established").is_some_and(|found| found.status == "True");
    let terminating = definition.metadata.deletion_timestamp.is_some();
    if free && !established && !terminating {
        let message = "the initial names have been accepted".to_owned();
        set(&mut status, "Established", "True", "InitialNamesAccepted", message, now);
    } else if !established && !terminating {
        let message = "not all names are accepted".to_owned();
        set(&mut status, "Established", "False", "NotAccepted", message, now);
    }
    status
}

fn in_use(name: &str) -> String {
    format!("{} is already in use", catamaran_api::field::quote(name))
}

fn condition<'s>(
    status: &'s CustomResourceDefinitionStatus,
    ty: &str,
) -> Option<&'s CustomResourceDefinitionCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == ty)
}

/// Takes over what [`of`] decides, and leaves alone what others have written since.
pub(super) fn merge(present: &mut CustomResourceDefinitionStatus, wanted: &CustomResourceDefinitionStatus) {
    present.accepted_names.clone_from(&wanted.accepted_names);
    let conditions = present.conditions.get_or_insert_with(Vec::new);
    for ty in ["NamesAccepted", "Established"] {
        let Some(condition) = condition(wanted, ty) else {
            continue;
        };
        match conditions.iter_mut().find(|found| found.type_ == ty) {
            Some(found) => found.clone_from(condition),
            None => conditions.push(condition.clone()),
        }
    }
    if present.stored_versions.is_none() {
        present.stored_versions.clone_from(&wanted.stored_versions);
    }
}

/// Sets a condition; its time changes with its status.
pub(super) fn set(
    status: &mut CustomResourceDefinitionStatus,
    ty: &str,
    value: &str,
    reason: &str,
    message: String,
    now: &Time,
) {
    let conditions = status.conditions.get_or_insert_with(Vec::new);
    let wanted = CustomResourceDefinitionCondition {
        type_: ty.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(now.clone()),
        ..CustomResourceDefinitionCondition::default()
    };
    match conditions.iter_mut().find(|condition| condition.type_ == ty) {
        Some(found) => {
            let since = if found.status == value {
                found.last_transition_time.take()
            } else {
                None
            };
            *found = CustomResourceDefinitionCondition {
                last_transition_time: since.or(wanted.last_transition_time),
                ..wanted
            };
        }
        None => conditions.push(wanted),
    }
}

pub(super) fn is_established(definition: &CustomResourceDefinition) -> bool {
    let status = definition.status.as_ref();
    status
        .and_then(|status| condition(status, "Established"))
        .is_some_and(|condition| condition.status == "True")
}

/// Does it wait for names that another one has?
pub(super) fn lacks_names(definition: &CustomResourceDefinition) -> bool {
    let status = definition.status.as_ref();
    status
        .and_then(|status| condition(status, "NamesAccepted"))
        .is_some_and(|condition| condition.status == "False")
}

/// Versions that may be found in the store.
pub(super) fn stored_versions(definition: &CustomResourceDefinition) -> Vec<String> {
    let status = definition.status.as_ref();
    status
        .and_then(|status| status.stored_versions.clone())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::names::Names;
    use super::*;
    use serde_json::json;

    fn definition(kind: &str, short: &str) -> CustomResourceDefinition {
        serde_json::from_value(
            json!({"spec": {"group": "g.io", "scope": "Cluster", "versions": [], "names": {
            "plural": format!("{}s", kind.to_lowercase()), "singular": kind.to_lowercase(), "kind": kind,
            "listKind": format!("{kind}List"), "shortNames": [short]}}}),
        )
        .unwrap()
    }

    fn conditions(status: &CustomResourceDefinitionStatus) -> Vec<String> {
        let all = status.conditions.iter().flatten();
        all.map(|c| {
            format!(
                "{}={} {}: {}",
                c.type_,
                c.status,
                c.reason.as_deref().unwrap_or(""),
                c.message.as_deref().unwrap_or("")
            )
        })
        .collect()
    }

    #[test]
    fn names_are_first_come_first_served() {
        let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        let mut all = Names::default();
        let first = of(&definition("Widget", "wi"), &all.taken("g.io", "widgets"), &now);
        assert_eq!(
            conditions(&first),
            [
                "NamesAccepted=True NoConflicts: no conflicts found",
                "Established=True InitialNamesAccepted: the initial names have been accepted"
            ]
        );
        all.set("g.io", "widgets", &first.accepted_names.unwrap());
        let second = of(&definition("Gadget", "wi"), &all.taken("g.io", "gadgets"), &now);
        assert_eq!(
            conditions(&second),
            [
                "NamesAccepted=False ShortNamesConflict: \"wi\" is already in use",
                "Established=False NotAccepted: not all names are accepted"
            ]
        );
        assert_eq!(second.accepted_names.unwrap().plural, "gadgets");
        let third = of(&definition("Widget", "x"), &all.taken("g.io", "others"), &now);
        assert_eq!(
            conditions(&third)[0],
            "NamesAccepted=False ListKindConflict: \"WidgetList\" is already in use"
        );
    }
}
