//! Runs a program to its end: a preview-1 module or a `wasi:cli/command` component. One thread, blocking where the guest
//! blocks; signals do to it what they do to any process.

use crate::child::{NOT_EXECUTABLE, Program, Report, TRAPPED, start_error};
use crate::guest::{Guest, World};
use crate::stdio::Streams;
use wasmtime::component::InstancePre;
use wasmtime::{Store, WasmBacktrace};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::{p2, p3};

/// Exit code of a component whose `run` returned an error.
const RUN_FAILED: i32 = 1;

/// Stack of the few threads that wait on behalf of the guest (standard input, name lookups), bytes.
const HELPER_STACK_BYTES: usize = 256 * 1024;

/// Returns the process's exit code. Reports "started" as soon as there is an instance.
pub(crate) fn run(program: &Program, world: &World, report: &mut Report) -> i32 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(HELPER_STACK_BYTES)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return report.failed(&start_error("cannot start the event loop", &error, TRAPPED)),
    };
    let code = runtime.block_on(async {
        match program {
            Program::Module(module) => module_to_end(module, world, report).await,
            Program::Component(component) | Program::Service(component) => {
                component_to_end(component, world, report).await
            }
        }
    });
    // A helper may be waiting for input that never comes.
    runtime.shutdown_background();
    code
}

async fn module_to_end(
    module: &wasmtime::InstancePre<crate::guest::CoreGuest>,
    world: &World,
    report: &mut Report,
) -> i32 {
    let started = async {
        let mut store = Store::new(module.module().engine(), world.core_guest()?);
        store.limiter(|guest| &mut guest.limiter);
        let instance = module.instantiate_async(&mut store).await?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
        wasmtime::error::Ok((store, start))
    };
    match started.await {
        Ok((mut store, start)) => {
            report.started();
            exit_code(start.call_async(&mut store, ()).await.map(Ok))
        }
        Err(error) => not_instantiated(&error, report),
    }
}

/// Which release of WASI a component speaks.
enum Cli {
    P2(p2::bindings::Command),
    P3(p3::bindings::Command),
}

async fn component_to_end(component: &InstancePre<Guest>, world: &World, report: &mut Report) -> i32 {
    let started = async {
        let mut store = Store::new(component.engine(), world.guest(Streams::All)?);
        store.limiter(|guest| &mut guest.limiter);
        let instance = component.instantiate_async(&mut store).await?;
        let cli = match p2::bindings::CommandIndices::new(component) {
            Ok(indices) => Cli::P2(indices.load(&mut store, &instance)?),
            Err(_) => Cli::P3(p3::bindings::CommandIndices::new(component)?.load(&mut store, &instance)?),
        };
        wasmtime::error::Ok((store, cli))
    };
    match started.await {
        Ok((mut store, cli)) => {
            report.started();
            exit_code(match cli {
                Cli::P2(command) => command.wasi_cli_run().call_run(&mut store).await,
                Cli::P3(command) => run_concurrent(&mut store, &command).await,
            })
        }
        Err(error) => not_instantiated(&error, report),
    }
}

async fn run_concurrent(store: &mut Store<Guest>, command: &p3::bindings::Command) -> wasmtime::Result<Result<(), ()>> {
    store
        .run_concurrent(async |accessor| command.wasi_cli_run().call_run(accessor).await)
        .await?
}

/// An instance that could not be made. A start function that exits or traps did run, and ends as the program would.
fn not_instantiated(error: &wasmtime::Error, report: &mut Report) -> i32 {
    if error.is::<I32Exit>() || error.is::<WasmBacktrace>() {
        report.started();
        return failure_code(error);
    }
    report.failed(&start_error(
        "cannot instantiate the program",
        error.as_ref(),
        NOT_EXECUTABLE,
    ))
}

fn exit_code(result: wasmtime::Result<Result<(), ()>>) -> i32 {
    match result {
        Ok(Ok(())) => 0,
        Ok(Err(())) => RUN_FAILED,
        Err(error) => failure_code(&error),
    }
}

fn failure_code(error: &wasmtime::Error) -> i32 {
    // `exit` unwinds the guest as a trap does.
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return *code & 0xff;
    }
    crate::stdio::flush();
    eprintln!("catamaran: {}", describe_trap(error));
    TRAPPED
}

/// A trap for people: what happened, then where.
pub(crate) fn describe_trap(error: &wasmtime::Error) -> String {
    let cause = error.root_cause().to_string();
    let cause = cause.strip_prefix("wasm trap: ").unwrap_or(&cause);
    match error
        .downcast_ref::<WasmBacktrace>()
        .filter(|trace| !trace.frames().is_empty())
    {
        Some(trace) => format!("the program trapped: {cause}\n{trace}"),
        None => format!("the program trapped: {cause}"),
    }
}
