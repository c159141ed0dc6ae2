//! The file, its thread, and its rotation.

use super::Error;
use crate::files::writing;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot};

/// Events that may wait to be written.
const QUEUE: usize = 10_000;
/// Megabytes of a file, if it is not said.
const DEFAULT_MEGABYTES: u64 = 100;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What becomes of events while the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Requests wait for a place in it.
    #[default]
    Blocking,
    /// They are lost, and counted.
    Batch,
}

/// Where events go, and how much of them is kept.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// `-` is standard output.
    pub path: PathBuf,
    pub mode: Mode,
    /// A new file is begun before this one has more than so many megabytes; 0: a hundred.
    pub max_megabytes: u64,
    /// How many old files are kept; 0: all.
    pub max_backups: usize,
    /// How many days old files are kept; 0: for ever.
    pub max_days: u32,
}

/// How long the last lines may take to be written when this server ends.
const LAST_PATIENCE: Duration = Duration::from_secs(3);

pub(super) struct Log {
    queue: mpsc::Sender<Entry>,
    mode: Mode,
}

enum Entry {
    Line(Vec<u8>),
    /// To be told when everything before is written.
    Mark(oneshot::Sender<()>),
}

/// A place in the queue for one line.
pub(super) struct Room<'a>(mpsc::Permit<'a, Entry>);

impl Room<'_> {
    pub(super) fn write(self, line: Vec<u8>) {
        self.0.send(Entry::Line(line));
    }
}

impl Log {
    pub(super) fn open(config: &LogConfig) -> Result<Log, Error> {
        let sink = Sink::open(config).map_err(writing(&config.path))?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || run(receiver, sink))
            .map_err(writing(&config.path))?;
        Ok(Log {
            queue: sender,
            mode: config.mode,
        })
    }

    /// A place, as soon as the mode allows; `None` if there is none.
    pub(super) async fn room(&self) -> Option<Room<'_>> {
        match self.mode {
            Mode::Blocking => self.queue.reserve().await.ok().map(Room),
            Mode::Batch => self.room_now(),
        }
    }

    pub(super) fn room_now(&self) -> Option<Room<'_>> {
        self.queue.try_reserve().ok().map(Room)
    }

    /// Waits until what is in the queue is written, but not for ever.
    pub(super) async fn flush(&self) {
        let (sender, written) = oneshot::channel();
        let flush = async {
            if self.queue.send(Entry::Mark(sender)).await.is_ok() {
                let _ = written.await;
            }
        };
        if tokio::time::timeout(LAST_PATIENCE, flush).await.is_err() {
            tracing::error!("the end of the audit log could not be written in time");
        }
    }
}

/// Until the last sender is gone; what was handed over is written.
fn run(mut queue: mpsc::Receiver<Entry>, mut sink: Sink) {
    let mut entries = Vec::new();
    while queue.blocking_recv_many(&mut entries, QUEUE) > 0 {
        let mut marks = Vec::new();
        for entry in entries.drain(..) {
            match entry {
                Entry::Line(line) => complain(sink.write(&line)),
                Entry::Mark(mark) => marks.push(mark),
            }
        }
        complain(sink.flush());
        for mark in marks {
            // Nobody may be waiting any more.
            let _ = mark.send(());
        }
    }
}

fn complain(written: io::Result<()>) {
    if let Err(error) = written {
        tracing::error!(error = &error as &dyn std::error::Error, "cannot write the audit log");
    }
}

enum Sink {
    Stdout,
    File(Rotating),
}

struct Rotating {
    config: LogConfig,
    file: io::BufWriter<File>,
    length: u64,
}

impl Sink {
    fn open(config: &LogConfig) -> io::Result<Sink> {
        if config.path == Path::new("-") {
            return Ok(Sink::Stdout);
        }
        let file = append(&config.path)?;
        let length = file.metadata()?.len();
        Ok(Sink::File(Rotating {
            config: config.clone(),
            file: io::BufWriter::new(file),
            length,
        }))
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Sink::Stdout => io::stdout().write_all(line),
            Sink::File(file) => file.write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::Stdout => io::stdout().flush(),
            Sink::File(file) => file.file.flush(),
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Rotating {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let most = match self.config.max_megabytes {
            0 => DEFAULT_MEGABYTES,
            megabytes => megabytes,
        } << 20;
        if self.length > 0 && self.length + line.len() as u64 > most {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.length += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let path = &self.config.path;
        let now = k8s_openapi::jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H-%M-%S%.3f")
            .to_string();
        let (stem, extension) = parts(path);
        std::fs::rename(path, path.with_file_name(format!("{stem}-{now}{extension}")))?;
        self.file = io::BufWriter::new(append(path)?);
        self.length = 0;
        if let Err(error) = self.prune() {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot remove old audit logs");
        }
        Ok(())
    }

    fn prune(&self) -> io::Result<()> {
        let directory = match self.config.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let (stem, extension) = parts(&self.config.path);
        let mut old: Vec<(String, PathBuf, SystemTime)> = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let time = name
                .strip_prefix(&format!("{stem}-"))
                .and_then(|rest| rest.strip_suffix(&extension));
            // Only what a rotation named: it begins with a year.
            if time.is_some_and(|time| time.len() == 23 && time.as_bytes()[..4].iter().all(u8::is_ascii_digit)) {
                old.push((name, entry.path(), entry.metadata()?.modified()?));
            }
        }
        old.sort();
        let keep = match self.config.max_backups {
            0 => old.len(),
            count => count,
        };
        let excess = old.len().saturating_sub(keep);
        let age = DAY * self.config.max_days;
        for (index, (_, path, modified)) in old.iter().enumerate() {
            let aged = !age.is_zero() && modified.elapsed().is_ok_and(|since| since > age);
            if index < excess || aged {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// `audit` and `.log`.
fn parts(path: &Path) -> (String, String) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem.to_owned(), format!(".{extension}")),
        _ => (name, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn files_are_rotated_and_only_the_newest_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        std::fs::write(dir.path().join("audit-notes.log"), "not ours").unwrap();
        let config = LogConfig {
            path: path.clone(),
            mode: Mode::Blocking,
            max_megabytes: 1,
            max_backups: 2,
            max_days: 0,
        };
        let mut sink = Sink::open(&config).unwrap();
        let line = [b"x".repeat((1 << 20) - 1), b"\n".to_vec()].concat();
        for _ in 0..5 {
            sink.write(&line).unwrap();
            // Names have milliseconds.
            std::thread::sleep(Duration::from_millis(2));
        }
        sink.flush().unwrap();
        let mut names: Vec<String> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names.len(),
            4,
            "the present one, two old ones, and what is not ours: {names:?}"
        );
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
