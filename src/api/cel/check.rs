//! Types of expressions, before anything runs: cel-go's checker, with its messages.

use std::collections::BTreeMap;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo};

use super::declarations::{self, Overload};
use super::program::Environment;
use super::types::{Fields, Type};
use super::{Issues, unify::Substitution};

/// Walks an expression, tells its type, and resolves its qualified names.
pub struct Checker<'e> {
    environment: &'e Environment,
    source: &'e str,
    info: &'e SourceInfo,
    /// Variables of comprehensions, innermost last.
    scopes: Vec<(String, Type)>,
    types: Substitution,
    /// Whether elements may be of several types: in the arguments of `format`.
    mixed: bool,
    misnamed: Option<String>,
    issues: Issues,
}

impl<'e> Checker<'e> {
    pub fn new(environment: &'e Environment, source: &'e str, info: &'e SourceInfo) -> Self {
        let (scopes, types, issues) = (Vec::new(), Substitution::default(), Issues::default());
        Self { environment, source, info, scopes, types, mixed: false, misnamed: None, issues }
    }

    /// The first object of a mutation that is called otherwise than the field it is given to.
    pub fn misnamed(&mut self) -> Option<String> {
        self.misnamed.take()
    }

    /// What was found wrong.
    pub fn finish(mut self) -> Issues {
        self.issues.sort();
        self.issues
    }

    /// The type of an expression, as far as it is known.
    pub fn check(&mut self, expr: &mut IdedExpr) -> Type {
        let of = self.visit(expr);
        self.types.resolve(&of)
    }

    fn error(&mut self, id: u64, message: impl Into<String>) -> Type {
        let offset = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
        self.issues.add(self.source, offset, message);
        Type::Error
    }

    fn variable(&self, name: &str) -> Option<Type> {
        let local = self.scopes.iter().rev().find(|(local, _)| local == name).map(|(_, of)| of.clone());
        local.or_else(|| self.environment.variable(name).cloned())
    }

    fn visit(&mut self, expr: &mut IdedExpr) -> Type {
        let id = expr.id;
        match &mut expr.expr {
            Expr::Unspecified => Type::Error,
            Expr::Literal(literal) => literal_type(literal),
            Expr::Ident(name) => self.ident(id, name),
            Expr::Select(_) => self.select(expr),
            Expr::Call(call) => self.call(id, call),
            Expr::List(list) => {
                let mut element = None;
                for (index, item) in list.elements.iter_mut().enumerate() {
                    let (at, mut of) = (item.id, self.visit(item));
                    if list.optional_indices.contains(&index) {
                        of = self.unwrapped(&of);
                    }
                    element = Some(self.joined(at, element, of));
                }
                Type::list(element.unwrap_or_else(|| self.types.fresh()))
            }
            Expr::Map(map) => {
                let (mut key, mut value) = (None, None);
                for entry in &mut map.entries {
                    let EntryExpr::MapEntry(entry) = &mut entry.expr else { continue };
                    let (at, of) = (entry.key.id, self.visit(&mut entry.key));
                    key = Some(self.joined(at, key, of));
                    let (at, mut of) = (entry.value.id, self.visit(&mut entry.value));
                    if entry.optional {
                        of = self.unwrapped(&of);
                    }
                    value = Some(self.joined(at, value, of));
                }
                let (key, value) =
                    (key.unwrap_or_else(|| self.types.fresh()), value.unwrap_or_else(|| self.types.fresh()));
                Type::map(key, value)
            }
            Expr::Struct(_) => self.object(expr),
            Expr::Comprehension(all) => self.comprehension(all),
        }
    }

    fn ident(&mut self, id: u64, name: &str) -> Type {
        if let Some(of) = self.variable(name) {
            return of;
        }
        match declarations::type_named(name) {
            Some(of) => Type::Type(of.into()),
            None => self.error(id, format!("undeclared reference to '{name}' (in container '')")),
        }
    }

    /// The names of a chain of selections that could be one qualified name: `a.b.c`.
    fn qualified(expr: &IdedExpr) -> Option<String> {
        match &expr.expr {
            Expr::Ident(name) => Some(name.clone()),
            Expr::Select(select) if !select.test => {
                Some(format!("{}.{}", Self::qualified(&select.operand)?, select.field))
            }
            _ => None,
        }
    }

