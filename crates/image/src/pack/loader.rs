//! Finds shared libraries as the dynamic loader would: ld.so(8) for glibc, the simpler rules of musl.
//!
//! `ldd` would run the program, and may not be there; the loader's rules are few. `LD_LIBRARY_PATH` is left out on purpose:
//! an image must not depend on who packs it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::elf::Elf;

/// Directories every loader searches last. The multiarch ones are Debian's, compiled into its loader.
const DEFAULT_DIRS: [&str; 4] = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"];
const MUSL_DIRS: [&str; 3] = ["/lib", "/usr/local/lib", "/usr/lib"];
const MAX_CONF_DEPTH: usize = 8;

/// A library that was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Library {
    pub(super) path: PathBuf,
    /// It is in a directory that only `ld.so.conf` names, which an image does not have.
    pub(super) by_configuration: bool,
}

pub(super) struct Loader {
    /// From `/etc/ld.so.conf`.
    configured: Vec<PathBuf>,
}

impl Loader {
    /// Reads this machine's loader configuration.
    pub(super) fn of_host() -> Loader {
        let mut configured = Vec::new();
        read_conf(Path::new("/etc/ld.so.conf"), &mut configured, MAX_CONF_DEPTH);
        Loader { configured }
    }

    /// Where `library`, needed by the file at `requester`, is. `rpaths` are those of the programs that led there, nearest
    /// first (old `DT_RPATH` is inherited, `DT_RUNPATH` is not).
    pub(super) fn find(&self, library: &str, requester: &Path, elf: &Elf, rpaths: &[PathBuf]) -> Option<Library> {
        if library.contains('/') {
            let path = PathBuf::from(library);
            return suits(&path, elf).then_some(Library {
                path,
                by_configuration: false,
            });
        }
        let own = expand(&elf.runpath, requester, elf);
        let inherited = if elf.runpath.is_empty() { rpaths } else { &[] };
        let fallback = if elf.no_default_libraries {
            Vec::new()
        } else {
            self.fallback(elf)
        };
        let near = inherited.iter().chain(&own).map(|directory| (directory, false));
        let far = fallback
            .iter()
            .map(|directory| (directory, !is_default(directory, elf)));
        near.chain(far)
            .map(|(directory, by_configuration)| Library {
                path: directory.join(library),
                by_configuration,
            })
            .find(|library| suits(&library.path, elf))
    }

    fn fallback(&self, elf: &Elf) -> Vec<PathBuf> {
        if elf.interpreter.as_deref().is_some_and(|path| path.contains("ld-musl")) {
            return MUSL_DIRS.iter().map(PathBuf::from).collect();
        }
        let multiarch = multiarch(elf).map(|triple| [format!("/lib/{triple}"), format!("/usr/lib/{triple}")]);
        let defaults = multiarch
            .into_iter()
            .flatten()
            .map(PathBuf::from)
            .chain(DEFAULT_DIRS.map(PathBuf::from));
        self.configured.iter().cloned().chain(defaults).collect()
    }
}

/// Whether the loader searches a directory without being told.
fn is_default(directory: &Path, elf: &Elf) -> bool {
    let triple = multiarch(elf).unwrap_or("-");
    DEFAULT_DIRS.iter().any(|default| directory == Path::new(default))
        || directory == Path::new(&format!("/lib/{triple}"))
        || directory == Path::new(&format!("/usr/lib/{triple}"))
}

/// Run paths with the loader's variables replaced; relative ones are dropped, they depend on the working directory.
pub(super) fn expand(paths: &[String], requester: &Path, elf: &Elf) -> Vec<PathBuf> {
    let origin = fs::canonicalize(requester).unwrap_or_else(|_| requester.to_path_buf());
    let origin = origin.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    let lib = if elf.is_64 { "lib64" } else { "lib" };
    let replace = |path: &String, lib: &str| {
        let variables = [
            ("$ORIGIN", origin.as_str()),
            ("$LIB", lib),
            ("$PLATFORM", std::env::consts::ARCH),
        ];
        variables.iter().fold(path.clone(), |path, (name, value)| {
            path.replace(&format!("${{{}}}", &name[1..]), value)
                .replace(name, value)
        })
    };
    let multiarch = multiarch(elf).map(|triple| format!("lib/{triple}"));
    paths
        .iter()
        .flat_map(|path| {
            [
                multiarch.as_deref().map(|lib| replace(path, lib)),
                Some(replace(path, lib)),
            ]
        })
        .flatten()
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .collect()
}

