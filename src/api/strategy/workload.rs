//! apps and batch.

use serde_json::{Value, json};

use super::{GENERIC, Name, Strategy};
use crate::defaults::{self, workload};
use crate::object;
use crate::validation;

pub const DEPLOYMENT: Strategy = Strategy {
    warnings: validation::warnings::workload,
    update_warnings: validation::warnings::changed_template,
    validate: validation::workload::deployment,
    validate_update: validation::workload::selector_is_immutable,
    default: workload::deployment,
    generation: true,
    counts_metadata: |new, old| object::annotations(new) != object::annotations(old),
    ..GENERIC
};

pub const REPLICA_SET: Strategy = Strategy {
    warnings: validation::warnings::workload,
    update_warnings: validation::warnings::changed_template,
    validate: validation::workload::replica_set,
    validate_update: validation::workload::selector_is_immutable,
    default: workload::replica_set,
    generation: true,
    ..GENERIC
};

pub const STATEFUL_SET: Strategy = Strategy {
    warnings: validation::warnings::stateful_set,
    update_warnings: validation::warnings::changed_stateful_set,
    validate: validation::workload::stateful_set,
    validate_update: validation::workload::stateful_set_update,
    default: workload::stateful_set,
    generation: true,
    ..GENERIC
};

pub const CONTROLLER_REVISION: Strategy = Strategy {
    validate: validation::workload::controller_revision,
    validate_update: validation::workload::controller_revision_update,
    ..GENERIC
};

pub const DAEMON_SET: Strategy = Strategy {
    warnings: validation::warnings::template,
    update_warnings: validation::warnings::changed_template,
    validate: validation::workload::daemon_set,
    validate_update: validation::workload::selector_is_immutable,
    default: daemon_set_default,
    prepare_create: |set| template_generation(set, 1),
    prepare_update: daemon_set_update,
    internal_annotation: TEMPLATE_GENERATION,
    generation: true,
    ..GENERIC
};

/// Counts the changes of the template, in an annotation that has outlived its API version.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(set: &mut Value, generation: i64) {
    let annotations = defaults::object(defaults::object(set, "metadata"), "annotations");
    annotations[TEMPLATE_GENERATION] = generation.to_string().into();
}

/// The annotation is a field in older versions, so it is always there.
fn daemon_set_default(set: &mut Value) {
    workload::daemon_set(set);
    if object::annotation(set, TEMPLATE_GENERATION).is_none() {
        template_generation(set, 0);
    }
}

fn daemon_set_update(new: &mut Value, old: &Value) {
    let generation = object::annotation(old, TEMPLATE_GENERATION).and_then(|text| text.parse().ok()).unwrap_or(1);
    let changed = object::at(new, &["spec", "template"]) != object::at(old, &["spec", "template"]);
    template_generation(new, generation + i64::from(changed));
}

pub const JOB: Strategy = Strategy {
    warnings: validation::warnings::job,
    update_warnings: validation::warnings::changed_job,
    validate: validation::job::job,
    validate_update: validation::job::job_update,
    default: workload::job,
    prepare_create: job_create,
    generation: true,
    name: Name::Subdomain,
    ..GENERIC
};

/// A job's pods are told by its uid, unless the user wants to say how.
fn job_create(job: &mut Value) {
    if object::at(job, &["spec", "manualSelector"]) == Some(&json!(true)) {
        return;
    }
    let (name, uid) = (object::name(job).to_owned(), object::uid(job).to_owned());
    let Some(spec) = defaults::field(job, "spec") else { return };
    let labels = defaults::object(defaults::object(defaults::object(spec, "template"), "metadata"), "labels");
    for (label, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        labels[label] = value.clone().into();
    }
    let labels = labels.clone();
    defaults::object(defaults::object(spec, "selector"), "matchLabels")["batch.kubernetes.io/controller-uid"] =
        uid.into();
    defaults::fill(defaults::object(job, "metadata"), "labels", labels);
}

pub const CRON_JOB: Strategy = Strategy {
    warnings: validation::warnings::cron_job,
    update_warnings: validation::warnings::changed_cron_job,
    validate: validation::job::cron_job,
    default: workload::cron_job,
    generation: true,
    ..GENERIC
};
