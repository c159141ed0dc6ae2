//! What is known beforehand about a JSON value: its type, and how large it can get.
//!
//! The type decides which expressions are accepted and how JSON is read (a string may be a timestamp, `1` may be a double); the
//! sizes are what the cost estimate multiplies.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use crate::types::Type;

/// The largest request the server takes, in bytes: no value can be larger.
pub const MAX_REQUEST_BYTES: u64 = 3 * 1024 * 1024;

/// A declared value.
#[derive(Clone, Debug)]
pub struct Decl {
    pub shape: Shape,
    /// Most characters of a string, items of a list, entries of a map; 0 for everything else.
    pub max_elements: u64,
    /// Fewest bytes the value takes as JSON.
    pub min_bytes: u64,
}

#[derive(Clone, Debug)]
pub enum Shape {
    /// Anything, also what is an integer or a string.
    Dyn,
    Bool,
    Int,
    Double,
    String,
    /// A string in base64.
    Bytes,
    /// An RFC 3339 string.
    Timestamp,
    /// A string like `2024-05-01`, which is a timestamp in expressions.
    Date,
    /// A string in Go's notation, `1h30m`.
    Duration,
    List(Arc<Decl>, ListSemantics),
    Map(Arc<Decl>),
    Object(Arc<ObjectDecl>),
    /// A value that does not come from JSON.
    Native(Type),
}

/// `x-kubernetes-list-type`: what equality and `+` of lists mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListSemantics {
    #[default]
    Atomic,
    Set,
    /// Items are told apart by these properties.
    Map(Arc<[String]>),
}

/// An object with declared fields.
#[derive(Debug)]
pub struct ObjectDecl {
    /// How errors call it.
    pub name: String,
    /// By the (escaped) name that expressions use.
    pub fields: BTreeMap<String, Field>,
}

#[derive(Clone, Debug)]
pub struct Field {
    /// The property's name in JSON.
    pub property: Box<str>,
    pub decl: Decl,
}

/// The declaration of what is not declared.
pub(crate) static DYN: Decl = Decl {
    shape: Shape::Dyn,
    max_elements: 0,
    min_bytes: 1,
};

/// Keys of maps.
pub(crate) static KEY: LazyLock<Decl> = LazyLock::new(|| Decl::new(Shape::String, 0, 2));

impl ObjectDecl {
    /// A field by the identifier in an expression. Where the grammar leaves no doubt, a reserved word need not be escaped.
    pub(crate) fn find(&self, identifier: &str) -> Option<&Field> {
        let escaped = || crate::escape(identifier).filter(|escaped| *escaped == format!("__{identifier}__"));
        self.fields.get(identifier).or_else(|| self.fields.get(&escaped()?))
    }
}

impl Decl {
    pub const fn new(shape: Shape, max_elements: u64, min_bytes: u64) -> Self {
        Self {
            shape,
            max_elements,
            min_bytes,
        }
    }

    /// Anything.
    pub const fn dynamic() -> Self {
        Self::new(Shape::Dyn, 0, 1)
    }

    pub const fn string(max_length: u64) -> Self {
        Self::new(Shape::String, max_length, 2)
    }

    pub fn list(items: Decl, semantics: ListSemantics, max_items: u64) -> Self {
        Self::new(Shape::List(Arc::new(items), semantics), max_items, 2)
    }

    pub fn map(values: Decl, max_entries: u64) -> Self {
        Self::new(Shape::Map(Arc::new(values)), max_entries, 2)
    }

    /// `fields` by their JSON names; those whose names cannot be written as identifiers are left out.
    pub fn object(name: &str, fields: impl IntoIterator<Item = (String, Decl)>, min_bytes: u64) -> Self {
        let fields = fields.into_iter().filter_map(|(property, decl)| {
            let escaped = crate::escape(&property)?;
            let property = property.into();
            Some((escaped, Field { property, decl }))
        });
        let object = ObjectDecl {
            name: name.to_owned(),
            fields: fields.collect(),
        };
        Self::new(Shape::Object(Arc::new(object)), 0, min_bytes)
    }

    /// The type that expressions see.
    pub fn ty(&self) -> Type {
        match &self.shape {
            Shape::Dyn => Type::Dyn,
            Shape::Bool => Type::Bool,
            Shape::Int => Type::Int,
            Shape::Double => Type::Double,
            Shape::String => Type::String,
            Shape::Bytes => Type::Bytes,
            Shape::Timestamp | Shape::Date => Type::Timestamp,
            Shape::Duration => Type::Duration,
            Shape::List(items, _) => Type::list(items.ty()),
            Shape::Map(values) => Type::map(Type::String, values.ty()),
            Shape::Object(object) => Type::Object(Arc::clone(object)),
            Shape::Native(ty) => ty.clone(),
        }
    }

    /// The declaration of a list's items.
    pub fn items_decl(&self) -> Option<&Decl> {
        self.items()
    }

    /// The declaration of a map's values.
    pub fn values_decl(&self) -> Option<&Decl> {
        self.values()
    }

    /// The declaration of a field, by its escaped name.
    pub fn field_decl(&self, name: &str) -> Option<&Decl> {
        self.field(name)
    }

    pub(crate) fn items(&self) -> Option<&Decl> {
        match &self.shape {
            Shape::List(items, _) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn values(&self) -> Option<&Decl> {
        match &self.shape {
            Shape::Map(values) => Some(values),
            _ => None,
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&Decl> {
        match &self.shape {
            Shape::Object(object) => object.find(name).map(|field| &field.decl),
            _ => None,
        }
    }
}
