//! A cluster to measure: `cata dev` on a data directory of its own.

use anyhow::{Context, Result, bail};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::process::{Child, Command};

pub(crate) const LINUX_IMAGE: &str = "bench/linux:v1";
pub(crate) const WASM_IMAGE: &str = "bench/wasm:v1";

const PATIENCE: Duration = Duration::from_secs(60);

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
        Self::start_in(cata, tempfile::tempdir()?).await
    }

    /// On the data directory of a cluster that was stopped, or a new one.
    pub(crate) async fn start_in(cata: &Path, directory: TempDir) -> Result<Self> {
        let data_dir = directory.path().join("data");
        let kubeconfig = data_dir.join("kubeconfig");
        // It is written again at every start: the port is a new one.
        let _ = std::fs::remove_file(&kubeconfig);
        let log = std::fs::File::create(directory.path().join("log"))?;
        let start = Instant::now();
        let mut dev = Command::new(cata)
            .arg("dev")
            .arg("--data-dir")
            .arg(&data_dir)
            .args(["--api-port", "0", "--node-name", "bench"])
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start cata dev")?;
        let client = loop {
            if let Some(status) = dev.try_wait()? {
                bail!("cata dev ended early: {status}");
            }
            if start.elapsed() > PATIENCE {
                bail!("cata dev did not answer");
            }
            if let Ok(client) = client(&kubeconfig).await
                && let Ok(answer) = client
                    .request_text(http::Request::get("/readyz").body(Vec::new())?)
                    .await
                && answer.trim() == "ok"
            {
                break client;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        let ready_after = start.elapsed();
        Ok(Self {
            directory,
            cata: cata.to_owned(),
            dev,
            client,
            ready_after,
        })
    }

    /// Returns when the node takes pods.
    pub(crate) async fn node_ready(&self) -> Result<()> {
        let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(self.client.clone());
        let ready =
            kube::runtime::wait::await_condition(nodes, "bench", |node: Option<&k8s_openapi::api::core::v1::Node>| {
                let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
                conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
            });
        tokio::time::timeout(PATIENCE, ready)
            .await
            .context("the node never got ready")??;
        Ok(())
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

    /// Has the pod's container written anything?
    pub(crate) fn has_logged(&self, pod: &str) -> bool {
        let logs = self.directory.path().join("data/logs/pods");
        let prefix = format!("default_{pod}_");
        let entries = std::fs::read_dir(logs).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .any(|entry| std::fs::metadata(entry.path().join("c/0.log")).is_ok_and(|log| log.len() > 0))
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.dev.id().context("cata dev ended")
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.stop_keeping().await.map(drop)
    }

    /// Stops it and hands its directory on.
    pub(crate) async fn stop_keeping(mut self) -> Result<TempDir> {
        let pid = i32::try_from(self.pid()?)?;
        let pid = rustix::process::Pid::from_raw(pid).context("pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        self.dev.wait().await?;
        Ok(self.directory)
    }
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.read_timeout = None;
    Ok(Client::try_from(config)?)
}
