//! The evaluation of an administrator's expressions for one request.

use k3s_api::admission_policy::{Condition, REQUEST_RESOURCE};
use k3s_api::authentication::UserInfo;
use k3s_api::cel::library::authorizer::{Answer, authorizer, resource_check};
use k3s_api::cel::{Activation, Error, PER_CALL_LIMIT, Program, RUNTIME_BUDGET, Value as Cel};
use k3s_api::status::aggregate;
use serde_json::Value;

use super::{Attributes, request};
use crate::authorization;

/// Variables, what may still be spent, and whom to ask.
pub struct Evaluation<'e, 'a> {
    at: &'e Attributes<'e>,
    activation: Activation<'a>,
    /// What is left of what all its expressions may cost together.
    budget: u64,
    /// The first variable that could not be evaluated: it counts only if something uses it.
    broken: Option<(&'a str, Error)>,
}

impl<'e, 'a> Evaluation<'e, 'a> {
    /// With what every expression may mention. `description` is the request (see [`request::describe`]).
    pub fn new(at: &'e Attributes<'e>, description: &'a Value, new: &'a Value, old: Option<&'a Value>) -> Self {
        let activation = Activation::new(PER_CALL_LIMIT)
            .with("request", Cel::of_json(description, None))
            .with("object", Cel::of_json(new, None))
            .with("oldObject", old.map_or(Cel::Null, |old| Cel::of_json(old, None)))
            .with("authorizer", authorizer())
            .with(REQUEST_RESOURCE, resource_check(request::own_resource(at)));
        Self { at, activation, budget: RUNTIME_BUDGET, broken: None }
    }

    /// Sets what only policies have: absent is null.
    pub fn set(&mut self, name: &str, value: Option<&'a Value>) {
        self.activation.set(name, value.map_or(Cel::Null, |value| Cel::of_json(value, None)));
    }

    /// Evaluates a policy's variables, which the expressions that come may use.
    pub async fn variables(&mut self, variables: &'a [(String, Program)]) {
        let mut known = Vec::with_capacity(variables.len());
        for (name, program) in variables {
            match self.value(program).await {
                Ok(value) => known.push((name.as_str(), value)),
                Err(error) => self.broken = self.broken.take().or(Some((name, error))),
            }
            self.activation.set("variables", Cel::map(known.iter().cloned()));
        }
    }

    /// Whether all conditions hold. One that does not hold decides, whatever is wrong with others.
    ///
    /// # Errors
    /// In words, if some could not be evaluated and the others hold.
    pub async fn holds(&mut self, conditions: &'a [Condition]) -> Result<bool, String> {
        let mut errors = Vec::new();
        for condition in conditions {
            match self.value(&condition.program).await {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => return Ok(false),
                Err(error) => errors.push(self.told(&condition.source, &error)),
            }
        }
        if errors.is_empty() { Ok(true) } else { Err(aggregate(&errors)) }
    }

    /// How an error of an expression is told.
    pub fn told(&self, source: &str, error: &Error) -> String {
        let why = match &self.broken {
            Some((name, cause)) if *error == Error::message(format!("no such key: {name}")) => {
                format!("composited variable \"{name}\" fails to evaluate: {cause}")
            }
            _ => error.to_string(),
        };
        format!("expression '{source}' resulted in error: {why}")
    }

    /// The value of an expression. What it asks the authorizer is answered, and it is begun again.
    ///
    /// # Errors
    /// What went wrong, in cel-go's words.
    pub async fn value(&mut self, program: &'a Program) -> Result<Cel<'a>, Error> {
        loop {
            self.activation.restart(PER_CALL_LIMIT.min(self.budget));
            let result = program.evaluate(&self.activation);
            self.budget = self.budget.saturating_sub(self.activation.cost());
            if !matches!(result, Err(Error::Undecided)) || !self.answer().await {
                return result;
            }
        }
    }

    /// Answers what the evaluation wants to know. Returns whether there was anything.
    async fn answer(&self) -> bool {
        let at = self.at;
        let questions = self.activation.questions();
        for question in &questions {
            let account;
            let user = match &question.service_account {
                None => at.user,
                Some((namespace, name)) => {
                    let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
                    account = UserInfo::new(format!("system:serviceaccount:{namespace}:{name}"), &groups);
                    &account
                }
            };
            let asked = authorization::Attributes {
                verb: &question.verb,
                is_resource: question.path.is_none(),
                group: &question.group,
                version: "*",
                resource: &question.resource,
                subresource: &question.subresource,
                namespace: &question.namespace,
                name: &question.name,
                path: question.path.as_deref().unwrap_or_default(),
                ..authorization::Attributes::default()
            };
            let answer = match at.authorizer.authorize(at.registry, user, asked).await {
                Ok(decision) => {
                    Answer { allowed: decision.is_allowed(), reason: decision.reason, error: decision.error }
                }
                Err(error) => Answer { allowed: false, reason: String::new(), error: Some(error.to_string()) },
            };
            self.activation.answer(question.clone(), answer);
        }
        !questions.is_empty()
    }
}
