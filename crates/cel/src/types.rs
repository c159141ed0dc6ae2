//! Types of expressions, and which may stand for which.

use std::fmt;
use std::sync::Arc;

use crate::decl::ObjectDecl;

/// The type of an expression.
#[allow(clippy::enum_variant_names, reason = "the type of types is called type")]
#[derive(Clone, Debug)]
pub enum Type {
    Dyn,
    /// Of an expression that was refused: says nothing more.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    /// The type of types; the parameter is absent where only "some type" is known.
    Type(Option<Arc<Type>>),
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    Object(Arc<ObjectDecl>),
    /// One of the library's types, `kubernetes.Quantity`.
    Opaque(&'static str),
    Optional(Arc<Type>),
    /// A type still to be found out.
    Var(u32),
}

/// Names of the library's types.
pub(crate) mod opaque {
    pub(crate) const URL: &str = "kubernetes.URL";
    pub(crate) const IP: &str = "net.IP";
    pub(crate) const CIDR: &str = "net.CIDR";
    pub(crate) const QUANTITY: &str = "kubernetes.Quantity";
    pub(crate) const SEMVER: &str = "kubernetes.Semver";
    pub(crate) const FORMAT: &str = "kubernetes.NamedFormat";
    pub(crate) const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
    pub(crate) const PATH_CHECK: &str = "kubernetes.authorization.PathCheck";
    pub(crate) const GROUP_CHECK: &str = "kubernetes.authorization.GroupCheck";
    pub(crate) const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";
    pub(crate) const DECISION: &str = "kubernetes.authorization.Decision";
}

impl Type {
    /// The type of the `authorizer` variable.
    pub const AUTHORIZER: Type = Type::Opaque(opaque::AUTHORIZER);
    /// The type of `authorizer.requestResource`.
    pub const RESOURCE_CHECK: Type = Type::Opaque(opaque::RESOURCE_CHECK);

    pub fn list(items: Type) -> Self {
        Type::List(Arc::new(items))
    }

    pub fn map(keys: Type, values: Type) -> Self {
        Type::Map(Arc::new((keys, values)))
    }

    pub fn optional(inner: Type) -> Self {
        Type::Optional(Arc::new(inner))
    }

    /// The type and whether it was wrapped in an optional.
    pub(crate) fn unwrap_optional(self) -> (Type, bool) {
        match self {
            Type::Optional(inner) => ((*inner).clone(), true),
            other => (other, false),
        }
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }

    fn is_nullable(&self) -> bool {
        matches!(
            self,
            Type::Null | Type::Object(_) | Type::Opaque(_) | Type::Optional(_) | Type::Timestamp | Type::Duration
        )
    }

    /// Always one element as far as costs go?
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
            Type::Optional(inner) => inner.is_scalar(),
            _ => false,
        }
    }
}

impl PartialEq for Type {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => a == b,
            (Type::Map(a), Type::Map(b)) => a == b,
            (Type::Object(a), Type::Object(b)) => Arc::ptr_eq(a, b) || a.name == b.name,
            (Type::Opaque(a), Type::Opaque(b)) => a == b,
            (Type::Var(a), Type::Var(b)) => a == b,
            (Type::Type(a), Type::Type(b)) => a == b,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn => f.write_str("dyn"),
            Type::Error => f.write_str("!error!"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Bytes => f.write_str("bytes"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Duration => f.write_str("duration"),
            Type::Type(None) => f.write_str("type"),
            Type::Type(Some(inner)) => write!(f, "type({inner})"),
            Type::List(items) => write!(f, "list({items})"),
            Type::Map(entry) => write!(f, "map({}, {})", entry.0, entry.1),
            Type::Object(object) => f.write_str(&object.name),
            Type::Opaque(name) => f.write_str(name),
            Type::Optional(inner) => write!(f, "optional_type({inner})"),
            Type::Var(id) => write!(f, "_var{id}"),
        }
    }
}

/// What has been found out about type variables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Substitutions {
    found: Vec<Option<Type>>,
}

impl Substitutions {
    pub(crate) fn fresh(&mut self) -> Type {
        self.found.push(None);
        Type::Var(u32::try_from(self.found.len() - 1).unwrap_or(u32::MAX))
    }

