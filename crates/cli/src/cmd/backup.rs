//! `cata backup`: everything a cluster is, in one file; from a running server through its API, else from its data directory.

use crate::client::ClientArgs;
use crate::data_dir::{DataDir, Part};
use anyhow::{Context, Result, bail};
use http_body_util::BodyExt as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const PATH: &str = "/catamaran.dev/v1/backup";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write it; - is standard output [default: catamaran-TIME.tar.gz]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// State backend of a server that does not run [default: sqlite:DATA_DIR/state.db]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: Args, data_dir: Result<DataDir>, client_dir: Option<&DataDir>) -> Result<()> {
    let file = args.file.clone().unwrap_or_else(default_name);
    if file == Path::new("-") {
        write(&args, data_dir, client_dir, &mut io::stdout().lock()).await?;
        return Ok(());
    }
    let mut target = Target::create(&file)?;
    let revision = write(&args, data_dir, client_dir, &mut target.file).await?;
    let length = target.finish()?;
    println!(
        "wrote {} ({length} bytes, revision {revision}); it holds the cluster's keys: keep it safe",
        file.display()
    );
    Ok(())
}

fn default_name() -> PathBuf {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    format!("catamaran-{now}.tar.gz").into()
}

async fn write(
    args: &Args,
    data_dir: Result<DataDir>,
    client_dir: Option<&DataDir>,
    sink: &mut impl Write,
) -> Result<String> {
    if let Some((data_dir, _lock)) = stopped(&args.client, data_dir, client_dir)? {
        let revision = catamaran_control::back_up(&data_dir.path, args.store.as_deref(), sink).await?;
        return Ok(revision.to_string());
    }
    let connection = args.client.connect(client_dir).await?;
    let request = http::Request::get(PATH).body(kube::client::Body::empty())?;
    let response = connection
        .client
        .send(request)
        .await
        .context("the server does not answer")?;
    if !response.status().is_success() {
        return Err(refused(response).await);
    }
    let revision = response
        .headers()
        .get("catamaran-revision")
        .and_then(|value| value.to_str().ok())
        .unwrap_or("unknown")
        .to_owned();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the backup was cut off")?;
        if let Ok(data) = frame.into_data() {
            sink.write_all(&data).context("cannot write the backup")?;
        }
    }
    sink.flush().context("cannot write the backup")?;
    Ok(revision)
}

/// The data directory, locked, if it holds a cluster whose server does not run and no other cluster is meant.
pub(super) fn stopped(
    client: &ClientArgs,
    data_dir: Result<DataDir>,
    named: Option<&DataDir>,
) -> Result<Option<(DataDir, crate::data_dir::Lock)>> {
    let elsewhere = client.kubeconfig.is_some()
        || client.server.is_some()
        || (named.is_none() && std::env::var_os("KUBECONFIG").is_some_and(|paths| !paths.is_empty()));
    if elsewhere {
        return Ok(None);
    }
    let data_dir = data_dir?;
    if !data_dir.join("state.db").exists() {
        return Ok(None);
    }
    // Whether it can be had is the question, not why not: a running server answers itself.
    let lock = data_dir.lock(Part::Server).ok();
    Ok(lock.map(|lock| (data_dir, lock)))
}

/// The error a server answered with.
pub(super) async fn refused(response: http::Response<kube::client::Body>) -> anyhow::Error {
    let code = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let status = body
        .ok()
        .and_then(|body| serde_json::from_slice::<serde_json::Value>(&body).ok());
    match status.as_ref().and_then(|status| status["message"].as_str()) {
        Some(message) => anyhow::anyhow!("{message}"),
        None => anyhow::anyhow!("the server answered {code}"),
    }
}

/// A file that has its name only once it is complete.
struct Target {
    file: File,
    partial: PathBuf,
    name: PathBuf,
    complete: bool,
}

impl Target {
    fn create(name: &Path) -> Result<Target> {
        if name.exists() {
            bail!("{} exists already; name another file", name.display());
        }
        let mut partial = name.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&partial)
            .with_context(|| format!("cannot write {}", partial.display()))?;
        Ok(Target {
            file,
            partial,
            name: name.to_owned(),
            complete: false,
        })
    }

    fn finish(mut self) -> Result<u64> {
        let write = || {
            self.file.sync_all()?;
            std::fs::rename(&self.partial, &self.name)?;
            self.file.metadata()
        };
        let length = write()
            .with_context(|| format!("cannot write {}", self.name.display()))?
            .len();
        self.complete = true;
        Ok(length)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.complete {
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}
