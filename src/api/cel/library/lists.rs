//! Lists: Kubernetes' own functions and cel-go's `ext.Lists`.

use std::cmp::Ordering;

use super::super::equality::{compare, contains, equal};
use super::super::eval::{Activation, Error};
use super::super::value::{List, Value};
use super::Returned;

pub const DECLARATIONS: &str = "
list(int).isSorted() -> bool
list(uint).isSorted() -> bool
list(double).isSorted() -> bool
list(bool).isSorted() -> bool
list(string).isSorted() -> bool
list(bytes).isSorted() -> bool
list(duration).isSorted() -> bool
list(timestamp).isSorted() -> bool
list(int).sum() -> int
list(uint).sum() -> uint
list(double).sum() -> double
list(duration).sum() -> duration
list(int).min() -> int
list(uint).min() -> uint
list(double).min() -> double
list(bool).min() -> bool
list(string).min() -> string
list(bytes).min() -> bytes
list(duration).min() -> duration
list(timestamp).min() -> timestamp
list(int).max() -> int
list(uint).max() -> uint
list(double).max() -> double
list(bool).max() -> bool
list(string).max() -> string
list(bytes).max() -> bytes
list(duration).max() -> duration
list(timestamp).max() -> timestamp
list(A).indexOf(A) -> int
list(A).lastIndexOf(A) -> int
list(A).slice(int, int) -> list(A)
list(list(A)).flatten() -> list(A)
list(dyn).flatten(int) -> list(dyn)
list(A).distinct() -> list(A)
list(A).reverse() -> list(A)
list(int).sort() -> list(int)
list(uint).sort() -> list(uint)
list(double).sort() -> list(double)
list(bool).sort() -> list(bool)
list(string).sort() -> list(string)
list(bytes).sort() -> list(bytes)
list(duration).sort() -> list(duration)
list(timestamp).sort() -> list(timestamp)
lists.range(int) -> list(int)
";

pub fn call<'a>(name: &str, args: &[Value<'a>], activation: &Activation<'a>) -> Returned<'a> {
    if let ("lists.range", [Value::Int(count)]) = (name, args) {
        let count = (*count).max(0);
        // The list is made at once: its length is paid before.
        let paid = activation.charge(count.unsigned_abs());
        return Some(paid.map(|()| Value::list((0..count).map(Value::Int).collect())));
    }
    let [Value::List(list), rest @ ..] = args else { return None };
    let items = || list.iter().collect::<Vec<_>>();
    Some(match (name, rest) {
        ("isSorted", []) => Ok(Value::Bool(is_sorted(list))),
        ("sum", []) => sum(list),
        ("min", []) => extreme(list, "min", Ordering::Less),
        ("max", []) => extreme(list, "max", Ordering::Greater),
        ("indexOf", [item]) => Ok(Value::Int(index(list.iter().position(|other| equal(&other, item, &mut 0))))),
        ("lastIndexOf", [item]) => {
            let last = items().iter().rposition(|other| equal(other, item, &mut 0));
            Ok(Value::Int(index(last)))
        }
        ("slice", [Value::Int(start), Value::Int(end)]) => slice(&items(), *start, *end),
        ("flatten", []) => Ok(Value::list(flatten(list, 1))),
        ("flatten", [Value::Int(depth)]) if *depth < 0 => Err(Error::message("level must be non-negative")),
        ("flatten", [Value::Int(depth)]) => Ok(Value::list(flatten(list, (*depth).min(100)))),
        ("distinct", []) => {
            let mut seen: Vec<Value<'a>> = Vec::new();
            let mut cost = 0;
            for item in list.iter() {
                if !contains(&List::Owned(std::sync::Arc::new(seen.clone())), &item, &mut cost) {
                    seen.push(item);
                }
            }
            activation.charge(cost).map(|()| Value::list(seen))
        }
        ("reverse", []) => Ok(Value::list(items().into_iter().rev().collect())),
        ("sort", []) => {
            let mut sorted = items();
            sorted.sort_by(|a, b| compare(a, b).unwrap_or(Ordering::Equal));
            Ok(Value::list(sorted))
        }
        _ => return None,
    })
}

fn index(found: Option<usize>) -> i64 {
    found.and_then(|index| i64::try_from(index).ok()).unwrap_or(-1)
}

fn is_sorted(list: &List<'_>) -> bool {
    let items: Vec<_> = list.iter().collect();
    items.windows(2).all(|pair| compare(&pair[0], &pair[1]).is_some_and(Ordering::is_le))
}

fn sum<'a>(list: &List<'a>) -> Result<Value<'a>, Error> {
    let mut items = list.iter();
    // The sum of nothing is a number, whatever was asked for.
    let Some(first) = items.next() else { return Ok(Value::Int(0)) };
    items.try_fold(first, |sum, item| {
        super::arithmetic::call("_+_", &[sum, item]).unwrap_or_else(|| Err(Error::no_such_overload()))
    })
}

fn extreme<'a>(list: &List<'a>, name: &str, which: Ordering) -> Result<Value<'a>, Error> {
    let mut items = list.iter();
    let first = items.next().ok_or_else(|| Error::message(format!("{name} called on empty list")))?;
    items.try_fold(first, |best, item| match compare(&item, &best) {
        Some(order) => Ok(if order == which { item } else { best }),
        None => Err(Error::no_such_overload()),
    })
}

fn slice<'a>(items: &[Value<'a>], start: i64, end: i64) -> Result<Value<'a>, Error> {
    let wrong = |why: String| Err(Error::message(why));
    if start < 0 || end < 0 {
        return wrong(format!("cannot slice({start}, {end}), negative indexes not supported"));
    }
    if start > end {
        return wrong(format!("cannot slice({start}, {end}), start index must be less than or equal to end index"));
    }
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if end <= items.len() => Ok(Value::list(items[start..end].to_vec())),
        _ => wrong(format!("cannot slice({start}, {end}), list is length {}", items.len())),
    }
}

fn flatten<'a>(list: &List<'a>, depth: i64) -> Vec<Value<'a>> {
    let mut flat = Vec::new();
    for item in list.iter() {
        match item {
            Value::List(inner) if depth > 0 => flat.extend(flatten(&inner, depth - 1)),
            item => flat.push(item),
        }
    }
    flat
}
