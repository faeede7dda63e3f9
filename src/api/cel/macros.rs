//! Macros beyond those of the crate: comprehensions with two variables (index and element of a list, key and value of
//! a map), as in cel-go's extension `TwoVarComprehensions`.

use cel::common::ast::operators::{ADD, CONDITIONAL, LOGICAL_AND, LOGICAL_NOT, LOGICAL_OR, NOT_STRICTLY_FALSE};
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr};
use cel::parser::{Macro, MacroExprHelper, ParseError};
use cel::{DeclarationError, Env};

const RESULT: &str = "@result";
/// Adds an entry to a map that a comprehension builds: `cel.@mapInsert(map, key, value)`, or of another map's entries.
pub const MAP_INSERT: &str = "cel.@mapInsert";

type Expansion = Result<Option<IdedExpr>, ParseError>;

/// Adds them to what a parser expands.
pub fn add(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_macro(Macro::receiver("all", 3, |h, target, args| quantifier(h, target, args, true)))?;
    env.add_macro(Macro::receiver("exists", 3, |h, target, args| quantifier(h, target, args, false)))?;
    for name in ["exists_one", "existsOne"] {
        env.add_macro(Macro::receiver(name, 3, exactly_one))?;
    }
    for count in [3, 4] {
        env.add_macro(Macro::receiver("transformList", count, transform_list))?;
        env.add_macro(Macro::receiver("transformMap", count, |h, target, args| transform_map(h, target, args, false)))?;
        env.add_macro(Macro::receiver("transformMapEntry", count, |h, target, args| {
            transform_map(h, target, args, true)
        }))?;
    }
    Ok(())
}

fn call(helper: &mut MacroExprHelper<'_>, function: &str, args: Vec<IdedExpr>) -> IdedExpr {
    helper.next_expr(Expr::Call(CallExpr { func_name: function.to_owned(), target: None, args }))
}

fn result(helper: &mut MacroExprHelper<'_>) -> IdedExpr {
    helper.next_expr(Expr::Ident(RESULT.to_owned()))
}

fn literal(helper: &mut MacroExprHelper<'_>, value: LiteralValue) -> IdedExpr {
    helper.next_expr(Expr::Literal(value))
}

/// The names of the two variables, which are the first two arguments.
fn variables(helper: &MacroExprHelper<'_>, args: &mut Vec<IdedExpr>) -> Result<(String, String), ParseError> {
    let mut name = || {
        let arg = args.remove(0);
        match arg.expr {
            Expr::Ident(name) => Ok(name),
            _ => Err(helper.new_error(arg.id, "argument must be a simple name")),
        }
    };
    Ok((name()?, name()?))
}

struct Loop {
    range: Option<IdedExpr>,
    variables: (String, String),
    init: IdedExpr,
    condition: IdedExpr,
    step: IdedExpr,
    result: IdedExpr,
}

impl Loop {
    fn build(self, helper: &mut MacroExprHelper<'_>) -> Expansion {
        let Some(iter_range) = self.range else { return Ok(None) };
        let comprehension = ComprehensionExpr {
            iter_range,
            iter_var: self.variables.0,
            iter_var2: Some(self.variables.1),
            accu_var: RESULT.to_owned(),
            accu_init: self.init,
            loop_cond: self.condition,
            loop_step: self.step,
            result: self.result,
        };
        Ok(Some(helper.next_expr(Expr::Comprehension(Box::new(comprehension)))))
    }
}

fn quantifier(
    helper: &mut MacroExprHelper<'_>,
    target: &mut Option<IdedExpr>,
    args: &mut Vec<IdedExpr>,
    all: bool,
) -> Expansion {
    let variables = variables(helper, args)?;
    let predicate = args.remove(0);
    let init = literal(helper, LiteralValue::Boolean(all.into()));
    let mut so_far = result(helper);
    if !all {
        so_far = call(helper, LOGICAL_NOT, vec![so_far]);
    }
    let condition = call(helper, NOT_STRICTLY_FALSE, vec![so_far]);
    let accumulated = result(helper);
    let step = call(helper, if all { LOGICAL_AND } else { LOGICAL_OR }, vec![accumulated, predicate]);
    let result = result(helper);
    Loop { range: target.take(), variables, init, condition, step, result }.build(helper)
}

fn exactly_one(helper: &mut MacroExprHelper<'_>, target: &mut Option<IdedExpr>, args: &mut Vec<IdedExpr>) -> Expansion {
    let variables = variables(helper, args)?;
    let predicate = args.remove(0);
    let init = literal(helper, LiteralValue::Int(0.into()));
    let condition = literal(helper, LiteralValue::Boolean(true.into()));
    let (count, one, same) = (result(helper), literal(helper, LiteralValue::Int(1.into())), result(helper));
    let more = call(helper, ADD, vec![count, one]);
    let step = call(helper, CONDITIONAL, vec![predicate, more, same]);
    let (count, one) = (result(helper), literal(helper, LiteralValue::Int(1.into())));
    let result = call(helper, "_==_", vec![count, one]);
    Loop { range: target.take(), variables, init, condition, step, result }.build(helper)
}

/// The step of a transformation: with a filter, elements that don't pass leave the result as it is.
fn filtered(helper: &mut MacroExprHelper<'_>, filter: Option<IdedExpr>, step: IdedExpr) -> IdedExpr {
    match filter {
        Some(filter) => {
            let same = result(helper);
            call(helper, CONDITIONAL, vec![filter, step, same])
        }
        None => step,
    }
}

fn transform_list(
    helper: &mut MacroExprHelper<'_>,
    target: &mut Option<IdedExpr>,
    args: &mut Vec<IdedExpr>,
) -> Expansion {
    let variables = variables(helper, args)?;
    let filter = (args.len() == 2).then(|| args.remove(0));
    let transform = args.remove(0);
    let init = helper.next_expr(Expr::List(ListExpr::new(Vec::new())));
    let condition = literal(helper, LiteralValue::Boolean(true.into()));
    let (so_far, one) = (result(helper), helper.next_expr(Expr::List(ListExpr::new(vec![transform]))));
    let step = call(helper, ADD, vec![so_far, one]);
    let step = filtered(helper, filter, step);
    let result = result(helper);
    Loop { range: target.take(), variables, init, condition, step, result }.build(helper)
}

fn transform_map(
    helper: &mut MacroExprHelper<'_>,
    target: &mut Option<IdedExpr>,
    args: &mut Vec<IdedExpr>,
    entries: bool,
) -> Expansion {
    let variables = variables(helper, args)?;
    let filter = (args.len() == 2).then(|| args.remove(0));
    let transform = args.remove(0);
    let init = helper.next_expr(Expr::Map(MapExpr { entries: Vec::new() }));
    let condition = literal(helper, LiteralValue::Boolean(true.into()));
    let mut insert = vec![result(helper)];
    if !entries {
        insert.push(helper.next_expr(Expr::Ident(variables.0.clone())));
    }
    insert.push(transform);
    let step = call(helper, MAP_INSERT, insert);
    let step = filtered(helper, filter, step);
    let result = result(helper);
    Loop { range: target.take(), variables, init, condition, step, result }.build(helper)
}