/// Debian's name of the architecture in library directories.
fn multiarch(elf: &Elf) -> Option<&'static str> {
    match (elf.machine, elf.is_64) {
        (62, true) => Some("x86_64-linux-gnu"),
        (183, true) => Some("aarch64-linux-gnu"),
        (3, false) => Some("i386-linux-gnu"),
        (40, false) => Some("arm-linux-gnueabihf"),
        (243, true) => Some("riscv64-linux-gnu"),
        (21, true) => Some("powerpc64le-linux-gnu"),
        (22, true) => Some("s390x-linux-gnu"),
        _ => None,
    }
}

/// A library of another class or machine is passed over, not an error: multilib systems have both.
fn suits(path: &Path, elf: &Elf) -> bool {
    let Ok(file) = fs::File::open(path) else { return false };
    let mut start = Vec::new();
    if std::io::Read::read_to_end(&mut std::io::Read::take(file, 20), &mut start).is_err() || start.len() < 20 {
        return false;
    }
    let class = if elf.is_64 { 2 } else { 1 };
    let machine = if start[5] == 2 {
        [start[18], start[19]]
    } else {
        [start[19], start[18]]
    };
    start.starts_with(super::elf::MAGIC) && start[4] == class && u16::from_be_bytes(machine) == elf.machine
}

/// `ld.so.conf`: a directory per line, `include GLOB`.
fn read_conf(path: &Path, directories: &mut Vec<PathBuf>, depth: usize) {
    let Ok(text) = fs::read_to_string(path) else { return };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = line
            .strip_prefix("include")
            .filter(|rest| rest.starts_with(char::is_whitespace))
        {
            if depth > 0 {
                for included in matching(path, pattern.trim()) {
                    read_conf(&included, directories, depth - 1);
                }
            }
        } else if line.starts_with('/') {
            directories.push(PathBuf::from(line));
        }
    }
}

/// Files that an include pattern names; `*` in the last component is what is used in practice.
fn matching(conf: &Path, pattern: &str) -> BTreeSet<PathBuf> {
    let pattern = conf.parent().unwrap_or(Path::new("/")).join(pattern);
    let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name().and_then(|name| name.to_str())) else {
        return BTreeSet::new();
    };
    let Some((prefix, suffix)) = name.split_once('*') else {
        return BTreeSet::from([pattern]);
    };
    let entries = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.len() >= prefix.len() + suffix.len() && name.starts_with(prefix) && name.ends_with(suffix)
    };
    entries.filter(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_with_includes() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("conf"), "# c\n/opt/a # x\ninclude d/*.conf\nrelative\n").unwrap();
        fs::write(dir.path().join("d/2.conf"), "/opt/c\n").unwrap();
        fs::write(
            dir.path().join("d/1.conf"),
            format!("/opt/b\ninclude {}/conf\n", dir.path().display()),
        )
        .unwrap();
        fs::write(dir.path().join("d/x.txt"), "/opt/no\n").unwrap();
        let mut directories = Vec::new();
        read_conf(&dir.path().join("conf"), &mut directories, 1);
        assert_eq!(directories, ["/opt/a", "/opt/b", "/opt/c"].map(PathBuf::from));
    }

    #[test]
    fn run_paths_are_expanded() {
        let elf = Elf {
            machine: 62,
            is_64: true,
            ..Elf::default()
        };
        let paths = [
            "$ORIGIN/../lib".to_owned(),
            "${ORIGIN}/x".to_owned(),
            "relative".to_owned(),
        ];
        let mut expanded = expand(&paths, Path::new("/nowhere/bin/app"), &elf);
        expanded.dedup();
        assert_eq!(expanded, ["/nowhere/bin/../lib", "/nowhere/bin/x"].map(PathBuf::from));
    }
}
