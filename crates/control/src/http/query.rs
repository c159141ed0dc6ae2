//! Query parameters.

use crate::registry::WriteOptions;
use crate::registry::managed::LONGEST_MANAGER;
use catamaran_api::field::quote;
use catamaran_api::schema::FieldValidation;
use catamaran_api::{Errors, GroupKind, Path, Status};
use serde_json::Value;

/// The parameters of a request, in their order.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(uri: &http::Uri) -> Result<Self, Status> {
        match axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri) {
            Ok(query) => Ok(Query(query.0)),
            Err(error) => Err(Status::bad_request(format!("the query cannot be parsed: {error}"))),
        }
    }

    /// Options of a connection, as the query of a request for it has them.
    pub(crate) fn of_options(options: &Value) -> Self {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
            _ => None,
        };
        let mut pairs = Vec::new();
        for (name, value) in options.as_object().into_iter().flatten() {
            let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            pairs.extend(values.iter().filter_map(text).map(|text| (name.clone(), text)));
        }
        Query(pairs)
    }

    /// The first value of a parameter; empty if it is not there.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(own, _)| own == name)
            .map_or("", |(_, value)| value)
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }

    /// A boolean; anything but `false` and `0` counts as true once the parameter is there.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        let value = self
            .0
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())?;
        Some(!matches!(value, "false" | "0" | "False" | "FALSE"))
    }

    /// A number that must be one.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        match self.get(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
                let why = if !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) {
                    "value out of range"
                } else {
                    "invalid syntax"
                };
                Status::bad_request(format!("strconv.ParseInt: parsing {}: {why}", quote(text)))
            }),
        }
    }

    /// `dryRun`, `fieldValidation`, `fieldManager` and `force`; who asks is not in it. `kind` is that of the options, for errors: `CreateOptions`.
    pub(crate) fn write_options(&self, kind: &'static str) -> Result<WriteOptions, Status> {
        let mut errors = Errors::new();
        check_manager(self.get("fieldManager"), &mut errors);
        let dry_run = self.dry_run(&mut errors);
        let validation = FieldValidation::parse(self.get("fieldValidation"), kind)?;
        if errors.is_empty() {
            Ok(WriteOptions {
                dry_run,
                validation,
                field_manager: self.get("fieldManager").to_owned(),
                force: self.flag("force"),
                ..WriteOptions::default()
            })
        } else {
            Err(Status::invalid(
                &GroupKind::from_static("meta.k8s.io", kind),
                "",
                &errors,
            ))
        }
    }

    fn dry_run(&self, errors: &mut Errors) -> bool {
        let values: Vec<&str> = self.all("dryRun").collect();
        if values.iter().any(|value| *value != "All") {
            errors.not_supported(&Path::new("dryRun"), Value::from(values.clone()), &["All"]);
        }
        !values.is_empty()
    }
}

fn check_manager(name: &str, errors: &mut Errors) {
    let path = Path::new("fieldManager");
    if name.len() > LONGEST_MANAGER {
        errors.too_long(&path, LONGEST_MANAGER);
    }
    if let Some((at, c)) = name.char_indices().find(|(_, c)| c.is_control()) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        errors.invalid(&path, name, &why);
    }
}

/// Is a boolean parameter set in a query that is not parsed yet?
pub(crate) fn flag(query: &str, name: &str) -> bool {
    query.split('&').any(|pair| {
        let (own, value) = pair.split_once('=').unwrap_or((pair, ""));
        own == name && !matches!(value, "false" | "0")
    })
}

/// The first value of a parameter in a query that is not parsed yet, decoded.
pub(crate) fn raw(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.filter(|(own, _)| *own == name).map(|(_, value)| value).next()?;
    let spaced = value.replace('+', " ");
    Some(super::request_info::decode(&spaced)?.into_owned())
}
