//! Collects programs of this machine with all that their loader will ask for.
//!
//! Paths are kept as they are here, symlinks on the way included (so `/bin -> usr/bin` stays what it is and every name that
//! worked on the host works in the image). Owners become root, times vanish: the same files give the same image.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use super::elf::{self, Elf};
use super::loader::{Loader, expand};
use crate::Error;

const MAX_SYMLINKS: usize = 40;
const SEARCH_PATH: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];
/// Searched by every loader, whatever the distribution.
const LINK_DIR: &str = "/usr/lib";

/// What the image will have at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Directory {
        mode: u32,
    },
    File {
        source: PathBuf,
        mode: u32,
    },
    Symlink(PathBuf),
    /// A file that is not on the host.
    Text(&'static str),
}

/// Everything the image needs, by absolute path.
#[derive(Debug, Default)]
pub(super) struct Closure {
    pub(super) nodes: BTreeMap<PathBuf, Node>,
    /// Files whose needs are already met.
    visited: BTreeSet<PathBuf>,
}

/// The files and the absolute path of the first program.
pub(super) fn collect(programs: &[PathBuf]) -> Result<(Closure, PathBuf), Error> {
    let loader = Loader::of_host();
    let mut closure = Closure::default();
    let mut command = None;
    for program in programs {
        let path = locate(program)?;
        closure.program(&path, &loader)?;
        command.get_or_insert(path);
    }
    let command = command.ok_or_else(|| Error::invalid("pack", "name at least one program"))?;
    closure.skeleton();
    Ok((closure, command))
}

/// A bare name is looked up as a shell would, but in fixed directories.
fn locate(program: &Path) -> Result<PathBuf, Error> {
    let fail = |reason: &str| Error::Pack {
        path: program.to_path_buf(),
        reason: reason.to_owned(),
    };
    if program.components().count() == 1 && !program.is_absolute() {
        let found = SEARCH_PATH
            .iter()
            .map(|directory| Path::new(directory).join(program))
            .find(|path| path.is_file());
        return found.ok_or_else(|| fail("no such program in the usual directories"));
    }
    std::path::absolute(program).map_err(|_| fail("the path cannot be made absolute"))
}

impl Closure {
    fn program(&mut self, path: &Path, loader: &Loader) -> Result<(), Error> {
        let real = self.add(path)?;
        if self.visited.contains(&real) {
            return Ok(());
        }
        let bytes = fs::read(&real).map_err(|source| Error::io("read", &real, source))?;
        if let Some(line) = bytes.strip_prefix(b"#!") {
            self.visited.insert(real);
            return self.interpreter(path, line, loader);
        }
        if !bytes.starts_with(elf::MAGIC) {
            let reason = "neither an ELF program nor a script with #!".to_owned();
            return Err(Error::Pack {
                path: path.to_path_buf(),
                reason,
            });
        }
        self.libraries(real, loader)
    }

    /// `#!interpreter [argument]`; behind `env` the argument is what runs.
    fn interpreter(&mut self, script: &Path, line: &[u8], loader: &Loader) -> Result<(), Error> {
        let fail = |reason: &str| Error::Pack {
            path: script.to_path_buf(),
            reason: reason.to_owned(),
        };
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = std::str::from_utf8(line).map_err(|_| fail("the #! line is not text"))?;
        let mut words = line.split_whitespace();
        let interpreter = words.next().ok_or_else(|| fail("the #! line names no interpreter"))?;
        if !interpreter.starts_with('/') {
            return Err(fail("the interpreter of the #! line is not an absolute path"));
        }
        self.program(Path::new(interpreter), loader)?;
        if Path::new(interpreter).file_name().is_some_and(|name| name == "env") {
            let program = words.find(|word| !word.starts_with('-') && !word.contains('='));
            let program = program.ok_or_else(|| fail("the #! line runs env without a program"))?;
            self.program(&locate(Path::new(program))?, loader)?;
        }
        Ok(())
    }

