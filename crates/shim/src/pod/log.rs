//! Container output as CRI log lines: `<RFC 3339 time> <stdout|stderr> <F|P> <content>`.
//!
//! The format is Kubernetes' (CRI log format; see the kubelet's `logs` package): `P` marks a part of a line that goes on in
//! the next entry of its stream, `F` its end. A line is cut after 16 KiB, and output that ends without a newline is a `P`,
//! so that a reader who joins the parts gets back exactly what was written.

use crate::runtime::StartError;
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Longest content of one entry, bytes.
pub(super) const ENTRY_MAX: usize = 16 << 10;
/// Entries are written together until they are this many bytes.
const BATCH: usize = 32 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(super) const BOTH: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

    pub(super) fn index(self) -> usize {
        match self {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Cuts streams into entries. Pure; holds the unfinished line of each stream, and no memory when there is none.
#[derive(Debug, Default)]
pub(super) struct Lines {
    unfinished: [Vec<u8>; 2],
}

/// One entry's content, in two pieces so that nothing is copied to join them.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    full: bool,
    head: &'a [u8],
    tail: &'a [u8],
}

impl Lines {
    /// Takes what was read, gives out what is complete.
    pub(super) fn push(&mut self, stream: Stream, bytes: &[u8], mut emit: impl FnMut(Entry<'_>)) {
        let unfinished = &mut self.unfinished[stream.index()];
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (mut rest, full) = match piece.split_last() {
                Some((b'\n', line)) => (line, true),
                _ => (piece, false),
            };
            while unfinished.len() + rest.len() > ENTRY_MAX {
                let (tail, next) = rest.split_at(ENTRY_MAX - unfinished.len());
                emit(Entry {
                    full: false,
                    head: unfinished,
                    tail,
                });
                unfinished.clear();
                rest = next;
            }
            if full {
                emit(Entry {
                    full: true,
                    head: unfinished,
                    tail: rest,
                });
                unfinished.clear();
            } else {
                unfinished.extend_from_slice(rest);
            }
        }
        if unfinished.is_empty() {
            *unfinished = Vec::new();
        }
    }

    /// The end of a stream: gives out a line that never ended.
    pub(super) fn finish(&mut self, stream: Stream, mut emit: impl FnMut(Entry<'_>)) {
        let unfinished = std::mem::take(&mut self.unfinished[stream.index()]);
        if !unfinished.is_empty() {
            emit(Entry {
                full: false,
                head: &unfinished,
                tail: &[],
            });
        }
    }
}

/// Appends an entry as it stands in the file.
fn render(batch: &mut Vec<u8>, time: &str, stream: Stream, entry: &Entry<'_>) {
    let tag = if entry.full { " F " } else { " P " };
    for part in [
        time.as_bytes(),
        b" ",
        stream.name().as_bytes(),
        tag.as_bytes(),
        entry.head,
        entry.tail,
        b"\n",
    ] {
        batch.extend_from_slice(part);
    }
}

fn now() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}

/// A container's log. Writing never fails as far as the container can tell: what cannot be written is dropped, counted,
/// and reported in the log once there is room again.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: OwnedFd,
    lines: Lines,
    dropped: u64,
    /// The last write stopped inside an entry.
    torn: bool,
}

impl Log {
    pub(super) fn open(path: PathBuf) -> Result<Log, StartError> {
        let file = open(&path).map_err(|error| StartError {
            reason: "CreateContainerError".to_owned(),
            message: format!("cannot open log file {}: {error}", path.display()),
            exit_code: 128,
        })?;
        Ok(Log {
            path,
            file,
            lines: Lines::default(),
            dropped: 0,
            torn: false,
        })
    }

    /// Opens the path again; the old file is used on when that fails.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        self.torn = false;
        Ok(())
    }

    /// Writes what `bytes` complete. `batch` is scratch space.
    pub(super) fn push(&mut self, stream: Stream, bytes: &[u8], batch: &mut Vec<u8>) {
        let time = now();
        let mut lines = std::mem::take(&mut self.lines);
        lines.push(stream, bytes, |entry| {
            render(batch, &time, stream, &entry);
            if batch.len() >= BATCH {
                self.write(batch);
            }
        });
        self.lines = lines;
        self.write(batch);
    }

    pub(super) fn finish(&mut self, stream: Stream, batch: &mut Vec<u8>) {
        let time = now();
        self.lines.finish(stream, |entry| render(batch, &time, stream, &entry));
        self.write(batch);
    }

    fn write(&mut self, batch: &mut Vec<u8>) {
        if !batch.is_empty() {
            if self.torn || self.dropped > 0 {
                self.recover();
            }
            // While there is no room for the report there is none for what follows it.
            if self.dropped == 0 && !self.torn {
                self.append(batch);
            } else {
                self.dropped += batch.len() as u64;
            }
        }
        batch.clear();
    }

    /// Ends a torn entry and says what is missing.
    fn recover(&mut self) {
        if self.torn && write_all(&self.file, b"\n").1.is_ok() {
            self.torn = false;
        }
        if !self.torn && self.dropped > 0 {
            let message = format!(
                "[catamaran: {} bytes of log were dropped here: no room to write them]",
                self.dropped
            );
            let mut report = Vec::new();
            let entry = Entry {
                full: true,
                head: message.as_bytes(),
                tail: &[],
            };
            render(&mut report, &now(), Stream::Stderr, &entry);
            let before = std::mem::take(&mut self.dropped);
            self.append(&report);
            if self.dropped > 0 {
                self.dropped = before;
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        let (written, outcome) = write_all(&self.file, bytes);
        if outcome.is_err() {
            self.dropped += (bytes.len() - written) as u64;
            self.torn = written > 0 && bytes[written - 1] != b'\n';
        }
    }
}

/// Append-only, so that rotation by truncation works too; non-blocking, in case somebody put a pipe there.
fn open(path: &std::path::Path) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))?)
}

