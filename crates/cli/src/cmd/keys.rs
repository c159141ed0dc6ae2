//! `cata keys`: the keys with which Secrets are encrypted where they are kept.

use super::backup;
use crate::client::ClientArgs;
use crate::data_dir::DataDir;
use anyhow::{Context, Result};
use catamaran_control::encryption::Rotated;
use http_body_util::BodyExt as _;

const PATH: &str = "/catamaran.dev/v1/encryption/rotate";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a new key, rewrite every encrypted value with it, and forget the old ones; the server may run
    Rotate(RotateArgs),
}

#[derive(Debug, clap::Args)]
struct RotateArgs {
    /// State backend of a server that does not run [default: sqlite:DATA_DIR/state.db]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: Args, data_dir: Result<DataDir>, client_dir: Option<&DataDir>) -> Result<()> {
    let Verb::Rotate(args) = args.verb;
    let rotated = rotate(&args, data_dir, client_dir).await?;
    println!("{} is the key now; rewrote {} values", rotated.key, rotated.rewritten);
    for key in &rotated.dropped {
        println!("forgot {key}");
    }
    Ok(())
}

async fn rotate(args: &RotateArgs, data_dir: Result<DataDir>, client_dir: Option<&DataDir>) -> Result<Rotated> {
    if let Some((data_dir, _lock)) = backup::stopped(&args.client, data_dir, client_dir)? {
        return Ok(catamaran_control::rotate_keys(&data_dir.path, args.store.as_deref()).await?);
    }
    let connection = args.client.connect(client_dir).await?;
    let request = http::Request::post(PATH).body(kube::client::Body::empty())?;
    let response = connection
        .client
        .send(request)
        .await
        .context("the server does not answer")?;
    if !response.status().is_success() {
        return Err(backup::refused(response).await);
    }
    let body = response.into_body().collect().await.context("the answer was cut off")?;
    serde_json::from_slice(&body.to_bytes()).context("the server's answer is not understood")
}
