//! `mounts[]` of the spec, its option strings parsed. Nothing here looks at the machine.

use crate::error::{Error, Result};
use crate::sys::MountAttr;
use oci_spec::runtime::Mount;
use std::path::{Path, PathBuf};

const RDONLY: u64 = 0x01;
const NOSUID: u64 = 0x02;
const NODEV: u64 = 0x04;
const NOEXEC: u64 = 0x08;
const ATIME: u64 = 0x70;
const RELATIME: u64 = 0x00;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x20_0000;

/// `MOUNT_ATTR_RDONLY`, for [`MountAttr::set`].
pub(crate) const READ_ONLY: u64 = RDONLY;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPlan {
    /// In the container; resolved there, never outside.
    pub destination: PathBuf,
    pub what: What,
    /// Attributes of the mount itself.
    pub attr: MountAttr,
    /// Attributes of everything below it as well (`rro`, `rnosuid`, …).
    pub recursive: MountAttr,
    /// `MS_SHARED`, `MS_SLAVE`, …, and whether for the whole tree; applied in order.
    pub propagation: Vec<(u64, bool)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Bind {
        source: PathBuf,
        recursive: bool,
    },
    /// A new file system instance. `copy_up` fills a tmpfs with what it hides.
    New {
        kind: String,
        source: String,
        parameters: Vec<Parameter>,
        copy_up: bool,
    },
    /// The container's own cgroup, in whatever layout the host has.
    Cgroup,
}

/// A file system option: a flag, or a key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameter {
    Flag(String),
    Value(String, String),
}

impl Parameter {
    fn parse(option: &str) -> Parameter {
        match option.split_once('=') {
            Some((key, value)) => Parameter::Value(key.to_owned(), value.to_owned()),
            None => Parameter::Flag(option.to_owned()),
        }
    }
}

/// What one option does to the attributes.
enum Effect {
    Set(u64),
    Clear(u64),
    /// Access-time behaviour is one field, not a bit.
    Atime(u64),
}

fn attribute(option: &str) -> Option<Effect> {
    Some(match option {
        "ro" => Effect::Set(RDONLY),
        "rw" => Effect::Clear(RDONLY),
        "nosuid" => Effect::Set(NOSUID),
        "suid" => Effect::Clear(NOSUID),
        "nodev" => Effect::Set(NODEV),
        "dev" => Effect::Clear(NODEV),
        "noexec" => Effect::Set(NOEXEC),
        "exec" => Effect::Clear(NOEXEC),
        "nodiratime" => Effect::Set(NODIRATIME),
        "diratime" => Effect::Clear(NODIRATIME),
        "nosymfollow" => Effect::Set(NOSYMFOLLOW),
        "symfollow" => Effect::Clear(NOSYMFOLLOW),
        "relatime" | "norelatime" | "atime" | "nostrictatime" => Effect::Atime(RELATIME),
        "noatime" => Effect::Atime(NOATIME),
        "strictatime" => Effect::Atime(STRICTATIME),
        _ => return None,
    })
}

fn apply(attr: &mut MountAttr, effect: &Effect) {
    match *effect {
        Effect::Set(bit) => (attr.set, attr.clear) = (attr.set | bit, attr.clear & !bit),
        Effect::Clear(bit) => (attr.set, attr.clear) = (attr.set & !bit, attr.clear | bit),
        Effect::Atime(value) => {
            attr.set = attr.set & !ATIME | value;
            attr.clear |= ATIME;
        }
    }
}

pub(crate) fn propagation(option: &str) -> Option<(u64, bool)> {
    let (name, recursive) = match option {
        "shared" | "private" | "slave" | "unbindable" => (option, false),
        "rshared" | "rprivate" | "rslave" | "runbindable" => (&option[1..], true),
        _ => return None,
    };
    let flag = match name {
        "shared" => libc::MS_SHARED,
        "private" => libc::MS_PRIVATE,
        "slave" => libc::MS_SLAVE,
        _ => libc::MS_UNBINDABLE,
    };
    Some((flag, recursive))
}

pub(super) fn plan(index: usize, mount: &Mount, bundle: &Path) -> Result<MountPlan> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    if mount.uid_mappings().as_ref().is_some_and(|list| !list.is_empty()) {
        return Err(Error::spec(field("uidMappings"), "ID-mapped mounts are not supported"));
    }
    let destination = mount.destination();
    if destination.as_os_str().is_empty() {
        return Err(Error::spec(field("destination"), "must not be empty"));
    }
    let mut parsed = Options::default();
    for option in mount.options().iter().flatten() {
        parsed
            .add(option)
            .map_err(|problem| Error::spec(field("options"), problem))?;
    }
    let kind = mount.typ().as_deref().unwrap_or("none");
    let what = if let Some(recursive) = parsed.bind.or((kind == "bind").then_some(false)) {
        let source = mount
            .source()
            .as_ref()
            .ok_or_else(|| Error::spec(field("source"), "a bind mount needs one"))?;
        What::Bind {
            source: bundle.join(source),
            recursive,
        }
    } else if matches!(kind, "cgroup" | "cgroup2") {
        What::Cgroup
    } else if kind == "none" {
        return Err(Error::spec(
            field("type"),
            "needs a file system type, or the option bind or rbind",
        ));
    } else {
        let source = mount
            .source()
            .as_ref()
            .map_or_else(|| kind.to_owned(), |path| path.display().to_string());
        What::New {
            kind: kind.to_owned(),
            source,
            parameters: parsed.parameters,
            copy_up: parsed.copy_up,
        }
    };
    Ok(MountPlan {
        destination: Path::new("/").join(destination),
        what,
        attr: parsed.attr,
        recursive: parsed.recursive,
        propagation: parsed.propagation,
    })
}

