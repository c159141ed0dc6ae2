//! Version 1 of autoscalers, which knows one metric: CPU. What else an object has stands in annotations of this version, so that
//! nothing is lost by whoever reads and writes it.

mod convert;

use super::horizontalpodautoscalers::{self as v2, COLUMNS};
use crate::{ErasedKind, Hub, Kind, STATUS, Subresource};
use catamaran_api::Errors;
use catamaran_api::table::Column;
use k8s_openapi::api::autoscaling::v1::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct HorizontalPodAutoscalers;

impl HorizontalPodAutoscalers {
    /// The object as it is kept, for rules that know only that.
    fn kept(object: &HorizontalPodAutoscaler) -> Option<Box<dyn crate::Object>> {
        let value = serde_json::to_value(object).ok()?;
        v2::HorizontalPodAutoscalers.decode(convert::to_v2(value)).ok()
    }
}

impl Kind for HorizontalPodAutoscalers {
    type Object = HorizontalPodAutoscaler;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["hpa"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const HUB: Option<Hub> = Some(Hub {
        kind: &v2::HorizontalPodAutoscalers,
        to: convert::to_v2,
        from: convert::from_v2,
    });

    fn default(&self, object: &mut HorizontalPodAutoscaler) {
        object.spec.get_or_insert_default().min_replicas.get_or_insert(1);
        // An autoscaler that names no metric gets one; whether this version can show it is found on the way there and back.
        if let Ok(value) = serde_json::to_value(&*object)
            && let Ok(shown) =
                serde_json::from_value::<HorizontalPodAutoscaler>(convert::from_v2(convert::to_v2(value)))
            && let (Some(spec), Some(shown)) = (&mut object.spec, shown.spec)
        {
            spec.target_cpu_utilization_percentage = shown.target_cpu_utilization_percentage;
        }
    }

    fn prepare_create(&self, object: &mut HorizontalPodAutoscaler) {
        object.status = Some(HorizontalPodAutoscalerStatus::default());
    }

    fn prepare_update(&self, new: &mut HorizontalPodAutoscaler, old: &HorizontalPodAutoscaler) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut HorizontalPodAutoscaler, old: &HorizontalPodAutoscaler) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, object: &HorizontalPodAutoscaler, errors: &mut Errors) {
        if let Some(kept) = Self::kept(object) {
            ErasedKind::validate(&v2::HorizontalPodAutoscalers, &*kept, errors);
        }
    }

    fn validate_status(&self, new: &HorizontalPodAutoscaler, old: &HorizontalPodAutoscaler, errors: &mut Errors) {
        if let (Some(new), Some(old)) = (Self::kept(new), Self::kept(old)) {
            ErasedKind::validate_status(&v2::HorizontalPodAutoscalers, &*new, &*old, errors);
        }
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &HorizontalPodAutoscaler, now: Timestamp) -> Vec<Value> {
        match Self::kept(object) {
            Some(kept) => ErasedKind::row(&v2::HorizontalPodAutoscalers, &*kept, now),
            None => vec![Value::Null; COLUMNS.len()],
        }
    }
}
