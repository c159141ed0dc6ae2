//! What evaluation may cost, in Kubernetes' units (roughly one per visited node).

use crate::EvalError;

/// The most that one evaluation of one expression may cost.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// What all rules of one custom resource, or all expressions of one policy binding, may cost together.
pub const RUNTIME_BUDGET: u64 = 10_000_000;
/// What the match conditions of one webhook or policy may cost together.
pub const MATCH_CONDITIONS_BUDGET: u64 = 2_500_000;

/// Elements copied or visited by functions whose price does not depend on their input: bounds what the price leaves open.
const MAX_WORK: u64 = 20_000_000;

/// The account of a series of evaluations.
#[derive(Clone, Debug)]
pub struct Budget {
    remaining: u64,
    per_call: u64,
    exhausted: bool,
    /// Of the evaluation that runs.
    pub(crate) cost: u64,
    pub(crate) work: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(RUNTIME_BUDGET)
    }
}

impl Budget {
    /// `total` for all evaluations together; each may use [`PER_CALL_LIMIT`].
    pub const fn new(total: u64) -> Self {
        Self {
            remaining: total,
            per_call: PER_CALL_LIMIT,
            exhausted: false,
            cost: 0,
            work: 0,
        }
    }

    /// What is left.
    pub const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Has an evaluation been cut off because nothing was left?
    pub const fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// Cost of the last evaluation.
    pub const fn last_cost(&self) -> u64 {
        self.cost
    }

    pub(crate) fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.per_call {
            return Err(EvalError::CostLimit);
        }
        if self.cost > self.remaining {
            self.exhausted = true;
            return Err(EvalError::BudgetExhausted);
        }
        Ok(())
    }

    pub(crate) fn work(&mut self, elements: usize) -> Result<(), EvalError> {
        self.work = self.work.saturating_add(elements as u64);
        if self.work > MAX_WORK {
            return Err(EvalError::CostLimit);
        }
        Ok(())
    }

    /// Runs one evaluation with an account of its own, and takes what it used from what is left.
    pub(crate) fn call<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, EvalError>) -> Result<T, EvalError> {
        let (outer_cost, outer_work) = (std::mem::take(&mut self.cost), std::mem::take(&mut self.work));
        let result = run(self);
        let used = self.cost;
        self.remaining = self.remaining.saturating_sub(used);
        self.cost = outer_cost;
        self.work = outer_work.saturating_add(self.work);
        if outer_cost == 0 {
            self.cost = used;
        }
        result
    }
}
