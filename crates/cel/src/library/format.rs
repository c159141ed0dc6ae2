//! Named formats: `format.dns1123Label().validate(x)` gives the reasons why not.

use catamaran_api::names;

use super::{Answer, Function, text, url};
use crate::value::Opaque;
use crate::{Budget, EvalError, Value};

/// A format with a name.
#[derive(Debug)]
pub struct NamedFormat {
    pub(crate) name: &'static str,
    /// Length of the regular expression it stands for: what using it costs.
    pub(crate) pattern_length: u64,
    check: fn(&str) -> Vec<String>,
}

/// By the names of their functions.
static FORMATS: &[(&str, NamedFormat)] = &[
    (
        "byte",
        NamedFormat {
            name: "byte",
            pattern_length: 84,
            check: byte,
        },
    ),
    (
        "date",
        NamedFormat {
            name: "date",
            pattern_length: 116,
            check: date,
        },
    ),
    (
        "datetime",
        NamedFormat {
            name: "datetime",
            pattern_length: 116,
            check: date_time,
        },
    ),
    (
        "dns1035Label",
        NamedFormat {
            name: "DNS1035Label",
            pattern_length: 30,
            check: names::dns1035_label,
        },
    ),
    (
        "dns1035LabelPrefix",
        NamedFormat {
            name: "DNS1035LabelPrefix",
            pattern_length: 30,
            check: |value| names::as_prefix(value, names::dns1035_label),
        },
    ),
    (
        "dns1123Label",
        NamedFormat {
            name: "DNS1123Label",
            pattern_length: 30,
            check: names::dns1123_label,
        },
    ),
    (
        "dns1123LabelPrefix",
        NamedFormat {
            name: "DNS1123LabelPrefix",
            pattern_length: 30,
            check: |value| names::as_prefix(value, names::dns1123_label),
        },
    ),
    (
        "dns1123Subdomain",
        NamedFormat {
            name: "DNS1123Subdomain",
            pattern_length: 60,
            check: names::dns1123_subdomain,
        },
    ),
    (
        "dns1123SubdomainPrefix",
        NamedFormat {
            name: "DNS1123SubdomainPrefix",
            pattern_length: 60,
            check: |value| names::as_prefix(value, names::dns1123_subdomain),
        },
    ),
    (
        "labelValue",
        NamedFormat {
            name: "LabelValue",
            pattern_length: 40,
            check: names::label_value,
        },
    ),
    (
        "qualifiedName",
        NamedFormat {
            name: "QualifiedName",
            pattern_length: 60,
            check: names::qualified_name,
        },
    ),
    (
        "uri",
        NamedFormat {
            name: "URI",
            pattern_length: 1103,
            check: uri,
        },
    ),
    (
        "uuid",
        NamedFormat {
            name: "uuid",
            pattern_length: 66,
            check: uuid,
        },
    ),
];

fn named(name: &str) -> Option<&'static NamedFormat> {
    FORMATS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, format)| format)
}

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "validate" => validate,
        "format.named" => |args, _| {
            let format = named(text(args, 0)?);
            Ok(Value::Optional(format.map(|format| {
                std::sync::Arc::new(Value::opaque(Opaque::Format(format)))
            })))
        },
        "format.byte" => |_, _| constant("byte"),
        "format.date" => |_, _| constant("date"),
        "format.datetime" => |_, _| constant("datetime"),
        "format.dns1035Label" => |_, _| constant("dns1035Label"),
        "format.dns1035LabelPrefix" => |_, _| constant("dns1035LabelPrefix"),
        "format.dns1123Label" => |_, _| constant("dns1123Label"),
        "format.dns1123LabelPrefix" => |_, _| constant("dns1123LabelPrefix"),
        "format.dns1123Subdomain" => |_, _| constant("dns1123Subdomain"),
        "format.dns1123SubdomainPrefix" => |_, _| constant("dns1123SubdomainPrefix"),
        "format.labelValue" => |_, _| constant("labelValue"),
        "format.qualifiedName" => |_, _| constant("qualifiedName"),
        "format.uri" => |_, _| constant("uri"),
        "format.uuid" => |_, _| constant("uuid"),
        _ => return None,
    })
}

fn constant<'a>(name: &str) -> Answer<'a> {
    named(name)
        .map(|format| Value::opaque(Opaque::Format(format)))
        .ok_or(EvalError::NoSuchOverload)
}

fn validate<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let Value::Opaque(value) = &args[0] else {
        return Err(EvalError::NoSuchOverload);
    };
    let Opaque::Format(format) = &**value else {
        return Err(EvalError::NoSuchOverload);
    };
    let problems = (format.check)(text(args, 1)?);
    if problems.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::list(
        problems.into_iter().map(Value::string).collect(),
    )))
}

fn one(valid: bool, problem: &str) -> Vec<String> {
    if valid { Vec::new() } else { vec![problem.to_owned()] }
}

fn byte(value: &str) -> Vec<String> {
    use base64::Engine as _;
    let valid = !value.is_empty() && base64::engine::general_purpose::STANDARD.decode(value).is_ok();
    one(valid, "invalid base64")
}

fn date(value: &str) -> Vec<String> {
    one(super::time::parse_date(value).is_ok(), "invalid date")
}

fn date_time(value: &str) -> Vec<String> {
    one(super::time::parse_timestamp(value).is_ok(), "invalid datetime")
}

fn uri(value: &str) -> Vec<String> {
    match url::parse(value) {
        Ok(_) => Vec::new(),
        Err(error) => {
            let text = error.to_string();
            let prefix = "URL parse error during conversion from string: ";
            vec![text.strip_prefix(prefix).unwrap_or(&text).to_owned()]
        }
    }
}

fn uuid(value: &str) -> Vec<String> {
    let hex = |part: &str| part.bytes().all(|b| b.is_ascii_hexdigit());
    let dashed: Vec<&str> = value.split('-').collect();
    let lengths: Vec<usize> = dashed.iter().map(|part| part.len()).collect();
    let valid = dashed.iter().all(|part| hex(part)) && (lengths == [8, 4, 4, 4, 12] || lengths == [32]);
    one(valid, "does not match the UUID format")
}
