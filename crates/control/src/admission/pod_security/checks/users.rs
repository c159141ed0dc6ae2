//! Controls on who containers run as.

use super::{Setters, Subject, Violation, containers_named, violation};

pub(super) fn non_root_on_host(subject: &Subject<'_>) -> Option<Violation> {
    if subject.has_own_users() {
        return None;
    }
    non_root(subject)
}

pub(super) fn non_root(subject: &Subject<'_>) -> Option<Violation> {
    let pod = subject
        .spec
        .security_context
        .as_ref()
        .and_then(|context| context.run_as_non_root);
    let mut setters = Setters {
        pod: pod == Some(false),
        containers: Vec::new(),
    };
    let mut silent = Vec::new();
    for container in subject.containers() {
        match container.security.and_then(|context| context.run_as_non_root) {
            Some(false) => setters.containers.push(container.name),
            Some(true) => {}
            None if pod == Some(true) => {}
            None => silent.push(container.name),
        }
    }
    if let Some(who) = setters.shown() {
        let detail = format!("{who} must not set securityContext.runAsNonRoot=false");
        return violation("runAsNonRoot != true", detail);
    }
    if silent.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.runAsNonRoot=true",
        containers_named(&silent)
    );
    violation("runAsNonRoot != true", detail)
}

pub(super) fn not_user_zero_on_host(subject: &Subject<'_>) -> Option<Violation> {
    if subject.has_own_users() {
        return None;
    }
    not_user_zero(subject)
}

pub(super) fn not_user_zero(subject: &Subject<'_>) -> Option<Violation> {
    let context = subject.spec.security_context.as_ref();
    let setters = Setters {
        pod: context.and_then(|context| context.run_as_user) == Some(0),
        containers: subject
            .containers()
            .filter(|container| container.security.and_then(|context| context.run_as_user) == Some(0))
            .map(|container| container.name)
            .collect(),
    };
    let detail = format!("{} must not set runAsUser=0", setters.shown()?);
    violation("runAsUser=0", detail)
}
