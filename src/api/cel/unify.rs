//! Which type a parameter stands for: unification, as cel-go's checker does it.

use std::collections::BTreeMap;

use super::types::Type;

/// What the variables stand for, as far as it is known.
#[derive(Debug, Default)]
pub struct Substitution(Vec<Option<Type>>);

impl Substitution {
    /// A variable that can still be anything.
    pub fn fresh(&mut self) -> Type {
        self.0.push(None);
        Type::Variable(self.0.len() - 1)
    }

    /// What is known now, to come back to.
    pub fn mark(&self) -> Vec<Option<Type>> {
        self.0.clone()
    }

    pub fn restore(&mut self, mark: Vec<Option<Type>>) {
        self.0 = mark;
    }

    /// A declared type with a variable for each of its parameters.
    pub fn instantiate(&mut self, of: &Type, parameters: &mut BTreeMap<&'static str, Type>) -> Type {
        match of {
            Type::Parameter(name) => match parameters.get(name) {
                Some(of) => of.clone(),
                None => {
                    let fresh = self.fresh();
                    parameters.insert(name, fresh.clone());
                    fresh
                }
            },
            Type::List(element) => Type::list(self.instantiate(element, parameters)),
            Type::Map(key, value) => Type::map(self.instantiate(key, parameters), self.instantiate(value, parameters)),
            Type::Optional(value) => Type::Optional(self.instantiate(value, parameters).into()),
            Type::Type(of) => Type::Type(self.instantiate(of, parameters).into()),
            other => other.clone(),
        }
    }

    /// The type with all that is known put in; what is not is dynamic.
    pub fn resolve(&self, of: &Type) -> Type {
        match of {
            Type::Variable(number) => match self.0.get(*number) {
                Some(Some(known)) => self.resolve(known),
                _ => Type::Dyn,
            },
            Type::List(element) => Type::list(self.resolve(element)),
            Type::Map(key, value) => Type::map(self.resolve(key), self.resolve(value)),
            Type::Optional(value) => Type::Optional(self.resolve(value).into()),
            Type::Type(of) => Type::Type(self.resolve(of).into()),
            other => other.clone(),
        }
    }

    /// What a variable is known to be, one level deep.
    fn known(&self, of: &Type) -> Type {
        let mut of = of.clone();
        while let Type::Variable(number) = of {
            match self.0.get(number) {
                Some(Some(known)) => of = known.clone(),
                _ => break,
            }
        }
        of
    }

    /// Whether a value of type `of` can stand where `to` is wanted. Learns what variables must be for that.
    pub fn assign(&mut self, to: &Type, of: &Type) -> bool {
        let (to, of) = (self.known(to), self.known(of));
        match (&to, &of) {
            (Type::Variable(a), Type::Variable(b)) if a == b => true,
            (Type::Variable(number), other) | (other, Type::Variable(number)) => {
                if self.occurs(*number, other) {
                    return false;
                }
                self.0[*number] = Some(other.clone());
                true
            }
            (Type::Dyn | Type::Error, _) | (_, Type::Dyn | Type::Error) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.assign(a, b),
            (Type::Map(a, c), Type::Map(b, d)) => self.assign(a, b) && self.assign(c, d),
            (Type::Type(_), Type::Type(_)) => true,
            // What may be absent in Go may be null in an expression.
            (Type::Null, Type::Object(_) | Type::Duration | Type::Timestamp | Type::Opaque(_) | Type::Optional(_))
            | (Type::Object(_) | Type::Duration | Type::Timestamp | Type::Opaque(_) | Type::Optional(_), Type::Null) => {
                true
            }
            (a, b) => a.is(b),
        }
    }

    fn occurs(&self, number: usize, of: &Type) -> bool {
        match self.known(of) {
            Type::Variable(other) => other == number,
            Type::List(inner) | Type::Optional(inner) | Type::Type(inner) => self.occurs(number, &inner),
            Type::Map(key, value) => self.occurs(number, &key) || self.occurs(number, &value),
            _ => false,
        }
    }
}
