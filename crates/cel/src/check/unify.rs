//! Which type can stand where which is expected, and what parameters of signatures have to be for it.

use crate::types::Type;

/// What parameters stand for; each is bound at most once, and then only made more general.
#[derive(Debug, Default)]
pub(super) struct Substitution {
    bound: Vec<Option<Type>>,
}

impl Substitution {
    pub fn fresh(&mut self) -> Type {
        self.bound.push(None);
        Type::Param(self.bound.len() as u32 - 1)
    }

    /// What was bound until now, to go back to when a signature does not fit.
    pub fn mark(&self) -> Vec<Option<Type>> {
        self.bound.clone()
    }

    pub fn reset(&mut self, mark: Vec<Option<Type>>) {
        self.bound = mark;
    }

    /// The type itself where a parameter stands for one.
    pub fn resolve(&self, ty: &Type) -> Type {
        let mut ty = ty;
        while let Type::Param(number) = ty {
            match self.bound.get(*number as usize) {
                Some(Some(known)) => ty = known,
                _ => break,
            }
        }
        ty.clone()
    }

    /// Without parameters: what nothing is known of is dyn.
    pub fn complete(&self, ty: &Type) -> Type {
        match self.resolve(ty) {
            Type::Param(_) => Type::Dyn,
            Type::List(element) => Type::list(self.complete(&element)),
            Type::Map(key, value) => Type::map(self.complete(&key), self.complete(&value)),
            Type::Optional(inner) => Type::optional(self.complete(&inner)),
            other => other,
        }
    }

    /// Can a value of the second type stand where the first is expected?
    pub fn assign(&mut self, formal: &Type, actual: &Type) -> bool {
        if let Type::Param(number) = formal {
            if formal == actual {
                return true;
            }
            if let Some(Some(known)) = self.bound.get(*number as usize).cloned() {
                let fits = self.assign(&known, actual);
                if fits && self.resolve(actual) == Type::Dyn && known != Type::Dyn && !matches!(known, Type::Param(_)) {
                    self.bound[*number as usize] = Some(Type::Dyn);
                }
                return fits;
            }
            return self.bind(*number, actual);
        }
        let actual = self.resolve(actual);
        if let Type::Param(number) = actual {
            return self.bind(number, formal);
        }
        match (formal, &actual) {
            (Type::Dyn | Type::Error, _) | (_, Type::Dyn | Type::Error) => true,
            (Type::Object(_) | Type::Opaque(_) | Type::Timestamp | Type::Duration, Type::Null) => true,
            (Type::Null, Type::Object(_) | Type::Opaque(_) | Type::Timestamp | Type::Duration) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.assign(a, b),
            (Type::Map(key, value), Type::Map(other_key, other)) => {
                self.assign(key, other_key) && self.assign(value, other)
            }
            (a, b) => a == b,
        }
    }

    /// The same type, as far as both are known.
    pub fn same(&mut self, a: &Type, b: &Type) -> bool {
        let (a, b) = (self.resolve(a), self.resolve(b));
        if (a == Type::Null) != (b == Type::Null) && !a.is_dyn_or_error() && !b.is_dyn_or_error() {
            return matches!((&a, &b), (Type::Param(_), _) | (_, Type::Param(_))) && self.assign(&a, &b);
        }
        let mark = self.mark();
        let fits = self.assign(&a, &b);
        if !fits {
            self.reset(mark);
        }
        fits
    }

    fn bind(&mut self, number: u32, ty: &Type) -> bool {
        let ty = self.resolve(ty);
        if ty == Type::Param(number) {
            return true;
        }
        if self.mentions(&ty, number) {
            return false;
        }
        self.bound[number as usize] = Some(ty);
        true
    }

    fn mentions(&self, ty: &Type, number: u32) -> bool {
        match self.resolve(ty) {
            Type::Param(found) => found == number,
            Type::List(inner) | Type::Optional(inner) => self.mentions(&inner, number),
            Type::Map(key, value) => self.mentions(&key, number) || self.mentions(&value, number),
            _ => false,
        }
    }
}
