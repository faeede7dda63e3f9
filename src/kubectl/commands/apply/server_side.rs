//! `kubectl apply --server-side`

use serde_json::Value;

use super::Apply;
use crate::cluster::{APPLY_PATCH, Cluster, Query};
use crate::error::Error;
use crate::target::Target;

const ADVICE: &str = "Please review the fields above--they currently have other managers. Here
are the ways you can resolve this warning:
* If you intend to manage all of these fields, please re-run the apply
  command with the `--force-conflicts` flag.
* If you do not intend to manage all of the fields, please edit your
  manifest to remove references to the fields that should keep their
  current managers.
* You may co-own fields by updating your manifest to match the existing
  value; in this case, you'll become the manager if the other manager(s)
  stop managing the field (remove it from their configuration).
See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts";

/// Sends the object as it is; the server merges it.
pub async fn apply(
    cluster: &Cluster,
    args: &Apply,
    target: &Target,
    validation: &str,
) -> Result<(Value, &'static str), Error> {
    let name = super::name_of(target)?;
    let Some(document) = &target.document else { return Err(Error::usage("no objects passed to apply")) };
    let query = Query::new()
        .with("fieldManager", args.field_manager.as_deref().unwrap_or("kubectl"))
        .with("force", if args.force_conflicts { "true" } else { "false" })
        .with("fieldValidation", validation)
        .with_some("dryRun", (args.dry_run == "server").then_some("All"));
    let path = format!("{}{query}", target.resource.path(&target.namespace, name));
    match cluster.patch(&path, APPLY_PATCH, document.object.to_string().into_bytes()).await {
        Ok(object) => Ok((object, "serverside-applied")),
        Err(Error::Api(error)) if error.reason == "Conflict" && !error.details.causes.is_empty() => {
            Err(Error::usage(format!("{}\n{ADVICE}", error.message)))
        }
        Err(error) => Err(error),
    }
}
