//! Label and field selectors of a request, checked against what the kind offers and evaluated on cached facts.

use super::resource::Resource;
use crate::kinds::KindRef;
use crate::watch_cache::Record;
use catamaran_api::Status;
use catamaran_api::field::quote;
use catamaran_api::selector::{FieldSelector, LabelSource, Selector};
use std::borrow::Cow;

/// Which objects a request is about.
#[derive(Debug)]
pub(crate) struct Filter {
    labels: Selector,
    fields: Vec<Term>,
    /// The only name that can match, if a field selector says so.
    pub(crate) name: Option<String>,
}

#[derive(Debug)]
struct Term {
    field: Field,
    equal: bool,
    value: String,
}

#[derive(Clone, Debug)]
enum Field {
    Name,
    Namespace,
    /// Index into the kind's field selectors, and the value of an object that lacks it.
    Other(usize, Cow<'static, str>),
}

impl Filter {
    /// Parses both selectors as they are in the query (empty: everything).
    pub(crate) fn parse(resource: &Resource, labels: &str, fields: &str) -> Result<Filter, Status> {
        let selector = Selector::parse(labels)?;
        let field_selector = FieldSelector::parse(fields)?;
        let mut terms = Vec::new();
        for requirement in field_selector.requirements() {
            let field = match requirement.field.as_str() {
                "metadata.name" => Field::Name,
                "metadata.namespace" if resource.info.namespaced => Field::Namespace,
                other => {
                    let known = resource
                        .info
                        .field_selectors
                        .iter()
                        .position(|field| field.label == other);
                    let index = known.ok_or_else(|| unsupported(resource, other))?;
                    Field::Other(index, resource.info.field_selectors[index].absent.clone())
                }
            };
            terms.push(Term {
                field,
                equal: requirement.equal,
                value: requirement.value.clone(),
            });
        }
        let name = field_selector.pinned("metadata.name").map(ToOwned::to_owned);
        Ok(Filter {
            labels: selector,
            fields: terms,
            name,
        })
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, record: &Record) -> bool {
        self.fields.iter().all(|term| term.matches(record)) && self.labels.matches(&Labels(record))
    }
}

/// Kinds with fields of their own to select by word it in their own way.
fn unsupported(resource: &Resource, label: &str) -> Status {
    let selectable = !resource.info.field_selectors.is_empty() || matches!(resource.kind, KindRef::Defined(_));
    Status::bad_request(if selectable {
        format!("field label not supported: {label}")
    } else {
        format!(
            "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
            quote(label)
        )
    })
}

impl Term {
    fn matches(&self, record: &Record) -> bool {
        let value = match &self.field {
            Field::Name => record.name(),
            Field::Namespace => record.namespace().unwrap_or_default(),
            Field::Other(index, absent) => match record.facts.fields[*index].as_ref() {
                "" => absent,
                value => value,
            },
        };
        (value == self.value) == self.equal
    }
}

struct Labels<'a>(&'a Record);

impl LabelSource for Labels<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        self.0.facts.label(key)
    }
}
