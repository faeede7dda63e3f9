//! Jobs and CronJobs.

use serde_json::Value;

use super::cron;
use super::node::{Errors, Node};
use super::pod;
use super::selector;

pub fn job(job: &Value, errors: &mut Errors) {
    let root = Node::root(job);
    let spec = root.field("spec");
    let selector = spec.field("selector");
    match selector.is_set() {
        true => selector::label_selector(&selector, errors),
        false => selector.required(errors, ""),
    }
    job_spec(&spec, errors);
    selector::fits_template(&selector, &spec.field("template"), errors);
}

fn job_spec(spec: &Node, errors: &mut Errors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
    ] {
        spec.field(field).non_negative(errors);
    }
    let (mode, completions) = (spec.field("completionMode"), spec.field("completions"));
    if mode.is_set() {
        mode.one_of(errors, &["Indexed", "NonIndexed"]);
        if mode.text() == "Indexed" && !completions.is_set() {
            completions.required(errors, "when completion mode is Indexed");
        }
    }
    let template = spec.field("template");
    pod::template(&template, errors);
    let pod_spec = template.field("spec");
    let policy = pod_spec.field("restartPolicy");
    match policy.text() {
        "Never" => {}
        "OnFailure" if spec.field("podFailurePolicy").is_set() => {
            policy.invalid(errors, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" => {}
        "" | "Always" => policy.required(errors, "valid values: \"OnFailure\", \"Never\""),
        _ => policy.not_supported(errors, &["OnFailure", "Never"]),
    }
}

/// A job does what it was made to do.
pub fn job_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    // The number of completions of an indexed job may follow its parallelism.
    let elastic = new_spec.field("completionMode").text() == "Indexed"
        && new_spec.field("completions").value == new_spec.field("parallelism").value;
    if !elastic {
        new_spec.field("completions").immutable(&old_spec.field("completions"), errors);
    }
    let selector = new_spec.field("selector");
    if selector.value != old_spec.field("selector").value {
        selector.invalid_as(selector::shown(selector.value), errors, "field is immutable");
    }
    let suspended = old_spec.field("suspend").bool() && !old.field("status").field("startTime").is_set();
    if !suspended {
        new_spec.field("template").immutable(&old_spec.field("template"), errors);
    }
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        new_spec.field(field).immutable(&old_spec.field(field), errors);
    }
}

/// What is made of the name has to be a name of a job: eleven characters are added.
const CRON_JOB_NAME_LIMIT: usize = 52;

pub fn cron_job(job: &Value, errors: &mut Errors) {
    let root = Node::root(job);
    let spec = root.field("spec");
    let schedule = spec.field("schedule");
    if schedule.require(errors) {
        if schedule.text().contains("TZ") {
            schedule.invalid(errors, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        } else if let Err(message) = cron::parse(schedule.text()) {
            schedule.invalid(errors, message);
        }
    }
    spec.field("startingDeadlineSeconds").non_negative(errors);
    let policy = spec.field("concurrencyPolicy");
    match policy.text() {
        "" => policy.required(errors, ""),
        _ => policy.one_of(errors, &["Allow", "Forbid", "Replace"]),
    }
    spec.field("successfulJobsHistoryLimit").non_negative(errors);
    spec.field("failedJobsHistoryLimit").non_negative(errors);
    let zone = spec.field("timeZone");
    if zone.is_set() && zone.is_empty() {
        zone.invalid(errors, "timeZone must be nil or non-empty string");
    } else if zone.text().eq_ignore_ascii_case("local") {
        zone.invalid(errors, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
    }
    let template = spec.field("jobTemplate");
    let job = template.field("spec");
    if job.field("manualSelector").bool() {
        job.field("manualSelector").not_supported(errors, &["nil", "false"]);
    }
    job_spec(&job, errors);
    let metadata = root.field("metadata");
    let name = metadata.field("name");
    if name.text().len() > CRON_JOB_NAME_LIMIT {
        name.invalid(errors, format!("must be no more than {CRON_JOB_NAME_LIMIT} characters"));
    }
}
