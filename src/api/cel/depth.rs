//! How deep an expression is: what follows works recursively, and expressions come from users.

use cel::common::ast::{EntryExpr, Expr, IdedExpr};

/// As deep may an expression be once its macros are expanded.
pub const MAX_DEPTH: usize = 250;
/// As long may an expression be, in bytes: cel-go's limit is on code points.
pub const MAX_LENGTH: usize = 100_000;
/// As many operators, brackets and dots may an expression have. The parser works recursively on each of them.
pub const MAX_OPERATORS: usize = 4_000;

/// The operators, brackets and dots of an expression's text, strings and comments included: an upper bound of how deep
/// the parser can get.
pub fn operators(source: &str) -> usize {
    source.bytes().filter(|byte| b"+-*/%.()[]{}?!<>=&|,:".contains(byte)).count()
}

/// The levels of an expression; `None` for more than [`MAX_DEPTH`]. Does not recurse.
pub fn of(root: &IdedExpr) -> Option<usize> {
    let mut deepest = 0;
    let mut stack = vec![(root, 0)];
    while let Some((expr, depth)) = stack.pop() {
        if depth > MAX_DEPTH {
            return None;
        }
        deepest = deepest.max(depth);
        let mut push = |child| stack.push((child, depth + 1));
        match &expr.expr {
            Expr::Call(call) => {
                call.target.iter().for_each(|target| push(target));
                call.args.iter().for_each(push);
            }
            Expr::Comprehension(all) => {
                let parts = [&all.iter_range, &all.accu_init, &all.loop_cond, &all.loop_step, &all.result];
                parts.into_iter().for_each(push);
            }
            Expr::List(list) => list.elements.iter().for_each(push),
            Expr::Map(map) => map.entries.iter().for_each(|entry| entry_children(&entry.expr, &mut push)),
            Expr::Struct(object) => object.entries.iter().for_each(|entry| entry_children(&entry.expr, &mut push)),
            Expr::Select(select) => push(&select.operand),
            Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
        }
    }
    Some(deepest)
}

fn entry_children<'e>(entry: &'e EntryExpr, push: &mut dyn FnMut(&'e IdedExpr)) {
    match entry {
        EntryExpr::StructField(field) => push(&field.value),
        EntryExpr::MapEntry(entry) => {
            push(&entry.key);
            push(&entry.value);
        }
    }
}
