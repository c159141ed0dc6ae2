//! What is particular to the unified hierarchy: OCI's v1-shaped numbers become v2's.

use super::{Error, Hierarchy, Setting, Stats, keyed, write_file, write_value};
use oci_spec::runtime::LinuxResources;
use std::fs;
use std::io;
use std::path::Path;

/// Where processes go that stand in the tree's root when the root is itself inside a container: a group with processes
/// cannot hand controllers down.
const EVACUATED: &str = "catamaran-init";

/// Makes the directories and hands every available controller down to them.
pub(super) fn make(hierarchy: &Hierarchy, relative: &Path) -> Result<(), Error> {
    let mut dir = hierarchy.mount.clone();
    for part in relative.components() {
        hand_down(&dir, dir == hierarchy.mount);
        dir.push(part);
        match fs::create_dir(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => {
                return Err(Error::File {
                    step: "create",
                    path: dir,
                    source,
                });
            }
        }
    }
    Ok(())
}

/// Enables controllers for the children of `dir`, one by one: one that cannot be enabled shows when its limit is set.
fn hand_down(dir: &Path, is_root: bool) {
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
    let (available, enabled) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
    let missing = |name: &&str| !enabled.split_whitespace().any(|other| other == *name);
    for controller in available.split_whitespace().filter(missing) {
        let enable = || write_value(&dir.join("cgroup.subtree_control"), &format!("+{controller}"));
        let busy = enable().is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY));
        if busy && is_root && evacuate(dir).is_ok() {
            let _ = enable();
        }
    }
}

fn evacuate(root: &Path) -> Result<(), Error> {
    let leaf = root.join(EVACUATED);
    let _ = fs::create_dir(&leaf);
    for pid in fs::read_to_string(root.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
    {
        // A process may have ended meanwhile.
        let _ = write_file(&leaf.join("cgroup.procs"), pid);
    }
    Ok(())
}

/// OCI resources as `(controller, file)` of v2, in the order to write them.
pub(super) fn settings(resources: &LinuxResources) -> Vec<(String, Setting)> {
    let mut settings = Vec::new();
    let mut push = |controller: &str, setting| settings.push((controller.to_owned(), setting));
    if let Some(memory) = resources.memory() {
        if let Some(limit) = memory.limit() {
            push("memory", Setting::new("memory.max", or_max(limit, 0)));
        }
        if let Some(swap) = memory.swap() {
            push(
                "memory",
                Setting::optional("memory.swap.max", swap_alone(swap, memory.limit())),
            );
        }
        if let Some(reservation) = memory.reservation() {
            push("memory", Setting::new("memory.low", or_max(reservation, 0)));
        }
    }
    if let Some(cpu) = resources.cpu() {
        if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
            push("cpu", Setting::new("cpu.weight", weight_of_shares(shares)));
        }
        if cpu.quota().is_some() || cpu.period().is_some() {
            let quota = or_max(cpu.quota().unwrap_or(-1), 1);
            push(
                "cpu",
                Setting::new("cpu.max", format!("{quota} {}", cpu.period().unwrap_or(100_000))),
            );
        }
        if let Some(burst) = cpu.burst() {
            push("cpu", Setting::optional("cpu.max.burst", burst));
        }
        if let Some(idle) = cpu.idle() {
            push("cpu", Setting::optional("cpu.idle", idle));
        }
        if let Some(cpus) = cpu.cpus().as_ref().filter(|cpus| !cpus.is_empty()) {
            push("cpuset", Setting::new("cpuset.cpus", cpus));
        }
        if let Some(mems) = cpu.mems().as_ref().filter(|mems| !mems.is_empty()) {
            push("cpuset", Setting::new("cpuset.mems", mems));
        }
    }
    if let Some(pids) = resources.pids() {
        push("pids", Setting::new("pids.max", or_max(pids.limit(), 1)));
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        push(
            "hugetlb",
            Setting::new(format!("hugetlb.{}.max", limit.page_size()), limit.limit()),
        );
    }
    for setting in block_io(resources) {
        push("io", setting);
    }
    settings
}

/// `linux.resources.unified`: file names with values, taken as they are, after everything derived.
pub(super) fn raw_settings(resources: &LinuxResources) -> Vec<(String, Setting)> {
    let mut raw: Vec<_> = resources.unified().iter().flatten().collect();
    raw.sort();
    let plain = raw.into_iter().filter(|(file, _)| !file.contains('/'));
    plain
        .map(|(file, value)| {
            (
                file.split('.').next().unwrap_or_default().to_owned(),
                Setting::new(file, value),
            )
        })
        .collect()
}

