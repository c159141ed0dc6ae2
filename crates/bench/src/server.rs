//! An API server to measure: `cata server` on a data directory of its own, or another one that runs already.

use anyhow::{Context, Result, bail};
use kube::config::Kubeconfig;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    /// What was started here, with its directory.
    started: Option<(TempDir, Child)>,
    /// Of the processes whose CPU time and memory are the server's.
    pids: Vec<u32>,
    pub(crate) address: SocketAddr,
    /// With the admin's certificate.
    pub(crate) tls: tokio_rustls::TlsConnector,
}

impl Server {
    pub(crate) async fn start(cata: &Path) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let data_dir = directory.path().join("data");
        let log = std::fs::File::create(directory.path().join("log"))?;
        let mut process = Command::new(cata)
            .arg("server")
            .arg("--data-dir")
            .arg(&data_dir)
            .args(["--api-port", "0"])
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start cata server")?;
        let start = Instant::now();
        let path = data_dir.join("kubeconfig");
        let kubeconfig = loop {
            if let Some(status) = process.try_wait()? {
                bail!("cata server ended early: {status}");
            }
            if start.elapsed() > PATIENCE {
                bail!("cata server wrote no kubeconfig");
            }
            match Kubeconfig::read_from(&path) {
                Ok(kubeconfig) if !kubeconfig.clusters.is_empty() => break kubeconfig,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        Ok(Self {
            pids: process.id().into_iter().collect(),
            started: Some((directory, process)),
            address: address(&kubeconfig)?,
            tls: tls(&kubeconfig)?,
        })
    }

    /// One that runs, as a kubeconfig with certificates names it. Its state is the caller's: what the rows make stays there.
    pub(crate) fn running(kubeconfig: &Path, pids: &[u32]) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        Ok(Self {
            started: None,
            pids: pids.to_vec(),
            address: address(&kubeconfig)?,
            tls: tls(&kubeconfig)?,
        })
    }

    /// Seconds of CPU time so far; zero where no process is known.
    pub(crate) fn cpu(&self) -> Result<f64> {
        self.pids.iter().map(|pid| Self::cpu_of(*pid)).sum()
    }

    fn cpu_of(pid: u32) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let after_name = stat.rsplit(')').next().context("stat")?;
        let ticks = after_name.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Resident memory, in MB.
    pub(crate) fn memory(&self) -> Result<f64> {
        self.pids.iter().map(|pid| Self::memory_of(*pid)).sum()
    }

    fn memory_of(pid: u32) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .context("VmRSS")?;
        let kilobytes: f64 = line.split_whitespace().nth(1).context("VmRSS")?.parse()?;
        Ok(kilobytes * 1024.0 / 1e6)
    }

    pub(crate) async fn stop(self) -> Result<()> {
        let Some((_directory, mut process)) = self.started else {
            return Ok(());
        };
        let pid = process.id().context("cata server ended")?;
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        process.wait().await?;
        Ok(())
    }
}

fn address(kubeconfig: &Kubeconfig) -> Result<SocketAddr> {
    let cluster = kubeconfig.clusters.first().and_then(|named| named.cluster.as_ref());
    let url = cluster
        .and_then(|cluster| cluster.server.as_deref())
        .context("no server in the kubeconfig")?;
    let url: http::Uri = url.parse()?;
    Ok(url
        .authority()
        .context("no address in the kubeconfig")?
        .as_str()
        .parse()?)
}

fn tls(kubeconfig: &Kubeconfig) -> Result<tokio_rustls::TlsConnector> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let cluster = kubeconfig.clusters.first().and_then(|named| named.cluster.as_ref());
    let user = kubeconfig.auth_infos.first().and_then(|named| named.auth_info.as_ref());
    let (cluster, user) = (cluster.context("no cluster")?, user.context("no user")?);
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem(cluster.certificate_authority_data.as_deref())?) {
        roots.add(certificate?)?;
    }
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&pem(user.client_certificate_data.as_deref())?).collect::<Result<_, _>>()?;
    // The key is shown to nobody but who writes it down.
    let user = serde_json::to_value(user)?;
    let key = PrivateKeyDer::from_pem_slice(&pem(user["client-key-data"].as_str())?)?;
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tokio_rustls::TlsConnector::from(Arc::new(config)))
}

fn pem(base64: Option<&str>) -> Result<Vec<u8>> {
    use base64::Engine as _;
    let text = base64.context("the kubeconfig lacks a certificate")?;
    Ok(base64::engine::general_purpose::STANDARD.decode(text)?)
}
