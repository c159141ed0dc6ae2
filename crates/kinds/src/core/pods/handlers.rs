//! Probes and lifecycle hooks.

use super::containers::{Context, port_number};
use crate::rules::one_of;
use catamaran_api::{Errors, Path, names};
use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Everything of a container that runs beside it.
pub(super) fn of_container(container: &Container, context: &Context<'_>, path: &Path<'_>, errors: &mut Errors) {
    if let Some(lifecycle) = &container.lifecycle {
        let path = path.child("lifecycle");
        for (field, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
            if let Some(hook) = hook {
                self::hook(hook, context.grace_period, &path.child(field), errors);
            }
        }
        if let Some(signal) = &lifecycle.stop_signal {
            stop_signal(signal, context.os, &path.child("stopSignal"), errors);
        }
    }
    if let Some(liveness) = &container.liveness_probe {
        let path = path.child("livenessProbe");
        probe(liveness, &path, errors);
        succeeds_at_once(liveness, &path, errors);
    }
    if let Some(readiness) = &container.readiness_probe {
        let path = path.child("readinessProbe");
        probe(readiness, &path, errors);
        if let Some(seconds) = readiness.termination_grace_period_seconds {
            errors.invalid(
                &path.child("terminationGracePeriodSeconds"),
                seconds,
                "must not be set for readinessProbes",
            );
        }
    }
    if let Some(startup) = &container.startup_probe {
        let path = path.child("startupProbe");
        probe(startup, &path, errors);
        succeeds_at_once(startup, &path, errors);
    }
}

fn succeeds_at_once(probe: &Probe, path: &Path<'_>, errors: &mut Errors) {
    if let Some(threshold) = probe.success_threshold.filter(|threshold| *threshold != 1) {
        errors.invalid(&path.child("successThreshold"), threshold, "must be 1");
    }
}

fn probe(probe: &Probe, path: &Path<'_>, errors: &mut Errors) {
    let mut handlers = Handlers { path, errors, count: 0 };
    handlers.exec(probe.exec.as_ref());
    handlers.http_get(probe.http_get.as_ref());
    handlers.tcp_socket(probe.tcp_socket.as_ref());
    if let Some(grpc) = &probe.grpc
        && handlers.is_first("grpc")
    {
        port_number(grpc.port, &path.child("grpc").child("port"), handlers.errors);
    }
    handlers.finish();
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (field, number) in numbers {
        if let Some(number) = number.filter(|number| *number < 0) {
            errors.invalid(&path.child(field), number, "must be greater than or equal to 0");
        }
    }
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|seconds| *seconds <= 0) {
        errors.invalid(
            &path.child("terminationGracePeriodSeconds"),
            seconds,
            "must be greater than 0",
        );
    }
}

const SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

fn stop_signal(signal: &str, os: Option<&str>, path: &Path<'_>, errors: &mut Errors) {
    match os {
        None => errors.forbidden(path, "may not be set for containers with empty `spec.os.name`"),
        Some("windows") => one_of(Some(signal), &["SIGKILL", "SIGTERM"], path, errors),
        Some("linux") => one_of(Some(signal), SIGNALS, path, errors),
        Some(_) => {}
    }
}

fn hook(hook: &LifecycleHandler, grace_period: Option<i64>, path: &Path<'_>, errors: &mut Errors) {
    let mut handlers = Handlers { path, errors, count: 0 };
    handlers.exec(hook.exec.as_ref());
    handlers.http_get(hook.http_get.as_ref());
    handlers.tcp_socket(hook.tcp_socket.as_ref());
    if let Some(sleep) = &hook.sleep
        && handlers.is_first("sleep")
        && let Some(grace) = grace_period.filter(|grace| !(0..=*grace).contains(&sleep.seconds))
    {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        handlers.errors.invalid(&path.child("sleep"), sleep.seconds, detail);
    }
    handlers.finish();
}

/// Exactly one way to probe or to call.
struct Handlers<'h> {
    path: &'h Path<'h>,
    errors: &'h mut Errors,
    count: usize,
}

impl Handlers<'_> {
    fn is_first(&mut self, field: &str) -> bool {
        self.count += 1;
        if self.count > 1 {
            self.errors
                .forbidden(&self.path.child(field), "may not specify more than 1 handler type");
        }
        self.count == 1
    }

    fn exec(&mut self, exec: Option<&ExecAction>) {
        let Some(exec) = exec else { return };
        if self.is_first("exec") && exec.command.as_ref().is_none_or(Vec::is_empty) {
            self.errors.required(&self.path.child("exec").child("command"), "");
        }
    }

    fn http_get(&mut self, get: Option<&HTTPGetAction>) {
        let Some(get) = get else { return };
        if !self.is_first("httpGet") {
            return;
        }
        let path = self.path.child("httpGet");
        if get.path.as_deref().unwrap_or_default().is_empty() {
            self.errors.required(&path.child("path"), "");
        }
        port(&get.port, &path.child("port"), self.errors);
        one_of(
            get.scheme.as_deref(),
            &["HTTP", "HTTPS"],
            &path.child("scheme"),
            self.errors,
        );
        for header in get.http_headers.iter().flatten() {
            self.errors.invalid_each(
                &path.child("httpHeaders"),
                &header.name,
                names::http_header(&header.name),
            );
        }
    }

    fn tcp_socket(&mut self, socket: Option<&TCPSocketAction>) {
        let Some(socket) = socket else { return };
        if self.is_first("tcpSocket") {
            port(&socket.port, &self.path.child("tcpSocket").child("port"), self.errors);
        }
    }

    fn finish(self) {
        if self.count == 0 {
            self.errors.required(self.path, "must specify a handler type");
        }
    }
}

fn port(port: &IntOrString, path: &Path<'_>, errors: &mut Errors) {
    match port {
        IntOrString::Int(number) => port_number(*number, path, errors),
        IntOrString::String(name) => errors.invalid_each(path, name, names::port_name(name)),
    }
}
