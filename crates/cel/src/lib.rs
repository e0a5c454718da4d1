//! The Common Expression Language as Kubernetes 1.36 has it (<https://kubernetes.io/docs/reference/using-api/cel/>).
//!
//! An [`Env`] says which variables there are; it compiles a source to a [`Program`], whose types are all checked then.
//! A program is kept and evaluated again and again, with the [`Variables`] of the moment, at the expense of a
//! [`Budget`]: each step has a cost in cel-go's units, and when too much is spent, evaluation stops at once.
//! [`Program::estimate`] says before how much that can be for values of a schema ([`Declaration`]).
//!
//! Everything is pure: no I/O, no clocks. Whoever may answer questions of authorisation is given in.

#![forbid(unsafe_code)]

mod ast;
mod authorizer;
mod check;
mod env;
mod error;
mod escape;
mod estimate;
mod eval;
mod library;
mod parse;
mod program;
pub mod regexp;
mod schema;
#[cfg(test)]
mod tests;
mod types;
mod value;

pub use self::{
    authorizer::{Attributes, Authorizer, Decision},
    env::{Env, Expect},
    error::{CompileError, EvalError},
    escape::{escape, is_reserved},
    library::time::duration as go_duration,
    program::{Budget, Composite, Program, Variables},
    schema::Declaration,
    types::{ObjectType, Type},
    value::{Key, List, Map, Struct, Text, Value},
};
