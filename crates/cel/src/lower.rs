//! From the parser's tree to ours: literals become values, and the macros the parser does not know become loops.

use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo};

use crate::error::{CompileError, Issue, position};
use crate::node::{Comprehension, Entry, Kind, Node, Select, SelectKind};
use crate::value::{Str, Value};

/// Longest expression, in characters.
const MAX_LENGTH: usize = 100_000;
/// Nesting up to which the parser runs on the caller's stack. Deeper expressions get a thread with a stack of its own.
const SHALLOW: usize = 12;
/// Stack of that thread, in bytes.
const DEEP_STACK: usize = 256 << 20;

/// The name loops keep their result under.
pub(crate) const ACCUMULATOR: &str = "@result";

/// Parses an expression.
pub(crate) fn parse(source: &str) -> Result<Node, CompileError> {
    if source.chars().count() > MAX_LENGTH {
        let message = format!(
            "expression code point size exceeds limit: size: {}, limit {MAX_LENGTH}",
            source.chars().count()
        );
        return Err(issue(source, 0, message));
    }
    if nesting(source) <= SHALLOW {
        return parse_here(source);
    }
    std::thread::scope(|scope| {
        let deep = std::thread::Builder::new().stack_size(DEEP_STACK);
        let parsed = deep.spawn_scoped(scope, || parse_here(source));
        parsed
            .ok()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_else(|| Err(issue(source, 0, "expression recursion limit exceeded".to_owned())))
    })
}

/// An upper bound of how deeply brackets and prefixes are nested.
fn nesting(source: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut prefixes = 0;
    for c in source.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '!' | '-' | '?' | '.' => prefixes += 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest.max(prefixes / 8)
}

fn issue(source: &str, at: usize, message: String) -> CompileError {
    let (line, column) = position(source, at);
    CompileError::new(source, vec![Issue { line, column, message }])
}

fn parse_here(source: &str) -> Result<Node, CompileError> {
    let parser = cel::parser::Parser::new()
        .max_recursion_depth(250)
        .enable_optional_syntax(true);
    let (expression, info) = parser.parse_with_source_info(source).map_err(|errors| {
        let issues = errors.errors.into_iter().map(|error| Issue {
            line: usize::try_from(error.pos.0).unwrap_or(1).max(1),
            column: usize::try_from(error.pos.1).unwrap_or(1).max(1),
            message: error.msg,
        });
        CompileError::new(source, issues.collect())
    })?;
    let mut lowering = Lowering {
        info,
        issues: Vec::new(),
    };
    let node = lowering.node(expression);
    if lowering.issues.is_empty() {
        return Ok(node);
    }
    let issues = lowering.issues.into_iter().map(|(at, message)| {
        let (line, column) = position(source, at);
        Issue { line, column, message }
    });
    Err(CompileError::new(source, issues.collect()))
}

struct Lowering {
    info: SourceInfo,
    issues: Vec<(usize, String)>,
}

impl Lowering {
    fn at(&self, id: u64) -> usize {
        self.info.offset_for(id).map_or(0, |(start, _)| start as usize)
    }

    fn refuse(&mut self, at: usize, message: &str) -> Node {
        self.issues.push((at, message.to_owned()));
        Node::new(at, Kind::Const(Value::Null))
    }

    fn node(&mut self, expression: IdedExpr) -> Node {
        let at = self.at(expression.id);
        let kind = match expression.expr {
            Expr::Literal(literal) => Kind::Const(constant(literal)),
            Expr::Ident(name) => Kind::Ident(name.into()),
            Expr::Select(select) => Kind::Select(Box::new(Select {
                operand: self.node(*select.operand),
                field: select.field.into(),
                kind: if select.test {
                    SelectKind::Test
                } else {
                    SelectKind::Value
                },
            })),
            Expr::Call(call) => {
                let target = call.target.map(|target| self.node(*target));
                let args: Vec<Node> = call.args.into_iter().map(|arg| self.node(arg)).collect();
                return self.call(at, &call.func_name, target, args);
            }
            Expr::List(list) => {
                let optional = list.optional_indices;
                let elements = list.elements.into_iter().enumerate();
                Kind::List(elements.map(|(i, e)| (self.node(e), optional.contains(&i))).collect())
            }
            Expr::Map(map) => Kind::Map(
                map.entries
                    .into_iter()
                    .filter_map(|entry| match entry.expr {
                        EntryExpr::MapEntry(entry) => Some(Entry {
                            key: self.node(entry.key),
                            value: self.node(entry.value),
                            optional: entry.optional,
                        }),
                        EntryExpr::StructField(_) => None,
                    })
                    .collect(),
            ),
            Expr::Struct(message) => Kind::Struct(message.type_name),
            Expr::Comprehension(c) => Kind::Comprehension(Box::new(Comprehension {
                range: self.node(c.iter_range),
                variable: c.iter_var.into(),
                second: c.iter_var2.map(Into::into),
                accumulator: c.accu_var.into(),
                init: self.node(c.accu_init),
                condition: self.node(c.loop_cond),
                step: self.node(c.loop_step),
                result: self.node(c.result),
            })),
            Expr::Unspecified => Kind::Const(Value::Null),
        };
        Node::new(at, kind)
    }

