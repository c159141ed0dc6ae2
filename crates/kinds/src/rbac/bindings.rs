//! What RoleBinding and ClusterRoleBinding have in common: a role that never changes, and its subjects.

use super::GROUP;
use crate::{age, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::rbac::v1::{RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

pub(super) fn default(role: &mut RoleRef, subjects: Option<&mut Vec<Subject>>) {
    if role.api_group.is_empty() {
        GROUP.clone_into(&mut role.api_group);
    }
    for subject in subjects.into_iter().flatten() {
        let unset = subject.api_group.as_ref().is_none_or(String::is_empty);
        if unset && matches!(subject.kind.as_str(), "User" | "Group") {
            subject.api_group = Some(GROUP.to_owned());
        }
    }
}

pub(super) fn validate(role: &RoleRef, kinds: &[&str], errors: &mut Errors) {
    let path = Path::new("roleRef");
    if role.api_group != GROUP {
        errors.not_supported(&path.child("apiGroup"), role.api_group.as_str(), &[GROUP]);
    }
    if !kinds.contains(&role.kind.as_str()) {
        errors.not_supported(&path.child("kind"), role.kind.as_str(), kinds);
    }
    if role.name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        errors.invalid_each(&path.child("name"), &role.name, names::path_segment(&role.name));
    }
}

pub(super) fn validate_subjects(subjects: Option<&[Subject]>, namespaced: bool, errors: &mut Errors) {
    let path = Path::new("subjects");
    for (index, subject) in subjects.unwrap_or_default().iter().enumerate() {
        validate_subject(subject, namespaced, &path.index(index), errors);
    }
}

fn validate_subject(subject: &Subject, namespaced: bool, path: &Path<'_>, errors: &mut Errors) {
    let at_name = path.child("name");
    let at_group = path.child("apiGroup");
    let group = subject.api_group.as_deref().unwrap_or_default();
    if subject.name.is_empty() {
        errors.required(&at_name, "");
    }
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() {
                errors.invalid_each(&at_name, &subject.name, names::dns1123_subdomain(&subject.name));
            }
            if !group.is_empty() {
                errors.not_supported(&at_group, group, &[""]);
            }
            if !namespaced && subject.namespace.as_ref().is_none_or(String::is_empty) {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.not_supported(&at_group, group, &[GROUP]);
            }
        }
        other => errors.not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}

pub(super) fn validate_update(new: &RoleRef, old: &RoleRef, errors: &mut Errors) {
    if new != old {
        let shown = json!({"APIGroup": new.api_group, "Kind": new.kind, "Name": new.name});
        errors.invalid(&Path::new("roleRef"), shown, "cannot change roleRef");
    }
}

pub(super) static COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string("Role", "Kind and name of the role that is given."),
    Column::AGE,
    Column::string("Users", "Users who have the role by this binding.").wide(),
    Column::string("Groups", "Groups whose members have the role by this binding.").wide(),
    Column::string(
        "ServiceAccounts",
        "Service accounts that have the role by this binding.",
    )
    .wide(),
];

pub(super) fn row(metadata: &ObjectMeta, role: &RoleRef, subjects: Option<&[Subject]>, now: Timestamp) -> Vec<Value> {
    let subjects = subjects.unwrap_or_default();
    let of_kind = |kind: &str, text: fn(&Subject) -> String| {
        let texts: Vec<String> = subjects
            .iter()
            .filter(|subject| subject.kind == kind)
            .map(text)
            .collect();
        Value::from(texts.join(", "))
    };
    vec![
        name(metadata),
        format!("{}/{}", role.kind, role.name).into(),
        age(metadata, now),
        of_kind("User", |subject| subject.name.clone()),
        of_kind("Group", |subject| subject.name.clone()),
        of_kind("ServiceAccount", |subject| {
            format!("{}/{}", subject.namespace.as_deref().unwrap_or_default(), subject.name)
        }),
    ]
}
