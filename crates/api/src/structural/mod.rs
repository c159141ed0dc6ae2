//! Structural schemas: what a definition says about the objects of a custom kind, and everything that follows from it.
//!
//! A definition's schema is OpenAPI restricted to a form in which every field is named once, outside of any `anyOf`, so that
//! unknown fields can be dropped and defaults filled in without guessing
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>).
//! [`Schema`] is that schema in a compact form; each file beside this one is one thing done with it:
//!
//! | file | |
//! |---|---|
//! | `check` | is the schema structural? |
//! | `prune` | drop what is not named, and nulls that nobody asked for |
//! | `defaults` | fill in defaults; are the defaults themselves right? |
//! | `embedded` | objects within objects have names and labels, too |
//! | `validate` | values against keywords, with ratcheting for what was wrong before |
//! | `lists` | sets and maps have no duplicates |
//! | `formats` | what `format:` words mean |
//! | `paths` | simple JSON paths of definitions and rules |
//!
//! Rules in CEL are the `cel` crate's part: this crate knows no expressions.

mod check;
mod defaults;
mod embedded;
pub mod formats;
mod lists;
pub mod paths;
mod prune;
mod validate;

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use serde_json::Value;

pub use check::check;
pub use defaults::{apply_defaults, check_defaults};
pub use embedded::{coerce, validate_embedded};
pub use lists::check_lists;
pub use prune::{drop_nulls, prune};
pub use validate::validate;

/// `type:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    /// Reads the keyword.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    /// Items are told apart by these properties.
    Map(Vec<String>),
}

/// One place in a schema, or one alternative in an `anyOf` and its like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    pub ty: Option<Type>,
    pub nullable: bool,
    pub preserve_unknown: bool,
    pub embedded: bool,
    pub int_or_string: bool,
    pub default: Option<Box<Value>>,
    pub items: Option<Box<Schema>>,
    pub properties: BTreeMap<Box<str>, Schema>,
    pub additional: Option<Additional>,
    /// Keywords about values; most places have none.
    pub rules: Option<Box<Rules>>,
    /// `None`: not said, which is atomic.
    pub list_type: Option<ListType>,
    /// `Some(true)`: atomic, `Some(false)`: granular.
    pub atomic_map: Option<bool>,
    /// `x-kubernetes-validations`.
    pub expressions: Vec<ValidationRule>,
    /// Has a `title` or a `description`: matters only where none may be.
    pub titled: bool,
    pub described: bool,
}

/// `additionalProperties`.
#[derive(Clone, Debug, PartialEq)]
pub enum Additional {
    Any,
    /// Nothing more than the named properties.
    None,
    Schema(Box<Schema>),
}

/// Keywords about values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    pub format: Option<String>,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub multiple_of: Option<f64>,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    pub pattern: Option<Pattern>,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub unique_items: bool,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
    pub required: Vec<String>,
    pub allowed: Option<Vec<Value>>,
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Schema>,
}

/// A regular expression, compiled when it is first needed.
#[derive(Debug)]
pub struct Pattern {
    pub text: String,
    compiled: std::sync::OnceLock<Result<regex::Regex, String>>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            compiled: std::sync::OnceLock::new(),
        }
    }

    /// # Errors
    /// Why this is no regular expression.
    pub fn regex(&self) -> Result<&regex::Regex, &str> {
        let compile = || {
            let built = regex::RegexBuilder::new(&self.text).size_limit(1 << 20).build();
            built.map_err(|error| error.to_string())
        };
        self.compiled.get_or_init(compile).as_ref().map_err(String::as_str)
    }
}

