//! What an expression may cost at most, told from the sizes that are declared for what it works on.
//!
//! The estimate is that of cel-go and of Kubernetes' libraries: 1 for a variable, a field or a call, a tenth for each
//! character that is looked at, and for a comprehension as many times its steps as there may be elements. Where the size
//! of a result cannot be told, it is taken to be that of what it was made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::common::ast::operators as op;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};

/// How large a value may be: what its schema says, or else what fits into a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sizes {
    /// A number, a truth value, a time: of size 1.
    Scalar,
    /// A text of so many bytes.
    Text(u64),
    /// Of whatever kind, with so many parts.
    Any(u64),
    List(u64, Arc<Sizes>),
    Map(u64, Arc<Sizes>),
    /// By the names of the fields in expressions.
    Object(BTreeMap<String, Sizes>),
}

impl Sizes {
    fn size(&self) -> u64 {
        match self {
            Self::Scalar | Self::Object(_) => 1,
            Self::Text(size) | Self::Any(size) | Self::List(size, _) | Self::Map(size, _) => *size,
        }
    }
}

/// A value of an expression: what evaluating it costs at most, its size, and what is known of its parts.
#[derive(Clone)]
struct Estimate {
    cost: u64,
    size: u64,
    parts: Option<Sizes>,
}

impl Estimate {
    fn of(cost: u64, parts: Option<&Sizes>) -> Self {
        Self { cost, size: parts.map_or(1, Sizes::size), parts: parts.cloned() }
    }

    fn scalar(cost: u64) -> Self {
        Self { cost, size: 1, parts: None }
    }
}

/// A tenth of a size, rounded up: what it costs to look at a text.
fn traversal(size: u64) -> u64 {
    size.div_ceil(10)
}

/// The most that an expression may cost, with variables of these sizes.
pub(super) fn estimate(expr: &IdedExpr, variables: &[(&str, &Sizes)]) -> u64 {
    let scopes = variables.iter().map(|(name, sizes)| (*name, Some((*sizes).clone()))).collect();
    Estimator { scopes }.value(expr).cost
}

struct Estimator<'e> {
    /// Variables, innermost last.
    scopes: Vec<(&'e str, Option<Sizes>)>,
}

impl<'e> Estimator<'e> {
    fn value(&mut self, expr: &'e IdedExpr) -> Estimate {
        match &expr.expr {
            Expr::Literal(literal) => literal_estimate(literal),
            Expr::Ident(name) => {
                let known = self.scopes.iter().rev().find(|(local, _)| *local == name.as_str());
                Estimate::of(1, known.and_then(|(_, sizes)| sizes.as_ref()))
            }
            Expr::Select(select) => {
                let operand = self.value(&select.operand);
                if select.test {
                    return Estimate::scalar(operand.cost.saturating_add(1));
                }
                Estimate::of(operand.cost.saturating_add(1), field(operand.parts.as_ref(), &select.field).as_ref())
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let cost = self.sum(&list.elements).saturating_add(10);
                let element = list.elements.first().and_then(|element| self.value(element).parts);
                let size = list.elements.len() as u64;
                let parts = element.map(|element| Sizes::List(size, Arc::new(element)));
                Estimate { cost, size, parts }
            }
            Expr::Map(map) => {
                Estimate { cost: self.entries(&map.entries, 30), size: map.entries.len() as u64, parts: None }
            }
            Expr::Struct(object) => Estimate::scalar(self.entries(&object.entries, 40)),
            Expr::Comprehension(all) => self.comprehension(all),
            Expr::Unspecified => Estimate::scalar(0),
        }
    }

    fn sum(&mut self, all: &'e [IdedExpr]) -> u64 {
        all.iter().fold(0, |sum: u64, one| sum.saturating_add(self.value(one).cost))
    }

    fn entries(&mut self, entries: &'e [cel::common::ast::IdedEntryExpr], base: u64) -> u64 {
        entries.iter().fold(base, |sum, entry| match &entry.expr {
            EntryExpr::StructField(field) => sum.saturating_add(self.value(&field.value).cost),
            EntryExpr::MapEntry(entry) => {
                let (key, value) = (self.value(&entry.key).cost, self.value(&entry.value).cost);
                sum.saturating_add(key).saturating_add(value)
            }
        })
    }

