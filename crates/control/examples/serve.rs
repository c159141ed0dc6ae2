//! Runs the API server alone: `cargo run -p catamaran-control --example serve -- <data dir> [port]`.

use catamaran_control::{Config, ControlPlane};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let data_dir = args.next().ok_or("usage: serve <data dir> [port]")?;
    let port = args.next().map_or(Ok(6443), |port| port.parse())?;
    let mut config = Config::new(data_dir.into());
    config.listen.set_port(port);
    let shutdown = CancellationToken::new();
    let control = ControlPlane::start(config, shutdown.clone()).await?;
    println!("https://{}  kubeconfig {}", control.addr, control.kubeconfig.display());
    tokio::signal::ctrl_c().await?;
    shutdown.cancel();
    control.join().await;
    Ok(())
}
