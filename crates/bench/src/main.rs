//! The budgets: every row measured beside its peer, in alternation, in one run.
//!
//! Absolute times on a shared machine mean little; ratios are what count. A peer that is not installed makes a row that
//! says so, never a row that is left out. Nothing here fails on a slow machine: benchmarks are not tests.
//!
//! `--peer-kubeconfig FILE` names another API server, which runs on this machine, to put beside ours in A1 to A4, and
//! `--peer-pid PID`, as often as it has processes, whose CPU time and memory are its.

#![forbid(unsafe_code)]

mod api;
mod cluster;
mod containers;
mod etcd;
mod footprint;
mod pods;
mod row;
mod server;
mod writes;

use anyhow::{Context, Result, bail};
use row::Row;
use std::path::PathBuf;
use std::process::ExitCode;

/// The program under measurement and how to report.
struct Setup {
    cata: PathBuf,
    json: bool,
}

const ROWS: &[&str] = &[
    "A1", "A2", "A3", "A4", "C1", "C2", "F1", "F3", "P1", "P2", "P3", "P4", "S1",
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut setup = Setup {
        cata: PathBuf::from("target/release/cata"),
        json: false,
    };
    let mut wanted = Vec::new();
    let mut peer = None;
    let mut peer_pids = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => setup.json = true,
            "--cata" => setup.cata = arguments.next().context("--cata wants a path")?.into(),
            "--peer-kubeconfig" => peer = Some(arguments.next().context("--peer-kubeconfig wants a path")?),
            "--peer-pid" => peer_pids.push(arguments.next().context("--peer-pid wants a number")?.parse()?),
            row if ROWS.contains(&row) => wanted.push(argument),
            "api" => wanted.extend(["A1", "A2", "A3", "A4"].map(str::to_owned)),
            other => bail!("there is no row {other:?}; the rows are {}", ROWS.join(" ")),
        }
    }
    setup.cata = setup
        .cata
        .canonicalize()
        .with_context(|| format!("{} is not built", setup.cata.display()))?;
    if !rustix::process::geteuid().is_root() {
        bail!("benchmarks make namespaces and cgroups; run them as root");
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let chosen = |row: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == row);

    if !setup.json {
        println!("{}\n\n{}", row::conditions(), Row::headers());
    }
    let report = |rows: Vec<Row>| {
        let conditions = row::conditions();
        for row in rows.iter().filter(|row| chosen(row.budget())) {
            if setup.json {
                println!("{}", row.json(&conditions));
            } else {
                println!("{row}");
            }
        }
        if !setup.json {
            println!("{:<16}(load {})", "", row::load());
        }
    };
    if ["A1", "A2", "A3", "A4"].into_iter().any(chosen) {
        let peer = peer.map(|path| server::Server::running(path.as_ref(), &peer_pids));
        let peer = peer.transpose().context("cannot use the peer")?;
        runtime.block_on(api::rows(&setup.cata, peer.as_ref(), &chosen, &report))?;
    }
    if chosen("C1") || chosen("C2") {
        report(containers::rows(&setup.cata)?);
    }
    if chosen("S1") {
        report(runtime.block_on(writes::rows())?);
    }
    if ["P1", "P2", "P3", "P4"].into_iter().any(chosen) {
        runtime.block_on(pods::rows(&setup.cata, &chosen, &report))?;
    }
    if chosen("F3") {
        report(runtime.block_on(footprint::start_rows(&setup.cata))?);
    }
    if chosen("F1") {
        report(runtime.block_on(footprint::idle_rows(&setup.cata))?);
    }
    Ok(())
}
