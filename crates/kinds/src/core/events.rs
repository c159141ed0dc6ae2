//! Event (core/v1): what happened to an object, for people. Expires on its own.

use crate::{FieldLabel, Kind, NameRule, name};
use catamaran_api::table::{Column, age};
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct Events;

impl Kind for Events {
    type Object = Event;
    const NAMESPACED: bool = true;
    const CREATE_ON_UPDATE: bool = true;
    const NAME_RULE: NameRule = names::path_segment;
    const SHORT_NAMES: &'static [&'static str] = &["ev"];
    const FIELD_SELECTORS: &'static [FieldLabel] = &[
        FieldLabel::new("involvedObject.apiVersion"),
        FieldLabel::new("involvedObject.fieldPath"),
        FieldLabel::new("involvedObject.kind"),
        FieldLabel::new("involvedObject.name"),
        FieldLabel::new("involvedObject.namespace"),
        FieldLabel::new("involvedObject.resourceVersion"),
        FieldLabel::new("involvedObject.uid"),
        FieldLabel::new("reason"),
        FieldLabel::new("reportingComponent"),
        FieldLabel::new("source").at("source.component"),
        FieldLabel::new("type"),
    ];

    /// Old rules: the new ones are those of the other API version of events.
    fn validate(&self, object: &Event, errors: &mut Errors) {
        let about = object.involved_object.namespace.as_deref().unwrap_or_default();
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let is_new = object.event_time.is_some();
        // The object lives where its event lives; about what has no namespace one writes to `default`.
        let fits = match (about, namespace) {
            ("", "default") => true,
            ("", "kube-system") => is_new,
            ("", _) => false,
            _ => is_new || about == namespace,
        };
        if !fits {
            let path = Path::new("involvedObject");
            errors.invalid(&path.child("namespace"), about, "does not match event.namespace");
        }
        if is_new {
            validate_new(object, errors);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::string("Last Seen", "Time since the event happened last."),
            Column::string("Type", "Normal or Warning."),
            Column::string("Reason", "Why the event happened, in one word."),
            Column::string("Object", "What it happened to."),
            Column::string("Subobject", "The part of the object it happened to.").wide(),
            Column::string("Source", "Who reported it.").wide(),
            Column::string("Message", "What happened, for people."),
            Column::string("First Seen", "Time since the event happened first.").wide(),
            Column::string("Count", "How often it happened.").wide(),
            Column::NAME.wide(),
        ];
        COLUMNS
    }

    fn row(&self, object: &Event, now: Timestamp) -> Vec<Value> {
        let once = object.event_time.as_ref().map(|time| time.0);
        let first = object.first_timestamp.as_ref().map(|time| time.0).or(once);
        let mut last = object.last_timestamp.as_ref().map(|time| time.0).or(first);
        let mut count = object.count.filter(|count| *count > 0).unwrap_or(1);
        if let Some(series) = &object.series {
            last = series.last_observed_time.as_ref().map(|time| time.0).or(last);
            count = series.count.unwrap_or(count);
        }
        let since = |time: Option<Timestamp>| time.map_or_else(|| "<unknown>".to_owned(), |time| age(time, now));
        let text = |text: &Option<String>| Value::from(text.clone().unwrap_or_default());
        let about = &object.involved_object;
        let kind = about.kind.as_deref().unwrap_or_default().to_lowercase();
        let about_name = about.name.as_deref().unwrap_or_default();
        let target = if about_name.is_empty() {
            kind
        } else {
            format!("{kind}/{about_name}")
        };
        vec![
            since(last).into(),
            text(&object.type_),
            text(&object.reason),
            target.into(),
            text(&about.field_path),
            source(object).into(),
            object.message.as_deref().unwrap_or_default().trim().into(),
            since(first).into(),
            count.into(),
            name(&object.metadata),
        ]
    }
}

const LONGEST_WORD: usize = 128;
const LONGEST_MESSAGE: usize = 1024;

fn validate_new(object: &Event, errors: &mut Errors) {
    let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
    let path = Path::new("reportingComponent");
    let component = text(&object.reporting_component);
    if component.is_empty() {
        errors.required(&path, "");
    }
    errors.invalid_each(&path, &component, names::qualified_name(&component));
    for (field, value) in [
        ("reportingInstance", text(&object.reporting_instance)),
        ("action", text(&object.action)),
        ("reason", text(&object.reason)),
    ] {
        let path = Path::new(field);
        if value.is_empty() {
            errors.required(&path, "");
        }
        short(&value, LONGEST_WORD, &path, errors);
    }
    short(&text(&object.message), LONGEST_MESSAGE, &Path::new("message"), errors);
}

fn short(value: &str, most: usize, path: &Path<'_>, errors: &mut Errors) {
    if value.len() > most {
        errors.invalid(path, "", format!("can have at most {most} characters"));
    }
}

fn source(object: &Event) -> String {
    let source = object.source.as_ref();
    let component = source
        .and_then(|source| source.component.clone())
        .or_else(|| object.reporting_component.clone());
    let host = source
        .and_then(|source| source.host.clone())
        .or_else(|| object.reporting_instance.clone());
    let parts = [component, host];
    parts
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(", ")
}
