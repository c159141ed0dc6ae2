//! How client verbs find and talk to an API server.
//!
//! The order of configuration: `--kubeconfig`, `KUBECONFIG`, `<data-dir>/kubeconfig` when a data directory was named,
//! `~/.kube/config`, and last the default data directory, so that `cata` works beside a running `cata dev` with no setup.
//! Requests are made on raw JSON: a client that decodes into types drops what it does not know.

pub(crate) mod discovery;
pub(crate) mod refs;
pub(crate) mod watch;

use crate::data_dir::DataDir;
use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

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
}

impl ClientArgs {
    pub(crate) async fn connect(&self, data_dir: Option<&DataDir>) -> Result<Connection> {
        let config = self.config(data_dir).await?;
        let namespace = self
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config).context("the kubeconfig cannot be used")?;
        Ok(Connection {
            client,
            namespace,
            server,
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
        if std::env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty())
            && let Some(kubeconfig) = Kubeconfig::from_env().context("KUBECONFIG cannot be read")?
        {
            return Ok(kubeconfig);
        }
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
        let default = DataDir::default_path().ok().map(|path| path.join("kubeconfig"));
        let candidates = [data_dir.map(DataDir::kubeconfig), home, default];
        match candidates.into_iter().flatten().find(|path| path.exists()) {
            Some(path) => read(&path),
            None => bail!("no kubeconfig found; start a cluster with `cata dev`, or name one with --kubeconfig"),
        }
    }
}

fn read(path: &std::path::Path) -> Result<Kubeconfig> {
    Kubeconfig::read_from(path).with_context(|| format!("cannot read the kubeconfig {}", path.display()))
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
    pub(crate) fn namespace_of<'a>(&'a self, object: &'a Value) -> &'a str {
        object["metadata"]["namespace"].as_str().unwrap_or(&self.namespace)
    }
}

/// True for a 404 from the server.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Puts a `metav1.Status` into kubectl's words: `Error from server (NotFound): pods "x" not found`.
pub(crate) fn explain(error: kube::Error, server: &str) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow::anyhow!("from server ({}): {}", status.reason, status.message),
        kube::Error::HyperError(_) | kube::Error::Service(_) => anyhow::Error::new(error).context(format!(
            "the API server at {server} cannot be reached; is the cluster running? (`cata dev`)"
        )),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