#[derive(Default)]
struct Options {
    bind: Option<bool>,
    attr: MountAttr,
    recursive: MountAttr,
    propagation: Vec<(u64, bool)>,
    parameters: Vec<Parameter>,
    copy_up: bool,
}

impl Options {
    fn add(&mut self, option: &str) -> Result<(), String> {
        match option {
            "bind" => self.bind = Some(false),
            "rbind" => self.bind = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "idmap" | "ridmap" => return Err(format!("{option} is not supported")),
            // Names of behaviour that a mount has anyway, or that newer kernels ignore.
            "defaults" | "" | "remount" | "nofail" | "_netdev" | "loud" | "nomand" | "noiversion" => {}
            _ => self.add_parsed(option),
        }
        Ok(())
    }

    fn add_parsed(&mut self, option: &str) {
        if let Some(effect) = attribute(option) {
            apply(&mut self.attr, &effect);
        } else if let Some(effect) = option.strip_prefix('r').and_then(attribute) {
            apply(&mut self.recursive, &effect);
        } else if let Some(entry) = propagation(option) {
            self.propagation.push(entry);
        } else {
            self.parameters.push(Parameter::parse(option));
        }
    }
}

/// The root file system as an overlay, by convention the first mount with destination `/` and type `overlay`: options
/// `lowerdir=` (uppermost first, repeated or separated by colons), `upperdir=`, `workdir=`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverlayPlan {
    pub lower: Vec<PathBuf>,
    pub upper: Option<PathBuf>,
    pub work: Option<PathBuf>,
}

pub(super) fn overlay(mount: &Mount) -> Result<OverlayPlan> {
    let mut plan = OverlayPlan::default();
    for option in mount.options().iter().flatten() {
        match option.split_once('=') {
            Some(("lowerdir", list)) => plan.lower.extend(list.split(':').map(PathBuf::from)),
            Some(("upperdir", path)) => plan.upper = Some(path.into()),
            Some(("workdir", path)) => plan.work = Some(path.into()),
            _ if matches!(option.as_str(), "ro" | "rw" | "relatime" | "nodev") => {}
            _ => {
                return Err(Error::spec(
                    "mounts[0].options",
                    format!("{option:?} is unknown for the root overlay"),
                ));
            }
        }
    }
    if plan.lower.is_empty() {
        return Err(Error::spec(
            "mounts[0].options",
            "the root overlay needs at least one lowerdir=",
        ));
    }
    if plan.upper.is_some() != plan.work.is_some() {
        return Err(Error::spec("mounts[0].options", "upperdir= and workdir= come together"));
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<MountPlan> {
        plan(3, &serde_json::from_str(json).expect("a mount"), Path::new("/bundle"))
    }

    #[test]
    fn bind_options_become_attributes() {
        let plan =
            parse(r#"{"destination":"/data","source":"vol","options":["rbind","ro","nosuid","rprivate","rnoexec"]}"#)
                .expect("valid");
        assert_eq!(
            plan.what,
            What::Bind {
                source: "/bundle/vol".into(),
                recursive: true
            }
        );
        assert_eq!(plan.attr.set, RDONLY | NOSUID);
        assert_eq!(plan.recursive.set, NOEXEC);
        assert_eq!(plan.propagation, [(libc::MS_PRIVATE, true)]);
    }

    #[test]
    fn later_options_win() {
        let plan = parse(r#"{"destination":"/x","type":"tmpfs","options":["ro","rw","noatime","relatime","size=1m"]}"#)
            .expect("valid");
        assert_eq!(plan.attr.set, 0);
        assert_eq!(plan.attr.clear, RDONLY | ATIME);
        let What::New { parameters, .. } = plan.what else {
            panic!("a new file system")
        };
        assert_eq!(parameters, [Parameter::Value("size".into(), "1m".into())]);
    }

    #[test]
    fn recursive_read_only_is_not_a_file_system_option() {
        let plan = parse(r#"{"destination":"/x","type":"bind","source":"/y","options":["rro"]}"#).expect("valid");
        assert_eq!((plan.attr.set, plan.recursive.set), (0, RDONLY));
    }

    #[test]
    fn errors_name_the_field() {
        let message = |json| parse(json).expect_err("invalid").to_string();
        assert_eq!(
            message(r#"{"destination":"/x"}"#),
            "config.json: mounts[3].type: needs a file system type, or the option bind or rbind"
        );
        assert!(message(r#"{"destination":"/x","options":["bind"]}"#).contains("mounts[3].source"));
        assert!(message(r#"{"destination":""}"#).contains("mounts[3].destination"));
    }

    #[test]
    fn overlay_layers_keep_their_order() {
        let mount: Mount = serde_json::from_str(
            r#"{"destination":"/","type":"overlay","options":["lowerdir=/c","lowerdir=/b:/a","upperdir=/u","workdir=/w"]}"#,
        )
        .expect("a mount");
        let plan = overlay(&mount).expect("valid");
        assert_eq!(plan.lower, [Path::new("/c"), Path::new("/b"), Path::new("/a")]);
        assert_eq!(plan.upper.as_deref(), Some(Path::new("/u")));
    }
}
