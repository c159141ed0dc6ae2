//! `cata logs`.

use crate::client::refs::pod_name;
use crate::client::{ClientArgs, Connection, explain, parse_duration, query_string};
use crate::data_dir::DataDir;
use anyhow::{Context, Result, bail};
use futures::{AsyncBufReadExt, AsyncReadExt};
use serde_json::Value;
use std::io::Write;
use std::pin::pin;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Pod, as NAME or pod/NAME
    #[arg(required_unless_present = "selector")]
    pod: Option<String>,
    /// Container of the pod [default: the first]; the same as -c
    #[arg(conflicts_with = "container_flag", value_name = "CONTAINER")]
    container: Option<String>,
    /// Container of the pod
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
    /// Lines from the end; -1 shows all [default: all, with -l the last 10]
    #[arg(long, value_name = "LINES", allow_negative_numbers = true)]
    tail: Option<i64>,
    /// Lines younger than this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    since: Option<Duration>,
    /// Lines since this time (RFC 3339)
    #[arg(long, value_name = "TIME", conflicts_with = "since")]
    since_time: Option<String>,
    /// With -f, how many logs may be followed at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    max_log_requests: usize,
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
    if sources.is_empty() {
        eprintln!("No resources found in {} namespace.", connection.namespace);
    }
    let whole_lines = args.prefix || (args.follow && sources.len() > 1);
    let streams = sources
        .iter()
        .map(|(pod, container)| show(&args, &connection, pod, container.as_deref(), whole_lines));
    if args.follow {
        if sources.len() > args.max_log_requests {
            bail!(
                "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, \
                 use --max-log-requests to increase the limit",
                sources.len(),
                args.max_log_requests
            );
        }
        futures::future::try_join_all(streams).await?;
    } else {
        // One after the other, so that they do not mix.
        for stream in streams {
            stream.await?;
        }
    }
    Ok(())
}

async fn pods(args: &Args, connection: &Connection) -> Result<Vec<Value>> {
    let base = format!("/api/v1/namespaces/{}/pods", connection.namespace);
    if let Some(selector) = &args.selector {
        let path = format!("{base}?{}", query_string(&[("labelSelector", selector)]));
        let list = connection.json(http::Method::GET, &path, None).await?;
        return Ok(list["items"].as_array().cloned().unwrap_or_default());
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
    if let ([first, .., _], None) = (all.as_slice(), &args.selector) {
        eprintln!("Defaulted container {first:?} out of: {}", all.join(", "));
    }
    all.into_iter()
        .next()
        .map(|name| vec![Some(name)])
        .context("the pod has no containers")
}

async fn show(
    args: &Args,
    connection: &Connection,
    pod: &str,
    container: Option<&str>,
    whole_lines: bool,
) -> Result<()> {
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
    let lines = args.tail.unwrap_or(if args.selector.is_some() { 10 } else { -1 });
    if lines >= 0 {
        tail = lines.to_string();
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
    if whole_lines {
        copy_lines(stream, prefix.as_deref().unwrap_or_default()).await
    } else {
        copy(stream).await
    }
}

pub(super) async fn copy(stream: impl futures::AsyncRead) -> Result<()> {
    let mut stream = pin!(stream);
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
}

/// Line by line, so that several logs can share the output. Lines are bytes: a log may hold anything.
async fn copy_lines(stream: impl futures::AsyncBufRead, prefix: &str) -> Result<()> {
    let mut stream = pin!(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        line.extend_from_slice(prefix.as_bytes());
        let length = stream.read_until(b'\n', &mut line).await.context("the log broke off")?;
        if length == 0 {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        out.write_all(&line)?;
        out.flush()?;
    }
}
