//! IPAddress: an address that is taken, and by whom. Its name is the address.

use crate::addresses::strict_ip;
use crate::checks::{immutable, shown};
use crate::{FieldLabel, Kind, NameRule, name};
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::networking::v1::{IPAddress, ParentReference};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) struct IpAddresses;

impl Kind for IpAddresses {
    type Object = IPAddress;
    const NAMESPACED: bool = false;
    const SHORT_NAMES: &'static [&'static str] = &["ip"];
    const NAME_RULE: NameRule = strict_ip;
    const FIELD_SELECTORS: &'static [FieldLabel] = &[];

    fn validate(&self, object: &IPAddress, errors: &mut Errors) {
        let path = Path::new("spec");
        let path = path.child("parentRef");
        let Some(parent) = object.spec.as_ref().map(|spec| &spec.parent_ref) else {
            return errors.required(&path, "");
        };
        if *parent == ParentReference::default() {
            return errors.required(&path, "");
        }
        let group = parent.group.as_deref().unwrap_or_default();
        if !group.is_empty() {
            errors.invalid_each(&path.child("group"), group, names::dns1123_subdomain(group));
        }
        for (field, value) in [("resource", &parent.resource), ("name", &parent.name)] {
            let at = path.child(field);
            if value.is_empty() {
                errors.required(&at, "");
            } else {
                errors.invalid_each(&at, value, names::path_segment(value));
            }
        }
        let namespace = parent.namespace.as_deref().unwrap_or_default();
        errors.invalid_each(&path.child("namespace"), namespace, names::path_segment(namespace));
    }

    fn validate_update(&self, new: &IPAddress, old: &IPAddress, errors: &mut Errors) {
        let parent = |object: &IPAddress| shown(&object.spec.as_ref().map(|spec| &spec.parent_ref));
        let path = Path::new("spec");
        immutable(&parent(new), &parent(old), &path.child("parentRef"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[Column::NAME, Column::string("ParentRef", "What has the address.")];
        COLUMNS
    }

    fn row(&self, object: &IPAddress, _now: Timestamp) -> Vec<Value> {
        let parent = object.spec.as_ref().map(|spec| &spec.parent_ref);
        let parent = parent.map_or_else(|| "<none>".to_owned(), parent_text);
        vec![name(&object.metadata), parent.into()]
    }
}

fn parent_text(parent: &ParentReference) -> String {
    let mut text = parent.resource.to_lowercase();
    let set = |part: &Option<String>| part.clone().filter(|part| !part.is_empty());
    if let Some(group) = set(&parent.group) {
        text.push('.');
        text.push_str(&group.to_lowercase());
    }
    if let Some(namespace) = set(&parent.namespace) {
        text.push('/');
        text.push_str(&namespace);
    }
    text.push('/');
    text.push_str(&parent.name);
    text
}
