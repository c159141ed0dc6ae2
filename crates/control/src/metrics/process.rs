//! What the kernel knows of this process, read when it is asked for. What cannot be read is left out.

use super::family::Text;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) fn render(text: &mut Text, started: SystemTime) {
    if let Some(seconds) = cpu_seconds() {
        text.counter(
            "process_cpu_seconds_total",
            "User and system time spent, in seconds.",
            seconds,
        );
    }
    let mut gauge = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            text.gauge(name, help, &[(String::new(), value)]);
        }
    };
    let memory = memory();
    gauge(
        "process_virtual_memory_bytes",
        "Virtual memory in bytes.",
        memory.map(|(virtual_bytes, _)| virtual_bytes),
    );
    gauge(
        "process_resident_memory_bytes",
        "Resident memory in bytes.",
        memory.map(|(_, resident)| resident),
    );
    let open = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
    #[expect(clippy::cast_precision_loss, reason = "nobody has so many")]
    gauge(
        "process_open_fds",
        "Open file descriptors.",
        open.map(|count| count as f64),
    );
    #[expect(clippy::cast_precision_loss, reason = "nobody has so many")]
    gauge(
        "process_max_fds",
        "File descriptors that may be open.",
        rustix::process::getrlimit(rustix::process::Resource::Nofile)
            .current
            .map(|limit| limit as f64),
    );
    render_start(text, started);
}

/// When the process was started.
pub(super) fn render_start(text: &mut Text, started: SystemTime) {
    if let Ok(time) = started.duration_since(UNIX_EPOCH) {
        text.gauge(
            "process_start_time_seconds",
            "When the server was started, in seconds since the epoch.",
            &[(String::new(), time.as_secs_f64())],
        );
    }
}

/// Fields 14 and 15 of `/proc/self/stat`, in ticks of a hundredth of a second, which is what user space is shown everywhere.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

/// Virtual and resident bytes.
fn memory() -> Option<(f64, f64)> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut fields = statm.split_whitespace();
    let page = f64::from(u32::try_from(rustix::param::page_size()).ok()?);
    let virtual_pages: f64 = fields.next()?.parse().ok()?;
    let resident_pages: f64 = fields.next()?.parse().ok()?;
    Some((virtual_pages * page, resident_pages * page))
}
