//! Ingress: which requests from outside go to which services.

use super::backend;
use crate::addresses::{self, legacy_ip};
use crate::checks::wildcard_subdomain;
use crate::{Kind, STATUS, Subresource, age, differs, name};
use catamaran_api::field::quote;
use catamaran_api::table::Column;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressRule, IngressSpec, IngressStatus, IngressTLS};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

pub(crate) struct Ingresses;

/// How the class was named before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

impl Kind for Ingresses {
    type Object = Ingress;
    const NAMESPACED: bool = true;
    const SHORT_NAMES: &'static [&'static str] = &["ing"];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];

    fn prepare_create(&self, object: &mut Ingress) {
        object.status = Some(IngressStatus::default());
    }

    fn prepare_update(&self, new: &mut Ingress, old: &Ingress) {
        new.status.clone_from(&old.status);
    }

    fn prepare_status(&self, new: &mut Ingress, old: &Ingress) {
        new.spec.clone_from(&old.spec);
    }

    fn spec_changed(&self, new: &Ingress, old: &Ingress) -> Option<bool> {
        differs(&new.spec, &old.spec)
    }

    fn validate(&self, object: &Ingress, errors: &mut Errors) {
        let empty = IngressSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&empty);
        validate_spec(spec, errors);
        let annotation = class_annotation(object);
        // Both may differ in objects that exist; those have a version.
        if object.metadata.resource_version.is_none()
            && let (Some(annotation), Some(class)) = (annotation, &spec.ingress_class_name)
            && annotation != class
        {
            let path = Path::new("annotations");
            let detail = "must match `ingressClassName` when both are specified";
            errors.invalid(&path.child(CLASS_ANNOTATION), annotation, detail);
        }
    }

    fn validate_status(&self, new: &Ingress, _old: &Ingress, errors: &mut Errors) {
        let balancer = new.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let path = Path::new("status");
        let path = path.child("loadBalancer");
        let path = path.child("ingress");
        for (index, ingress) in balancer
            .iter()
            .flat_map(|balancer| balancer.ingress.iter().flatten())
            .enumerate()
        {
            let at = path.index(index);
            if let Some(ip) = ingress.ip.as_deref().filter(|ip| !ip.is_empty()) {
                legacy_ip(ip, &at.child("ip"), errors);
            }
            if let Some(host) = ingress.hostname.as_deref().filter(|host| !host.is_empty()) {
                let at = at.child("hostname");
                errors.invalid_each(&at, host, names::dns1123_subdomain(host));
                refuse_address(host, &at, errors);
            }
        }
    }

    fn warnings(&self, new: &Ingress, old: Option<&Ingress>) -> Vec<String> {
        let without_class = new.spec.as_ref().is_none_or(|spec| spec.ingress_class_name.is_none());
        if old.is_none() && class_annotation(new).is_some() && without_class {
            let annotation = quote(CLASS_ANNOTATION);
            return vec![format!(
                "annotation {annotation} is deprecated, please use 'spec.ingressClassName' instead"
            )];
        }
        Vec::new()
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column::NAME,
            Column::string("Class", "Which controller serves it."),
            Column::string("Hosts", "Hosts of the requests it is for."),
            Column::string("Address", "Where requests come in."),
            Column::string("Ports", "Ports on which it listens."),
            Column::AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Ingress, now: Timestamp) -> Vec<Value> {
        let spec = object.spec.clone().unwrap_or_default();
        let encrypted = spec.tls.as_ref().is_some_and(|tls| !tls.is_empty());
        vec![
            name(&object.metadata),
            spec.ingress_class_name.unwrap_or_else(|| "<none>".to_owned()).into(),
            hosts(spec.rules.as_deref().unwrap_or_default()).into(),
            entries(object).into(),
            if encrypted { "80, 443" } else { "80" }.into(),
            age(&object.metadata, now),
        ]
    }
}

fn class_annotation(object: &Ingress) -> Option<&str> {
    let annotations = object.metadata.annotations.as_ref()?;
    annotations.get(CLASS_ANNOTATION).map(String::as_str)
}

