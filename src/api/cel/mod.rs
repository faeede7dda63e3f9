//! The Common Expression Language as Kubernetes speaks it: rules of custom resources, admission policies, conditions.
//!
//! The crate `cel` reads an expression and expands its macros. What follows is done here, since expressions come from
//! users and Kubernetes promises more than an interpreter gives: [`check`] finds wrong types before anything runs and
//! tells them in cel-go's words; [`eval`] counts what an evaluation costs and ends it at a limit, and reads JSON in
//! place, with the schema that it has; [`library`] holds Kubernetes' functions.
//!
//! ```
//! use k3s_api::cel::{Activation, Environment, Type, Value};
//! let environment = Environment::new().with("self", Type::Int);
//! let program = environment.compile("self % 2 == 0").unwrap();
//! assert!(program.output().is(&Type::Bool));
//! let activation = Activation::new(k3s_api::cel::PER_CALL_LIMIT).with("self", Value::Int(4));
//! assert!(matches!(program.evaluate(&activation), Ok(Value::Bool(true))));
//! ```
//!
//! See <https://kubernetes.io/docs/reference/using-api/cel/>.

pub mod check;
mod cost;
pub mod declarations;
mod depth;
mod equality;
pub mod eval;
pub mod issue;
pub mod library;
mod macros;
mod program;
pub mod types;
mod unify;
pub mod value;

pub use cost::Sizes;
pub use eval::{Activation, Error};
pub use issue::Issues;
pub use program::{Environment, Program};
pub use types::{Fields, ObjectType, Type};
pub use value::Value;

/// What one evaluation of one expression may cost.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// What all expressions that are evaluated for one request may cost together, per validator.
pub const RUNTIME_BUDGET: u64 = 10_000_000;
