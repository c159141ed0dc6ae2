//! Errors of the runner, and how one crosses from the container's process to its parent.

use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container's specification asks for something impossible or unsupported.
    #[error("config.json: {field}: {problem}")]
    Spec { field: String, problem: String },
    #[error("read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("parse {path}")]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("{step}")]
    Step { step: String, source: io::Error },
    /// The program could not be executed; `code` is what a shell would exit with.
    #[error("exec {program:?}")]
    Exec {
        program: String,
        code: i32,
        source: io::Error,
    },
    #[error("{0}")]
    Refused(String),
    #[error("{kind} hook {path} {problem}")]
    Hook {
        kind: &'static str,
        path: PathBuf,
        problem: String,
    },
    /// What the container's process reported before it ended.
    #[error("{}", .0.message)]
    Child(Report),
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn spec(field: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Spec {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// The error with its causes, in one line.
    pub fn line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line = format!("{line}: {error}");
            cause = error.source();
        }
        line.replace('\n', " ")
    }

    /// Exit code in the manner of a shell: 127 not found, 126 not executable, else 128.
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Exec { code, .. } => *code,
            Error::Child(report) => report.exit_code,
            _ => 128,
        }
    }

    pub(crate) fn report(&self) -> Report {
        let mut message = self.line();
        message.truncate(message.floor_char_boundary(REPORT_MAX));
        Report {
            message,
            exit_code: self.exit_code(),
        }
    }
}

/// Most bytes of an error that cross to another process: in one packet, however long the program's name is.
const REPORT_MAX: usize = 4096;

/// An [`Error`] on its way to another process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub message: String,
    pub exit_code: i32,
}

/// Names the step that failed; the text is only made when it did.
pub(crate) trait Step<T> {
    fn step(self, name: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, name: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::Step {
            step: name(),
            source: error.into(),
        })
    }
}
