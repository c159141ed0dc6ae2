//! Native code of the images on this node.
//!
//! ```text
//!  <dir>/<key>.json             what it is, of which module, and the SHA-256 of the file beside it; written last
//!  <dir>/<key>.<shape>.native   native code, mapped by every container of the image
//!  <dir>/.new-…                 a compilation under way, or left over from a crash
//! ```
//!
//! The key names the module's digest and everything the engine's output depends on, so a new wasmtime or another CPU
//! never meets old code. Files are checked against their record before the first use in a process's life, are replaced
//! by rename and never modified: they may be mapped. The directory belongs to the node; containers' processes can read
//! it at best. A module is compiled once however many pods wait for it.

use crate::compile::{self, MODULE_MAX_BYTES, Outcome};
use crate::engine::{compatibility_key, hex};
use crate::shape::{Inspected, Shape};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::io::AsyncReadExt as _;

/// Size of all native files together, bytes, above which the least recently used ones go.
const CACHE_MAX_BYTES: u64 = 4 << 30;

/// How long a compilation may take, by the clock. Its CPU time is bounded by the compiler itself.
const COMPILE_DEADLINE: Duration = Duration::from_secs(600);

/// Longest answer of a compiler that is read, bytes.
const ANSWER_MAX_BYTES: u64 = 1 << 20;

/// Prefix of files that are not finished.
const UNFINISHED: &str = ".new-";

/// A module's native code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Native {
    pub path: PathBuf,
    pub shape: Shape,
    /// `module::name` of a core module, interface names of a component.
    pub imports: Vec<String>,
}

/// Displays are one line, complete for a user.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CacheError {
    #[error("cannot {step} {}: {cause}", path.display())]
    Io {
        step: &'static str,
        path: PathBuf,
        cause: Arc<io::Error>,
    },
    #[error("the WebAssembly engine cannot be used on this machine: {0}")]
    Engine(String),
    /// The module's fault.
    #[error("cannot run {}: {reason}", module.display())]
    Module { module: PathBuf, reason: String },
}

fn io_error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |cause| CacheError::Io {
        step,
        path,
        cause: Arc::new(cause),
    }
}

/// What stands in `<key>.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    module_digest: String,
    inspected: Inspected,
    native_bytes: u64,
    native_sha256: String,
}

/// The node's cache. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NativeCache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    compile_command: Vec<OsString>,
    max_bytes: u64,
    engine_key: OnceLock<Result<String, String>>,
    /// One lock per key under way; inside, what was found good in this process's life.
    keys: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Native>>>>>,
}

impl NativeCache {
    /// Opens (and makes) the directory. `compile_command` is the argument vector of a program whose body is
    /// [`crate::compile_main`].
    ///
    /// # Errors
    /// A directory that cannot be made, or is not ours alone to write.
    pub fn open(dir: PathBuf, compile_command: Vec<OsString>) -> Result<NativeCache, CacheError> {
        NativeCache::open_bounded(dir, compile_command, CACHE_MAX_BYTES)
    }

    /// As [`NativeCache::open`], with another bound on the size of all native files, bytes.
    ///
    /// # Errors
    /// As for [`NativeCache::open`].
    pub fn open_bounded(
        dir: PathBuf,
        compile_command: Vec<OsString>,
        max_bytes: u64,
    ) -> Result<NativeCache, CacheError> {
        fs::create_dir_all(&dir).map_err(io_error("make the directory", &dir))?;
        // Readable for containers of any user, who map from it; writable for the node alone.
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).map_err(io_error("protect the directory", &dir))?;
        remove_unfinished(&dir).map_err(io_error("tidy the directory", &dir))?;
        let engine_key = OnceLock::new();
        let inner = Inner {
            dir,
            compile_command,
            max_bytes,
            engine_key,
            keys: Mutex::default(),
        };
        Ok(NativeCache { inner: Arc::new(inner) })
    }

    /// The native code of `module`, whose content `digest` (of any form) names. Compiles it if need be; callers that ask
    /// for the same module meanwhile wait for the one compilation.
    ///
    /// # Errors
    /// [`CacheError::Module`] where the file cannot be run, with the reason.
    pub async fn native(&self, digest: &str, module: &Path) -> Result<Native, CacheError> {
        let cache = Arc::clone(&self.inner);
        let digest = digest.to_owned();
        let key = {
            let digest = digest.clone();
            blocking(move || cache.key(&digest)).await?
        };
        let slot = self.inner.slot(&key);
        let mut known = slot.lock().await;
        if let Some(native) = known.as_ref().filter(|native| native.path.exists()) {
            touch(&native.path);
            return Ok(native.clone());
        }
        let cache = Arc::clone(&self.inner);
        let found = {
            let key = key.clone();
            blocking(move || Ok(cache.load(&key))).await?
        };
        let native = match found {
            Some(native) => native,
            None => self.compile(&key, &digest, module).await?,
        };
        *known = Some(native.clone());
        Ok(native)
    }

    async fn compile(&self, key: &str, digest: &str, module: &Path) -> Result<Native, CacheError> {
        let unfinished = Unfinished(self.inner.dir.join(format!("{UNFINISHED}{key}")));
        let inspected = self.run_compiler(module, &unfinished.0).await?;
        let (cache, key, digest) = (Arc::clone(&self.inner), key.to_owned(), digest.to_owned());
        blocking(move || {
            let native = cache.store(&key, &digest, inspected, &unfinished.0)?;
            cache.shrink(&key);
            Ok(native)
        })
        .await
    }

    async fn run_compiler(&self, module: &Path, output: &Path) -> Result<Inspected, CacheError> {
        let refused = |reason: String| CacheError::Module {
            module: module.to_owned(),
            reason,
        };
        let input = File::open(module).map_err(io_error("open the module", module))?;
        let size = input.metadata().map_err(io_error("look at the module", module))?.len();
        if size > MODULE_MAX_BYTES {
            return Err(refused(format!(
                "the module is larger than {} MiB",
                MODULE_MAX_BYTES >> 20
            )));
        }
        let _ = fs::remove_file(output);
        let native = File::options().write(true).create_new(true).mode(0o644).open(output);
        let native = native.map_err(io_error("make", output))?;
        let Some((program, arguments)) = self.inner.compile_command.split_first() else {
            return Err(CacheError::Engine("no compiler is configured".to_owned()));
        };
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(compile::THREADS_MAX);
        let mut compiler = tokio::process::Command::new(program)
            .args(arguments)
            .env_clear()
            .env("RAYON_NUM_THREADS", threads.to_string())
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(native))
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(io_error("start the compiler", Path::new(program)))?;
        let answer = compiler.stderr.take();
        let finished = tokio::time::timeout(COMPILE_DEADLINE, async {
            let mut line = Vec::new();
            if let Some(answer) = answer {
                answer.take(ANSWER_MAX_BYTES).read_to_end(&mut line).await?;
            }
            io::Result::Ok((line, compiler.wait().await?))
        });
        let Ok(finished) = finished.await else {
            return Err(refused(format!(
                "compiling it took more than {} s",
                COMPILE_DEADLINE.as_secs()
            )));
        };
        let (line, status) = finished.map_err(io_error("wait for the compiler", Path::new(program)))?;
        match serde_json::from_slice(&line) {
            Ok(Outcome::Compiled(inspected)) if status.success() => Ok(inspected),
            Ok(Outcome::Refused(reason)) => Err(refused(reason)),
            _ => Err(refused(compile::cause_of_death(
                std::os::unix::process::ExitStatusExt::signal(&status),
            ))),
        }
    }
}