    fn call(&mut self, at: usize, name: &str, target: Option<Node>, mut args: Vec<Node>) -> Node {
        if name == "_?._" && args.len() == 2 {
            let (field, operand) = (args.pop(), args.pop());
            if let (Some(operand), Some(Kind::Const(Value::String(field)))) = (operand, field.map(|field| field.kind)) {
                let field: Arc<str> = (*field).into();
                let kind = SelectKind::Optional;
                return Node::new(at, Kind::Select(Box::new(Select { operand, field, kind })));
            }
            return self.refuse(at, "unsupported optional field selection");
        }
        let Some(target) = target else {
            return Node::call(at, name, args);
        };
        match (name, args.len()) {
            ("all" | "exists" | "exists_one" | "existsOne", 3) => self.quantifier(at, name, target, args),
            ("transformList" | "transformMap", 3 | 4) | ("transformMapEntry", 3 | 4) => {
                self.transform(at, name, target, args)
            }
            ("optMap" | "optFlatMap", 2) => self.optional_map(at, name, target, args),
            ("sortBy", 2) => self.sort_by(at, target, args),
            _ => {
                args.insert(0, target);
                Node::member(at, name, args)
            }
        }
    }

    fn variable(&mut self, node: &Node) -> Arc<str> {
        if let Kind::Ident(name) = &node.kind {
            return Arc::clone(name);
        }
        self.issues.push((node.at, "argument must be a simple name".to_owned()));
        "".into()
    }

    /// The two variables that the first arguments name, which are removed.
    fn variables(&mut self, args: &mut Vec<Node>) -> (Arc<str>, Arc<str>) {
        let rest = args.split_off(2);
        let named = std::mem::replace(args, rest);
        let (first, second) = (self.variable(&named[0]), self.variable(&named[1]));
        if first == second && !first.is_empty() {
            self.issues
                .push((named[1].at, format!("duplicate variable name: {first}")));
        }
        (first, second)
    }

    fn quantifier(&mut self, at: usize, name: &str, range: Node, mut args: Vec<Node>) -> Node {
        let (variable, second) = self.variables(&mut args);
        let predicate = args.remove(0);
        let result = || Node::ident(at, ACCUMULATOR);
        let (init, condition, step, outcome) = match name {
            "all" => (
                Value::Bool(true),
                Node::call(at, "@not_strictly_false", vec![result()]),
                Node::call(at, "_&&_", vec![result(), predicate]),
                result(),
            ),
            "exists" => (
                Value::Bool(false),
                Node::call(at, "@not_strictly_false", vec![Node::call(at, "!_", vec![result()])]),
                Node::call(at, "_||_", vec![result(), predicate]),
                result(),
            ),
            _ => {
                let one = || Node::new(at, Kind::Const(Value::Int(1)));
                let counted = Node::call(at, "_+_", vec![result(), one()]);
                (
                    Value::Int(0),
                    Node::new(at, Kind::Const(Value::Bool(true))),
                    Node::call(at, "_?_:_", vec![predicate, counted, result()]),
                    Node::call(at, "_==_", vec![result(), one()]),
                )
            }
        };
        let init = Node::new(at, Kind::Const(init));
        comprehension(at, range, (variable, Some(second)), init, condition, step, outcome)
    }

