//! Tokens from a file: `token,user,uid[,"group1,group2"]` on each line, read once at start.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#static-token-file>

use super::Identity;
use crate::files::{FileError, reading};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} line {line}: {why}", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        why: &'static str,
    },
}

/// Token → identity. Keyed by digest: looking a token up says nothing about others by the time it takes.
#[derive(Clone, Default)]
pub struct TokenFile(HashMap<[u8; 32], Identity>);

impl std::fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenFile({})", self.0.len())
    }
}

impl TokenFile {
    /// # Errors
    /// If the file cannot be read, or a line has fewer than three fields or an empty token.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(reading(path))?;
        Self::parse(&text).map_err(|(line, why)| Error::Line {
            path: path.to_owned(),
            line,
            why,
        })
    }

    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut table = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let fields = fields(line).ok_or((index + 1, "a quoted field does not end"))?;
            let [token, user, uid, rest @ ..] = fields.as_slice() else {
                return Err((index + 1, "token, user and uid are required"));
            };
            if token.is_empty() {
                return Err((index + 1, "the token is empty"));
            }
            let groups = rest.first().map(String::as_str).unwrap_or_default();
            let groups: Vec<&str> = groups
                .split(',')
                .map(str::trim)
                .filter(|group| !group.is_empty())
                .collect();
            let mut identity = Identity::authenticated(user, &groups);
            identity.uid.clone_from(uid);
            table.insert(digest(token), identity);
        }
        Ok(TokenFile(table))
    }

    pub(super) fn get(&self, token: &str) -> Option<&Identity> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&digest(token))
    }
}

pub(super) fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The fields of a line of comma-separated values; `""` in a quoted field is a quote.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line.trim_end_matches('\r');
    loop {
        rest = rest.trim_start();
        let mut field = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut tail = quoted;
            loop {
                let (before, after) = tail.split_once('"')?;
                field.push_str(before);
                tail = after;
                match tail.strip_prefix('"') {
                    Some(after) => {
                        field.push('"');
                        tail = after;
                    }
                    None => break,
                }
            }
            rest = tail.trim_start();
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            rest[..end].trim_end().clone_into(&mut field);
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Some(fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let table = TokenFile::parse("t1,jane,1,\"devs,ops\"\n\nt2, bob ,2\nt3,eve,3,x,ignored\n").unwrap();
        let jane = table.get("t1").unwrap();
        assert_eq!((jane.user.as_str(), jane.uid.as_str()), ("jane", "1"));
        assert_eq!(jane.groups, ["devs", "ops", "system:authenticated"]);
        assert_eq!(table.get("t2").unwrap().groups, ["system:authenticated"]);
        assert_eq!(table.get("t3").unwrap().user, "eve");
        assert!(table.get("t4").is_none());
        for bad in ["t1,jane", ",jane,1", "t1,\"jane,1"] {
            assert!(TokenFile::parse(bad).is_err(), "{bad}");
        }
    }
}
