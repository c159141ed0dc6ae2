//! A checked expression, ready to run.

use crate::cost::{self, Bounds};
use crate::env::Env;
use crate::node::{Kind, Node};
use crate::types::Type;
use crate::{Bindings, Budget, CompileError, EvalError, Value, check, eval, lower};

/// A checked expression. Evaluating it changes nothing, so one program serves all threads.
#[derive(Debug)]
pub struct Program {
    root: Node,
    cost: Bounds,
    variables: Vec<Box<str>>,
}

impl Program {
    /// Parses and checks an expression.
    ///
    /// # Errors
    /// Everything wrong with the text, with positions.
    pub fn compile(expression: &str, env: &Env) -> Result<Self, CompileError> {
        let mut root = lower::parse(expression)?;
        check::check(&mut root, env, expression)?;
        let cost = cost::estimate(&root, env);
        let mut variables = Vec::new();
        collect(&root, env, &mut Vec::new(), &mut variables);
        Ok(Self { root, cost, variables })
    }

    /// The type of the result.
    pub fn result_type(&self) -> &Type {
        &self.root.ty
    }

    /// What an evaluation costs at least and at most, judged by the bounds of the declared variables.
    pub fn cost(&self) -> Bounds {
        self.cost
    }

    /// Does the expression read a variable of the environment?
    pub fn uses(&self, variable: &str) -> bool {
        self.variables.iter().any(|used| **used == *variable)
    }

    /// Runs the expression.
    ///
    /// # Errors
    /// The expression fails, costs more than one call may, or more than the budget has left.
    pub fn evaluate<'a>(&'a self, bindings: &Bindings<'a>, budget: &mut Budget) -> Result<Value<'a>, EvalError> {
        budget.call(|budget| eval::evaluate(&self.root, bindings, budget))
    }
}

/// Variables of the environment that occur. Those of loops hide them.
fn collect<'n>(node: &'n Node, env: &Env, hidden: &mut Vec<&'n str>, found: &mut Vec<Box<str>>) {
    match &node.kind {
        Kind::Ident(name) => {
            let is_new = !found.iter().any(|known| **known == **name);
            if is_new && !hidden.contains(&&**name) && env.get(name).is_some() {
                found.push((&**name).into());
            }
        }
        Kind::Comprehension(c) => {
            collect(&c.range, env, hidden, found);
            collect(&c.init, env, hidden, found);
            let outside = hidden.len();
            hidden.push(&c.accumulator);
            collect(&c.result, env, hidden, found);
            hidden.push(&c.variable);
            hidden.extend(c.second.as_deref());
            collect(&c.condition, env, hidden, found);
            collect(&c.step, env, hidden, found);
            hidden.truncate(outside);
        }
        _ => {
            for child in node.children() {
                collect(child, env, hidden, found);
            }
        }
    }
}