    fn call(&mut self, call: &'e CallExpr) -> Estimate {
        let args: Vec<Estimate> =
            call.target.as_deref().into_iter().chain(&call.args).map(|arg| self.value(arg)).collect();
        let paid = args.iter().fold(0, |sum: u64, arg| sum.saturating_add(arg.cost));
        let cost = |own: u64| paid.saturating_add(own);
        let size = |index: usize| args.get(index).map_or(1, |arg| arg.size);
        let parts = |index: usize| args.get(index).and_then(|arg| arg.parts.as_ref());
        match (call.func_name.as_str(), args.as_slice()) {
            (op::LOGICAL_AND | op::LOGICAL_OR, _) => Estimate::scalar(paid),
            (op::CONDITIONAL, [condition, then, otherwise]) => Estimate {
                cost: condition.cost.saturating_add(then.cost.max(otherwise.cost)),
                size: then.size.max(otherwise.size),
                parts: if then.size >= otherwise.size { then.parts.clone() } else { otherwise.parts.clone() },
            },
            (op::EQUALS | op::NOT_EQUALS, [a, b]) => Estimate::scalar(cost(traversal(a.size.min(b.size)))),
            (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [a, b]) => {
                Estimate::scalar(cost(traversal(a.size.min(b.size))))
            }
            (op::IN, [_, list]) => match list.parts {
                Some(Sizes::Map(..)) => Estimate::scalar(cost(1)),
                _ => Estimate::scalar(cost(list.size)),
            },
            (op::ADD, [a, b]) => {
                let whole = a.size.saturating_add(b.size);
                let is_list = matches!(a.parts, Some(Sizes::List(..)));
                let own = if is_list || a.size.max(b.size) <= 1 { 1 } else { traversal(whole) };
                let parts = match &a.parts {
                    Some(Sizes::List(_, of)) => Some(Sizes::List(whole, Arc::clone(of))),
                    _ => None,
                };
                Estimate { cost: cost(own), size: whole, parts }
            }
            (op::INDEX | op::OPT_INDEX, [container, _]) => {
                let element = match &container.parts {
                    Some(Sizes::List(_, of) | Sizes::Map(_, of)) => Some(&**of),
                    _ => None,
                };
                Estimate::of(cost(1), element)
            }
            (op::OPT_SELECT, [container, _]) => {
                let name = call.args.get(1).and_then(|name| match &name.expr {
                    Expr::Literal(LiteralValue::String(name)) => Some(name.inner()),
                    _ => None,
                });
                Estimate::of(cost(1), name.and_then(|name| field(container.parts.as_ref(), name)).as_ref())
            }
            ("startsWith" | "endsWith", [_, part]) => Estimate::scalar(cost(traversal(part.size))),
            ("contains", [text, part]) if !matches!(text.parts, Some(Sizes::List(..))) => {
                Estimate::scalar(cost(traversal(text.size).saturating_mul(traversal(part.size))))
            }
            ("matches" | "find" | "findAll", [text, pattern, ..]) => {
                let own = traversal(text.size.saturating_add(1)).saturating_mul(pattern.size.div_ceil(4));
                Estimate { cost: cost(own), size: text.size, parts: None }
            }
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", [list, ..]) if list.parts.is_some() => {
                let each = match &list.parts {
                    Some(Sizes::List(_, of)) if matches!(**of, Sizes::Text(_)) => 1 + traversal(of.size()),
                    _ => 1,
                };
                match list.parts {
                    Some(Sizes::List(..)) => Estimate::scalar(cost(list.size.saturating_mul(each))),
                    _ => Estimate::scalar(cost(traversal(list.size))),
                }
            }
            (
                "lowerAscii" | "upperAscii" | "replace" | "split" | "substring" | "trim" | "quote" | "format" | "bytes"
                | "string" | "url" | "quantity" | "isQuantity" | "ip" | "isIP" | "cidr" | "isCIDR" | "isURL",
                [text, ..],
            ) => Estimate { cost: cost(traversal(text.size).max(1)), size: text.size, parts: None },
            ("orValue" | "or" | "value" | "optional.of" | "optional.ofNonZeroValue" | "dyn", [_, ..]) => {
                Estimate { cost: cost(1), size: size(0), parts: parts(0).cloned() }
            }
            _ => Estimate::scalar(cost(1)),
        }
    }

    fn comprehension(&mut self, all: &'e ComprehensionExpr) -> Estimate {
        let (range, init) = (self.value(&all.iter_range), self.value(&all.accu_init));
        let depth = self.scopes.len();
        let (element, key) = match &range.parts {
            Some(Sizes::List(_, of)) => (Some((**of).clone()), Some(Sizes::Scalar)),
            Some(Sizes::Map(_, of)) => (Some((**of).clone()), Some(Sizes::Text(u64::MAX))),
            _ => (None, None),
        };
        let is_map = matches!(range.parts, Some(Sizes::Map(..)));
        self.scopes.push((&all.accu_var, None));
        match &all.iter_var2 {
            Some(second) => {
                self.scopes.push((&all.iter_var, key));
                self.scopes.push((second, element.clone()));
            }
            // With one variable, a map is walked by its keys.
            None => self.scopes.push((&all.iter_var, if is_map { key } else { element.clone() })),
        }
        let (condition, step) = (self.value(&all.loop_cond), self.value(&all.loop_step));
        self.scopes.truncate(depth + 1);
        let result = self.value(&all.result);
        self.scopes.truncate(depth);
        let looped = range.size.saturating_mul(condition.cost.saturating_add(step.cost));
        let cost = [init.cost, looped, result.cost].into_iter().fold(range.cost, u64::saturating_add);
        // A list that is made of a list has at most as many elements.
        let parts = match (&all.accu_init.expr, &range.parts) {
            (Expr::List(_), Some(Sizes::List(size, of))) => Some(Sizes::List(*size, Arc::clone(of))),
            _ => None,
        };
        let size = if matches!(all.accu_init.expr, Expr::List(_)) { range.size } else { 1 };
        Estimate { cost, size, parts }
    }
}

