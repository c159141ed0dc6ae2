//! What is particular to v1 hierarchies.

use super::{Dir, Error, Hierarchy, Layout, Setting, Stats, Version, keyed, write_file};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};
use std::fs;
use std::io;
use std::path::Path;

/// Whether a group at `relative` belongs into this hierarchy: see the parent module.
pub(super) fn concerns(hierarchy: &Hierarchy, relative: &Path, resources: &LinuxResources, layout: &Layout) -> bool {
    let accounted = ["memory", "cpuacct"].iter().any(|controller| hierarchy.has(controller));
    let freezes = hierarchy.has("freezer") && layout.unified().is_none();
    let devices = hierarchy.has("devices") && resources.devices().as_ref().is_some_and(|rules| !rules.is_empty());
    let limited = settings(resources)
        .iter()
        .any(|(controller, _)| hierarchy.has(controller));
    // Depth 1 is the instance, 2 the pod, 3 a container: its pod's limits must hold for it.
    let deep = relative.components().count() > 2;
    let pod_is_here = deep
        && relative
            .parent()
            .is_some_and(|parent| hierarchy.mount.join(parent).is_dir());
    accounted || freezes || devices || limited || pod_is_here
}

/// Makes the directories. A new cpuset is empty and could not be joined: it takes its parent's processors and nodes.
pub(super) fn make(hierarchy: &Hierarchy, relative: &Path) -> Result<(), Error> {
    let mut dir = hierarchy.mount.clone();
    for part in relative.components() {
        let parent = dir.clone();
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
        if hierarchy.has("cpuset") {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                inherit(&parent, &dir, file)?;
            }
        }
    }
    Ok(())
}

fn inherit(parent: &Path, dir: &Path, file: &str) -> Result<(), Error> {
    let read = |dir: &Path| {
        let path = dir.join(file);
        fs::read_to_string(&path).map_err(|source| Error::File {
            step: "read",
            path,
            source,
        })
    };
    if read(dir)?.trim().is_empty() {
        write_file(&dir.join(file), read(parent)?.trim())?;
    }
    Ok(())
}