impl Clone for Pattern {
    fn clone(&self) -> Self {
        Self::new(&self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// The schema uses a keyword that no structural schema can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    #[error("OpenAPIV3Schema 'items' must be a schema, but is an array")]
    ItemsArray,
    #[error("OpenAPIV3Schema '{0}' is not supported")]
    Keyword(&'static str),
}

impl Schema {
    /// Compiles a definition's schema.
    ///
    /// # Errors
    /// A keyword that is never allowed.
    pub fn new(props: &JSONSchemaProps) -> Result<Self, Unsupported> {
        let forbidden = [
            ("id", props.id.is_some()),
            ("schema", props.schema.is_some()),
            ("$ref", props.ref_path.is_some()),
            (
                "patternProperties",
                props.pattern_properties.as_ref().is_some_and(|map| !map.is_empty()),
            ),
            (
                "dependencies",
                props.dependencies.as_ref().is_some_and(|map| !map.is_empty()),
            ),
            ("additionalItems", props.additional_items.is_some()),
            (
                "definitions",
                props.definitions.as_ref().is_some_and(|map| !map.is_empty()),
            ),
        ];
        if let Some((keyword, _)) = forbidden.iter().find(|(_, present)| *present) {
            return Err(Unsupported::Keyword(keyword));
        }
        let items = match &props.items {
            None => None,
            Some(JSONSchemaPropsOrArray::Schema(items)) => Some(Box::new(Self::new(items)?)),
            Some(JSONSchemaPropsOrArray::Schemas(_)) => return Err(Unsupported::ItemsArray),
        };
        let mut properties = BTreeMap::new();
        for (name, property) in props.properties.iter().flatten() {
            properties.insert(name.as_str().into(), Self::new(property)?);
        }
        let additional = match &props.additional_properties {
            None => None,
            Some(JSONSchemaPropsOrBool::Bool(true)) => Some(Additional::Any),
            Some(JSONSchemaPropsOrBool::Bool(false)) => Some(Additional::None),
            Some(JSONSchemaPropsOrBool::Schema(schema)) => Some(Additional::Schema(Box::new(Self::new(schema)?))),
        };
        Ok(Self {
            ty: props.type_.as_deref().and_then(Type::parse),
            nullable: props.nullable == Some(true),
            preserve_unknown: props.x_kubernetes_preserve_unknown_fields == Some(true),
            embedded: props.x_kubernetes_embedded_resource == Some(true),
            int_or_string: props.x_kubernetes_int_or_string == Some(true),
            default: props.default.as_ref().map(|default| Box::new(default.0.clone())),
            items,
            properties,
            additional,
            rules: Rules::new(props)?.map(Box::new),
            list_type: match props.x_kubernetes_list_type.as_deref() {
                None => None,
                Some("set") => Some(ListType::Set),
                Some("map") => Some(ListType::Map(
                    props.x_kubernetes_list_map_keys.clone().unwrap_or_default(),
                )),
                Some(_) => Some(ListType::Atomic),
            },
            atomic_map: props.x_kubernetes_map_type.as_deref().map(|word| word == "atomic"),
            expressions: props.x_kubernetes_validations.clone().unwrap_or_default(),
            titled: props.title.as_ref().is_some_and(|text| !text.is_empty()),
            described: props.description.as_ref().is_some_and(|text| !text.is_empty()),
        })
    }

    /// The schema of a property, or of any property.
    pub fn property(&self, name: &str) -> Option<&Schema> {
        self.properties.get(name).or(match &self.additional {
            Some(Additional::Schema(schema)) => Some(schema),
            _ => None,
        })
    }

    /// The schema of properties without a name of their own.
    pub fn additional_schema(&self) -> Option<&Schema> {
        match &self.additional {
            Some(Additional::Schema(schema)) => Some(schema),
            _ => None,
        }
    }

    /// Are items of lists told apart by properties, and which?
    pub fn map_keys(&self) -> Option<&[String]> {
        match &self.list_type {
            Some(ListType::Map(keys)) => Some(keys),
            _ => None,
        }
    }

    /// The item of an old list that stands where this item stands in a new one.
    pub fn counterpart<'o>(&self, item: &Value, old: Option<&'o Value>) -> Option<&'o Value> {
        let keys = self.map_keys()?;
        let items = self.items.as_deref()?;
        let of = |item: &Value, key: &str| {
            let default = || items.properties.get(key)?.default.as_deref().cloned();
            item.get(key).cloned().or_else(default)
        };
        let wanted: Vec<Option<Value>> = keys.iter().map(|key| of(item, key)).collect();
        old?.as_array()?.iter().find(|old| {
            let mut found = keys.iter().map(|key| of(old, key));
            wanted.iter().all(|wanted| found.next().as_ref() == Some(wanted))
        })
    }

    /// Is there an expression anywhere below?
    pub fn has_expressions(&self) -> bool {
        let in_rules = self
            .rules
            .as_ref()
            .is_some_and(|rules| rules.all_of.iter().any(Schema::has_expressions));
        !self.expressions.is_empty()
            || in_rules
            || self.items.as_ref().is_some_and(|items| items.has_expressions())
            || self.properties.values().any(Schema::has_expressions)
            || self.additional_schema().is_some_and(Schema::has_expressions)
    }

    /// Is there a default anywhere below?
    pub fn has_defaults(&self) -> bool {
        self.default.is_some()
            || self.items.as_ref().is_some_and(|items| items.has_defaults())
            || self.properties.values().any(Schema::has_defaults)
            || self.additional_schema().is_some_and(Schema::has_defaults)
    }
}

impl Rules {
    fn new(props: &JSONSchemaProps) -> Result<Option<Self>, Unsupported> {
        let all = |schemas: &Option<Vec<JSONSchemaProps>>| -> Result<Vec<Schema>, Unsupported> {
            schemas.iter().flatten().map(Schema::new).collect()
        };
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let rules = Self {
            format: text(&props.format),
            maximum: props.maximum,
            exclusive_maximum: props.exclusive_maximum == Some(true),
            minimum: props.minimum,
            exclusive_minimum: props.exclusive_minimum == Some(true),
            multiple_of: props.multiple_of,
            max_length: props.max_length,
            min_length: props.min_length,
            pattern: text(&props.pattern).map(|pattern| Pattern::new(&pattern)),
            max_items: props.max_items,
            min_items: props.min_items,
            unique_items: props.unique_items == Some(true),
            max_properties: props.max_properties,
            min_properties: props.min_properties,
            required: props.required.clone().unwrap_or_default(),
            allowed: props
                .enum_
                .as_ref()
                .map(|values| values.iter().map(|value| value.0.clone()).collect()),
            all_of: all(&props.all_of)?,
            any_of: all(&props.any_of)?,
            one_of: all(&props.one_of)?,
            not: props.not.as_deref().map(Schema::new).transpose()?,
        };
        Ok((rules != Self::default()).then_some(rules))
    }
}

#[cfg(test)]
mod tests;
