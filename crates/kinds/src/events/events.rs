//! Event (events.k8s.io/v1): the same objects as core/v1's, in another form. They are kept in that of core/v1.

use crate::checks::shown;
use crate::core::events as core_events;
use crate::{FieldLabel, Hub, Kind};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::Event as CoreEvent;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};

pub(crate) struct Events;

/// Fields that are called differently: here, and in core/v1.
const NAMES: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// Longest note, in bytes.
const MAX_NOTE: usize = 1024;
/// Longest value of the short texts, in bytes.
const MAX_TEXT: usize = 128;

fn rename(event: Value, api_version: &str, name: impl Fn(&str) -> Option<&'static str>) -> Value {
    let Value::Object(fields) = event else { return event };
    let mut renamed = Map::new();
    for (key, value) in fields {
        match key.as_str() {
            "apiVersion" => renamed.insert(key, api_version.into()),
            other => {
                let key = name(other).map_or_else(|| key.clone(), str::to_owned);
                renamed.insert(key, value)
            }
        };
    }
    renamed.insert("apiVersion".to_owned(), api_version.into());
    renamed.insert("kind".to_owned(), "Event".into());
    Value::Object(renamed)
}

fn to_core(event: Value) -> Value {
    rename(event, "v1", |key| {
        NAMES.iter().find(|(here, _)| *here == key).map(|(_, core)| *core)
    })
}

fn from_core(event: Value) -> Value {
    rename(event, "events.k8s.io/v1", |key| {
        NAMES.iter().find(|(_, core)| *core == key).map(|(here, _)| *here)
    })
}

impl Kind for Events {
    type Object = Event;
    const NAMESPACED: bool = true;
    const CREATE_ON_UPDATE: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["ev"];
    /// Selected in the form that is kept.
    const FIELD_SELECTORS: &'static [FieldLabel] = &[
        FieldLabel::new("reason"),
        FieldLabel::new("regarding.apiVersion").at("involvedObject.apiVersion"),
        FieldLabel::new("regarding.fieldPath").at("involvedObject.fieldPath"),
        FieldLabel::new("regarding.kind").at("involvedObject.kind"),
        FieldLabel::new("regarding.name").at("involvedObject.name"),
        FieldLabel::new("regarding.namespace").at("involvedObject.namespace"),
        FieldLabel::new("regarding.resourceVersion").at("involvedObject.resourceVersion"),
        FieldLabel::new("regarding.uid").at("involvedObject.uid"),
        FieldLabel::new("reportingController").at("reportingComponent"),
        FieldLabel::new("type"),
    ];
    const HUB: Option<Hub> = Some(Hub {
        kind: &core_events::Events,
        to: to_core,
        from: from_core,
    });

    fn validate(&self, object: &Event, errors: &mut Errors) {
        validate_namespace(object, errors);
        validate_texts(object, errors);
        // What follows holds for new objects; those of core/v1 that exist may break it.
        if object.metadata.resource_version.is_some() {
            return;
        }
        validate_series(object, errors);
        if object.event_time.is_none() {
            errors.required(&Path::new("eventTime"), "");
        }
        let kind = object.type_.as_deref().unwrap_or_default();
        if !matches!(kind, "Normal" | "Warning") {
            errors.invalid(&Path::new("type"), "", format!("has invalid value: {kind}"));
        }
        let source = object.deprecated_source.as_ref();
        let named = |text: Option<&String>| text.is_some_and(|text| !text.is_empty());
        let unset = [
            ("firstTimestamp", object.deprecated_first_timestamp.is_some()),
            ("lastTimestamp", object.deprecated_last_timestamp.is_some()),
            ("count", object.deprecated_count.unwrap_or_default() != 0),
            (
                "source",
                source.is_some_and(|source| named(source.component.as_ref()) || named(source.host.as_ref())),
            ),
        ];
        for (field, _) in unset.iter().filter(|(_, set)| *set) {
            errors.invalid(&Path::new(field), "", "needs to be unset");
        }
    }

    /// Only the series may change.
    fn validate_update(&self, new: &Event, old: &Event, errors: &mut Errors) {
        if new.series != old.series {
            validate_series(new, errors);
        }
        let fields = |event: &Event| {
            [
                ("involvedObject", shown(&event.regarding)),
                ("reason", shown(&event.reason)),
                ("message", shown(&event.note)),
                ("source", shown(&event.deprecated_source)),
                ("firstTimestamp", shown(&event.deprecated_first_timestamp)),
                ("lastTimestamp", shown(&event.deprecated_last_timestamp)),
                ("count", shown(&event.deprecated_count)),
                ("reportingController", shown(&event.reporting_controller)),
                ("reportingInstance", shown(&event.reporting_instance)),
                ("type", shown(&event.type_)),
                ("eventTime", shown(&event.event_time)),
                ("action", shown(&event.action)),
                ("related", shown(&event.related)),
            ]
        };
        for ((field, new), (_, old)) in fields(new).into_iter().zip(fields(old)) {
            if new != old {
                errors.invalid(&Path::new(field), new, "field is immutable");
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        Kind::columns(&core_events::Events)
    }

    fn row(&self, object: &Event, now: Timestamp) -> Vec<Value> {
        let event: CoreEvent = serde_json::from_value(to_core(shown(object))).unwrap_or_default();
        Kind::row(&core_events::Events, &event, now)
    }
}

/// The object an event is about lives where the event lives; about what has no namespace one writes to `default`.
fn validate_namespace(object: &Event, errors: &mut Errors) {
    let about = object.regarding.as_ref().and_then(|about| about.namespace.as_deref());
    let about = about.unwrap_or_default();
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let fits = match (object.event_time.is_some(), about) {
        (true, "") => matches!(namespace, "default" | "kube-system"),
        (true, _) => true,
        (false, "") => matches!(namespace, "" | "default"),
        (false, about) => about == namespace,
    };
    if !fits {
        let path = Path::new("involvedObject");
        errors.invalid(&path.child("namespace"), about, "does not match event.namespace");
    }
}

fn validate_texts(object: &Event, errors: &mut Errors) {
    if object.event_time.is_none() {
        return;
    }
    let controller = object.reporting_controller.as_deref().unwrap_or_default();
    let path = Path::new("reportingController");
    if controller.is_empty() {
        errors.required(&path, "");
    }
    errors.invalid_each(&path, controller, names::qualified_name(controller));
    let texts = [
        ("reportingInstance", &object.reporting_instance),
        ("action", &object.action),
        ("reason", &object.reason),
    ];
    for (field, text) in texts {
        let path = Path::new(field);
        let text = text.as_deref().unwrap_or_default();
        if text.is_empty() {
            errors.required(&path, "");
        }
        at_most(MAX_TEXT, text, &path, errors);
    }
    let note = object.note.as_deref().unwrap_or_default();
    at_most(MAX_NOTE, note, &Path::new("message"), errors);
}

fn at_most(bytes: usize, text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.len() > bytes {
        errors.invalid(path, "", format!("can have at most {bytes} characters"));
    }
}

fn validate_series(object: &Event, errors: &mut Errors) {
    let Some(series) = &object.series else { return };
    if series.count < 2 {
        errors.invalid(&Path::new("series.count"), "", "should be at least 2");
    }
}
