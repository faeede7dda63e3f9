//! The value of an expression, and what it costs.
//!
//! Costs are those of cel-go's tracker and of Kubernetes' libraries: 1 for a variable, a field or a call, more for what
//! works on many characters or elements. An evaluation that costs more than it may ends with
//! [`Error::Cost`], whatever it is in the middle of.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cel::common::ast::operators as op;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, MapExpr, StructExpr};

use super::library::authorizer::Question;
use super::value::{Key, List, Map, Value};
use super::{declarations, equality, library};

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// In cel-go's words: `no such key: a`, `division by zero`.
    #[error("{0}")]
    Message(String),
    /// It costs more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    Cost,
    /// The authorizer has to be asked first: see [`Activation::questions`].
    #[error("authorization was not decided yet")]
    Undecided,
}

impl Error {
    /// An error of these words.
    pub fn message(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }

    /// Arguments of types that a function does not take.
    pub fn no_such_overload() -> Self {
        Self::message("no such overload")
    }

    fn no_such_key(key: &str) -> Self {
        Self::message(format!("no such key: {key}"))
    }
}

type Questions = BTreeMap<Question, Option<library::authorizer::Answer>>;

/// The variables of an evaluation, and its limit.
#[derive(Debug)]
pub struct Activation<'a> {
    variables: BTreeMap<String, Value<'a>>,
    limit: u64,
    cost: AtomicU64,
    /// What was asked of the authorizer, with the answers that are known.
    questions: Mutex<Questions>,
}

impl<'a> Activation<'a> {
    /// No variables, and a limit to the cost.
    pub fn new(limit: u64) -> Self {
        Self { variables: BTreeMap::new(), limit, cost: AtomicU64::new(0), questions: Mutex::default() }
    }

    /// With a variable.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: Value<'a>) -> Self {
        self.variables.insert(name.into(), value);
        self
    }

    /// Sets a variable.
    pub fn set(&mut self, name: impl Into<String>, value: Value<'a>) {
        self.variables.insert(name.into(), value);
    }

    /// What the evaluations have cost so far.
    pub fn cost(&self) -> u64 {
        self.cost.load(Relaxed)
    }

    /// Sets back what was counted, and the limit for what comes.
    pub fn restart(&mut self, limit: u64) {
        self.limit = limit;
        self.cost.store(0, Relaxed);
    }

    /// What an evaluation that ended [`Error::Undecided`] wants to know.
    pub fn questions(&self) -> Vec<Question> {
        let questions = self.known();
        questions.iter().filter(|(_, answer)| answer.is_none()).map(|(question, _)| question.clone()).collect()
    }

    /// Answers a question; the evaluation can be begun again then.
    pub fn answer(&self, question: Question, answer: library::authorizer::Answer) {
        self.known().insert(question, Some(answer));
    }

    fn known(&self) -> MutexGuard<'_, Questions> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a question of the authorizer.
    pub(super) fn ask(&self, question: &Question) -> Result<library::authorizer::Answer, Error> {
        let mut questions = self.known();
        match questions.get(question) {
            Some(Some(answer)) => Ok(answer.clone()),
            Some(None) => Err(Error::Undecided),
            None => {
                questions.insert(question.clone(), None);
                Err(Error::Undecided)
            }
        }
    }

    /// Adds to what was counted.
    pub(super) fn charge(&self, cost: u64) -> Result<(), Error> {
        let total = self.cost.load(Relaxed).saturating_add(cost);
        self.cost.store(total, Relaxed);
        if total > self.limit { Err(Error::Cost) } else { Ok(()) }
    }
}

/// One evaluation.
pub(super) struct Evaluator<'e, 'a> {
    activation: &'e Activation<'a>,
    /// Variables of comprehensions, innermost last. An accumulator may hold an error, which a later step can overrule.
    scopes: Vec<(&'a str, Result<Value<'a>>)>,
}

type Result<T, E = Error> = std::result::Result<T, E>;

impl<'e, 'a> Evaluator<'e, 'a> {
    pub fn new(activation: &'e Activation<'a>) -> Self {
        Self { activation, scopes: Vec::new() }
    }