fn field(parts: Option<&Sizes>, name: &str) -> Option<Sizes> {
    match parts? {
        Sizes::Object(fields) => fields.get(name).cloned(),
        Sizes::Map(_, of) => Some((**of).clone()),
        _ => None,
    }
}

fn literal_estimate(literal: &LiteralValue) -> Estimate {
    let size = match literal {
        LiteralValue::String(text) => text.inner().chars().count() as u64,
        LiteralValue::Bytes(bytes) => bytes.inner().len() as u64,
        _ => 1,
    };
    Estimate { cost: 0, size, parts: None }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Environment, Type};
    use super::*;

    /// As many integers as a request can hold.
    const MANY: u64 = (3 * 1024 * 1024 - 2) / 2;

    fn cost(source: &str, of: Type, sizes: &Sizes) -> u64 {
        let program = Environment::new().with("self", of).compile(source).expect("a sound expression");
        program.most_it_may_cost(&[("self", sizes)])
    }

    #[test]
    fn a_comprehension_costs_as_many_times_its_steps_as_there_are_elements() {
        let sizes = Sizes::List(MANY, Arc::new(Sizes::Scalar));
        let of = || Type::list(Type::Int);
        assert_eq!(cost("self.all(x, true)", of(), &sizes), 4_718_591);
        let nested = cost("self.all(x, self.all(y, x == y))", of(), &sizes);
        assert!(nested > 1_000_000_000_000, "{nested}");
        let few = Sizes::List(10, Arc::new(Sizes::Scalar));
        assert!(cost("self.all(x, self.all(y, x == y))", of(), &few) < 1000);
    }

    #[test]
    fn a_map_is_walked_by_its_keys() {
        let sizes = Sizes::Map((3 * 1024 * 1024 - 2) / 7, Arc::new(Sizes::Scalar));
        assert_eq!(cost("self.all(x, true)", Type::map(Type::String, Type::Int), &sizes), 1_348_169);
    }

    #[test]
    fn texts_cost_by_their_length() {
        assert_eq!(cost("self.startsWith('abcdefghijk')", Type::String, &Sizes::Text(1000)), 3);
        assert_eq!(cost("self.contains('abcdefghijk')", Type::String, &Sizes::Text(1000)), 201);
        assert_eq!(cost("self.matches('abcdefgh')", Type::String, &Sizes::Text(99)), 21);
        assert_eq!(cost("self == 'abc'", Type::String, &Sizes::Text(1000)), 2);
    }
}
