//! Keys of our own: a small file beside the state, made at first start, readable by its owner only.
//!
//! One line per key, the one that seals first: its name, when it was made, its secret in base64. Names are derived from
//! the secrets, so a key can never be mistaken for another.

use super::Error;
use super::envelope::Key;
use crate::files::{self, reading, writing};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::path::Path;

/// Name of the file in the data directory.
pub(crate) const FILE: &str = "encryption-keys";
const HEADER: &str = "# Keys of the encrypted values in this cluster's state. Without them Secrets are lost.\n";

/// The content of the file; never empty.
pub(super) struct KeyFile {
    lines: Vec<Line>,
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Line {
    name: String,
    made: String,
    secret: String,
}

impl KeyFile {
    pub(super) fn open_or_create(data_dir: &Path) -> Result<KeyFile, Error> {
        let path = data_dir.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => parse(&text).map_err(|reason| Error::Unusable { path, reason }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let keys = KeyFile::of(vec![new_line()?]).ok_or(Error::Random)?;
                keys.write(data_dir)?;
                Ok(keys)
            }
            Err(error) => Err(reading(path)(error).into()),
        }
    }

    fn of(lines: Vec<Line>) -> Option<KeyFile> {
        let keys = lines.iter().map(key).collect::<Option<Vec<Key>>>()?;
        Some(KeyFile { lines, keys })
    }

    /// The one that seals first.
    pub(super) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The same with a new key in front.
    pub(super) fn with_new_primary(&self) -> Result<KeyFile, Error> {
        let mut lines = vec![new_line()?];
        lines.extend(self.lines.iter().cloned());
        KeyFile::of(lines).ok_or(Error::Random)
    }

    /// The same without all but the key that seals.
    pub(super) fn primary_only(&self) -> Option<KeyFile> {
        KeyFile::of(self.lines.iter().take(1).cloned().collect())
    }

    pub(super) fn write(&self, data_dir: &Path) -> Result<(), Error> {
        let mut text = HEADER.to_owned();
        for Line { name, made, secret } in &self.lines {
            let _ = writeln!(text, "{name} {made} {secret}");
        }
        let path = data_dir.join(FILE);
        files::write_private(&path, text.as_bytes()).map_err(writing(path))?;
        Ok(())
    }
}

fn parse(text: &str) -> Result<KeyFile, String> {
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parts: Vec<&str> = line.split_whitespace().collect();
        let [name, made, secret] = parts[..] else {
            return Err("a line is not of the form NAME TIME SECRET".to_owned());
        };
        let line = Line {
            name: name.to_owned(),
            made: made.to_owned(),
            secret: secret.to_owned(),
        };
        if key(&line).is_none() {
            return Err(format!("the secret of the key {name:?} is damaged"));
        }
        lines.push(line);
    }
    match lines.is_empty() {
        true => Err("it holds no key; restore it from a backup".to_owned()),
        false => KeyFile::of(lines).ok_or_else(|| "a key is damaged".to_owned()),
    }
}

fn new_line() -> Result<Line, Error> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| Error::Random)?;
    Ok(Line {
        name: name(&secret),
        made: k8s_openapi::jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string(),
        secret: STANDARD.encode(secret),
    })
}

/// `None` if the secret is not the one the name was made of.
fn key(line: &Line) -> Option<Key> {
    let secret = STANDARD.decode(&line.secret).ok()?;
    (secret.len() == 32 && name(&secret) == line.name)
        .then(|| Key::new(&line.name, &secret))
        .flatten()
}

fn name(secret: &[u8]) -> String {
    let digest = Sha256::new_with_prefix(b"catamaran key name:")
        .chain_update(secret)
        .finalize();
    let mut name = "key-".to_owned();
    for byte in &digest[..6] {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_made_once_and_is_its_owners_only() {
        let dir = tempfile::tempdir().unwrap();
        let first = KeyFile::open_or_create(dir.path()).unwrap();
        let again = KeyFile::open_or_create(dir.path()).unwrap();
        assert_eq!(first.keys()[0].name(), again.keys()[0].name());
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn rotation_puts_a_key_in_front_and_then_drops_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let first = KeyFile::open_or_create(dir.path()).unwrap();
        let second = first.with_new_primary().unwrap();
        assert_eq!(second.keys()[1].name(), first.keys()[0].name());
        second.write(dir.path()).unwrap();
        assert_eq!(KeyFile::open_or_create(dir.path()).unwrap().keys().len(), 2);
        let last = second.primary_only().unwrap();
        assert_eq!((last.keys().len(), last.keys()[0].name()), (1, second.keys()[0].name()));
    }

    #[test]
    fn damage_is_named_and_never_repaired_by_a_new_key() {
        let dir = tempfile::tempdir().unwrap();
        KeyFile::open_or_create(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        let damaged = text.replace("key-", "key-0");
        for text in ["", "# only a comment\n", "a b\n", damaged.as_str()] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(
                KeyFile::open_or_create(dir.path()),
                Err(Error::Unusable { .. })
            ));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