    fn select(&mut self, expr: &mut IdedExpr) -> Type {
        // A qualified name of a type or variable comes before a field.
        if let Some(name) = Self::qualified(expr).filter(|name| name.contains('.')) {
            let root = name.split('.').next().unwrap_or_default();
            if !self.scopes.iter().any(|(local, _)| local == root) {
                if let Some(of) = self.environment.variable(&name).cloned() {
                    expr.expr = Expr::Ident(name);
                    return of;
                }
                if let Some(of) = declarations::type_named(&name).filter(|_| self.variable(root).is_none()) {
                    expr.expr = Expr::Ident(name);
                    return Type::Type(of.into());
                }
            }
        }
        let id = expr.id;
        let Expr::Select(select) = &mut expr.expr else { return Type::Error };
        let operand = self.visit(&mut select.operand);
        let of = self.field(id, &operand, &select.field.clone());
        if select.test { Type::Bool } else { of }
    }

    fn field(&mut self, id: u64, operand: &Type, name: &str) -> Type {
        match self.types.resolve(operand) {
            Type::Error => Type::Error,
            Type::Dyn | Type::Variable(_) => Type::Dyn,
            Type::Map(_, value) => (*value).clone(),
            Type::Object(object) => match object.field(name) {
                Some(of) => of,
                None => self.error(id, format!("undefined field '{name}'")),
            },
            Type::Optional(inner) => {
                let of = self.field(id, &inner, name);
                if of.is_dyn() { Type::Optional(Type::Dyn.into()) } else { Type::Optional(of.into()) }
            }
            other => self.error(id, format!("type '{other}' does not support field selection")),
        }
    }

    /// The value's type of an optional.
    fn unwrapped(&mut self, of: &Type) -> Type {
        match self.types.resolve(of) {
            Type::Optional(inner) => (*inner).clone(),
            other => other,
        }
    }

    /// One type for an aggregate's elements: Kubernetes wants them to be all of one.
    fn joined(&mut self, id: u64, before: Option<Type>, of: Type) -> Type {
        let Some(before) = before else { return of };
        if self.types.assign(&before, &of) {
            return if of.is_dyn() { of } else { before };
        }
        if self.mixed {
            return Type::Dyn;
        }
        let (expected, found) = (self.types.resolve(&before), self.types.resolve(&of));
        self.error(id, format!("expected type '{expected}' but found '{found}'"))
    }

    fn object(&mut self, expr: &mut IdedExpr) -> Type {
        let id = expr.id;
        let Expr::Struct(object) = &mut expr.expr else { return Type::Error };
        let name = object.type_name.clone();
        let of = self.environment.struct_type(&name);
        let fields = match &of {
            Some(Type::Object(fields)) => Some(fields.clone()),
            Some(_) => None,
            None => {
                return self.error(id, format!("undeclared reference to '{name}' (in container '')"));
            }
        };
        for entry in &mut object.entries {
            let at = entry.id;
            let EntryExpr::StructField(field) = &mut entry.expr else { continue };
            let mut found = self.visit(&mut field.value);
            if field.optional {
                found = self.unwrapped(&found);
            }
            let Some(fields) = &fields else { continue };
            if matches!(fields.fields, Fields::Any) {
                self.note_misnamed(&name, &field.field, &found);
            }
            match fields.field(&field.field) {
                None => drop(self.error(at, format!("undefined field '{}'", field.field))),
                Some(expected) if !self.types.assign(&expected, &found) => {
                    let found = self.types.resolve(&found);
                    let message = format!(
                        "expected type of field '{}' is '{expected}' but provided type is '{found}'",
                        field.field
                    );
                    self.error(at, message);
                }
                Some(_) => {}
            }
        }
        of.unwrap_or(Type::Dyn)
    }

    /// `Object.spec{...}` is for the field `spec` of `Object{...}` and for no other, also in lists and maps.
    fn note_misnamed(&mut self, owner: &str, field: &str, found: &Type) {
        let mut of = self.types.resolve(found);
        while let Type::List(inner) | Type::Map(_, inner) | Type::Optional(inner) = &of {
            of = Type::clone(inner);
        }
        let Type::Object(given) = of else { return };
        let expected = format!("{owner}.{field}");
        if matches!(given.fields, Fields::Any) && given.name != expected && self.misnamed.is_none() {
            self.misnamed = Some(format!(
                "unexpected type name {:?}, expected {expected:?}, which matches field name path from root Object type",
                given.name
            ));
        }
    }