/// How much was written, and why not more.
fn write_all(file: &OwnedFd, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::retry_on_intr(|| rustix::io::write(file, &bytes[written..])) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) => return (written, Err(error.into())),
        }
    }
    (written, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(chunks: &[(Stream, Vec<u8>)]) -> String {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for (stream, bytes) in chunks {
            lines.push(*stream, bytes, |entry| render(&mut out, "T", *stream, &entry));
        }
        for stream in Stream::BOTH {
            lines.finish(stream, |entry| render(&mut out, "T", stream, &entry));
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Joins the entries of one stream, as a log reader does; checks their form on the way.
    fn read_back(log: &str, stream: Stream) -> Vec<u8> {
        let mut joined = Vec::new();
        for line in log.lines() {
            let mut fields = line.splitn(4, ' ');
            let (time, name, tag) = (fields.next(), fields.next().unwrap(), fields.next().unwrap());
            let content = fields.next().unwrap();
            assert_eq!(time, Some("T"));
            assert!(content.len() <= ENTRY_MAX && (tag == "F" || tag == "P"));
            if name == stream.name() {
                joined.extend_from_slice(content.as_bytes());
                if tag == "F" {
                    joined.push(b'\n');
                }
            }
        }
        joined
    }

    #[test]
    fn lines_of_two_streams_interleave_without_mixing() {
        let chunks = [
            (Stream::Stdout, b"one\ntw".to_vec()),
            (Stream::Stderr, b"oops\n".to_vec()),
            (Stream::Stdout, b"o\n\nend".to_vec()),
        ];
        assert_eq!(
            cut(&chunks),
            "T stdout F one\nT stderr F oops\nT stdout F two\nT stdout F \nT stdout P end\n"
        );
    }

    #[test]
    fn a_line_of_exactly_the_bound_is_whole() {
        for (length, entries) in [
            (ENTRY_MAX, 1),
            (ENTRY_MAX + 1, 2),
            (2 * ENTRY_MAX, 2),
            (2 * ENTRY_MAX + 1, 3),
        ] {
            let mut line = vec![b'x'; length];
            line.push(b'\n');
            let log = cut(&[(Stream::Stdout, line)]);
            assert_eq!(log.lines().count(), entries, "{length}");
            assert_eq!(log.matches(" F ").count(), 1);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_it_is_read(
            chunks in proptest::collection::vec((any::<bool>(), prop_oneof![
                proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), Just(b' ')], 0..50),
                (1_usize..40_000).prop_map(|length| vec![b'y'; length]),
            ]), 0..20)
        ) {
            let stream = |first| if first { Stream::Stdout } else { Stream::Stderr };
            let chunks: Vec<_> = chunks.into_iter().map(|(first, bytes)| (stream(first), bytes)).collect();
            let log = cut(&chunks);
            for stream in Stream::BOTH {
                let own = chunks.iter().filter(|(of, _)| *of == stream);
                let written: Vec<u8> = own.flat_map(|(_, bytes)| bytes.iter().copied()).collect();
                prop_assert_eq!(read_back(&log, stream), written);
            }
        }
    }

    #[test]
    fn a_full_disk_costs_lines_and_is_reported() {
        let mut log = Log::open("/dev/full".into()).unwrap();
        let mut batch = Vec::new();
        log.push(Stream::Stdout, b"lost\n", &mut batch);
        assert!(log.dropped > 0 && batch.is_empty());
        let dir = tempfile::tempdir().unwrap();
        log.path = dir.path().join("0.log");
        log.reopen().unwrap();
        log.push(Stream::Stdout, b"kept\n", &mut batch);
        let text = std::fs::read_to_string(&log.path).unwrap();
        let lines: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines[0].starts_with("stderr F [catamaran: ") && lines[1] == "stdout F kept",
            "{text}"
        );
        assert_eq!(
            text.split(' ').next().unwrap().len(),
            "2024-01-01T00:00:00.000000000Z".len()
        );
    }
}
