//! What can be wrong with an expression before and while it runs.

use std::fmt;

/// One thing wrong with the text of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// 1-based.
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
    pub message: String,
}

/// Everything wrong with the text of an expression. Displays as Kubernetes shows it: `ERROR: <input>:1:3: …` with the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    source: String,
    issues: Vec<Issue>,
}

/// Lines longer than this many characters are not repeated in a message.
const MAX_SNIPPET: usize = 16_384;
/// More issues than this are only counted.
const MAX_ISSUES: usize = 100;

impl CompileError {
    pub(crate) fn new(source: &str, mut issues: Vec<Issue>) -> Self {
        issues.sort_by_key(|issue| (issue.line, issue.column));
        Self {
            source: source.to_owned(),
            issues,
        }
    }

    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }

    fn show(&self, issue: &Issue, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ERROR: <input>:{}:{}: {}", issue.line, issue.column, issue.message)?;
        let Some(line) = self.source.split('\n').nth(issue.line.saturating_sub(1)) else {
            return Ok(());
        };
        if line.len() > MAX_SNIPPET {
            return Ok(());
        }
        let line = line.replace('\t', " ");
        write!(f, "\n | {line}\n | ")?;
        let mut characters = line.chars();
        for _ in 1..issue.column {
            let Some(c) = characters.next() else { break };
            f.write_str(if c.is_ascii() { "." } else { "\u{ff0e}" })?;
        }
        f.write_str(match characters.next() {
            Some(c) if !c.is_ascii() => "\u{ff3e}",
            _ => "^",
        })
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, issue) in self.issues.iter().take(MAX_ISSUES).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            self.show(issue, f)?;
        }
        if self.issues.len() > MAX_ISSUES {
            write!(f, "\n{} more errors were truncated", self.issues.len() - MAX_ISSUES)?;
        }
        Ok(())
    }
}

impl std::error::Error for CompileError {}

/// Line and column (1-based) of a byte offset.
pub(crate) fn position(source: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &source[..offset];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (line, before[start..].chars().count() + 1)
}

/// Why an evaluation has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The expression's own doing: `no such key: foo`, `division by zero`.
    #[error("{0}")]
    Failed(String),
    /// No function takes arguments of these types.
    #[error("no such overload")]
    NoSuchOverload,
    /// One evaluation cost more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostLimit,
    /// All evaluations together cost more than they may.
    #[error("validation failed due to running out of cost budget, no further validation rules will be run")]
    BudgetExhausted,
}

impl EvalError {
    pub fn new(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// May `&&`, `||` and the quantifiers go on to see whether the other side decides?
    pub(crate) fn is_recoverable(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::NoSuchOverload)
    }
}