fn validate_spec(spec: &IngressSpec, errors: &mut Errors) {
    let path = Path::new("spec");
    let rules = spec.rules.as_deref().unwrap_or_default();
    if rules.is_empty() && spec.default_backend.is_none() {
        let shown = if spec.rules.is_some() {
            Value::Array(Vec::new())
        } else {
            Value::Null
        };
        errors.invalid(&path, shown, "either `defaultBackend` or `rules` must be specified");
    }
    if let Some(default) = &spec.default_backend {
        backend::validate(default, &path.child("defaultBackend"), errors);
    }
    let list = path.child("rules");
    for (index, rule) in rules.iter().enumerate() {
        validate_rule(rule, &list.index(index), errors);
    }
    let list = path.child("tls");
    for (index, tls) in spec.tls.iter().flatten().enumerate() {
        validate_tls(tls, &list.index(index), errors);
    }
    if let Some(class) = &spec.ingress_class_name {
        errors.invalid_each(&path.child("ingressClassName"), class, names::dns1123_subdomain(class));
    }
}

fn validate_tls(tls: &IngressTLS, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("hosts");
    for (index, host) in tls.hosts.iter().flatten().enumerate() {
        errors.invalid_each(&list.index(index), host, host_name(host));
    }
    if let Some(secret) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) {
        errors.invalid_each(&path.child("secretName"), secret, names::dns1123_subdomain(secret));
    }
}

fn host_name(host: &str) -> Vec<String> {
    if host.contains('*') {
        wildcard_subdomain(host)
    } else {
        names::dns1123_subdomain(host)
    }
}

fn refuse_address(host: &str, path: &Path<'_>, errors: &mut Errors) {
    if addresses::parse(host).is_some() {
        errors.invalid(path, host, "must be a DNS name, not an IP address");
    }
}

fn validate_rule(rule: &IngressRule, path: &Path<'_>, errors: &mut Errors) {
    if let Some(host) = rule.host.as_deref().filter(|host| !host.is_empty()) {
        let at = path.child("host");
        refuse_address(host, &at, errors);
        errors.invalid_each(&at, host, host_name(host));
    }
    let Some(http) = &rule.http else { return };
    let at = path.child("http");
    let list = at.child("paths");
    if http.paths.is_empty() {
        errors.required(&list, "");
    }
    for (index, http_path) in http.paths.iter().enumerate() {
        validate_path(http_path, &list.index(index), errors);
    }
}

fn validate_path(http_path: &HTTPIngressPath, path: &Path<'_>, errors: &mut Errors) {
    let text = http_path.path.as_deref().unwrap_or_default();
    let at = path.child("path");
    let absolute = text.starts_with('/');
    match http_path.path_type.as_str() {
        "" => return errors.required(&path.child("pathType"), "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !absolute {
                errors.invalid(&at, text, "must be an absolute path");
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.contains(sequence) {
                    errors.invalid(&at, text, format!("must not contain '{sequence}'"));
                }
            }
            for suffix in ["/..", "/."] {
                if text.ends_with(suffix) {
                    errors.invalid(&at, text, format!("cannot end with '{suffix}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !absolute {
                errors.invalid(&at, text, "must be an absolute path");
            }
        }
        other => {
            let supported = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.not_supported(&path.child("pathType"), other, &supported);
        }
    }
    backend::validate(&http_path.backend, &path.child("backend"), errors);
}

/// The first three hosts, and how many more rules there are.
fn hosts(rules: &[IngressRule]) -> String {
    const MOST: usize = 3;
    let mut list = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= list.len() == MOST;
        if let Some(host) = rule.host.as_deref().filter(|host| !more && !host.is_empty()) {
            list.push(host);
        }
    }
    if list.is_empty() {
        return "*".to_owned();
    }
    let shown = list.join(",");
    if more {
        format!("{shown} + {} more...", rules.len() - MOST)
    } else {
        shown
    }
}

fn entries(object: &Ingress) -> String {
    let balancer = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let entries: BTreeSet<String> = ingress
        .filter_map(|ingress| text(&ingress.ip).or_else(|| text(&ingress.hostname)))
        .collect();
    entries.into_iter().collect::<Vec<_>>().join(",")
}
