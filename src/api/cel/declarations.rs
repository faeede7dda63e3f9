//! What functions there are, and of what types: the lines of [`super::library`]'s files and of [`STANDARD`], parsed
//! once.
//!
//! A line is `name(types) -> type` for a function, `type.name(types) -> type` for a method. `A` and `B` are parameters.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::library;
use super::types::Type;

/// A form of a function.
#[derive(Debug)]
pub struct Overload {
    /// Whether the first argument stands before the dot.
    pub method: bool,
    pub args: Vec<Type>,
    pub result: Type,
}

/// The operators and functions of the language itself.
const STANDARD: &str = "
_?_:_(bool, A, A) -> A
_&&_(bool, bool) -> bool
_||_(bool, bool) -> bool
!_(bool) -> bool
@not_strictly_false(bool) -> bool
_==_(A, A) -> bool
_!=_(A, A) -> bool
_<_(bool, bool) -> bool
_<_(int, int) -> bool
_<_(int, double) -> bool
_<_(int, uint) -> bool
_<_(uint, uint) -> bool
_<_(uint, double) -> bool
_<_(uint, int) -> bool
_<_(double, double) -> bool
_<_(double, int) -> bool
_<_(double, uint) -> bool
_<_(string, string) -> bool
_<_(bytes, bytes) -> bool
_<_(timestamp, timestamp) -> bool
_<_(duration, duration) -> bool
_+_(bytes, bytes) -> bytes
_+_(double, double) -> double
_+_(duration, duration) -> duration
_+_(duration, timestamp) -> timestamp
_+_(timestamp, duration) -> timestamp
_+_(int, int) -> int
_+_(list(A), list(A)) -> list(A)
_+_(string, string) -> string
_+_(uint, uint) -> uint
_-_(double, double) -> double
_-_(duration, duration) -> duration
_-_(int, int) -> int
_-_(timestamp, duration) -> timestamp
_-_(timestamp, timestamp) -> duration
_-_(uint, uint) -> uint
_*_(double, double) -> double
_*_(int, int) -> int
_*_(uint, uint) -> uint
_/_(double, double) -> double
_/_(int, int) -> int
_/_(uint, uint) -> uint
_%_(int, int) -> int
_%_(uint, uint) -> uint
-_(int) -> int
-_(double) -> double
_[_](list(A), int) -> A
_[_](map(A, B), A) -> B
_[_](optional(list(A)), int) -> optional(A)
_[_](optional(map(A, B)), A) -> optional(B)
_[?_](list(A), int) -> optional(A)
_[?_](map(A, B), A) -> optional(B)
_[?_](optional(list(A)), int) -> optional(A)
_[?_](optional(map(A, B)), A) -> optional(B)
@in(A, list(A)) -> bool
@in(A, map(A, B)) -> bool
size(bytes) -> int
bytes.size() -> int
size(list(A)) -> int
list(A).size() -> int
size(map(A, B)) -> int
map(A, B).size() -> int
size(string) -> int
string.size() -> int
string.contains(string) -> bool
string.endsWith(string) -> bool
string.startsWith(string) -> bool
string.matches(string) -> bool
matches(string, string) -> bool
bool(bool) -> bool
bool(string) -> bool
bytes(bytes) -> bytes
bytes(string) -> bytes
double(double) -> double
double(int) -> double
double(uint) -> double
double(string) -> double
duration(duration) -> duration
duration(int) -> duration
duration(string) -> duration
dyn(A) -> dyn
int(int) -> int
int(double) -> int
int(duration) -> int
int(string) -> int
int(timestamp) -> int
int(uint) -> int
string(string) -> string
string(bool) -> string
string(bytes) -> string
string(double) -> string
string(duration) -> string
string(int) -> string
string(timestamp) -> string
string(uint) -> string
timestamp(timestamp) -> timestamp
timestamp(int) -> timestamp
timestamp(string) -> timestamp
type(A) -> type(A)
uint(uint) -> uint
uint(double) -> uint
uint(int) -> uint
uint(string) -> uint
timestamp.getFullYear() -> int
timestamp.getFullYear(string) -> int
timestamp.getMonth() -> int
timestamp.getMonth(string) -> int
timestamp.getDayOfYear() -> int
timestamp.getDayOfYear(string) -> int
timestamp.getDayOfMonth() -> int
timestamp.getDayOfMonth(string) -> int
timestamp.getDate() -> int
timestamp.getDate(string) -> int
timestamp.getDayOfWeek() -> int
timestamp.getDayOfWeek(string) -> int
timestamp.getHours() -> int
timestamp.getHours(string) -> int
duration.getHours() -> int
timestamp.getMinutes() -> int
timestamp.getMinutes(string) -> int
duration.getMinutes() -> int
timestamp.getSeconds() -> int
timestamp.getSeconds(string) -> int
duration.getSeconds() -> int
timestamp.getMilliseconds() -> int
timestamp.getMilliseconds(string) -> int
duration.getMilliseconds() -> int
optional.of(A) -> optional(A)
optional.ofNonZeroValue(A) -> optional(A)
optional.none() -> optional(A)
optional(A).hasValue() -> bool
optional(A).value() -> A
optional(A).or(optional(A)) -> optional(A)
optional(A).orValue(A) -> A
list(A).first() -> optional(A)
list(A).last() -> optional(A)
optional.unwrap(list(optional(A))) -> list(A)
list(optional(A)).unwrapOpt() -> list(A)
cel.@mapInsert(map(A, B), A, B) -> map(A, B)
cel.@mapInsert(map(A, B), map(A, B)) -> map(A, B)
";

