//! What can go wrong, before and while evaluating.

/// Why an expression is none: one line for every fault, each with the place in the source, as cel-go writes them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct CompileError {
    pub text: String,
    /// The expression is sound, only its type is not the expected one.
    pub wrong_type: bool,
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The expression cost more than any one may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostExceeded,
    /// The expression cost more than is left of what all expressions of the request may cost together.
    #[error("validation failed due to running out of cost budget, no further validation rules will be run")]
    BudgetExceeded,
    /// No such key, an index out of bounds, an overflow, a type that does not fit.
    #[error("{0}")]
    Failed(String),
}

/// A fault, and the character of the source it stands at.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub at: u32,
    pub text: String,
}

impl CompileError {
    /// Faults in the order of their places, each with the line it is in and a mark below it.
    pub(crate) fn of(source: &str, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.at);
        let mut text = String::new();
        for (i, fault) in faults.iter().enumerate() {
            if i > 0 {
                text.push('\n');
            }
            let (mut number, mut column, mut line) = (1, fault.at as usize, "");
            for one in source.split('\n') {
                line = one;
                let length = one.chars().count();
                if column <= length {
                    break;
                }
                column -= length + 1;
                number += 1;
            }
            let dots = ".".repeat(column);
            let said = &fault.text;
            text.push_str(&format!("ERROR: <input>:{number}:{}: {said}\n | {line}\n | {dots}^", column + 1));
        }
        Self { text, wrong_type: false }
    }
}
