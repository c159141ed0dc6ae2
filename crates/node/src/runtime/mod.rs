//! From a container of a pod and its image to the bundle a shim starts: what both runtimes have in common.
//!
//! Which runtime is a property of the image ([`catamaran_image::Form`]), per container; a RuntimeClass only constrains.

pub(crate) mod oci;
pub(crate) mod wasm;

use crate::env::Environment;
use crate::users::Identity;
use catamaran_image::{Config as ImageConfig, Form, Image, Root};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use std::path::{Path, PathBuf};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
pub(crate) const DEFAULT_TERMINATION_LOG: &str = "/dev/termination-log";

/// Something of the host that the container sees at `target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BindMount {
    pub source: PathBuf,
    pub target: String,
    pub read_only: bool,
}

/// Everything a bundle is made of.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub image: &'a Image,
    pub root: &'a Root,
    /// Complete: the image's variables and the container's.
    pub environment: Environment,
    pub identity: Identity,
    /// Volumes, then the files of the pod (`/etc/hosts`, …).
    pub mounts: Vec<BindMount>,
    pub bundle: &'a Path,
    /// Holds the writable layer.
    pub container_dir: &'a Path,
    pub cgroup: String,
    /// The host has the one hierarchy of cgroup v2 and no other.
    pub unified_cgroups: bool,
    pub oom_score_adj: i32,
    /// A tmpfs all containers of the pod share; `None` gives the container its own.
    pub shared_memory: Option<PathBuf>,
}

impl Input<'_> {
    pub(crate) fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    pub(crate) fn privileged(&self) -> bool {
        self.container
            .security_context
            .as_ref()
            .and_then(|security| security.privileged)
            .unwrap_or(false)
    }

    pub(crate) fn read_only_root(&self) -> bool {
        self.container
            .security_context
            .as_ref()
            .and_then(|s| s.read_only_root_filesystem)
            .unwrap_or(false)
    }

    /// RuntimeDefault unless the pod asks for something else: secure by default.
    pub(crate) fn seccomp(&self) -> bool {
        let of_pod = self
            .spec()
            .and_then(|spec| spec.security_context.as_ref()?.seccomp_profile.as_ref());
        let own = self
            .container
            .security_context
            .as_ref()
            .and_then(|security| security.seccomp_profile.as_ref());
        let unconfined = own.or(of_pod).is_some_and(|profile| profile.type_ == "Unconfined");
        !unconfined && !self.privileged()
    }
}

/// Whether the pod's RuntimeClass (its handler) allows a container of this form.
///
/// # Errors
/// The message of a `CreateContainerError`.
pub(crate) fn allowed(handler: Option<&str>, form: &Form, image: &str) -> Result<(), String> {
    match (handler, form.is_wasm()) {
        (Some("oci"), true) => Err(format!(
            "image \"{image}\" is WebAssembly, but the pod's runtimeClassName asks for \"oci\"; remove it or use \"wasm\""
        )),
        _ => Ok(()),
    }
}

/// `argv` of a Linux container, by Kubernetes' rules for `command`, `args`, ENTRYPOINT and CMD.
///
/// # Errors
/// Neither the container nor the image names a program.
pub(crate) fn command_line(
    config: &ImageConfig,
    container: &Container,
    environment: &Environment,
) -> Result<Vec<String>, String> {
    let (command, args) = own_words(container, environment);
    let line = match (command, args) {
        (Some(command), args) => [command, args.unwrap_or_default()].concat(),
        (None, Some(args)) => [config.entrypoint.clone(), args].concat(),
        (None, None) => [config.entrypoint.clone(), config.cmd.clone()].concat(),
    };
    if line.is_empty() {
        Err("no command specified".to_owned())
    } else {
        Ok(line)
    }
}

/// `command` and `args` with references expanded; `None` where absent or empty.
pub(crate) fn own_words(
    container: &Container,
    environment: &Environment,
) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let expand = |words: &Option<Vec<String>>| -> Option<Vec<String>> {
        let words = words.as_ref().filter(|words| !words.is_empty())?;
        Some(words.iter().map(|word| environment.expand(word)).collect())
    };
    (expand(&container.command), expand(&container.args))
}

/// The image's variables, overridden by the container's, completed by what every container has.
pub(crate) fn complete_environment(
    config: &ImageConfig,
    own: &Environment,
    hostname: &str,
    identity: &Identity,
    terminal: bool,
) -> Environment {
    let mut all = Environment::default();
    all.set("PATH", DEFAULT_PATH.to_owned());
    all.set("HOSTNAME", hostname.to_owned());
    if terminal {
        all.set("TERM", "xterm".to_owned());
    }
    for (name, value) in config.env.iter().filter_map(|line| line.split_once('=')) {
        all.set(name, value.to_owned());
    }
    for (name, value) in own.iter() {
        all.set(name, value.to_owned());
    }
    all.set_default("HOME", identity.home.as_deref().unwrap_or("/"));
    all
}

/// The signal that asks the container to end: the spec's, the image's, SIGTERM.
pub(crate) fn stop_signal(config: &ImageConfig, container: &Container) -> i32 {
    let asked = container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    asked
        .or(config.stop_signal.as_deref())
        .and_then(signal_number)
        .unwrap_or(libc::SIGTERM)
}

/// Reads `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`.
pub(crate) fn signal_number(text: &str) -> Option<i32> {
    let text = text.trim().to_ascii_uppercase();
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.strip_prefix("SIG").unwrap_or(&text);
    if let Some(offset) = name.strip_prefix("RTMIN+") {
        return offset
            .parse::<i32>()
            .ok()
            .map(|offset| 34 + offset)
            .filter(|number| *number <= 64);
    }
    let names = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    names
        .iter()
        .position(|known| *known == name)
        .and_then(|index| i32::try_from(index + 1).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_and_args_follow_the_table_of_the_documentation() {
        let config = ImageConfig {
            entrypoint: vec!["/ep".into()],
            cmd: vec!["foo".into()],
            ..ImageConfig::default()
        };
        let line = |command: Option<&str>, args: Option<&str>| {
            let words = |text: Option<&str>| text.map(|text| vec![text.to_owned()]);
            let container = Container {
                command: words(command),
                args: words(args),
                ..Container::default()
            };
            command_line(&config, &container, &Environment::default())
                .expect("a command")
                .join(" ")
        };
        assert_eq!(line(None, None), "/ep foo");
        assert_eq!(line(Some("/own"), None), "/own");
        assert_eq!(line(None, Some("bar")), "/ep bar");
        assert_eq!(line(Some("/own"), Some("bar")), "/own bar");
        let nothing = command_line(&ImageConfig::default(), &Container::default(), &Environment::default());
        assert_eq!(nothing.expect_err("nothing to run"), "no command specified");
    }

    #[test]
    fn signals_by_name_and_number() {
        let read = ["SIGTERM", "quit", "9", "SIGRTMIN+3", "SIGNOPE", "0", "65"].map(signal_number);
        assert_eq!(read, [Some(15), Some(3), Some(9), Some(37), None, None, None]);
    }
}
