//! LimitRange: how much one container, pod or claim of a namespace may ask for, and what it gets if it does not say.

use crate::core::amounts;
use crate::{Kind, name};
use catamaran_api::quantity::Quantity;
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What is larger has too many thousandths for 64 bits.
const MOST_MILLIS: i64 = i64::MAX / 1000;

pub(crate) struct LimitRanges;

impl Kind for LimitRanges {
    type Object = LimitRange;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["limits"];
    const CREATE_ON_UPDATE: bool = true;

    /// For containers: the limit is the maximum, the request is the limit, or else the minimum.
    fn default(&self, object: &mut LimitRange) {
        let spec = object.spec.get_or_insert_default();
        for item in spec.limits.iter_mut().filter(|item| item.type_ == "Container") {
            let mut limits = item.default.take().unwrap_or_default();
            for (name, amount) in item.max.iter().flatten() {
                limits.entry(name.clone()).or_insert_with(|| amount.clone());
            }
            let mut requests = item.default_request.take().unwrap_or_default();
            for (name, amount) in limits.iter().chain(item.min.iter().flatten()) {
                requests.entry(name.clone()).or_insert_with(|| amount.clone());
            }
            item.default = Some(limits).filter(|amounts| !amounts.is_empty());
            item.default_request = Some(requests).filter(|amounts| !amounts.is_empty());
        }
    }

    fn validate(&self, object: &LimitRange, errors: &mut Errors) {
        let limits = object.spec.as_ref().map_or(&[][..], |spec| &spec.limits);
        let path = Path::new("spec");
        let list = path.child("limits");
        for (index, item) in limits.iter().enumerate() {
            let at = list.index(index);
            let kind = at.child("type");
            let messages = names::qualified_name(&item.type_);
            let standard = ["Pod", "Container", "PersistentVolumeClaim"].contains(&item.type_.as_str());
            if messages.is_empty() && !item.type_.contains('/') && !standard {
                let detail = "must be a standard limit type or fully qualified";
                errors.invalid(&kind, item.type_.as_str(), detail);
            }
            errors.invalid_each(&kind, &item.type_, messages);
            if limits[..index].iter().any(|other| other.type_ == item.type_) {
                errors.duplicate(&kind, item.type_.as_str());
            }
            self::item(item, &at, errors);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Created At", "When the object was created.").of_type("date"),
        ];
        COLUMNS
    }

    fn row(&self, object: &LimitRange, _now: Timestamp) -> Vec<Value> {
        let created = object.metadata.creation_timestamp.as_ref();
        let created = created.map_or_else(
            || Value::from(""),
            |time| serde_json::to_value(time).unwrap_or_default(),
        );
        vec![name(&object.metadata), created]
    }
}

type Amounts = Option<BTreeMap<String, Amount>>;

fn item(item: &LimitRangeItem, path: &Path<'_>, errors: &mut Errors) {
    let of_pods = item.type_ == "Pod";
    let mut resources = BTreeSet::new();
    for (field, amounts) in [
        ("max", &item.max),
        ("min", &item.min),
        ("default", &item.default),
        ("defaultRequest", &item.default_request),
        ("maxLimitRequestRatio", &item.max_limit_request_ratio),
    ] {
        let at = path.child(field);
        if of_pods && field.starts_with("default") {
            if amounts.as_ref().is_some_and(|amounts| !amounts.is_empty()) {
                errors.forbidden(&at, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for name in amounts.iter().flatten().map(|(name, _)| name) {
            if matches!(item.type_.as_str(), "Pod" | "Container") {
                amounts::container_resource(name, &at.key(name), errors);
            } else {
                amounts::resource_name(name, &at.key(name), errors);
            }
            resources.insert(name.as_str());
        }
    }
    let has_storage = |amounts: &Amounts| amounts.as_ref().is_some_and(|amounts| amounts.contains_key("storage"));
    if item.type_ == "PersistentVolumeClaim" && !has_storage(&item.min) && !has_storage(&item.max) {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&path.child("limits"), detail);
    }
    for resource in resources {
        bounds(item, resource, path, errors);
    }
}

/// Compares what is said about one resource.
fn bounds(item: &LimitRangeItem, resource: &str, path: &Path<'_>, errors: &mut Errors) {
    let of = |amounts: &Amounts| {
        let amount = amounts.as_ref()?.get(resource)?;
        Quantity::try_from(amount).ok()
    };
    let of_pods = item.type_ == "Pod";
    let (min, max) = (of(&item.min), of(&item.max));
    let limit = of(&item.default).filter(|_| !of_pods);
    let request = of(&item.default_request).filter(|_| !of_pods);
    let mut ordered =
        |low: (Option<Quantity>, &str), high: (Option<Quantity>, &str), field: &str, shown: Option<Quantity>| {
            if let (Some(less), Some(more), Some(shown)) = (low.0, high.0, shown)
                && less > more
            {
                let at = path.child(field);
                let detail = format!("{} {less} is greater than {} {more}", low.1, high.1);
                errors.invalid(&at.key(resource), shown.to_string(), detail);
            }
        };
    ordered((min, "min value"), (max, "max value"), "min", min);
    ordered(
        (min, "min value"),
        (request, "default request value"),
        "defaultRequest",
        request,
    );
    ordered(
        (request, "default request value"),
        (max, "max value"),
        "defaultRequest",
        request,
    );
    ordered(
        (request, "default request value"),
        (limit, "default limit value"),
        "defaultRequest",
        request,
    );
    ordered((min, "min value"), (limit, "default value"), "default", min);
    ordered((limit, "default value"), (max, "max value"), "default", max);
    if let Some(ratio) = of(&item.max_limit_request_ratio) {
        let at = path.child("maxLimitRequestRatio");
        let at = at.key(resource);
        if ratio < Quantity::from_units(1) {
            errors.invalid(&at, ratio.to_string(), format!("ratio {ratio} is less than 1"));
        }
        if let (Some(min), Some(max)) = (min, max) {
            #[allow(
                clippy::cast_precision_loss,
                reason = "Kubernetes compares ratios as floating numbers too"
            )]
            let (allowed, asked) = if [min, max, ratio].iter().all(|quantity| quantity.units() < MOST_MILLIS) {
                (
                    max.millis() as f64 / min.millis() as f64,
                    ratio.millis() as f64 / 1000.0,
                )
            } else {
                (max.units() as f64 / min.units() as f64, ratio.units() as f64)
            };
            if asked > allowed {
                let detail = format!("ratio {ratio} is greater than max/min = {allowed:.6}");
                errors.invalid(&at, ratio.to_string(), detail);
            }
        }
    }
    if let (Some(limit), Some(request)) = (limit, request)
        && !amounts::overcommits(resource)
        && limit != request
    {
        let at = path.child("defaultRequest");
        let detail = format!("default value {limit} must equal to defaultRequest value {request} in {resource}");
        errors.invalid(&at.key(resource), request.to_string(), detail);
    }
}
