//! Mutating and validating admission webhooks: servers that are asked about writes.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>.

mod failure;
mod hook;
mod invocation;
mod metrics;
pub mod mutating;
mod review;
pub mod validating;

use std::sync::Arc;

use k3s_api::object;

use super::Attributes;
use crate::registry::{Entry, Error};
use hook::Hook;
pub use metrics::Metrics;

/// The webhooks of all configurations of one kind, in the order of the configurations' names.
pub struct Hooks(Vec<Configuration>);

/// The webhooks of one configuration, in their order.
struct Configuration {
    uid: String,
    version: String,
    hooks: Vec<Arc<Hook>>,
}

impl Hooks {
    /// Of the stored configurations. Those that have not changed, with the connections they have open, are taken from
    /// what was before.
    fn read([entries]: &[Vec<Arc<Entry>>; 1], before: Option<&Self>) -> Result<Self, Error> {
        let mut all = Vec::with_capacity(entries.len());
        for entry in entries {
            let value = entry.value()?;
            let (uid, version) = (object::uid(&value), object::resource_version(&value));
            let same = before.into_iter().flat_map(|before| &before.0);
            let same = same.into_iter().find(|same| same.uid == uid && same.version == version);
            let hooks = match same {
                Some(same) => same.hooks.clone(),
                None => {
                    let hooks = value["webhooks"].as_array().into_iter().flatten();
                    let name = object::name(&value);
                    hooks.enumerate().map(|(index, hook)| Arc::new(Hook::read(name, index, hook))).collect()
                }
            };
            all.push(Configuration { uid: uid.to_owned(), version: version.to_owned(), hooks });
        }
        Ok(Self(all))
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<Hook>> {
        self.0.iter().flat_map(|configuration| &configuration.hooks)
    }
}

/// What configures admission is not subject to webhooks: nobody could mend a wrong one.
fn is_exempt(at: &Attributes<'_>) -> bool {
    at.resource.group == "admissionregistration.k8s.io"
}