/// OCI resources as `(controller, file)` of v1, in the order to write them.
pub(super) fn settings(resources: &LinuxResources) -> Vec<(String, Setting)> {
    let mut settings = Vec::new();
    let mut push = |controller: &str, setting| settings.push((controller.to_owned(), setting));
    if let Some(memory) = resources.memory() {
        if let Some(limit) = memory.limit() {
            push("memory", Setting::new("memory.limit_in_bytes", limit));
        }
        if let Some(swap) = memory.swap() {
            push("memory", Setting::optional("memory.memsw.limit_in_bytes", swap));
        }
        if let Some(reservation) = memory.reservation() {
            push("memory", Setting::new("memory.soft_limit_in_bytes", reservation));
        }
        if let Some(swappiness) = memory.swappiness() {
            push("memory", Setting::new("memory.swappiness", swappiness));
        }
        if memory.disable_oom_killer() == Some(true) {
            push("memory", Setting::new("memory.oom_control", 1));
        }
    }
    if let Some(cpu) = resources.cpu() {
        if let Some(shares) = cpu.shares() {
            push("cpu", Setting::new("cpu.shares", shares));
        }
        if let Some(period) = cpu.period() {
            push("cpu", Setting::new("cpu.cfs_period_us", period));
        }
        if let Some(quota) = cpu.quota() {
            push("cpu", Setting::new("cpu.cfs_quota_us", quota));
        }
        if let Some(burst) = cpu.burst() {
            push("cpu", Setting::optional("cpu.cfs_burst_us", burst));
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
        push("pids", Setting::new("pids.max", super::v2::or_max(pids.limit(), 1)));
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        push(
            "hugetlb",
            Setting::new(format!("hugetlb.{}.limit_in_bytes", limit.page_size()), limit.limit()),
        );
    }
    for setting in block_io(resources) {
        push("blkio", setting);
    }
    settings
}

/// Memory and swap together may never be less than memory alone: what grows, grows there first.
pub(super) fn order_memory(writes: &mut [(&Dir, Setting)]) {
    let position = |file: &str| writes.iter().position(|(_, setting)| setting.file == file);
    let (Some(memory), Some(both)) = (
        position("memory.limit_in_bytes"),
        position("memory.memsw.limit_in_bytes"),
    ) else {
        return;
    };
    let (dir, setting) = &writes[memory];
    let now = dir
        .read(&setting.file)
        .ok()
        .and_then(|text| text.trim().parse::<i64>().ok());
    let wanted = setting.value.parse::<i64>().ok();
    // Unlimited is -1 when it is written, and a large number when it is read.
    let grows = wanted.is_some_and(|wanted| wanted < 0 || now.is_some_and(|now| wanted > now));
    if grows && memory < both {
        writes.swap(memory, both);
    }
}

fn block_io(resources: &LinuxResources) -> Vec<Setting> {
    let Some(block_io) = resources.block_io() else {
        return Vec::new();
    };
    let mut settings = Vec::new();
    if let Some(weight) = block_io.weight() {
        // The first needs the CFQ scheduler of old kernels, the second BFQ; without either a weight means nothing.
        settings.push(Setting::optional("blkio.weight", weight));
        settings.push(Setting::optional("blkio.bfq.weight", weight));
    }
    let throttles = [
        ("blkio.throttle.read_bps_device", block_io.throttle_read_bps_device()),
        ("blkio.throttle.write_bps_device", block_io.throttle_write_bps_device()),
        ("blkio.throttle.read_iops_device", block_io.throttle_read_iops_device()),
        (
            "blkio.throttle.write_iops_device",
            block_io.throttle_write_iops_device(),
        ),
    ];
    for (file, devices) in throttles {
        for device in devices.iter().flatten() {
            settings.push(Setting::new(
                file,
                format!("{}:{} {}", device.major(), device.minor(), device.rate()),
            ));
        }
    }
    settings
}

/// Applies device rules in order; a later one overrides an earlier one.
pub(super) fn apply_devices(dir: &Path, rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
    for rule in rules {
        let file = if rule.allow() { "devices.allow" } else { "devices.deny" };
        write_file(&dir.join(file), &device_line(rule))?;
    }
    Ok(())
}

fn device_line(rule: &LinuxDeviceCgroup) -> String {
    let number = |number: Option<i64>| match number {
        Some(number) if number >= 0 => number.to_string(),
        _ => "*".to_owned(),
    };
    let access = rule
        .access()
        .as_deref()
        .filter(|access| !access.is_empty())
        .unwrap_or("rwm");
    match rule.typ().unwrap_or(LinuxDeviceType::A) {
        LinuxDeviceType::A => "a".to_owned(),
        LinuxDeviceType::B => format!("b {}:{} {access}", number(rule.major()), number(rule.minor())),
        _ => format!("c {}:{} {access}", number(rule.major()), number(rule.minor())),
    }
}

pub(super) fn add_stats(dir: &Path, controllers: &[String], stats: &mut Stats) {
    let number = |file: &str| {
        fs::read_to_string(dir.join(file))
            .ok()
            .and_then(|text| text.trim().parse().ok())
    };
    let has = |controller: &str| controllers.iter().any(|own| own == controller);
    if has("cpuacct") {
        stats.cpu_usage_nanos = number("cpuacct.usage").unwrap_or(0);
    }
    if has("pids") {
        stats.pids = number("pids.current").unwrap_or(0);
    }
    if has("memory") {
        let details = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
        stats.memory_usage = number("memory.usage_in_bytes").unwrap_or(0);
        let inactive = keyed(&details, "total_inactive_file").unwrap_or(0);
        stats.memory_working_set = stats.memory_usage.saturating_sub(inactive);
        stats.memory_rss = keyed(&details, "total_rss").unwrap_or(0);
    }
}

/// Stops or continues every process of a freezer group; only speeds up killing, so failing is fine.
pub(super) fn freeze(dir: &Path, frozen: bool) {
    let _ = write_file(&dir.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" });
}

/// Whether `version` has the freezer that [`freeze`] drives.
pub(super) fn has_freezer(version: Version, controllers: &[String]) -> bool {
    version == Version::V1 && controllers.iter().any(|own| own == "freezer")
}
