//! Reading CRI log files: `<time> <stream> <F|P> <text>`. Blocking.

use crate::rotate;
use jiff::Timestamp;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Read at once; also about the size of a chunk sent.
const BLOCK: usize = 64 * 1024;
/// A line longer than this is passed on in pieces.
const MAX_LINE: usize = 1 << 20;

/// Which lines, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) since: Option<Timestamp>,
    pub(super) timestamps: bool,
    /// Only the last so many lines.
    pub(super) tail: Option<usize>,
    /// Bytes still to be sent.
    pub(super) limit: Option<u64>,
}

impl Filter {
    /// Appends a line's text to `output`, unless it is filtered out.
    fn pass(&mut self, line: &[u8], continues: bool, output: &mut Vec<u8>) {
        let Some(parsed) = Line::parse(line) else { return };
        if self
            .since
            .is_some_and(|since| parsed.time().is_none_or(|time| time < since))
        {
            return;
        }
        let begin = output.len();
        // A piece of a long line is one line to the reader: its time is that of its beginning.
        if self.timestamps && !continues {
            output.extend_from_slice(parsed.stamp);
            output.push(b' ');
        }
        output.extend_from_slice(parsed.text);
        if !parsed.partial {
            output.push(b'\n');
        }
        if let Some(limit) = &mut self.limit {
            let added = u64::try_from(output.len() - begin).unwrap_or(u64::MAX);
            if added > *limit {
                output.truncate(begin + usize::try_from(*limit).unwrap_or(usize::MAX));
            }
            *limit = limit.saturating_sub(added);
        }
    }
}

struct Line<'a> {
    stamp: &'a [u8],
    partial: bool,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let stamp = fields.next()?;
        let _stream = fields.next()?;
        let tag = fields.next()?;
        Some(Self {
            stamp,
            partial: tag.starts_with(b"P"),
            text: fields.next().unwrap_or_default(),
        })
    }

    fn time(&self) -> Option<Timestamp> {
        std::str::from_utf8(self.stamp).ok()?.parse().ok()
    }
}

/// An open log file and what was read of it but not yet passed on.
#[derive(Debug)]
pub(super) struct LogFile {
    file: Option<File>,
    pending: Vec<u8>,
    /// The last line passed on was partial.
    continues: bool,
}

impl LogFile {
    pub(super) fn empty() -> Self {
        Self {
            file: None,
            pending: Vec::new(),
            continues: false,
        }
    }

    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: Some(File::open(path)?),
            ..Self::empty()
        })
    }

    /// The text of some more complete lines; empty at the end of what is there now.
    pub(super) fn read(&mut self, filter: &mut Filter) -> io::Result<Vec<u8>> {
        let mut output = Vec::new();
        let Some(file) = &mut self.file else { return Ok(output) };
        while output.is_empty() && filter.limit != Some(0) {
            let old = self.pending.len();
            self.pending.resize(old + BLOCK, 0);
            let count = file.read(&mut self.pending[old..])?;
            self.pending.truncate(old + count);
            if count == 0 {
                break;
            }
            let complete = match self.pending.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None if self.pending.len() > MAX_LINE => self.pending.len(),
                None => continue,
            };
            let rest = self.pending.split_off(complete);
            for line in self
                .pending
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
            {
                if filter.limit == Some(0) {
                    break;
                }
                filter.pass(line, self.continues, &mut output);
                self.continues = Line::parse(line).is_some_and(|line| line.partial);
            }
            self.pending = rest;
        }
        Ok(output)
    }

    /// Whether `path` is another file by now.
    pub(super) fn was_rotated(&self, path: &Path) -> bool {
        let Some(file) = &self.file else { return true };
        match (file.metadata(), std::fs::metadata(path)) {
            (Ok(own), Ok(current)) => own.ino() != current.ino() || own.dev() != current.dev(),
            (_, current) => current.is_err(),
        }
    }
}

/// Opens the files of a log so that reading them in order gives what the filter asks for: with `tail`, positioned at the
/// first of the last lines.
pub(super) fn open_at_tail(log: &Path, filter: &Filter) -> io::Result<Vec<LogFile>> {
    let mut paths = rotate::rotated(log);
    paths.push(log.to_owned());
    let mut files = Vec::new();
    let mut wanted = filter.tail;
    for path in paths.iter().rev() {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if let Some(lines) = &mut wanted {
            let (offset, found) = tail_offset(&mut file, *lines)?;
            file.seek(SeekFrom::Start(offset))?;
            *lines -= found;
        }
        files.insert(
            0,
            LogFile {
                file: Some(file),
                ..LogFile::empty()
            },
        );
        if wanted == Some(0) {
            break;
        }
    }
    Ok(files)
}