static TABLE: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
    let mut table: HashMap<&'static str, Vec<Overload>> = HashMap::new();
    let lines = [STANDARD].into_iter().chain(library::DECLARATIONS).flat_map(str::lines);
    for line in lines.map(str::trim).filter(|line| !line.is_empty()) {
        let (name, overload) = parse(line);
        table.entry(name).or_default().push(overload);
    }
    // What `<` compares, the others do.
    for operator in ["_<=_", "_>_", "_>=_"] {
        let copies =
            table["_<_"].iter().map(|of| Overload { method: false, args: of.args.clone(), result: Type::Bool });
        let copies = copies.collect();
        table.insert(operator, copies);
    }
    table
});

/// The forms of the function of that name; empty if there is none.
pub fn overloads(name: &str) -> &'static [Overload] {
    TABLE.get(name).map_or(&[], Vec::as_slice)
}

/// The words before the dot that are no value: `optional.of`, `sets.contains`.
pub fn is_namespace(word: &str) -> bool {
    matches!(word, "optional" | "sets" | "ip" | "cidr" | "format" | "jsonpatch" | "cel" | "lists")
}

/// A word of the language for a type, where it stands as a value.
pub fn type_named(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "dyn" => Type::Dyn,
        "int" => Type::Int,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "optional_type" => Type::Optional(Arc::new(Type::Dyn)),
        "string" => Type::String,
        "type" => Type::Type(Arc::new(Type::Dyn)),
        "uint" => Type::Uint,
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        _ => return None,
    })
}

fn parse(line: &'static str) -> (&'static str, Overload) {
    let (signature, result) = line.split_once(" -> ").unwrap_or((line, "dyn"));
    let open = arguments_at(signature);
    let (head, args) = (&signature[..open], &signature[open + 1..signature.len() - 1]);
    let mut parsed = Vec::new();
    let (method, name) = match head.rsplit_once('.') {
        Some((owner, name)) if !is_namespace(owner) => {
            parsed.push(parse_type(owner));
            (true, name)
        }
        _ => (false, head),
    };
    parsed.extend(split(args).map(parse_type));
    (name, Overload { method, args: parsed, result: parse_type(result) })
}

/// Where the list of arguments opens: the bracket that the last one closes.
fn arguments_at(signature: &str) -> usize {
    let mut depth = 0;
    for (at, byte) in signature.bytes().enumerate().rev() {
        match byte {
            b')' => depth += 1,
            b'(' if depth == 1 => return at,
            b'(' => depth -= 1,
            _ => {}
        }
    }
    0
}

/// At the commas that no bracket encloses.
fn split(list: &'static str) -> impl Iterator<Item = &'static str> {
    let mut depth = 0;
    list.split(move |c: char| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

fn parse_type(text: &'static str) -> Type {
    let inner = |prefix: &str| text.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(')'));
    if let Some(element) = inner("list(") {
        return Type::list(parse_type(element));
    }
    if let Some(value) = inner("optional(") {
        return Type::Optional(Arc::new(parse_type(value)));
    }
    if let Some(of) = inner("type(") {
        return Type::Type(Arc::new(parse_type(of)));
    }
    if let Some(pair) = inner("map(") {
        let mut parts = split(pair).map(parse_type);
        return Type::map(parts.next().unwrap_or(Type::Dyn), parts.next().unwrap_or(Type::Dyn));
    }
    match text {
        "A" | "B" => Type::Parameter(text),
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        _ => type_named(text).unwrap_or(Type::Opaque(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read_as_they_are_written() {
        let index = overloads("_[_]");
        assert_eq!(index.len(), 4);
        assert_eq!(index[1].args[0].to_string(), "map(A, B)");
        let replace = overloads("replace");
        assert!(replace.iter().all(|overload| overload.method && overload.args[0].is(&Type::String)));
        assert_eq!(overloads("optional.of")[0].args.len(), 1);
        assert_eq!(overloads("orValue")[0].args[0].to_string(), "optional_type(A)");
    }
}