    fn find(&self, variable: u32) -> Option<&Type> {
        self.found.get(variable as usize)?.as_ref()
    }

    fn set(&mut self, variable: u32, ty: Type) {
        if let Some(slot) = self.found.get_mut(variable as usize) {
            *slot = Some(ty);
        }
    }

    /// The type with everything found out filled in; what is still open becomes `dyn` if `close`.
    pub(crate) fn apply(&self, ty: &Type, close: bool) -> Type {
        match ty {
            Type::Var(id) => match self.find(*id) {
                Some(found) => self.apply(found, close),
                None if close => Type::Dyn,
                None => ty.clone(),
            },
            Type::List(items) => Type::list(self.apply(items, close)),
            Type::Map(entry) => Type::map(self.apply(&entry.0, close), self.apply(&entry.1, close)),
            Type::Optional(inner) => Type::optional(self.apply(inner, close)),
            Type::Type(Some(inner)) => Type::Type(Some(Arc::new(self.apply(inner, close)))),
            other => other.clone(),
        }
    }

    /// May a value of one type stand where the other is wanted? Remembers what that says about variables, if it may.
    pub(crate) fn assignable(&mut self, a: &Type, b: &Type) -> bool {
        let mut attempt = self.clone();
        let assignable = attempt.unify(a, b);
        if assignable {
            *self = attempt;
        }
        assignable
    }

    /// The same for lists of the same length.
    pub(crate) fn all_assignable(&mut self, a: &[Type], b: &[Type]) -> bool {
        if a.len() != b.len() {
            return false;
        }
        let mut attempt = self.clone();
        let assignable = a.iter().zip(b).all(|(a, b)| attempt.unify(a, b));
        if assignable {
            *self = attempt;
        }
        assignable
    }

    fn unify(&mut self, a: &Type, b: &Type) -> bool {
        if let Type::Var(id) = b {
            let (valid, known) = self.substitute(a, *id);
            if valid || known {
                return valid;
            }
        }
        if let Type::Var(id) = a {
            return self.substitute(b, *id).0;
        }
        match (a, b) {
            (a, b) if a.is_dyn_or_error() || b.is_dyn_or_error() => true,
            (Type::Null, other) | (other, Type::Null) => other.is_nullable(),
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.unify(a, b),
            (Type::Map(a), Type::Map(b)) => self.unify(&a.0, &b.0) && self.unify(&a.1, &b.1),
            (Type::Type(_), Type::Type(_)) => true,
            (a, b) => a == b,
        }
    }

    /// Is `ty` possible for a variable, and was the variable known already?
    fn substitute(&mut self, ty: &Type, variable: u32) -> (bool, bool) {
        if *ty == Type::Var(variable) {
            return (true, true);
        }
        if let Some(known) = self.find(variable).cloned() {
            if known == *ty {
                return (true, true);
            }
            if self.unify(ty, &known) {
                let general = most_general(ty, &known).clone();
                if !self.mentions(&general, variable) {
                    self.set(variable, general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.mentions(ty, variable) {
            return (false, false);
        }
        self.set(variable, ty.clone());
        (true, false)
    }

    fn mentions(&self, ty: &Type, variable: u32) -> bool {
        match ty {
            Type::Var(id) if *id == variable => true,
            Type::Var(id) => self.find(*id).is_some_and(|found| self.mentions(found, variable)),
            Type::List(inner) | Type::Optional(inner) | Type::Type(Some(inner)) => self.mentions(inner, variable),
            Type::Map(entry) => self.mentions(&entry.0, variable) || self.mentions(&entry.1, variable),
            _ => false,
        }
    }
}

/// The one of two compatible types that admits more.
pub(crate) fn most_general<'t>(a: &'t Type, b: &'t Type) -> &'t Type {
    if is_less_specific(a, b) { a } else { b }
}

fn is_less_specific(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn | Type::Var(_), _) => true,
        (_, Type::Dyn | Type::Var(_)) => false,
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => is_less_specific(a, b),
        (Type::Map(a), Type::Map(b)) => is_less_specific(&a.0, &b.0) && is_less_specific(&a.1, &b.1),
        (Type::Type(_), Type::Type(_)) => true,
        (a, b) => a == b,
    }
}