    pub fn run(mut self, expr: &'a IdedExpr) -> Result<Value<'a>> {
        self.value(expr)
    }

    fn charge(&self, cost: u64) -> Result<()> {
        self.activation.charge(cost)
    }

    fn value(&mut self, expr: &'a IdedExpr) -> Result<Value<'a>> {
        match &expr.expr {
            Expr::Literal(literal) => Ok(literal_value(literal)),
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) if select.test => {
                let operand = self.value(&select.operand)?;
                self.charge(1)?;
                has(&operand, &select.field).map(Value::Bool)
            }
            Expr::Select(select) => {
                let operand = self.value(&select.operand)?;
                self.charge(1)?;
                field(&operand, &select.field)
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.list(&list.elements, &list.optional_indices),
            Expr::Map(map) => self.map(map),
            Expr::Struct(object) => self.object(object),
            Expr::Comprehension(all) => self.comprehension(all),
            Expr::Unspecified => Err(Error::message("unspecified expression")),
        }
    }

    fn ident(&mut self, name: &'a str) -> Result<Value<'a>> {
        self.charge(1)?;
        if let Some((_, value)) = self.scopes.iter().rev().find(|(local, _)| *local == name) {
            return value.clone();
        }
        if let Some(value) = self.activation.variables.get(name) {
            return Ok(value.clone());
        }
        let of = declarations::type_named(name);
        of.map(Value::Type).ok_or_else(|| Error::message(format!("no such attribute(s): {name}")))
    }

    fn list(&mut self, elements: &'a [IdedExpr], optional: &[usize]) -> Result<Value<'a>> {
        self.charge(10)?;
        let mut values = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            match self.value(element)? {
                Value::Optional(value) if optional.contains(&index) => values.extend(value.map(|v| (*v).clone())),
                value => values.push(value),
            }
        }
        Ok(Value::list(values))
    }

    fn map(&mut self, map: &'a MapExpr) -> Result<Value<'a>> {
        self.charge(30)?;
        let mut entries = BTreeMap::new();
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
            let key = self.value(&entry.key)?;
            let key = Key::of(&key).ok_or_else(|| Error::message("unsupported key type"))?;
            let value = match self.value(&entry.value)? {
                Value::Optional(None) if entry.optional => continue,
                Value::Optional(Some(value)) if entry.optional => (*value).clone(),
                value => value,
            };
            if entries.contains_key(&key) {
                return Err(Error::message(format!("duplicate map key: {}", library::convert::show(&key.value()))));
            }
            entries.insert(key, value);
        }
        Ok(Value::Map(Map::Owned(Arc::new(entries))))
    }

    /// An object that is written: a map of its fields.
    fn object(&mut self, object: &'a StructExpr) -> Result<Value<'a>> {
        self.charge(40)?;
        let mut entries = BTreeMap::new();
        for entry in &object.entries {
            let EntryExpr::StructField(field) = &entry.expr else { continue };
            let value = match self.value(&field.value)? {
                Value::Optional(None) if field.optional => continue,
                Value::Optional(Some(value)) if field.optional => (*value).clone(),
                value => value,
            };
            let name = super::types::unescape(&field.field).unwrap_or_else(|| field.field.clone());
            entries.insert(Key::String(name.into()), value);
        }
        Ok(Value::Map(Map::Owned(Arc::new(entries))))
    }

    fn call(&mut self, call: &'a CallExpr) -> Result<Value<'a>> {
        match call.func_name.as_str() {
            op::LOGICAL_AND => return self.logical(&call.args, false),
            op::LOGICAL_OR => return self.logical(&call.args, true),
            op::CONDITIONAL => return self.conditional(&call.args),
            op::NOT_STRICTLY_FALSE => {
                let value = match call.args.first().map(|arg| self.value(arg)) {
                    Some(Ok(Value::Bool(value))) => value,
                    Some(Err(error @ (Error::Cost | Error::Undecided))) => return Err(error),
                    _ => true,
                };
                return Ok(Value::Bool(value));
            }
            op::OPT_SELECT => return self.optional_select(&call.args),
            _ => {}
        }
        let mut args = Vec::with_capacity(call.args.len() + 1);
        for arg in call.target.as_deref().into_iter().chain(&call.args) {
            args.push(self.value(arg)?);
        }
        self.charge(1)?;
        self.function(&call.func_name, args)
    }

    /// `&&` (decided by a false) and `||` (decided by a true): an error counts only if the other side does not decide.
    fn logical(&mut self, args: &'a [IdedExpr], decisive: bool) -> Result<Value<'a>> {
        let mut error = None;
        for arg in args {
            match self.value(arg) {
                Ok(Value::Bool(value)) if value == decisive => return Ok(Value::Bool(decisive)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => error = error.or(Some(Error::no_such_overload())),
                Err(Error::Cost) => return Err(Error::Cost),
                Err(other) => error = error.or(Some(other)),
            }
        }
        self.charge(1)?;
        error.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    fn conditional(&mut self, args: &'a [IdedExpr]) -> Result<Value<'a>> {
        let [condition, then, otherwise] = args else { return Err(Error::no_such_overload()) };
        let condition = self.value(condition)?;
        self.charge(1)?;
        match condition {
            Value::Bool(true) => self.value(then),
            Value::Bool(false) => self.value(otherwise),
            _ => Err(Error::no_such_overload()),
        }
    }

    fn optional_select(&mut self, args: &'a [IdedExpr]) -> Result<Value<'a>> {
        let [operand, name] = args else { return Err(Error::no_such_overload()) };
        let Expr::Literal(LiteralValue::String(name)) = &name.expr else { return Err(Error::no_such_overload()) };
        let operand = match self.value(operand)? {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(value)) => (*value).clone(),
            value => value,
        };
        self.charge(1)?;
        match operand {
            Value::Map(map) => Ok(Value::Optional(map.field(name.inner()).map(Arc::new))),
            _ => Err(Error::no_such_overload()),
        }
    }

    fn function(&self, name: &str, args: Vec<Value<'a>>) -> Result<Value<'a>> {
        let mut cost = 0;
        let value = match (name, args.as_slice()) {
            (op::EQUALS, [a, b]) => Some(Ok(Value::Bool(equality::equal(a, b, &mut cost)))),
            (op::NOT_EQUALS, [a, b]) => Some(Ok(Value::Bool(!equality::equal(a, b, &mut cost)))),
            (op::IN, [item, Value::List(list)]) => Some(Ok(Value::Bool(equality::contains(list, item, &mut cost)))),
            (op::IN, [key, Value::Map(map)]) => {
                Some(Ok(Value::Bool(Key::of(key).is_some_and(|key| map.get(&key).is_some()))))
            }
            (op::INDEX, [container, index]) => Some(at(container, index)),
            (op::OPT_INDEX, [container, index]) => Some(optional_at(container, index)),
            _ => None,
        };
        self.charge(cost)?;
        match value {
            Some(value) => value,
            None => library::call(name, &args, self.activation).unwrap_or_else(|| Err(Error::no_such_overload())),
        }
    }

    fn comprehension(&mut self, all: &'a ComprehensionExpr) -> Result<Value<'a>> {
        let range = self.value(&all.iter_range)?;
        let init = self.value(&all.accu_init);
        if let Err(error @ (Error::Cost | Error::Undecided)) = init {
            return Err(error);
        }
        let depth = self.scopes.len();
        self.scopes.push((&all.accu_var, init));
        let looped = match &range {
            Value::List(list) => (0..list.len()).try_for_each(|index| {
                let Some(item) = list.get(index) else { return Ok(()) };
                let index = Value::Int(i64::try_from(index).unwrap_or(i64::MAX));
                self.step(all, depth, index, item)
            }),
            Value::Map(map) => map.keys().iter().try_for_each(|key| {
                let Some(value) = map.get(key) else { return Ok(()) };
                // With one variable, a map is walked by its keys.
                let item = if all.iter_var2.is_some() { value } else { key.value() };
                self.step(all, depth, key.value(), item)
            }),
            _ => Err(Stop::Failed(Error::message(format!(
                "got '{}', expected iterable type",
                library::convert::type_name(&range)
            )))),
        };
        self.scopes.truncate(depth + 1);
        let result = match looped {
            Err(Stop::Failed(error)) => Err(error),
            Ok(()) | Err(Stop::Decided) => self.value(&all.result),
        };
        self.scopes.truncate(depth);
        result
    }

    /// One element: the accumulator becomes what the step makes of it.
    fn step(
        &mut self,
        all: &'a ComprehensionExpr,
        depth: usize,
        key: Value<'a>,
        item: Value<'a>,
    ) -> std::result::Result<(), Stop> {
        self.scopes.truncate(depth + 1);
        match &all.iter_var2 {
            Some(second) => {
                self.scopes.push((&all.iter_var, Ok(key)));
                self.scopes.push((second, Ok(item)));
            }
            None => self.scopes.push((&all.iter_var, Ok(item))),
        }
        if !matches!(self.value(&all.loop_cond).map_err(Stop::Failed)?, Value::Bool(true)) {
            return Err(Stop::Decided);
        }
        match self.value(&all.loop_step) {
            Err(error @ (Error::Cost | Error::Undecided)) => Err(Stop::Failed(error)),
            result => {
                self.scopes[depth].1 = result;
                Ok(())
            }
        }
    }
}

/// Why a loop ends early.
enum Stop {
    /// Its condition says that what follows changes nothing.
    Decided,
    Failed(Error),
}

fn literal_value(literal: &LiteralValue) -> Value<'_> {
    match literal {
        LiteralValue::Boolean(value) => Value::Bool(*value.inner()),
        LiteralValue::Bytes(value) => Value::Bytes(value.inner().into()),
        LiteralValue::Double(value) => Value::Double(*value.inner()),
        LiteralValue::Int(value) => Value::Int(*value.inner()),
        LiteralValue::Null => Value::Null,
        LiteralValue::String(value) => Value::String(value.inner().into()),
        LiteralValue::UInt(value) => Value::Uint(*value.inner()),
    }
}

fn has(operand: &Value<'_>, name: &str) -> Result<bool> {
    match operand {
        Value::Map(map) => Ok(map.field(name).is_some()),
        Value::Optional(None) => Ok(false),
        Value::Optional(Some(value)) => has(value, name),
        _ => Err(Error::no_such_overload()),
    }
}

fn field<'a>(operand: &Value<'a>, name: &str) -> Result<Value<'a>> {
    match operand {
        Value::Map(map) => map.field(name).ok_or_else(|| Error::no_such_key(name)),
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(value)) => match &**value {
            Value::Map(map) => Ok(Value::Optional(map.field(name).map(Arc::new))),
            _ => Err(Error::no_such_overload()),
        },
        _ => Err(Error::no_such_overload()),
    }
}

fn position(index: &Value<'_>) -> Option<i64> {
    match Key::of(index)? {
        Key::Int(index) => Some(index),
        _ => None,
    }
}

fn at<'a>(container: &Value<'a>, index: &Value<'a>) -> Result<Value<'a>> {
    match container {
        Value::List(list) => {
            let index = position(index).ok_or_else(Error::no_such_overload)?;
            let item = usize::try_from(index).ok().and_then(|index| list.get(index));
            item.ok_or_else(|| Error::message(format!("index out of bounds: {index}")))
        }
        Value::Map(map) => {
            let key = Key::of(index).ok_or_else(Error::no_such_overload)?;
            map.get(&key).ok_or_else(|| Error::no_such_key(&library::convert::show(index)))
        }
        Value::Optional(_) => optional_at(container, index),
        _ => Err(Error::no_such_overload()),
    }
}

fn optional_at<'a>(container: &Value<'a>, index: &Value<'a>) -> Result<Value<'a>> {
    let found = match container {
        Value::Optional(None) => None,
        Value::Optional(Some(value)) => return optional_at(value, index),
        Value::List(list) => position(index).and_then(|at| usize::try_from(at).ok()).and_then(|at| list.get(at)),
        Value::Map(map) => Key::of(index).and_then(|key| map.get(&key)),
        _ => return Err(Error::no_such_overload()),
    };
    Ok(Value::Optional(found.map(Arc::new)))
}

/// A list of a list's elements, without what an `optional` wraps (`unwrapOpt`).
pub(super) fn unwrapped<'a>(list: &List<'a>) -> Value<'a> {
    let values = list.iter().filter_map(|item| match item {
        Value::Optional(value) => value.map(|value| (*value).clone()),
        other => Some(other),
    });
    Value::list(values.collect())
}