    fn call(&mut self, id: u64, call: &mut CallExpr) -> Type {
        if call.func_name == cel::common::ast::operators::OPT_SELECT {
            return self.optional_select(id, call);
        }
        // `optional.of(x)` is a function, if `optional` is no variable.
        if let Some(owner) = call.target.as_deref().and_then(Self::qualified)
            && declarations::is_namespace(&owner)
            && self.variable(&owner).is_none()
        {
            let name = format!("{owner}.{}", call.func_name);
            if !declarations::overloads(&name).is_empty() {
                (call.func_name, call.target) = (name, None);
            }
        }
        let method = call.target.is_some();
        let mut args = Vec::with_capacity(call.args.len() + 1);
        if let Some(target) = &mut call.target {
            args.push(self.visit(target));
        }
        let mixed = std::mem::replace(&mut self.mixed, call.func_name == "format");
        for arg in &mut call.args {
            args.push(self.visit(arg));
        }
        self.mixed = mixed;
        let overloads = declarations::overloads(&call.func_name);
        if overloads.is_empty() {
            return self.error(id, format!("undeclared reference to '{}' (in container '')", call.func_name));
        }
        if args.iter().any(|arg| matches!(arg, Type::Error)) {
            return Type::Error;
        }
        self.resolve(id, &call.func_name, overloads, method, &args)
    }

    fn optional_select(&mut self, id: u64, call: &mut CallExpr) -> Type {
        let [operand, field] = call.args.as_mut_slice() else { return Type::Error };
        let of = self.visit(operand);
        let Expr::Literal(LiteralValue::String(name)) = &field.expr else { return Type::Error };
        let name = name.inner().to_owned();
        let of = self.unwrapped(&of);
        let field = self.field(id, &of, &name);
        match field {
            Type::Optional(_) => field,
            field => Type::Optional(field.into()),
        }
    }

    /// The type of a call, of all forms that fit.
    fn resolve(&mut self, id: u64, name: &str, overloads: &[Overload], method: bool, args: &[Type]) -> Type {
        let mut result: Option<Type> = None;
        for overload in overloads.iter().filter(|form| form.method == method && form.args.len() == args.len()) {
            let before = self.types.mark();
            let mut parameters = BTreeMap::new();
            let wanted: Vec<Type> =
                overload.args.iter().map(|arg| self.types.instantiate(arg, &mut parameters)).collect();
            if !wanted.iter().zip(args).all(|(wanted, arg)| self.types.assign(wanted, arg)) {
                self.types.restore(before);
                continue;
            }
            let of = self.types.instantiate(&overload.result, &mut parameters);
            let of = self.types.resolve(&of);
            result = Some(match result {
                None => of,
                Some(so_far) if so_far.is(&of) => so_far,
                Some(_) => Type::Dyn,
            });
        }
        if let Some(of) = result {
            return of;
        }
        let shown: Vec<String> = args.iter().map(|arg| self.types.resolve(arg).to_string()).collect();
        let shown = match (method, shown.split_first()) {
            (true, Some((target, rest))) => format!("{target}.({})", rest.join(", ")),
            _ => format!("({})", shown.join(", ")),
        };
        self.error(id, format!("found no matching overload for '{name}' applied to '{shown}'"))
    }

    fn comprehension(&mut self, all: &mut ComprehensionExpr) -> Type {
        let at = all.iter_range.id;
        let range = self.visit(&mut all.iter_range);
        let init = self.visit(&mut all.accu_init);
        let (first, second) = match self.types.resolve(&range) {
            Type::List(element) if all.iter_var2.is_some() => (Type::Int, (*element).clone()),
            Type::List(element) => ((*element).clone(), Type::Error),
            Type::Map(key, value) => ((*key).clone(), (*value).clone()),
            Type::Dyn | Type::Error | Type::Variable(_) => (Type::Dyn, Type::Dyn),
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.error(at, message);
                (Type::Error, Type::Error)
            }
        };
        let depth = self.scopes.len();
        self.scopes.push((all.accu_var.clone(), init.clone()));
        self.scopes.push((all.iter_var.clone(), first));
        if let Some(name) = &all.iter_var2 {
            self.scopes.push((name.clone(), second));
        }
        self.condition(&mut all.loop_cond);
        let (at, step) = (all.loop_step.id, self.visit(&mut all.loop_step));
        if !self.types.assign(&init, &step) {
            let (expected, found) = (self.types.resolve(&init), self.types.resolve(&step));
            self.error(at, format!("expected type '{expected}' but found '{found}'"));
        }
        self.scopes.truncate(depth + 1);
        let result = self.visit(&mut all.result);
        self.scopes.truncate(depth);
        self.types.resolve(&result)
    }

    fn condition(&mut self, condition: &mut IdedExpr) {
        let (at, of) = (condition.id, self.visit(condition));
        if !self.types.assign(&Type::Bool, &of) {
            let found = self.types.resolve(&of);
            self.error(at, format!("expected type 'bool' but found '{found}'"));
        }
    }
}

fn literal_type(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::String,
        LiteralValue::UInt(_) => Type::Uint,
    }
}
