//! How client verbs find and talk to an API server.
//!
//! The order of configuration: `--kubeconfig`, `KUBECONFIG`, `<data-dir>/kubeconfig` when a data directory was named (and
//! nothing else then), `~/.kube/config`, and last the default data directory, so that `cata` works beside a running `cata dev` with no setup.
//! Requests are made on raw JSON: a client that decodes into types drops what it does not know.

pub(crate) mod discovery;
pub(crate) mod refs;
pub(crate) mod refusal;
mod warnings;
pub(crate) mod watch;

use crate::data_dir::DataDir;
use anyhow::{Context, Result, anyhow, bail};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tower::util::MapResponseLayer;

/// kubectl's global flags.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Cluster options")]
pub(crate) struct ClientArgs {
    /// Path to the kubeconfig file
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to use
    #[arg(long)]
    pub(crate) context: Option<String>,
    /// Cluster of the kubeconfig to use
    #[arg(long)]
    pub(crate) cluster: Option<String>,
    /// User of the kubeconfig to use
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Namespace to work in
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Address of the API server
    #[arg(short, long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Bearer token to authenticate with
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// Do not check the server's certificate
    #[arg(long)]
    pub(crate) insecure_skip_tls_verify: bool,
    /// How long one request may take, for example 10s or 2m; 0 is for ever
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = parse_duration)]
    pub(crate) request_timeout: Duration,
}

/// A connection, and the namespace to use where none is named.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) server: String,
    /// `--namespace` was given: manifests must not say otherwise.
    pub(crate) namespace_is_explicit: bool,
}

impl ClientArgs {
    pub(crate) async fn connect(&self, data_dir: Option<&DataDir>) -> Result<Connection> {
        let config = self.config(data_dir).await?;
        let namespace = self
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string();
        let client = ClientBuilder::try_from(config).context("the kubeconfig cannot be used")?;
        Ok(Connection {
            client: client.with_layer(&MapResponseLayer::new(warnings::show)).build(),
            namespace,
            server,
            namespace_is_explicit: self.namespace.is_some(),
        })
    }

    async fn config(&self, data_dir: Option<&DataDir>) -> Result<Config> {
        let kubeconfig = self.kubeconfig(data_dir)?;
        let options = KubeConfigOptions {
            context: self.context.clone(),
            cluster: self.cluster.clone(),
            user: self.user.clone(),
        };
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .context("the kubeconfig cannot be used")?;
        if let Some(server) = &self.server {
            config.cluster_url = server
                .parse()
                .with_context(|| format!("--server {server:?} is not a URL"))?;
        }
        if let Some(token) = &self.token {
            config.auth_info.token = Some(token.clone().into());
        }
        config.accept_invalid_certs |= self.insecure_skip_tls_verify;
        // Watches, logs and exec are meant to last.
        config.read_timeout = (!self.request_timeout.is_zero()).then_some(self.request_timeout);
        config.write_timeout = config.read_timeout;
        Ok(config)
    }

    fn kubeconfig(&self, data_dir: Option<&DataDir>) -> Result<Kubeconfig> {
        if let Some(path) = &self.kubeconfig {
            return read(path);
        }
        if let Some(paths) = std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty()) {
            return merged(&paths);
        }
        // Who names a place does not mean another cluster that happens to be configured elsewhere.
        if let Some(data_dir) = data_dir {
            return found(&data_dir.kubeconfig())?.with_context(|| {
                format!(
                    "there is no cluster in {}: start one with `cata dev --data-dir`, or name another place",
                    data_dir.path.display()
                )
            });
        }
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
        let default = DataDir::default_path().ok().map(|path| path.join("kubeconfig"));
        for path in [home, default].into_iter().flatten() {
            if let Some(kubeconfig) = found(&path)? {
                return Ok(kubeconfig);
            }
        }
        bail!("no kubeconfig found; start a cluster with `cata dev`, or name one with --kubeconfig or --data-dir")
    }
}

/// The files of `KUBECONFIG`, earlier ones first; those that do not exist are passed over, as kubectl does.
fn merged(paths: &OsStr) -> Result<Kubeconfig> {
    let mut merged: Option<Kubeconfig> = None;
    for path in std::env::split_paths(paths).filter(|path| !path.as_os_str().is_empty()) {
        if let Some(next) = found(&path)? {
            merged = Some(match merged {
                None => next,
                Some(earlier) => earlier
                    .merge(next)
                    .context("the files of KUBECONFIG do not fit together")?,
            });
        }
    }
    merged.with_context(|| format!("no file of KUBECONFIG={} exists", paths.to_string_lossy()))
}

/// `None` when there is no such file. One that cannot be read is an error: it was meant.
fn found(path: &Path) -> Result<Option<Kubeconfig>> {
    match std::fs::metadata(path) {
        Ok(_) => read(path).map(Some),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(unreadable(path, error)),
    }
}