/// Where the last `lines` lines begin, and how many there are. Pieces of a long line count as one line.
fn tail_offset(file: &mut File, lines: usize) -> io::Result<(u64, usize)> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok((length, 0));
    }
    // Newlines are found from the end, block by block; each line start is looked at for being a continuation.
    let mut starts: Vec<u64> = Vec::new();
    let mut end = length;
    let mut found = 0;
    let mut block = vec![0; BLOCK];
    while end > 0 {
        let begin = end.saturating_sub(BLOCK as u64);
        let size = usize::try_from(end - begin).unwrap_or(BLOCK);
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(&mut block[..size])?;
        for index in (0..size).rev().filter(|index| block[*index] == b'\n') {
            let start = begin + index as u64 + 1;
            if start < length {
                starts.push(start);
            }
        }
        end = begin;
        if starts.len() > lines.saturating_mul(2).max(lines.saturating_add(64)) {
            break;
        }
    }
    if end == 0 && length > 0 {
        starts.push(0);
    }
    let mut offset = length;
    for (index, start) in starts.iter().enumerate() {
        let next_end = if index == 0 { length } else { starts[index - 1] };
        let full = is_full(file, *start, next_end)?;
        if full {
            if found == lines {
                break;
            }
            found += 1;
        }
        offset = *start;
    }
    Ok((offset, found))
}

fn is_full(file: &mut File, start: u64, end: u64) -> io::Result<bool> {
    let size = usize::try_from((end - start).min(80)).unwrap_or(80);
    let mut head = vec![0; size];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut head)?;
    Ok(Line::parse(&head).is_none_or(|line| !line.partial))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn show(log: &Path, mut filter: Filter) -> String {
        let mut text = Vec::new();
        for mut file in open_at_tail(log, &filter).expect("opened") {
            loop {
                let chunk = file.read(&mut filter).expect("read");
                if chunk.is_empty() {
                    break;
                }
                text.extend(chunk);
            }
        }
        String::from_utf8(text).expect("text")
    }

    fn sample() -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("0.log");
        fs::write(
            directory.path().join("0.log.20200101-000000"),
            "2020-01-01T00:00:01Z stdout F one\n",
        )
        .expect("written");
        let current = "2020-01-01T00:00:02Z stdout F two\n2020-01-01T00:00:03Z stderr P lo\n\
                       2020-01-01T00:00:03Z stderr F ng\n2020-01-01T00:00:04Z stdout F \n2020-01-01T00:00:05Z stdout F un";
        fs::write(&log, current).expect("written");
        (directory, log)
    }

    #[test]
    fn filters() {
        let (_directory, log) = sample();
        assert_eq!(show(&log, Filter::default()), "one\ntwo\nlong\n\n");
        assert_eq!(
            show(
                &log,
                Filter {
                    limit: Some(6),
                    ..Filter::default()
                }
            ),
            "one\ntw"
        );
        let since = Some("2020-01-01T00:00:03Z".parse().expect("a time"));
        assert_eq!(
            show(
                &log,
                Filter {
                    since,
                    ..Filter::default()
                }
            ),
            "long\n\n"
        );
        let stamped = show(
            &log,
            Filter {
                timestamps: true,
                ..Filter::default()
            },
        );
        assert!(stamped.contains("2020-01-01T00:00:03Z long\n"), "{stamped}");
    }

    #[test]
    fn tails_across_rotation_and_long_lines() {
        let (directory, log) = sample();
        fs::write(
            &log,
            "2020-01-01T00:00:02Z stdout F two\n2020-01-01T00:00:03Z stderr P lo\n2020-01-01T00:00:03Z stderr F ng\n",
        )
        .expect("written");
        let tail = |lines| {
            show(
                &log,
                Filter {
                    tail: Some(lines),
                    ..Filter::default()
                },
            )
        };
        assert_eq!(tail(0), "");
        assert_eq!(tail(1), "long\n");
        assert_eq!(tail(2), "two\nlong\n");
        assert_eq!(tail(3), "one\ntwo\nlong\n");
        assert_eq!(tail(9), "one\ntwo\nlong\n");
        drop(directory);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2000), tail in 0usize..20) {
            let directory = tempfile::tempdir().expect("a directory");
            let log = directory.path().join("0.log");
            fs::write(&log, &bytes).expect("written");
            let mut filter = Filter { tail: Some(tail), timestamps: true, ..Filter::default() };
            for mut file in open_at_tail(&log, &filter).expect("opened") {
                while !file.read(&mut filter).expect("read").is_empty() {}
            }
        }
    }
}
