//! A cluster to measure: `cata dev` on a data directory of its own.

use anyhow::{Context, Result, bail};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub(crate) const LINUX_IMAGE: &str = "bench/linux:v1";
pub(crate) const WASM_IMAGE: &str = "bench/wasm:v1";

pub(crate) struct Cluster {
    directory: TempDir,
    cata: PathBuf,
    pub(crate) dev: Child,
    pub(crate) client: Client,
    /// From process start until `/readyz` answered ok.
    pub(crate) ready_after: Duration,
}

impl Cluster {
    pub(crate) async fn start(cata: &Path) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let data_dir = directory.path().join("data");
        let start = Instant::now();
        let mut dev = Command::new(cata)
            .arg("dev")
            .arg("--data-dir")
            .arg(&data_dir)
            .args(["--api-port", "0", "--node-name", "bench"])
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start cata dev")?;
        let mut lines = BufReader::new(dev.stdout.take().context("stdout")?).lines();
        let kubeconfig = data_dir.join("kubeconfig");
        let client = loop {
            let Some(line) = lines.next_line().await? else {
                bail!("cata dev ended early")
            };
            if line.contains("kubeconfig") {
                break client(&kubeconfig).await?;
            }
        };
        // Nobody reads on; a full pipe must not stop the cluster.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        client
            .request_text(http::Request::get("/readyz").body(Vec::new())?)
            .await?;
        let ready_after = start.elapsed();
        Ok(Self {
            directory,
            cata: cata.to_owned(),
            dev,
            client,
            ready_after,
        })
    }

    /// The image of a Linux program that ends on SIGTERM, and of the hello service.
    pub(crate) async fn pack_images(&self) -> Result<()> {
        let hello = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello/hello.wasm");
        let sleep = ["/bin/sleep", "/usr/bin/sleep"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let bash = ["/bin/bash", "/usr/bin/bash"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let linux = [bash.context("no bash")?, sleep.context("no sleep")?];
        self.cata(&["image", "pack", "--tag", LINUX_IMAGE, "--from-host", linux[0], linux[1]])
            .await?;
        self.cata(&[
            "image",
            "pack",
            "--tag",
            WASM_IMAGE,
            "--wasm",
            &hello.display().to_string(),
        ])
        .await
    }

    async fn cata(&self, arguments: &[&str]) -> Result<()> {
        let output = Command::new(&self.cata)
            .args(arguments)
            .arg("--data-dir")
            .arg(self.directory.path().join("data"))
            .output()
            .await?;
        if !output.status.success() {
            bail!(
                "cata {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.dev.id().context("cata dev ended")
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.pid()?)?;
        let pid = rustix::process::Pid::from_raw(pid).context("pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        self.dev.wait().await?;
        Ok(())
    }
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.read_timeout = None;
    Ok(Client::try_from(config)?)
}
