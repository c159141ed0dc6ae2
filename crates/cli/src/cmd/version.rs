//! `cata version`: this program's, and the cluster's when one answers.

use crate::client::ClientArgs;
use crate::data_dir::DataDir;
use anyhow::Result;
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this program's version
    #[arg(long)]
    client: bool,
    /// Output format: yaml or json
    #[arg(short, long, value_name = "FORMAT", hide_possible_values = true, value_parser = ["yaml", "json"])]
    output: Option<String>,
    #[command(flatten)]
    cluster: ClientArgs,
}

pub(super) async fn run(args: Args, data_dir: Option<&DataDir>) -> Result<()> {
    let ours = format!("v{}", env!("CARGO_PKG_VERSION"));
    let server = if args.client {
        None
    } else {
        Some(server_version(&args, data_dir).await)
    };
    let mut versions = json!({"clientVersion": {"gitVersion": ours}});
    if let Some(Ok(server)) = &server {
        versions["serverVersion"] = server.clone();
    }
    match args.output.as_deref() {
        Some("json") => println!("{}", serde_json::to_string_pretty(&versions)?),
        Some(_) => print!("{}", catamaran_api::yaml::to_string(&versions)?),
        None => {
            println!("Client Version: {ours}");
            if let Some(Ok(server)) = &server {
                println!("Server Version: {}", server["gitVersion"].as_str().unwrap_or("unknown"));
            }
        }
    }
    server.transpose().map(drop)
}

async fn server_version(args: &Args, data_dir: Option<&DataDir>) -> Result<Value> {
    args.cluster
        .connect(data_dir)
        .await?
        .json(http::Method::GET, "/version", None)
        .await
}