    fn transform(&mut self, at: usize, name: &str, range: Node, mut args: Vec<Node>) -> Node {
        let (variable, second) = self.variables(&mut args);
        let filter = (args.len() == 2).then(|| args.remove(0));
        let made = args.remove(0);
        let result = || Node::ident(at, ACCUMULATOR);
        let (init, grown) = match name {
            "transformList" => (
                Kind::List(Vec::new()),
                Node::call(
                    at,
                    "_+_",
                    vec![result(), Node::new(at, Kind::List(vec![(made, false)]))],
                ),
            ),
            "transformMap" => (
                Kind::Map(Vec::new()),
                Node::call(at, "cel.@mapInsert", vec![result(), Node::ident(at, &variable), made]),
            ),
            _ => (
                Kind::Map(Vec::new()),
                Node::call(at, "cel.@mapInsert", vec![result(), made]),
            ),
        };
        let step = match filter {
            Some(filter) => Node::call(at, "_?_:_", vec![filter, grown, result()]),
            None => grown,
        };
        let condition = Node::new(at, Kind::Const(Value::Bool(true)));
        let init = Node::new(at, init);
        comprehension(at, range, (variable, Some(second)), init, condition, step, result())
    }

    /// `t.optMap(v, e)`: `t.hasValue() ? optional.of(e with v = t.value()) : optional.none()`.
    fn optional_map(&mut self, at: usize, name: &str, target: Node, mut args: Vec<Node>) -> Node {
        let variable = self.variable(&args[0]);
        let body = args.remove(1);
        // The target is used twice, so it is bound once.
        let bound = || Node::ident(at, "@target");
        let value = Node::member(at, "value", vec![bound()]);
        let mapped = bind(at, variable, value, body);
        let present = match name {
            "optMap" => Node::call(at, "optional.of", vec![mapped]),
            _ => mapped,
        };
        let absent = Node::call(at, "optional.none", Vec::new());
        let chosen = Node::call(
            at,
            "_?_:_",
            vec![Node::member(at, "hasValue", vec![bound()]), present, absent],
        );
        bind(at, "@target".into(), target, chosen)
    }

    /// `l.sortBy(v, key)`: the list in the order of its keys.
    fn sort_by(&mut self, at: usize, target: Node, mut args: Vec<Node>) -> Node {
        let variable = self.variable(&args[0]);
        let key = args.remove(1);
        let bound = || Node::ident(at, "@__sortBy_input__");
        let result = || Node::ident(at, ACCUMULATOR);
        let step = Node::call(at, "_+_", vec![result(), Node::new(at, Kind::List(vec![(key, false)]))]);
        let keys = comprehension(
            at,
            bound(),
            (variable, None),
            Node::new(at, Kind::List(Vec::new())),
            Node::new(at, Kind::Const(Value::Bool(true))),
            step,
            result(),
        );
        let sorted = Node::member(at, "@sortByAssociatedKeys", vec![bound(), keys]);
        bind(at, "@__sortBy_input__".into(), target, sorted)
    }
}

#[allow(clippy::too_many_arguments, reason = "the parts of a comprehension")]
fn comprehension(
    at: usize,
    range: Node,
    (variable, second): (Arc<str>, Option<Arc<str>>),
    init: Node,
    condition: Node,
    step: Node,
    result: Node,
) -> Node {
    let comprehension = Comprehension {
        range,
        variable,
        second,
        accumulator: ACCUMULATOR.into(),
        init,
        condition,
        step,
        result,
    };
    Node::new(at, Kind::Comprehension(Box::new(comprehension)))
}

/// `body` with a variable: a loop over nothing, whose accumulator is the variable.
fn bind(at: usize, variable: Arc<str>, value: Node, body: Node) -> Node {
    let comprehension = Comprehension {
        range: Node::new(at, Kind::List(Vec::new())),
        variable: "#unused".into(),
        second: None,
        step: Node::ident(at, &variable),
        accumulator: variable,
        init: value,
        condition: Node::new(at, Kind::Const(Value::Bool(false))),
        result: body,
    };
    Node::new(at, Kind::Comprehension(Box::new(comprehension)))
}

fn constant(literal: LiteralValue) -> Value<'static> {
    match literal {
        LiteralValue::Boolean(value) => Value::Bool(*value.inner()),
        LiteralValue::Bytes(value) => Value::Bytes(value.inner().into()),
        LiteralValue::Double(value) => Value::Double(*value.inner()),
        LiteralValue::Int(value) => Value::Int(*value.inner()),
        LiteralValue::Null => Value::Null,
        LiteralValue::String(value) => Value::String(Str::Shared(value.inner().into())),
        LiteralValue::UInt(value) => Value::Uint(*value.inner()),
    }
}

/// Is this loop only a name for a value?
pub(crate) fn is_bind(comprehension: &Comprehension) -> bool {
    matches!(&comprehension.range.kind, Kind::List(elements) if elements.is_empty())
        && matches!(comprehension.condition.kind, Kind::Const(Value::Bool(false)))
        && &*comprehension.accumulator != ACCUMULATOR
}
