//! An agent that is there to be killed: it does the steps of a pod's start, says on its output which one comes next, and
//! waits to be told to go on.

use crate::runtime::runtimes;
use crate::world::{World, block_on, bundle, netns};
use catamaran_shim::client::Launcher;
use catamaran_shim::launcher;
use catamaran_shim::runtime::Stdio;
use oci_spec::runtime::{LinuxResources, ProcessBuilder};
use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;

/// The points at which it can be killed.
pub(crate) const STEPS: [&str; 6] = ["launched", "creating", "created", "starting", "started", "executing"];

/// Prints numbers forever, in lines.
pub(crate) const COUNTING: &str = "i=0; while :; do echo line $i; i=$((i+1)); done";

pub(crate) fn main(arguments: &[String]) -> ExitCode {
    // First of all, while there is one thread.
    let handle = launcher::fork(runtimes).unwrap();
    let world = std::mem::ManuallyDrop::new(World::named(&arguments[0]));
    block_on(async {
        let launcher = Launcher::new(handle).unwrap();
        step("launched");
        let config = world.pod_config();
        world.prepare(&config);
        let creating = launcher.clone();
        let creation = tokio::spawn(async move { creating.create_pod(&config, netns()).await });
        step("creating");
        let (shim, _events) = creation.await.unwrap().unwrap();
        step("created");
        let args = ["/bin/sh", "-c", COUNTING];
        let config = bundle(&world.run_dir, &world.instance, "c1", &args, LinuxResources::default());
        let starting = shim.clone();
        let start = tokio::spawn(async move { starting.start(&config).await });
        step("starting");
        start.await.unwrap().unwrap();
        step("started");
        let args = ["/bin/sleep".to_owned(), "1000".to_owned()];
        let process = ProcessBuilder::default().args(args).build().unwrap();
        let _session = shim.exec("c1", &process, Stdio::default()).await.unwrap();
        step("executing");
    });
    ExitCode::SUCCESS
}

fn step(name: &str) {
    println!("{name}");
    std::io::stdout().flush().unwrap();
    let mut go_on = String::new();
    std::io::stdin().lock().read_line(&mut go_on).unwrap();
}
