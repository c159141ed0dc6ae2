//! `cata logs`.

use crate::client::refs::pod_name;
use crate::client::{ClientArgs, Connection, explain, parse_duration, query_string};
use crate::data_dir::DataDir;
use anyhow::{Context, Result, bail};
use futures::{AsyncReadExt, StreamExt};
use serde_json::Value;
use std::io::Write;
use std::pin::pin;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Pod, as NAME or pod/NAME
    #[arg(required_unless_present = "selector")]
    pod: Option<String>,
    /// Container (also -c)
    #[arg(conflicts_with = "container_flag", value_name = "CONTAINER")]
    container: Option<String>,
    #[arg(short = 'c', long = "container", id = "container_flag", value_name = "CONTAINER")]
    container_flag: Option<String>,
    /// Pods of a label selector instead of one name
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "pod")]
    selector: Option<String>,
    /// All containers of the pod
    #[arg(long)]
    all_containers: bool,
    /// Go on as the log grows
    #[arg(short, long)]
    follow: bool,
    /// The log of the container's previous life
    #[arg(short, long)]
    previous: bool,
    /// Lines from the end; -1 shows all
    #[arg(long, allow_negative_numbers = true, default_value_t = -1)]
    tail: i64,
    /// Lines younger than this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    since: Option<Duration>,
    /// Lines since this time (RFC 3339)
    #[arg(long, value_name = "TIME", conflicts_with = "since")]
    since_time: Option<String>,
    /// Begin every line with its time
    #[arg(long)]
    timestamps: bool,
    /// At most so many bytes
    #[arg(long, value_name = "BYTES")]
    limit_bytes: Option<u64>,
    /// Begin every line with the pod and container it is from
    #[arg(long)]
    prefix: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: Args, data_dir: Option<&DataDir>) -> Result<()> {
    let connection = args.client.connect(data_dir).await?;
    let pods = pods(&args, &connection).await?;
    let mut sources = Vec::new();
    for pod in &pods {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        for container in containers(&args, pod)? {
            sources.push((name.to_owned(), container));
        }
    }
    let streams = sources
        .iter()
        .map(|(pod, container)| show(&args, &connection, pod, container.as_deref()));
    for outcome in futures::future::join_all(streams).await {
        outcome?;
    }
    Ok(())
}

async fn pods(args: &Args, connection: &Connection) -> Result<Vec<Value>> {
    let base = format!("/api/v1/namespaces/{}/pods", connection.namespace);
    if let Some(selector) = &args.selector {
        let path = format!("{base}?{}", query_string(&[("labelSelector", selector)]));
        let list = connection.json(http::Method::GET, &path, None).await?;
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        if pods.is_empty() {
            bail!("no pods match {selector:?} in {} namespace", connection.namespace);
        }
        return Ok(pods);
    }
    let name = pod_name(args.pod.as_deref().unwrap_or_default())?;
    Ok(vec![
        connection
            .json(http::Method::GET, &format!("{base}/{name}"), None)
            .await?,
    ])
}

/// Which containers to show; `None` leaves the choice to the server, which refuses when there are several.
fn containers(args: &Args, pod: &Value) -> Result<Vec<Option<String>>> {
    if let Some(name) = args.container.as_ref().or(args.container_flag.as_ref()) {
        return Ok(vec![Some(name.clone())]);
    }
    let names = |field: &str| -> Vec<String> {
        let containers = pod["spec"][field].as_array().into_iter().flatten();
        containers
            .filter_map(|container| container["name"].as_str().map(str::to_owned))
            .collect()
    };
    if args.all_containers {
        return Ok(names("initContainers")
            .into_iter()
            .chain(names("containers"))
            .map(Some)
            .collect());
    }
    let annotated = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
    if let Some(name) = annotated {
        return Ok(vec![Some(name.to_owned())]);
    }
    let all = names("containers");
    if let [first, .., _] = all.as_slice() {
        eprintln!("Defaulted container {first:?} out of: {}", all.join(", "));
    }
    all.into_iter()
        .next()
        .map(|name| vec![Some(name)])
        .context("the pod has no containers")
}

async fn show(args: &Args, connection: &Connection, pod: &str, container: Option<&str>) -> Result<()> {
    let (tail, since, limit);
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    pairs.extend(container.map(|name| ("container", name)));
    for (flag, set) in [
        ("follow", args.follow),
        ("previous", args.previous),
        ("timestamps", args.timestamps),
    ] {
        if set {
            pairs.push((flag, "true"));
        }
    }
    if args.tail >= 0 {
        tail = args.tail.to_string();
        pairs.push(("tailLines", &tail));
    }
    if let Some(duration) = args.since {
        since = duration.as_secs().max(1).to_string();
        pairs.push(("sinceSeconds", &since));
    }
    if let Some(time) = &args.since_time {
        pairs.push(("sinceTime", time));
    }
    if let Some(bytes) = args.limit_bytes {
        limit = bytes.to_string();
        pairs.push(("limitBytes", &limit));
    }
    let path = format!(
        "/api/v1/namespaces/{}/pods/{pod}/log?{}",
        connection.namespace,
        query_string(&pairs)
    );
    let request = http::Request::get(path).body(Vec::new())?;
    let stream = connection
        .client
        .request_stream(request)
        .await
        .map_err(|error| explain(error, &connection.server))?;
    let prefix = args
        .prefix
        .then(|| format!("[pod/{pod}/{}] ", container.unwrap_or_default()));
    copy(stream, prefix.as_deref()).await
}

async fn copy(stream: impl futures::AsyncBufRead, prefix: Option<&str>) -> Result<()> {
    let mut stream = pin!(stream);
    let Some(prefix) = prefix else {
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let length = stream.read(&mut buffer).await.context("the log broke off")?;
            if length == 0 {
                return Ok(());
            }
            let mut out = std::io::stdout().lock();
            out.write_all(&buffer[..length])?;
            out.flush()?;
        }
    };
    let mut lines = futures::AsyncBufReadExt::lines(stream);
    while let Some(line) = lines.next().await {
        println!("{prefix}{}", line.context("the log broke off")?);
    }
    Ok(())
}
