//! PriorityClass: a name for a priority of pods.

use crate::checks::immutable;
use crate::{Kind, age, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct PriorityClasses;

/// Above it are the system's own classes.
const HIGHEST_FOR_USERS: i32 = 1_000_000_000;

/// Classes every cluster has, by their values.
const SYSTEM: [(&str, i32); 2] = [
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];

impl Kind for PriorityClasses {
    type Object = PriorityClass;
    const NAMESPACED: bool = false;
    const SHORT_NAMES: &'static [&'static str] = &["pc"];

    fn default(&self, object: &mut PriorityClass) {
        let policy = &mut object.preemption_policy;
        policy.get_or_insert_with(|| "PreemptLowerPriority".to_owned());
    }

    /// Starts at generation 1 and stays there: nothing that matters can change.
    fn spec_changed(&self, _new: &PriorityClass, _old: &PriorityClass) -> Option<bool> {
        Some(false)
    }

    fn validate(&self, object: &PriorityClass, errors: &mut Errors) {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        if name.starts_with("system-") {
            if let Err(reason) = as_system_class(name, object) {
                let detail = format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {reason}"
                );
                errors.forbidden(&Path::new("metadata").child("name"), detail);
            }
        } else if object.value > HIGHEST_FOR_USERS {
            let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_FOR_USERS}");
            errors.forbidden(&Path::new("value"), detail);
        }
        let path = Path::new("preemptionPolicy");
        match object.preemption_policy.as_deref() {
            None | Some("PreemptLowerPriority" | "Never") => {}
            Some("") => errors.required(&path, ""),
            Some(other) => errors.not_supported(&path, other, &["PreemptLowerPriority", "Never"]),
        }
    }

    fn validate_update(&self, new: &PriorityClass, old: &PriorityClass, errors: &mut Errors) {
        if new.value != old.value {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        let path = Path::new("preemptionPolicy");
        immutable(&new.preemption_policy, &old.preemption_policy, &path, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::integer("Value", "The priority that pods of this class get."),
            Column::boolean("Global-Default", "Whether pods without a class get this one."),
            Column::AGE,
            Column::string("PreemptionPolicy", "Whether pods of this class may displace others."),
        ];
        COLUMNS
    }

    fn row(&self, object: &PriorityClass, now: Timestamp) -> Vec<Value> {
        vec![
            name(&object.metadata),
            object.value.into(),
            object.global_default.unwrap_or_default().into(),
            age(&object.metadata, now),
            object.preemption_policy.clone().unwrap_or_default().into(),
        ]
    }
}

fn as_system_class(name: &str, object: &PriorityClass) -> Result<(), String> {
    let Some((_, value)) = SYSTEM.iter().find(|(known, _)| *known == name) else {
        return Err(format!("{name} is not a known system priority class"));
    };
    if object.value != *value {
        return Err(format!("value of {name} PriorityClass must be {value}"));
    }
    if object.global_default == Some(true) {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}
