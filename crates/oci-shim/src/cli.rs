//! `cata oci`: the runner as a command, with runc's arguments and outputs, so that bundles can be run and compared.

mod args;
mod commands;
mod foreground;
mod info;
mod state;

use crate::error::Error;
use args::{Flag, Parsed, parse, switch, value};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
cata oci: run OCI bundles

usage: cata oci [--root DIR] [--log FILE] [--log-format text|json] [--debug] COMMAND …

  run     [-b BUNDLE] [-d] [--console-socket PATH] [--pid-file FILE] [--preserve-fds N] [--no-pivot] [--keep] ID
  create  [-b BUNDLE] [--console-socket PATH] [--pid-file FILE] [--preserve-fds N] [--no-pivot] ID
  start   ID
  state   ID
  kill    [-a] ID [SIGNAL]
  delete  [-f] ID
  exec    [-d] [-t] [-u UID[:GID]] [-g GID] [--cwd DIR] [-e NAME=VALUE] [--cap NAME] [--no-new-privs]
          [-p PROCESS.JSON] [--console-socket PATH] [--pid-file FILE] [--preserve-fds N] ID COMMAND …
  list    [-q] [-f table|json]
  spec    [-b BUNDLE]
  features
";

const GLOBAL: &[Flag] = &[
    value("root", None),
    value("log", None),
    value("log-format", None),
    switch("debug", None),
    switch("systemd-cgroup", None),
    value("rootless", None),
    switch("version", Some("v")),
    switch("help", Some("h")),
];

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Context {
    root: PathBuf,
}

/// How a command ends.
type Outcome = Result<u8, Failure>;

/// An error with the exit code runc would use.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        // A program that cannot be executed is reported as a shell does; everything else is 1.
        let code = match error.exit_code() {
            code @ (126 | 127) => code as u8,
            _ => 1,
        };
        Failure {
            message: error.line(),
            code,
        }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure { message, code: 1 }
    }
}

/// Runs a command line as runc would take it, without the program's name. Must be called while the process has a single
/// thread; may execute the program once more (see [`crate::shield_binary`]).
pub fn cli(args: Vec<OsString>) -> ExitCode {
    let mut log = Log::default();
    match dispatch(args, &mut log) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            log.error(&failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(args: Vec<OsString>, log: &mut Log) -> Outcome {
    let args = args::text(args)?;
    let global = parse(&args, GLOBAL)?;
    log.configure(&global)?;
    if global.has("version") {
        return info::version();
    }
    if global.has("systemd-cgroup") {
        return Err("--systemd-cgroup is not supported: cgroups are managed directly"
            .to_owned()
            .into());
    }
    let Some((verb, rest)) = global.words.split_first().filter(|_| !global.has("help")) else {
        print!("{USAGE}");
        return Ok(0);
    };
    let root = global.get("root").map_or_else(
        || catamaran_shim::state_dir::run_base().join("catamaran-oci"),
        PathBuf::from,
    );
    let root = std::path::absolute(root).map_err(|error| error.to_string())?;
    let context = Context { root };
    match verb.as_str() {
        "run" => commands::run(&context, rest),
        "create" => commands::create(&context, rest),
        "start" => commands::start(&context, rest),
        "state" => commands::state(&context, rest),
        "kill" => commands::kill(&context, rest),
        "delete" => commands::delete(&context, rest),
        "exec" => commands::exec(&context, rest),
        "list" => info::list(&context, rest),
        "spec" => info::spec(rest),
        "features" => info::features(),
        "help" => {
            print!("{USAGE}");
            Ok(0)
        }
        other => Err(format!("unknown command {other:?}; see `cata oci --help`").into()),
    }
}

/// Where errors go: stderr for people, and the file that containerd and podman read.
#[derive(Default)]
struct Log {
    file: Option<PathBuf>,
    json: bool,
}

impl Log {
    fn configure(&mut self, global: &Parsed) -> Result<(), String> {
        self.file = global.get("log").map(PathBuf::from);
        self.json = match global.get("log-format") {
            None | Some("text") => false,
            Some("json") => true,
            Some(other) => return Err(format!("--log-format {other:?} is neither text nor json")),
        };
        Ok(())
    }

    fn error(&self, message: &str) {
        let time = jiff::Timestamp::now().to_string();
        let line = if self.json {
            serde_json::json!({"level": "error", "msg": message, "time": time}).to_string()
        } else {
            format!("time={time:?} level=error msg={message:?}")
        };
        if let Some(path) = &self.file {
            let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
            let _ = file.and_then(|mut file| writeln!(file, "{line}"));
        }
        eprintln!(
            "{}",
            if self.file.is_some() || !self.json {
                format!("cata oci: {message}")
            } else {
                line
            }
        );
    }
}
