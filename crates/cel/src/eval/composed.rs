//! Variables that are composed of others: `variables.x`. Each is made once for all expressions that share its
//! [`crate::Variables`], by the first that asks for it.

use super::Evaluator;
use crate::{error::EvalError, value::Value};

impl<'p, 'a> Evaluator<'p, 'a> {
    pub(super) fn composed(&mut self, name: &str) -> Result<Option<Value<'a>>, EvalError> {
        let Some(composed) = &self.variables.composed else { return Ok(None) };
        let visible = self.visible.min(composed.list.len());
        // Of two with one name the later counts, as it does for the checker.
        let Some(at) = composed.list[..visible].iter().rposition(|one| one.name == name) else { return Ok(None) };
        if let Some(made) = composed.made[at].get() {
            return made.clone().map(Some).map_err(EvalError::Failed);
        }
        let made = match &composed.list[at].program {
            Err(why) => Err(format!("composited variable {name:?} fails to compile: {why}")),
            Ok(program) => {
                let spent = self.cost();
                let left = self.remaining.saturating_sub(spent);
                let mut below = Evaluator::new(program.inner(), self.variables, self.limit, left);
                below.visible = at;
                let result = below.root();
                self.composed = self.composed.saturating_add(below.cost());
                match result {
                    Err(EvalError::BudgetExceeded) => return Err(EvalError::BudgetExceeded),
                    result => result.map_err(|why| format!("composited variable {name:?} fails to evaluate: {why}")),
                }
            }
        };
        // Another may have been faster, with the same result.
        let _ = composed.made[at].set(made.clone());
        made.map(Some).map_err(EvalError::Failed)
    }
}
