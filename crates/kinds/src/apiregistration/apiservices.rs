//! APIService: who serves one version of a group, this server or another one.

use crate::{Kind, NameRule, STATUS, Subresource, age, name};
use catamaran_api::field::quote;
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{
    APIService, APIServiceCondition, APIServiceSpec, APIServiceStatus,
};
use serde_json::Value;

pub(crate) struct ApiServices;

impl Kind for ApiServices {
    type Object = APIService;
    const NAMESPACED: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const NAME_RULE: NameRule = names::path_segment;

    fn default(&self, object: &mut APIService) {
        if let Some(service) = object.spec.as_mut().and_then(|spec| spec.service.as_mut()) {
            service.port.get_or_insert(443);
        }
    }

    /// What this server serves itself is available at once.
    fn prepare_create(&self, object: &mut APIService) {
        let local = object.spec.as_ref().is_none_or(|spec| spec.service.is_none());
        let since = object.metadata.creation_timestamp.clone();
        object.status = Some(APIServiceStatus {
            conditions: local.then(|| vec![locally_available(since)]),
        });
    }

    fn prepare_update(&self, new: &mut APIService, old: &APIService) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut APIService, old: &APIService) {
        new.spec.clone_from(&old.spec);
        let (new, old) = (&mut new.metadata, &old.metadata);
        new.labels.clone_from(&old.labels);
        new.annotations.clone_from(&old.annotations);
        new.finalizers.clone_from(&old.finalizers);
        new.owner_references.clone_from(&old.owner_references);
    }

    fn validate(&self, object: &APIService, errors: &mut Errors) {
        let empty = APIServiceSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&empty);
        validate_name(object, spec, errors);
        validate_spec(spec, errors);
    }

    fn validate_status(&self, new: &APIService, _old: &APIService, errors: &mut Errors) {
        let conditions = new.status.as_ref().and_then(|status| status.conditions.as_deref());
        let path = Path::new("status");
        let path = path.child("conditions");
        for (index, condition) in conditions.unwrap_or_default().iter().enumerate() {
            let supported = ["True", "False", "Unknown"];
            if !supported.contains(&condition.status.as_str()) {
                let at = path.index(index);
                errors.not_supported(&at.child("status"), condition.status.as_str(), &supported);
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Service", "The service behind which the server is."),
            Column::string("Available", "Whether the server answers."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &APIService, now: Timestamp) -> Vec<Value> {
        let service = object.spec.as_ref().and_then(|spec| spec.service.as_ref());
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let service = service.map_or_else(
            || "Local".to_owned(),
            |service| format!("{}/{}", part(&service.namespace), part(&service.name)),
        );
        vec![
            name(&object.metadata),
            service.into(),
            availability(object).into(),
            age(&object.metadata, now),
        ]
    }
}

fn locally_available(since: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>) -> APIServiceCondition {
    APIServiceCondition {
        type_: "Available".to_owned(),
        status: "True".to_owned(),
        reason: Some("Local".to_owned()),
        message: Some("Local APIServices are always available".to_owned()),
        last_transition_time: since,
    }
}

fn availability(object: &APIService) -> String {
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_deref());
    let available = conditions
        .unwrap_or_default()
        .iter()
        .find(|condition| condition.type_ == "Available");
    let Some(condition) = available else {
        return "Unknown".to_owned();
    };
    match condition.reason.as_deref() {
        Some(reason) if condition.status != "True" && !reason.is_empty() => format!("{} ({reason})", condition.status),
        _ => condition.status.clone(),
    }
}

fn validate_name(object: &APIService, spec: &APIServiceSpec, errors: &mut Errors) {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let (version, group) = (spec.version.as_deref(), spec.group.as_deref());
    let required = format!("{}.{}", version.unwrap_or_default(), group.unwrap_or_default());
    if name != required && names::path_segment(name).is_empty() {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {}", quote(&required));
        errors.invalid(&Path::new("metadata").child("name"), name, detail);
    }
}

fn validate_spec(spec: &APIServiceSpec, errors: &mut Errors) {
    let path = Path::new("spec");
    let group = spec.group.as_deref().unwrap_or_default();
    let version = spec.version.as_deref().unwrap_or_default();
    if group.is_empty() {
        if version != "v1" {
            let detail = "only v1 may have an empty group and it better be legacy kube";
            errors.required(&path.child("group"), detail);
        }
    } else {
        errors.invalid_each(&path.child("group"), group, names::dns1123_subdomain(group));
    }
    errors.invalid_each(&path.child("version"), version, names::dns1035_label(version));
    let minimum = spec.group_priority_minimum;
    if !(1..=20_000).contains(&minimum) {
        let detail = "must be positive and less than 20000";
        errors.invalid(&path.child("groupPriorityMinimum"), minimum, detail);
    }
    if !(1..=1000).contains(&spec.version_priority) {
        let detail = "must be positive and less than 1000";
        errors.invalid(&path.child("versionPriority"), spec.version_priority, detail);
    }
    let bundle = spec.ca_bundle.as_ref().map_or(0, |bundle| bundle.0.len());
    let insecure = spec.insecure_skip_tls_verify == Some(true);
    let Some(service) = &spec.service else {
        if bundle > 0 {
            let detail = "local APIServices may not have a caBundle";
            errors.invalid(&path.child("caBundle"), format!("{bundle} bytes"), detail);
        }
        if insecure {
            let detail = "local APIServices may not have insecureSkipTLSVerify";
            errors.invalid(&path.child("insecureSkipTLSVerify"), true, detail);
        }
        return;
    };
    let at = path.child("service");
    for (field, value) in [("namespace", &service.namespace), ("name", &service.name)] {
        if value.as_deref().unwrap_or_default().is_empty() {
            errors.required(&at.child(field), "");
        }
    }
    let port = service.port.unwrap_or_default();
    let messages = names::port_number(port);
    if !messages.is_empty() {
        let detail = format!("port is not valid: {}", messages.join(", "));
        errors.invalid(&at.child("port"), port, detail);
    }
    if insecure && bundle > 0 {
        let detail = "may not be true if caBundle is present";
        errors.invalid(&path.child("insecureSkipTLSVerify"), true, detail);
    }
}
