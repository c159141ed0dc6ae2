//! How much of a device there is, and in which portions it is given away.

use super::rules::each_once;
use catamaran_api::quantity::Quantity;
use catamaran_api::{Errors, Path};
use k8s_openapi::api::resource::v1::{CapacityRequestPolicy, CapacityRequestPolicyRange, DeviceCapacity};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

const MAX_VALUES: usize = 10;

fn read(wire: &Wire) -> Quantity {
    Quantity::try_from(wire).unwrap_or_default()
}

pub(super) fn validate(capacity: &DeviceCapacity, shared: bool, path: &Path<'_>, errors: &mut Errors) {
    let Some(policy) = &capacity.request_policy else { return };
    let path = path.child("requestPolicy");
    if !shared {
        return errors.forbidden(&path, "allowMultipleAllocations must be true");
    }
    let values = policy.valid_values.as_deref().unwrap_or_default();
    match &policy.valid_range {
        Some(_) if !values.is_empty() => {
            let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the \
                          same time";
            errors.forbidden(&path, detail);
        }
        Some(range) => validate_range(policy, range, &capacity.value, &path, errors),
        None if values.is_empty() => {}
        None => validate_values(policy, values, &capacity.value, &path, errors),
    }
}

fn validate_values(policy: &CapacityRequestPolicy, values: &[Wire], most: &Wire, path: &Path<'_>, errors: &mut Errors) {
    let Some(default) = &policy.default else {
        return errors.required(&path.child("default"), "required when validValues is defined");
    };
    let list = path.child("validValues");
    for (index, pair) in values.windows(2).enumerate() {
        if read(&pair[0]) > read(&pair[1]) {
            let detail = "values must be sorted in ascending order";
            errors.invalid(&list.index(index + 1), pair[1].0.as_str(), detail);
        }
    }
    let check = |value: &Wire, at: &Path<'_>, errors: &mut Errors| {
        if read(value) > read(most) {
            let detail = format!("option is larger than capacity value: {}", most.0);
            errors.invalid(at, value.0.as_str(), detail);
        }
    };
    let key = |value: &Wire| read(value).units().to_string();
    each_once(values, MAX_VALUES, &list, errors, key, check);
    if !values.iter().any(|value| read(value) == read(default)) {
        let detail = "default value is not valid according to the requestPolicy";
        errors.invalid(&list, default.0.as_str(), detail);
    }
}

fn validate_range(
    policy: &CapacityRequestPolicy,
    range: &CapacityRequestPolicyRange,
    most: &Wire,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let Some(default) = &policy.default else {
        return errors.required(&path.child("default"), "required when validRange is defined");
    };
    let path = path.child("validRange");
    let min = &range.min;
    if min.0.is_empty() {
        return errors.required(&path.child("min"), "required when validRange is defined");
    }
    let at = path.child("min");
    if read(min) > read(most) {
        errors.invalid(
            &at,
            min.0.as_str(),
            format!("min is larger than capacity value: {}", most.0),
        );
    }
    if read(default) < read(min) {
        errors.invalid(&at, default.0.as_str(), format!("default is less than min: {}", min.0));
    }
    if let Some(max) = &range.max {
        let at = path.child("max");
        if read(min) > read(max) {
            errors.invalid(&at, min.0.as_str(), format!("min is larger than max: {}", max.0));
        }
        if read(max) > read(most) {
            errors.invalid(
                &at,
                max.0.as_str(),
                format!("max is larger than capacity value: {}", most.0),
            );
        }
        if read(default) > read(max) {
            errors.invalid(&at, default.0.as_str(), format!("default is more than max: {}", max.0));
        }
    }
    if let Some(step) = &range.step {
        let at = path.child("step");
        let one = read(min) + read(step);
        if one > read(most) {
            let detail = format!("one step {one} is larger than capacity value: {}", most.0);
            errors.invalid(&at, step.0.as_str(), detail);
        }
        for value in [Some(default), range.max.as_ref()].into_iter().flatten() {
            let steps = read(step).units();
            if steps == 0 || (read(value).units() - read(min).units()) % steps != 0 {
                let detail = format!("value is not a multiple of a given step ({}) from ({})", step.0, min.0);
                errors.invalid(&at, value.0.as_str(), detail);
            }
        }
    }
}
