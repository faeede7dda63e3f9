//! Admission policies: rules in CEL that administrators write as objects.

mod bound;
pub mod mutating;
mod parameters;
mod refusal;
pub mod type_checking;
pub mod validating;

use super::Attributes;
use crate::tokens;

/// What policies are not asked about: what puts policies into force, since nobody could mend a wrong one, and what is
/// only a question.
fn is_exempt(at: &Attributes<'_>) -> bool {
    let (group, plural) = (&*at.resource.group, &*at.resource.plural);
    group == "admissionregistration.k8s.io" || tokens::is_review(group, plural)
}