    fn libraries(&mut self, program: PathBuf, loader: &Loader) -> Result<(), Error> {
        let mut todo = VecDeque::from([(program, Vec::new(), None)]);
        while let Some((path, rpaths, interpreter)) = todo.pop_front() {
            if !self.visited.insert(path.clone()) {
                continue;
            }
            let bytes = fs::read(&path).map_err(|source| Error::io("read", &path, source))?;
            let fail = |reason: &str| Error::Pack {
                path: path.clone(),
                reason: reason.to_owned(),
            };
            let mut elf = Elf::parse(&bytes).map_err(fail)?;
            if !runs_here(&elf) {
                return Err(fail("it is for another processor architecture"));
            }
            if let Some(interpreter) = &elf.interpreter {
                self.add(Path::new(interpreter))?;
            }
            elf.interpreter = elf.interpreter.or(interpreter);
            let mut inherited = if elf.runpath.is_empty() {
                expand(&elf.rpath, &path, &elf)
            } else {
                Vec::new()
            };
            inherited.extend(rpaths);
            for name in &elf.needed {
                let missing = || Error::MissingLibrary {
                    path: path.clone(),
                    library: name.clone(),
                };
                let library = loader.find(name, &path, &elf, &inherited).ok_or_else(missing)?;
                let real = self.add(&library.path)?;
                if library.by_configuration {
                    self.directories(Path::new(LINK_DIR));
                    self.nodes
                        .entry(Path::new(LINK_DIR).join(name))
                        .or_insert(Node::Symlink(library.path));
                }
                todo.push_back((real, inherited.clone(), elf.interpreter.clone()));
            }
        }
        Ok(())
    }

    /// Adds a file, with the directories and symlinks on its way; returns where it really is.
    fn add(&mut self, path: &Path) -> Result<PathBuf, Error> {
        let mut todo: VecDeque<PathBuf> = path.components().map(|part| PathBuf::from(part.as_os_str())).collect();
        let mut real = PathBuf::from("/");
        let mut symlinks = 0;
        while let Some(part) = todo.pop_front() {
            match part.components().next() {
                Some(Component::RootDir) => real = PathBuf::from("/"),
                Some(Component::ParentDir) => {
                    real.pop();
                }
                Some(Component::Normal(name)) => {
                    let here = real.join(name);
                    let metadata = fs::symlink_metadata(&here).map_err(|source| Error::io("inspect", &here, source))?;
                    if !metadata.is_symlink() {
                        self.nodes.entry(here.clone()).or_insert_with(|| node(&here, &metadata));
                        real = here;
                        continue;
                    }
                    symlinks += 1;
                    if symlinks > MAX_SYMLINKS {
                        return Err(Error::Pack {
                            path: here,
                            reason: "too many symbolic links".to_owned(),
                        });
                    }
                    let target = fs::read_link(&here).map_err(|source| Error::io("read link", &here, source))?;
                    for part in target.components().rev() {
                        todo.push_front(PathBuf::from(part.as_os_str()));
                    }
                    self.nodes.insert(here, Node::Symlink(target));
                }
                _ => {}
            }
        }
        if matches!(self.nodes.get(&real), Some(Node::File { .. })) {
            return Ok(real);
        }
        Err(Error::Pack {
            path: path.to_path_buf(),
            reason: "not a regular file".to_owned(),
        })
    }

    fn directories(&mut self, path: &Path) {
        let parents: Vec<&Path> = path.ancestors().filter(|path| *path != Path::new("/")).collect();
        for directory in parents.into_iter().rev() {
            self.nodes
                .entry(directory.to_path_buf())
                .or_insert(Node::Directory { mode: 0o755 });
        }
    }

    /// What programs expect of any root file system.
    fn skeleton(&mut self) {
        // On a usr-merged host both names of a program work, so they do in the image.
        for merged in ["/bin", "/lib", "/lib64", "/sbin"].map(Path::new) {
            if let Ok(target) = fs::read_link(merged) {
                self.directories(&Path::new("/").join(&target));
                self.nodes.insert(merged.to_path_buf(), Node::Symlink(target));
            }
        }
        for (path, mode) in [
            ("/dev", 0o755),
            ("/etc", 0o755),
            ("/proc", 0o555),
            ("/root", 0o700),
            ("/run", 0o755),
            ("/sys", 0o555),
            ("/tmp", 0o1777),
        ] {
            self.nodes.insert(PathBuf::from(path), Node::Directory { mode });
        }
        for (path, text) in [
            (
                "/etc/passwd",
                "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
            ),
            ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
            ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
        ] {
            self.nodes.insert(PathBuf::from(path), Node::Text(text));
        }
    }
}

fn node(path: &Path, metadata: &fs::Metadata) -> Node {
    let mode = metadata.permissions().mode() & 0o7777;
    if metadata.is_dir() {
        return Node::Directory { mode };
    }
    // A setuid file of somebody else must not become one of root.
    let mode = if metadata.uid() == 0 { mode } else { mode & 0o777 };
    Node::File {
        source: path.to_path_buf(),
        mode,
    }
}

fn runs_here(elf: &Elf) -> bool {
    match std::env::consts::ARCH {
        "x86_64" => matches!(elf.machine, 62 | 3),
        "aarch64" => matches!(elf.machine, 183 | 40),
        "riscv64" => elf.machine == 243,
        _ => true,
    }
}
