//! The data directory: where it is, who has it, and which instance it is.

use anyhow::{Context, Result, bail};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Everything this cluster keeps on disk lives below here.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    pub(crate) path: PathBuf,
}

/// Which part of a cluster a process is; each part has one process per data directory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Server,
    Agent,
}

/// An exclusive `flock`, released when dropped or when the process ends. The descriptor is close-on-exec, and the
/// launcher closes what it inherits, so that no child keeps the lock alive.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl DataDir {
    /// `--data-dir` (or `CATA_DATA_DIR`), else `/var/lib/catamaran` for root, else the user's data home
    /// (XDG Base Directory Specification).
    pub(crate) fn resolve(option: Option<PathBuf>) -> Result<Self> {
        let path = match option {
            Some(path) => std::path::absolute(&path).with_context(|| format!("cannot use {}", path.display()))?,
            None => Self::default_path()?,
        };
        Ok(Self { path })
    }

    pub(crate) fn default_path() -> Result<PathBuf> {
        if rustix::process::geteuid().is_root() {
            return Ok("/var/lib/catamaran".into());
        }
        let data_home = std::env::var_os("XDG_DATA_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")));
        match data_home {
            Some(path) => Ok(path.join("catamaran")),
            None => bail!("HOME is not set; choose a data directory with --data-dir"),
        }
    }

    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.join("kubeconfig")
    }

    /// Makes the directory (0700) when it is missing.
    pub(crate) fn create(&self) -> Result<()> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .with_context(|| format!("cannot create the data directory {}", self.path.display()))
    }

    /// Takes the directory for one part of a cluster.
    pub(crate) fn lock(&self, part: Part) -> Result<Lock> {
        self.create()?;
        let name = match part {
            Part::Server => "lock",
            Part::Agent => "agent.lock",
        };
        let path = self.join(name);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => bail!(
                "another cata already runs on {}; stop it, or choose another directory with --data-dir",
                self.path.display()
            ),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// Eight hex digits that name this cluster's cgroups, links, tables and run directory; made once, then kept.
    pub(crate) fn instance(&self) -> Result<String> {
        if let Some(known) = self.known_instance()? {
            return Ok(known);
        }
        let mut random = [0_u8; 4];
        File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut random))
            .context("no random numbers")?;
        let instance = random.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let path = self.join("instance");
        let temporary = self.join("instance.new");
        let write = || {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&temporary)?;
            writeln!(file, "{instance}")?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(instance)
    }

    /// The instance, if this directory ever had a cluster.
    pub(crate) fn known_instance(&self) -> Result<Option<String>> {
        let path = self.join("instance");
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let instance = text.trim().to_owned();
                if instance.len() != 8 || !instance.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    bail!("{} is damaged: it should hold eight hex digits", path.display());
                }
                Ok(Some(instance))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_dir() -> (tempfile::TempDir, DataDir) {
        let temporary = tempfile::tempdir().expect("directory");
        let data_dir = DataDir {
            path: temporary.path().join("data"),
        };
        (temporary, data_dir)
    }

    #[test]
    fn a_second_process_of_the_same_part_is_refused_until_the_first_ends() {
        let (_temporary, data_dir) = data_dir();
        let first = data_dir.lock(Part::Server).expect("lock");
        let refused = data_dir.lock(Part::Server).expect_err("locked").to_string();
        assert!(
            refused.contains("another cata already runs") && refused.contains("--data-dir"),
            "{refused}"
        );
        data_dir.lock(Part::Agent).expect("the agent's part is free");
        drop(first);
        data_dir.lock(Part::Server).expect("free again");
    }

    #[test]
    fn the_instance_is_made_once_and_damage_is_named() {
        let (_temporary, data_dir) = data_dir();
        data_dir.create().expect("create");
        assert_eq!(data_dir.known_instance().expect("readable"), None);
        let instance = data_dir.instance().expect("instance");
        assert_eq!(instance.len(), 8);
        assert_eq!(data_dir.instance().expect("instance"), instance);
        std::fs::write(data_dir.join("instance"), "../../x").expect("damage");
        assert!(
            data_dir
                .instance()
                .expect_err("damaged")
                .to_string()
                .contains("damaged")
        );
    }
}