fn read(path: &Path) -> Result<Kubeconfig> {
    // Its own error for a file it may not open does not say what to do about it.
    std::fs::File::open(path).map_err(|error| unreadable(path, error))?;
    Kubeconfig::read_from(path).with_context(|| format!("{} is no kubeconfig", path.display()))
}

fn unreadable(path: &Path, error: std::io::Error) -> anyhow::Error {
    let step = match error.kind() {
        ErrorKind::PermissionDenied => " (it is its owner's only: use sudo, or a copy of your own)",
        _ => "",
    };
    anyhow::Error::new(error).context(format!("cannot read the kubeconfig {}{step}", path.display()))
}

/// `90`, `90s`, `1m30s`, `1h`: Go's durations, as kubectl takes them; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let error = || format!("{text:?} is not a duration such as 30s, 5m or 1h30m");
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let number: f64 = rest[..digits].parse().map_err(|_| error())?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |at| digits + at);
        total += number
            * match &rest[digits..unit_end] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(error()),
            };
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| error())
}

/// `key=value&…`, percent-encoded (RFC 3986).
pub(crate) fn query_string(pairs: &[(&str, &str)]) -> String {
    let escape = |text: &str| {
        text.bytes().fold(String::new(), |mut escaped, byte| {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(byte as char),
                other => escaped.push_str(&format!("%{other:02X}")),
            }
            escaped
        })
    };
    pairs
        .iter()
        .map(|(key, value)| format!("{key}={}", escape(value)))
        .collect::<Vec<_>>()
        .join("&")
}

impl Connection {
    /// One request with an optional JSON body; the answer as JSON.
    ///
    /// # Errors
    /// A refusal in kubectl's words, or that the server cannot be reached.
    pub(crate) async fn json(&self, method: http::Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.send(method, path, "application/json", body)
            .await
            .map_err(|error| explain(error, &self.server))
    }

    /// The same with the error as it came, for callers that act on it.
    pub(crate) async fn send(
        &self,
        method: http::Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Value, kube::Error> {
        let body = body
            .map(serde_json::to_vec)
            .transpose()
            .map_err(kube::Error::SerdeError)?
            .unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::CONTENT_TYPE, content_type)
            .body(body)
            .map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }

    /// The namespace an object goes to: its own, else the connection's.
    ///
    /// # Errors
    /// The object names another one than the user.
    pub(crate) fn namespace_of<'a>(&'a self, object: &'a Value) -> Result<&'a str> {
        match object["metadata"]["namespace"].as_str() {
            Some(own) if self.namespace_is_explicit && own != self.namespace => bail!(
                "the namespace from the provided object {own:?} does not match the namespace {:?}; \
                 pass --namespace={own}, or none",
                self.namespace
            ),
            Some(own) => Ok(own),
            None => Ok(&self.namespace),
        }
    }
}

/// True for a 404 from the server.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Turns an error of the client into one for a user: a [`refusal::Refusal`], or that nobody answers.
pub(crate) fn explain(error: kube::Error, server: &str) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => refusal::Refusal::new(&status).into(),
        kube::Error::HyperError(_) | kube::Error::Service(_) => unreachable_server(&error, server),
        other => other.into(),
    }
}

/// The deepest cause says it; the layers above only say that they had one.
fn unreachable_server(error: &kube::Error, server: &str) -> anyhow::Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let cause = cause.to_string();
    if cause.contains("certificate") {
        return anyhow!(
            "the API server at {server} is not the one this kubeconfig was made for ({cause}); \
             take the kubeconfig of the running cluster"
        );
    }
    anyhow!("the API server at {server} cannot be reached ({cause}); is the cluster running? (`cata dev`)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_files_of_a_list_are_passed_over() {
        let directory = tempfile::tempdir().expect("directory");
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("write");
            path
        };
        let first = write("first", "{apiVersion: v1, kind: Config, current-context: one}");
        let second = write("second", "{apiVersion: v1, kind: Config, current-context: two}");
        let list = std::env::join_paths([Path::new("/none/x"), &first, &second]).expect("paths");
        assert_eq!(merged(&list).expect("merged").current_context.as_deref(), Some("one"));
        let none = merged(OsStr::new("/none/x:/none/y")).expect_err("nothing there");
        assert!(none.to_string().contains("/none/x:/none/y"), "{none}");
        let other = read(&write("other", "something")).expect_err("no kubeconfig");
        assert!(other.to_string().ends_with("other is no kubeconfig"), "{other:#}");
        assert!(
            found(&directory.path().join("first/below"))
                .expect("no error")
                .is_none()
        );
    }

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [
            ("0", 0),
            ("15", 15_000),
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("20ms", 20),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "1x", "-1s", "1h-"] {
            assert!(parse_duration(text).is_err() || text.is_empty(), "{text}");
        }
    }
}