impl Inner {
    fn key(&self, digest: &str) -> Result<String, CacheError> {
        let engine = self
            .engine_key
            .get_or_init(|| compatibility_key().map_err(|error| format!("{error:#}")));
        let engine = engine.as_ref().map_err(|message| CacheError::Engine(message.clone()))?;
        Ok(hex(&Sha256::digest(format!("{digest}\n{engine}"))))
    }

    fn slot(&self, key: &str) -> Arc<tokio::sync::Mutex<Option<Native>>> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(keys.entry(key.to_owned()).or_default())
    }

    fn record_path(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{key}.json"))
    }

    fn native_path(&self, key: &str, shape: Shape) -> PathBuf {
        self.dir.join(format!("{key}.{}.native", shape.tag()))
    }

    /// A complete entry whose native file is what was once written. Anything else is as if it were not there.
    fn load(&self, key: &str) -> Option<Native> {
        let record: Record = serde_json::from_slice(&fs::read(self.record_path(key)).ok()?).ok()?;
        let path = self.native_path(key, record.inspected.shape);
        let (bytes, sha256) = measure(&path).ok()?;
        if bytes != record.native_bytes || sha256 != record.native_sha256 {
            return None;
        }
        touch(&path);
        Some(Native {
            path,
            shape: record.inspected.shape,
            imports: record.inspected.imports,
        })
    }

    fn store(&self, key: &str, digest: &str, inspected: Inspected, output: &Path) -> Result<Native, CacheError> {
        let (native_bytes, native_sha256) = measure(output).map_err(io_error("read", output))?;
        let path = self.native_path(key, inspected.shape);
        let shape = inspected.shape;
        let imports = inspected.imports.clone();
        let record = Record {
            module_digest: digest.to_owned(),
            inspected,
            native_bytes,
            native_sha256,
        };
        let json = serde_json::to_vec(&record)
            .map_err(io::Error::other)
            .map_err(io_error("describe", &path))?;
        fs::rename(output, &path).map_err(io_error("keep", &path))?;
        let record_path = self.record_path(key);
        let unfinished = Unfinished(self.dir.join(format!("{UNFINISHED}{key}.json")));
        fs::write(&unfinished.0, json).map_err(io_error("write", &unfinished.0))?;
        fs::rename(&unfinished.0, &record_path).map_err(io_error("keep", &record_path))?;
        Ok(Native { path, shape, imports })
    }

    /// Removes the least recently used files until the rest is within the bound. What is mapped stays usable.
    fn shrink(&self, newest: &str) {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let metadata = path.metadata().ok()?;
                let native = path.extension().is_some_and(|extension| extension == "native");
                native.then_some((metadata.modified().ok()?, metadata.blocks() * 512, path))
            })
            .collect();
        files.sort();
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in files {
            let key = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.split('.').next());
            let Some(key) = key.filter(|key| *key != newest) else {
                continue;
            };
            if total <= self.max_bytes {
                return;
            }
            let _ = fs::remove_file(self.record_path(key));
            if fs::remove_file(&path).is_ok() {
                total -= bytes;
            }
        }
    }
}

/// A file that is removed unless it was renamed.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Length and SHA-256.
fn measure(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((length, hex(&hasher.finalize()))),
            read => {
                hasher.update(&buffer[..read]);
                length += read as u64;
            }
        }
    }
}

/// Marks a file as used now, for [`Inner::shrink`]. Not worth an error.
fn touch(path: &Path) {
    if let Ok(file) = File::open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
) -> Result<T, CacheError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(CacheError::Engine(error.to_string())),
    }
}
