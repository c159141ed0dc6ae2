//! PriorityLevelConfiguration: how much of the server the requests of one level get, and how the rest waits.

use super::flowschemas::validate_condition_types;
use crate::checks::{reset_metadata_for_status, shown};
use crate::{Kind, STATUS, Subresource, age, differs, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::flowcontrol::v1::{
    LimitResponse, LimitedPriorityLevelConfiguration, PriorityLevelConfiguration, PriorityLevelConfigurationSpec,
    PriorityLevelConfigurationStatus, QueuingConfiguration,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) struct PriorityLevelConfigurations;

const MAX_QUEUES: i32 = 10_000_000;
/// Bits of the hash that choose a flow's queues.
const HASH_BITS: u32 = 60;

impl Kind for PriorityLevelConfigurations {
    type Object = PriorityLevelConfiguration;
    const NAMESPACED: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];

    fn default(&self, object: &mut PriorityLevelConfiguration) {
        let Some(spec) = &mut object.spec else { return };
        if let Some(exempt) = &mut spec.exempt {
            exempt.nominal_concurrency_shares.get_or_insert(0);
            exempt.lendable_percent.get_or_insert(0);
        }
        let Some(limited) = &mut spec.limited else { return };
        limited.nominal_concurrency_shares.get_or_insert(30);
        limited.lendable_percent.get_or_insert(0);
        let queuing = limited
            .limit_response
            .as_mut()
            .and_then(|response| response.queuing.as_mut());
        if let Some(queuing) = queuing {
            for (field, value) in [
                (&mut queuing.hand_size, 8),
                (&mut queuing.queues, 64),
                (&mut queuing.queue_length_limit, 50),
            ] {
                if field.unwrap_or_default() == 0 {
                    *field = Some(value);
                }
            }
        }
    }

    fn prepare_create(&self, object: &mut PriorityLevelConfiguration) {
        object.status = Some(PriorityLevelConfigurationStatus::default());
    }

    fn prepare_update(&self, new: &mut PriorityLevelConfiguration, old: &PriorityLevelConfiguration) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut PriorityLevelConfiguration, old: &PriorityLevelConfiguration) {
        new.spec.clone_from(&old.spec);
        reset_metadata_for_status(&mut new.metadata, &old.metadata);
    }

    fn spec_changed(&self, new: &PriorityLevelConfiguration, old: &PriorityLevelConfiguration) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &PriorityLevelConfiguration, errors: &mut Errors) {
        let empty = PriorityLevelConfigurationSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&empty);
        let name = object.metadata.name.as_deref().unwrap_or_default();
        validate_spec(name, spec, errors);
        if mandatory(name, spec).is_some_and(|fixed| fixed != *spec) {
            let detail = format!("spec of '{name}' must equal the fixed value");
            errors.invalid(&Path::new("spec"), shown(spec), detail);
        }
        validate_status(object, errors);
    }

    fn validate_status(
        &self,
        new: &PriorityLevelConfiguration,
        _old: &PriorityLevelConfiguration,
        errors: &mut Errors,
    ) {
        validate_status(new, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Type", "Whether the requests of this level are limited."),
            Column::string("NominalConcurrencyShares", "The level's share of the server."),
            Column::string("Queues", "How many queues requests wait in."),
            Column::string("HandSize", "How many queues one flow may use."),
            Column::string("QueueLengthLimit", "How many requests may wait in a queue."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &PriorityLevelConfiguration, now: Timestamp) -> Vec<Value> {
        let spec = object.spec.clone().unwrap_or_default();
        let none = || Value::from("<none>");
        let limited = spec.limited.as_ref();
        let queuing = limited.and_then(|limited| limited.limit_response.as_ref());
        let queuing = queuing.and_then(|response| response.queuing.as_ref());
        let of_queuing = |field: fn(&QueuingConfiguration) -> Option<i32>| {
            queuing.map_or_else(none, |queuing| field(queuing).unwrap_or_default().into())
        };
        vec![
            name(&object.metadata),
            spec.type_.clone().into(),
            limited.map_or_else(none, |limited| {
                limited.nominal_concurrency_shares.unwrap_or_default().into()
            }),
            of_queuing(|queuing| queuing.queues),
            of_queuing(|queuing| queuing.hand_size),
            of_queuing(|queuing| queuing.queue_length_limit),
            age(&object.metadata, now),
        ]
    }
}

/// Two levels that every cluster has, as they have to be. How much the exempt one counts and lends is free.
fn mandatory(name: &str, spec: &PriorityLevelConfigurationSpec) -> Option<PriorityLevelConfigurationSpec> {
    match name {
        "exempt" => Some(PriorityLevelConfigurationSpec {
            type_: "Exempt".to_owned(),
            exempt: spec.exempt.clone(),
            limited: None,
        }),
        "catch-all" => {
            let spec = json!({"type": "Limited", "limited":
                {"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}}});
            serde_json::from_value(spec).ok()
        }
        _ => None,
    }
}

fn validate_spec(name: &str, spec: &PriorityLevelConfigurationSpec, errors: &mut Errors) {
    let path = Path::new("spec");
    if (name == "exempt") != (spec.type_ == "Exempt") {
        let detail = "type must be 'Exempt' if and only if name is 'exempt'";
        errors.invalid(&path.child("type"), spec.type_.as_str(), detail);
    }
    match spec.type_.as_str() {
        "Exempt" => {
            if spec.limited.is_some() {
                errors.forbidden(&path.child("limited"), "must be nil if the type is not Limited");
            }
            if let Some(exempt) = &spec.exempt {
                let at = path.child("exempt");
                validate_shares(exempt.nominal_concurrency_shares, exempt.lendable_percent, &at, errors);
            }
        }
        "Limited" => {
            if spec.exempt.is_some() {
                errors.forbidden(&path.child("exempt"), "must be nil if the type is Limited");
            }
            match &spec.limited {
                None => errors.required(&path.child("limited"), "must not be empty when type is Limited"),
                Some(limited) => validate_limited(limited, &path.child("limited"), errors),
            }
        }
        other => errors.not_supported(&path.child("type"), other, &["Exempt", "Limited"]),
    }
}

fn validate_shares(shares: Option<i32>, lendable: Option<i32>, path: &Path<'_>, errors: &mut Errors) {
    if let Some(shares) = shares.filter(|shares| *shares < 0) {
        let at = path.child("nominalConcurrencyShares");
        errors.invalid(&at, shares, "must be a non-negative integer");
    }
    if let Some(percent) = lendable.filter(|percent| !(0..=100).contains(percent)) {
        let detail = "must be between 0 and 100, inclusive";
        errors.invalid(&path.child("lendablePercent"), percent, detail);
    }
}

fn validate_limited(limited: &LimitedPriorityLevelConfiguration, path: &Path<'_>, errors: &mut Errors) {
    validate_shares(
        limited.nominal_concurrency_shares,
        limited.lendable_percent,
        path,
        errors,
    );
    if let Some(percent) = limited.borrowing_limit_percent.filter(|percent| *percent < 0) {
        let detail = "if specified, must be a non-negative integer";
        errors.invalid(&path.child("borrowingLimitPercent"), percent, detail);
    }
    let response = limited.limit_response.clone().unwrap_or_default();
    validate_response(&response, &path.child("limitResponse"), errors);
}

fn validate_response(response: &LimitResponse, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("queuing");
    match (response.type_.as_str(), &response.queuing) {
        ("Reject", Some(_)) => {
            let detail = "must be nil if limited.limitResponse.type is not Limited";
            errors.forbidden(&at, detail);
        }
        ("Reject", None) => {}
        ("Queue", None) => {
            let detail = "must not be empty if limited.limitResponse.type is Limited";
            errors.required(&at, detail);
        }
        ("Queue", Some(queuing)) => validate_queuing(queuing, &at, errors),
        (other, _) => errors.not_supported(&path.child("type"), other, &["Queue", "Reject"]),
    }
}

fn validate_queuing(queuing: &QueuingConfiguration, path: &Path<'_>, errors: &mut Errors) {
    let limit = queuing.queue_length_limit.unwrap_or_default();
    let queues = queuing.queues.unwrap_or_default();
    let hand = queuing.hand_size.unwrap_or_default();
    if limit <= 0 {
        errors.invalid(&path.child("queueLengthLimit"), limit, "must be positive");
    }
    let at = path.child("queues");
    if queues <= 0 {
        errors.invalid(&at, queues, "must be positive");
    } else if queues > MAX_QUEUES {
        errors.invalid(&at, queues, format!("must not be greater than {MAX_QUEUES}"));
    }
    let at = path.child("handSize");
    if hand <= 0 {
        errors.invalid(&at, hand, "must be positive");
    } else if hand > queues {
        errors.invalid(&at, hand, format!("should not be greater than queues ({queues})"));
    } else if f64::from(queues).log2() * f64::from(hand) > f64::from(HASH_BITS) {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        errors.invalid(&at, hand, detail);
    }
}

fn validate_status(object: &PriorityLevelConfiguration, errors: &mut Errors) {
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref());
    let types = conditions
        .unwrap_or_default()
        .iter()
        .map(|condition| condition.type_.as_deref());
    validate_condition_types(types, errors);
}
