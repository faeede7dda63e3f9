//! From text to something that can be evaluated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use cel::Env;
use cel::common::ast::{Expr, IdedExpr};

use super::check::Checker;
use super::cost::{self, Sizes};
use super::eval::{Activation, Error, Evaluator};
use super::types::Type;
use super::value::Value;
use super::{Issues, depth, macros};

/// Room for the parser, the checker and the evaluator, which work recursively. Only what is used is ever resident.
const STACK: usize = 256 << 20;

/// Up to so many levels an expression is evaluated on any stack.
const SHALLOW: usize = 16;

static PARSER: LazyLock<Env> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    macros::add(&mut env).expect("macros that the crate has not, each once");
    env
});

/// The names that expressions may use, and of what types they are.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, Type>,
    /// Types whose objects may be written (`Name{...}`).
    structs: BTreeMap<String, Type>,
    /// Whether `Object{...}` and `Object.some.field{...}` may be written, with whatever fields.
    objects: bool,
}

impl Environment {
    /// One without names.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a variable.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, of: Type) -> Self {
        self.variables.insert(name.into(), of);
        self
    }

    /// With a type whose objects may be written.
    #[must_use]
    pub fn with_struct(mut self, name: impl Into<String>, of: Type) -> Self {
        self.structs.insert(name.into(), of);
        self
    }

    /// With objects that mutations write: `Object{spec: Object.spec{...}}`. Which fields there are, the object's schema
    /// says when the mutation is applied.
    #[must_use]
    pub fn with_objects(mut self) -> Self {
        self.objects = true;
        self
    }

    /// The type of a variable.
    pub fn variable(&self, name: &str) -> Option<&Type> {
        self.variables.get(name)
    }

    pub(super) fn struct_type(&self, name: &str) -> Option<Type> {
        let written = || self.objects && (name == "Object" || name.starts_with("Object."));
        self.structs.get(name).cloned().or_else(|| written().then(|| Type::any_object(name)))
    }

    /// Reads an expression and checks its types.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn compile(&self, source: &str) -> Result<Program, Issues> {
        if source.chars().count() > depth::MAX_LENGTH {
            let length = source.chars().count();
            let limit = depth::MAX_LENGTH;
            let message = format!("expression code point size exceeds limit: size: {length}, limit {limit}");
            return Err(Issues::whole("", message));
        }
        if depth::operators(source) > depth::MAX_OPERATORS {
            let message = format!("expression has more than {} operators", depth::MAX_OPERATORS);
            return Err(Issues::whole("", message));
        }
        stacker::grow(STACK, || self.compile_here(source))
    }

    fn compile_here(&self, source: &str) -> Result<Program, Issues> {
        let parsed = PARSER.parser().enable_ident_escape_syntax(true).parse_with_source_info(source);
        let (mut expr, info) = parsed.map_err(|errors| Issues::of_parser(source, errors))?;
        // What is too deep is also dropped recursively, here.
        let Some(depth) = depth::of(&expr) else {
            return Err(Issues::whole(
                source,
                format!("expression is nested more than {} levels deep", depth::MAX_DEPTH),
            ));
        };
        let mut checker = Checker::new(self, source, &info);
        let output = checker.check(&mut expr);
        let misnamed = checker.misnamed();
        let issues = checker.finish();
        if !issues.is_empty() {
            return Err(issues);
        }
        let mut variables = BTreeSet::new();
        note_variables(&expr, &mut variables);
        Ok(Program { expr, depth, output, misnamed, variables })
    }
}

/// The variables that an expression mentions, bound ones included.
fn note_variables(root: &IdedExpr, names: &mut BTreeSet<String>) {
    use cel::common::ast::EntryExpr;
    match &root.expr {
        Expr::Ident(name) => {
            names.insert(name.clone());
        }
        Expr::Call(call) => {
            call.target.iter().for_each(|target| note_variables(target, names));
            call.args.iter().for_each(|arg| note_variables(arg, names));
        }
        Expr::Comprehension(all) => {
            for part in [&all.iter_range, &all.accu_init, &all.loop_cond, &all.loop_step, &all.result] {
                note_variables(part, names);
            }
        }
        Expr::List(list) => list.elements.iter().for_each(|element| note_variables(element, names)),
        Expr::Map(cel::common::ast::MapExpr { entries })
        | Expr::Struct(cel::common::ast::StructExpr { entries, .. }) => {
            for entry in entries {
                match &entry.expr {
                    EntryExpr::StructField(field) => note_variables(&field.value, names),
                    EntryExpr::MapEntry(entry) => {
                        note_variables(&entry.key, names);
                        note_variables(&entry.value, names);
                    }
                }
            }
        }
        Expr::Select(select) => note_variables(&select.operand, names),
        Expr::Literal(_) | Expr::Unspecified => {}
    }
}

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    expr: IdedExpr,
    /// Levels of the expression.
    depth: usize,
    output: Type,
    misnamed: Option<String>,
    variables: BTreeSet<String>,
}

impl Program {
    /// The type of its value.
    pub fn output(&self) -> &Type {
        &self.output
    }

    /// Which object that it writes is called otherwise than the field that it is for, in Kubernetes' words.
    pub fn misnamed(&self) -> Option<&str> {
        self.misnamed.as_deref()
    }

    /// Whether it mentions a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.variables.contains(variable)
    }

    /// The most that one evaluation may cost, with variables of these sizes.
    pub fn most_it_may_cost(&self, variables: &[(&str, &Sizes)]) -> u64 {
        let estimate = || cost::estimate(&self.expr, variables);
        if self.depth <= SHALLOW { estimate() } else { stacker::grow(STACK, estimate) }
    }

    /// Its value. What it cost is added up in the activation.
    ///
    /// # Errors
    /// What went wrong, in cel-go's words.
    pub fn evaluate<'a>(&'a self, activation: &Activation<'a>) -> Result<Value<'a>, Error> {
        let run = || Evaluator::new(activation).run(&self.expr);
        if self.depth <= SHALLOW { run() } else { stacker::grow(STACK, run) }
    }
}
