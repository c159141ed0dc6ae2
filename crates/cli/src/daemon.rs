//! What `dev`, `server` and `agent` share: a runtime, a log, and signals.

use anyhow::{Context, Result};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// When a daemon has started for certain: what memory the start took can be given back.
const STARTED: Duration = Duration::from_secs(5);

/// SIGINT and SIGTERM.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn install() -> Result<Self> {
        let install = || Ok::<_, std::io::Error>((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?));
        let (interrupt, terminate) = install().context("cannot listen for signals")?;
        Ok(Self { interrupt, terminate })
    }

    /// Waits for the next of them.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Runs a daemon's work on a small multi-threaded runtime. Diagnostics go to standard error; `CATA_LOG` filters them
/// (`tracing` directives; default `warn`).
///
/// # Errors
/// Whatever the work returns.
pub(crate) fn run(work: impl AsyncFnOnce(Signals) -> Result<ExitCode>) -> Result<ExitCode> {
    crate::sys::ignore_sigpipe();
    crate::cmd::install_tls_provider();
    // What the client library warns about, its callers handle and report themselves.
    let filter = EnvFilter::try_from_env("CATA_LOG").unwrap_or_else(|_| EnvFilter::new("warn,kube_client=off"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .init();
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("cata")
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.spawn(async {
        tokio::time::sleep(STARTED).await;
        crate::sys::give_back();
    });
    let outcome = runtime.block_on(async move { work(Signals::install()?).await });
    // Blocking work (a file system that hangs) must not keep a finished daemon from ending.
    runtime.shutdown_background();
    outcome
}
