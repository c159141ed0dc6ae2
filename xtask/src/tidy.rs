//! `cargo xtask tidy`: rules of the house that no lint knows.

use crate::root;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which crates of ours a crate may name. Arrows point one way: `controllers`, `scheduler` and `node` never see
/// `control` or `store`, so that in-process and remote are the same code.
const ALLOWED_EDGES: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("bench", &["store"]),
    (
        "cli",
        &[
            "api",
            "control",
            "controllers",
            "image",
            "net",
            "node",
            "oci-shim",
            "scheduler",
            "shim",
            "spdy",
            "wasm-shim",
        ],
    ),
    ("cel", &["api"]),
    ("control", &["api", "cel", "kinds", "store"]),
    ("controllers", &["api", "kinds"]),
    ("image", &[]),
    ("kinds", &["api", "cel"]),
    ("net", &[]),
    ("node", &["api", "image", "net", "shim", "spdy"]),
    ("oci-shim", &["shim"]),
    ("scheduler", &["api"]),
    ("shim", &[]),
    ("spdy", &[]),
    ("store", &[]),
    ("wasm-shim", &["shim"]),
];

/// Crates whose pure core must not read a clock: time is an argument there.
const CLOCKLESS: &[&str] = &[
    "crates/api/src",
    "crates/cel/src",
    "crates/kinds/src",
    "crates/node/src/decide",
    "crates/node/src/status",
    "crates/scheduler/src/cycle",
];
const CLOCKS: &[&str] = &["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now"];

/// Where raw system calls may stand.
const UNSAFE_PLACES: &[&str] = &["/sys.rs", "/sys/", "crates/oci-shim/"];

const LONGEST_LINE: usize = 160;
const LONGEST_FILE: usize = 1200;

pub(crate) fn run() -> Result<()> {
    let mut complaints = Vec::new();
    complaints.extend(crate_edges()?);
    for path in tracked_files()? {
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else {
            continue;
        };
        complaints.extend(check_file(&path, &text));
    }
    if complaints.is_empty() {
        println!("tidy: nothing to complain about");
        return Ok(());
    }
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    bail!("{} places are untidy", complaints.len())
}

fn crate_edges() -> Result<Vec<String>> {
    let allowed: BTreeMap<_, _> = ALLOWED_EDGES.iter().copied().collect();
    let mut complaints = Vec::new();
    for entry in std::fs::read_dir(root().join("crates")).context("cannot list crates")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let manifest = std::fs::read_to_string(path.join("Cargo.toml"))?;
        let Some(edges) = allowed.get(name.as_str()) else {
            complaints.push(format!("crates/{name}: not in xtask's list of allowed crate edges"));
            continue;
        };
        for target in edges_of(&manifest) {
            if !edges.contains(&target.as_str()) {
                complaints.push(format!(
                    "crates/{name}/Cargo.toml: may not depend on catamaran-{target}"
                ));
            }
        }
    }
    Ok(complaints)
}

/// Crates of ours in `[dependencies]`; tests may use what they like.
fn edges_of(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut edges = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section == "[dependencies]"
            && let Some(rest) = line.strip_prefix("catamaran-")
        {
            edges.push(rest.split(['.', ' ', '=']).next().unwrap_or_default().to_owned());
        }
    }
    edges
}

fn tracked_files() -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output()
        .context("cannot run git")?;
    Ok(output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned()))
        .collect())
}

fn check_file(path: &Path, text: &str) -> Vec<String> {
    let shown = path.display().to_string();
    if path.extension().is_none_or(|extension| extension != "rs") || shown.starts_with("xtask/src/tidy") {
        return Vec::new();
    }
    let is_test = shown.contains("/tests/") || shown.ends_with("/tests.rs");
    let mut complaints = Vec::new();
    let mut complain = |line: usize, what: &str| complaints.push(format!("{shown}:{line}: {what}"));
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > LONGEST_FILE {
        complain(lines.len(), "this file is too long: split it by reason to change");
    }
    if shown.contains("/src/") && !is_test && !text.starts_with("//!") {
        complain(1, "a module opens with why it exists (`//!`)");
    }
    let clockless = CLOCKLESS.iter().any(|place| shown.starts_with(place));
    let may_be_unsafe = is_test || UNSAFE_PLACES.iter().any(|place| shown.contains(place));
    for (index, line) in lines.iter().enumerate() {
        let number = index + 1;
        if !is_test
            && line.chars().count() > LONGEST_LINE
            && !line.contains("http")
            && !line.contains("r#\"")
            && !line.contains('"')
        {
            complain(number, "this line is too long");
        }
        if line.contains("todo!(") || line.contains("unimplemented!(") {
            complain(number, "an unfinished part");
        }
        if clockless && CLOCKS.iter().any(|clock| line.contains(clock)) {
            complain(number, "no clock here: take the time as an argument");
        }
        if !may_be_unsafe && line.trim_start().starts_with("unsafe {") {
            complain(number, "raw system calls belong into a sys module");
        }
    }
    complaints.extend(unsorted_registrations(&shown, &lines));
    complaints
}

/// Lists marked `// sorted` are registration lists: one line per feature, in alphabetical order.
fn unsorted_registrations(shown: &str, lines: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (start, _) in lines.iter().enumerate().filter(|(_, line)| line.trim() == "// sorted") {
        let list: Vec<&str> = lines[start + 1..]
            .iter()
            .map(|line| line.trim())
            .take_while(|line| !line.starts_with([']', '}']))
            .collect();
        let entries = list
            .iter()
            .skip(1)
            .filter(|line| !line.is_empty() && !line.starts_with("//"));
        if !entries.is_sorted() {
            complaints.push(format!("{shown}:{}: this list is not sorted", start + 1));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_read_from_dependencies_only() {
        let manifest = "[dependencies]\ncatamaran-api.workspace = true\nserde = \"1\"\n[dev-dependencies]\ncatamaran-store.workspace = true\n";
        assert_eq!(edges_of(manifest), ["api"]);
    }

    #[test]
    fn untidy_files_are_told_where() {
        let complaints = check_file(
            Path::new("crates/api/src/x.rs"),
            "use a;\nlet t = Timestamp::now();\n  todo!()\n",
        );
        assert_eq!(complaints.len(), 3, "{complaints:?}");
        assert!(complaints[1].starts_with("crates/api/src/x.rs:2: no clock"));
        let list = ["// sorted", "pub static ALL: &[u8] = &[", "    b,", "    a,", "];"];
        assert_eq!(unsorted_registrations("x", &list).len(), 1);
    }
}
