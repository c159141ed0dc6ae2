//! Which variables an expression may use.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::decl::Decl;
use crate::types::Type;

/// The declared variables of an expression. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: Arc<BTreeMap<String, Variable>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub(crate) decl: Arc<Decl>,
    pub(crate) ty: Type,
}

impl Env {
    pub fn new() -> Self {
        Self::default()
    }

    /// The environment with one more variable, say `self` with the declaration of its schema.
    #[must_use]
    pub fn with(self, name: &str, decl: Decl) -> Self {
        let ty = decl.ty();
        self.insert(
            name,
            Variable {
                decl: Arc::new(decl),
                ty,
            },
        )
    }

    /// A variable that may be absent: `oldSelf` of a rule with `optionalOldSelf`.
    #[must_use]
    pub fn with_optional(self, name: &str, decl: Decl) -> Self {
        let ty = Type::optional(decl.ty());
        self.insert(
            name,
            Variable {
                decl: Arc::new(decl),
                ty,
            },
        )
    }

    /// A variable about which nothing is known.
    #[must_use]
    pub fn with_dyn(self, name: &str) -> Self {
        self.with(name, Decl::dynamic())
    }

    fn insert(mut self, name: &str, variable: Variable) -> Self {
        Arc::make_mut(&mut self.variables).insert(name.to_owned(), variable);
        self
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Variable> {
        self.variables.get(name)
    }
}
