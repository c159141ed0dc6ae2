//! Names of a defined kind.

use catamaran_api::field::{Errors, Path};
use catamaran_api::names::dns1035_label;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionNames;

pub(super) fn validate_required(path: &Path<'_>, names: &CustomResourceDefinitionNames, errors: &mut Errors) {
    let fields = [
        ("plural", Some(&names.plural)),
        ("singular", names.singular.as_ref()),
        ("kind", Some(&names.kind)),
        ("listKind", names.list_kind.as_ref()),
    ];
    for (field, name) in fields {
        if name.is_none_or(String::is_empty) {
            errors.required(&path.child(field), "");
        }
    }
}

pub(super) fn validate(path: &Path<'_>, names: &CustomResourceDefinitionNames, errors: &mut Errors) {
    let list_kind = names.list_kind.as_deref().unwrap_or_default();
    label(&path.child("plural"), &names.plural, errors);
    label(
        &path.child("singular"),
        names.singular.as_deref().unwrap_or_default(),
        errors,
    );
    mixed_case(&path.child("kind"), &names.kind, errors);
    mixed_case(&path.child("listKind"), list_kind, errors);
    let short_names = path.child("shortNames");
    for (index, name) in names.short_names.iter().flatten().enumerate() {
        listed(&short_names.index(index), name, errors);
    }
    if !names.kind.is_empty() && names.kind == list_kind {
        errors.invalid(
            &path.child("listKind"),
            list_kind,
            "kind and listKind may not be the same",
        );
    }
    let categories = path.child("categories");
    for (index, name) in names.categories.iter().flatten().enumerate() {
        listed(&categories.index(index), name, errors);
    }
}

fn label(path: &Path<'_>, name: &str, errors: &mut Errors) {
    if !name.is_empty() {
        listed(path, name, errors);
    }
}

fn listed(path: &Path<'_>, name: &str, errors: &mut Errors) {
    let problems = dns1035_label(name);
    if !problems.is_empty() {
        errors.invalid(path, name, problems.join(","));
    }
}

fn mixed_case(path: &Path<'_>, name: &str, errors: &mut Errors) {
    let problems = dns1035_label(&name.to_lowercase());
    if !name.is_empty() && !problems.is_empty() {
        errors.invalid(
            path,
            name,
            format!(
                "may have mixed case, but should otherwise match: {}",
                problems.join(",")
            ),
        );
    }
}
