//! Which hierarchies this machine has, read from the mount table: v1, v2 or both.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Controllers of v1 that mean something to us; `name=systemd` and the like do not.
const V1_CONTROLLERS: &[&str] = &[
    "blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "pids", "rdma",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

impl Version {
    /// The file through which a single-threaded process moves itself most cheaply.
    pub(super) fn own_entry_file(self) -> &'static str {
        match self {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.procs",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    pub mount: PathBuf,
    /// The cgroup that stands at the mount point; `/` unless inside a container without a cgroup namespace.
    pub root: String,
    pub version: Version,
    pub controllers: Vec<String>,
}

impl Hierarchy {
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|own| own == controller)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// v1 first; the unified tree, where mounted, last.
    pub hierarchies: Vec<Hierarchy>,
}

impl Layout {
    /// The machine's, read once. Children of a fork inherit it.
    pub fn of_machine() -> &'static Layout {
        static LAYOUT: OnceLock<Layout> = OnceLock::new();
        LAYOUT.get_or_init(|| {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let mut layout = parse(&mounts);
            for hierarchy in layout
                .hierarchies
                .iter_mut()
                .filter(|found| found.version == Version::V2)
            {
                let controllers = fs::read_to_string(hierarchy.mount.join("cgroup.controllers")).unwrap_or_default();
                hierarchy.controllers = controllers.split_whitespace().map(str::to_owned).collect();
            }
            layout
        })
    }

    pub fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies
            .iter()
            .find(|hierarchy| hierarchy.version == Version::V2)
    }
}

/// Reads `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
pub(super) fn parse(mountinfo: &str) -> Layout {
    let mut v1: Vec<Hierarchy> = Vec::new();
    let mut v2 = None;
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let (mut fields, mut tail) = (before.split(' ').skip(3), after.split(' '));
        let (Some(root), Some(mount)) = (fields.next(), fields.next()) else {
            continue;
        };
        let hierarchy = |version, controllers| Hierarchy {
            mount: PathBuf::from(unescape(mount)),
            root: unescape(root),
            version,
            controllers,
        };
        match (tail.next(), tail.nth(1)) {
            (Some("cgroup2"), _) if v2.is_none() => v2 = Some(hierarchy(Version::V2, Vec::new())),
            (Some("cgroup"), Some(options)) => {
                let known = options.split(',').filter(|option| V1_CONTROLLERS.contains(option));
                let controllers: Vec<String> = known.map(str::to_owned).collect();
                let seen = |controller: &String| v1.iter().any(|other| other.has(controller));
                if !controllers.is_empty() && !controllers.iter().any(seen) {
                    v1.push(hierarchy(Version::V1, controllers));
                }
            }
            _ => {}
        }
    }
    Layout {
        hierarchies: v1.into_iter().chain(v2).collect(),
    }
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        match tail.get(..3).filter(|_| *first == b'\\').and_then(octal) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
50 31 0:32 / /mnt/again rw,relatime - cgroup cgroup rw,memory
";

    #[test]
    fn hybrid_machines_have_both_and_named_hierarchies_do_not_count() {
        let layout = parse(HYBRID);
        let shown: Vec<_> = layout
            .hierarchies
            .iter()
            .map(|found| {
                format!(
                    "{} {:?} {}",
                    found.mount.display(),
                    found.version,
                    found.controllers.join("+")
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "/sys/fs/cgroup/cpu,cpuacct V1 cpu+cpuacct",
                "/sys/fs/cgroup/memory V1 memory",
                "/sys/fs/cgroup/unified V2 "
            ]
        );
    }

    #[test]
    fn a_pure_v2_machine_with_an_odd_mount_point() {
        let layout = parse("30 23 0:26 /docker/abc /sys/fs/my\\040cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
        assert_eq!(layout.hierarchies.len(), 1);
        assert_eq!(layout.hierarchies[0].mount, Path::new("/sys/fs/my cgroup"));
    }
}