fn block_io(resources: &LinuxResources) -> Vec<Setting> {
    let Some(block_io) = resources.block_io() else {
        return Vec::new();
    };
    let mut settings = Vec::new();
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        let weight = u64::from(weight);
        settings.push(Setting::optional("io.bfq.weight", weight));
        settings.push(Setting::optional(
            "io.weight",
            1 + weight.saturating_sub(10) * 9_999 / 990,
        ));
    }
    let throttles = [
        ("rbps", block_io.throttle_read_bps_device()),
        ("wbps", block_io.throttle_write_bps_device()),
        ("riops", block_io.throttle_read_iops_device()),
        ("wiops", block_io.throttle_write_iops_device()),
    ];
    for (key, devices) in throttles {
        for device in devices.iter().flatten() {
            let value = format!("{}:{} {key}={}", device.major(), device.minor(), device.rate());
            settings.push(Setting::new("io.max", value));
        }
    }
    settings
}

/// `max` for numbers below `least`.
pub(super) fn or_max(number: i64, least: i64) -> String {
    if number < least {
        "max".to_owned()
    } else {
        number.to_string()
    }
}

/// v1's shares (2–262144, 1024 usual) on v2's scale (1–10000, 100 usual), linearly, as the OCI runtimes and the kubelet do.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

/// OCI's swap limit counts memory in, v2's does not.
fn swap_alone(swap: i64, memory_limit: Option<i64>) -> String {
    match memory_limit {
        _ if swap < 0 => "max".to_owned(),
        Some(limit) if limit >= 0 => swap.saturating_sub(limit).max(0).to_string(),
        _ => swap.to_string(),
    }
}

pub(super) fn add_stats(dir: &Path, controllers: &[String], stats: &mut Stats) {
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
    let has = |controller: &str| controllers.iter().any(|own| own == controller);
    if has("cpu") {
        stats.cpu_usage_nanos = keyed(&read("cpu.stat"), "usage_usec").unwrap_or(0).saturating_mul(1000);
    }
    if has("pids") {
        stats.pids = read("pids.current").trim().parse().unwrap_or(0);
    }
    if has("memory") {
        let details = read("memory.stat");
        stats.memory_usage = read("memory.current").trim().parse().unwrap_or(0);
        stats.memory_working_set = stats
            .memory_usage
            .saturating_sub(keyed(&details, "inactive_file").unwrap_or(0));
        stats.memory_rss = keyed(&details, "anon").unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::v1;
    use super::*;

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(json).unwrap()
    }

    fn shown(settings: Vec<(String, Setting)>) -> Vec<String> {
        settings
            .into_iter()
            .map(|(_, setting)| format!("{} {}", setting.file, setting.value))
            .collect()
    }

    const POD: &str = r#"{
        "memory": {"limit": 67108864, "reservation": 1048576, "swap": 67108864},
        "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0-1"},
        "pids": {"limit": 100},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
        "blockIO": {"weight": 500, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}]},
        "unified": {"memory.high": "60000000"}
    }"#;

    #[test]
    fn limits_in_v2_files() {
        assert_eq!(
            shown(settings(&resources(POD))),
            [
                "memory.max 67108864",
                "memory.swap.max 0",
                "memory.low 1048576",
                "cpu.weight 39",
                "cpu.max 50000 100000",
                "cpuset.cpus 0-1",
                "pids.max 100",
                "hugetlb.2MB.max 4194304",
                "io.bfq.weight 500",
                "io.weight 4950",
                "io.max 8:0 rbps=1000",
            ]
        );
        assert_eq!(shown(raw_settings(&resources(POD))), ["memory.high 60000000"]);
    }

    #[test]
    fn limits_in_v1_files() {
        assert_eq!(
            shown(v1::settings(&resources(POD))),
            [
                "memory.limit_in_bytes 67108864",
                "memory.memsw.limit_in_bytes 67108864",
                "memory.soft_limit_in_bytes 1048576",
                "cpu.shares 1024",
                "cpu.cfs_period_us 100000",
                "cpu.cfs_quota_us 50000",
                "cpuset.cpus 0-1",
                "pids.max 100",
                "hugetlb.2MB.limit_in_bytes 4194304",
                "blkio.weight 500",
                "blkio.bfq.weight 500",
                "blkio.throttle.read_bps_device 8:0 1000",
            ]
        );
    }

    #[test]
    fn unlimited_is_max() {
        let unlimited =
            resources(r#"{"memory": {"limit": -1, "swap": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1}}"#);
        assert_eq!(
            shown(settings(&unlimited)),
            [
                "memory.max max",
                "memory.swap.max max",
                "cpu.max max 100000",
                "pids.max max"
            ]
        );
    }

    #[test]
    fn shares_span_the_whole_weight_range() {
        assert_eq!(
            [2, 1024, 262_144, 0, u64::MAX].map(weight_of_shares),
            [1, 39, 10_000, 1, 10_000]
        );
    }

    #[test]
    fn raw_files_cannot_leave_the_group() {
        let sly = resources(r#"{"unified": {"../memory.max": "1", "memory.max": "2"}}"#);
        assert_eq!(shown(raw_settings(&sly)), ["memory.max 2"]);
    }
}
