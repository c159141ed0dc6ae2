//! The engines and linkers every wasm container shares.
//!
//! There are two engines, because one choice is compiled into the native code: services check an epoch counter at every
//! loop, so that one request cannot hold up the others; programs do not, which makes tight loops 20–60 % faster, and are
//! stopped by signals like any process. Both are built in the launcher and reach containers by fork.

use crate::guest::{CoreGuest, Guest};
use crate::shape::Shape;
use sha2::{Digest, Sha256};
use std::hash::{Hash, Hasher};
use wasmtime::component;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, Linker, PoolingAllocationConfig};

/// Instances of a service that may exist at once in one container. Each reserves address space (not memory) for one
/// linear memory of up to 4 GiB.
pub(crate) const SERVICE_INSTANCES: u32 = 256;

/// Core instances and tables per service instance that the pool plans for: a component is several of them.
const CORE_INSTANCES_EACH: u32 = 4;

/// Most linear memories and tables of one core module, and elements of one table (JavaScript engines have tens of
/// thousands of functions).
const MEMORIES_PER_MODULE: u32 = 4;
const TABLES_PER_MODULE: u32 = 8;
const TABLE_ELEMENTS: usize = 100_000;

/// Memory of a finished instance that is zeroed by hand and kept, bytes: cheaper than giving it back to the kernel and
/// faulting it in again with the next request.
const KEEP_RESIDENT_BYTES: usize = 64 * 1024;

/// Finished instances whose memory is kept so.
const WARM_INSTANCES: u32 = 4;

/// Changes whenever native files of older builds must not be used although the engine would take them.
const CACHE_FORMAT: u32 = 1;

/// Engines and linkers. Building them starts no thread.
pub(crate) struct Engines {
    pub command: Engine,
    pub http: Engine,
    pub core_linker: Linker<CoreGuest>,
    pub command_linker: component::Linker<Guest>,
    pub http_linker: component::Linker<Guest>,
}

impl Engines {
    pub(crate) fn new() -> wasmtime::Result<Engines> {
        // What `exec` compiles is small, and its process has better things to do than to start threads.
        let (command, http) = (command_engine(Threads::One)?, http_engine(Threads::One)?);
        Ok(Engines {
            core_linker: core_linker(&command)?,
            command_linker: component_linker(&command)?,
            http_linker: component_linker(&http)?,
            command,
            http,
        })
    }

    pub(crate) fn of(&self, shape: Shape) -> &Engine {
        match shape {
            Shape::Command | Shape::ComponentCommand => &self.command,
            Shape::HttpProxy => &self.http,
        }
    }
}

/// The engine that compiles files of this shape, on many threads.
pub(crate) fn engine_for(shape: Shape) -> wasmtime::Result<Engine> {
    match shape {
        Shape::Command | Shape::ComponentCommand => command_engine(Threads::Many),
        Shape::HttpProxy => http_engine(Threads::Many),
    }
}

/// Names everything that native code depends on beside the wasm file: wasmtime's version, target, CPU features, options.
pub(crate) fn compatibility_key() -> wasmtime::Result<String> {
    let mut hasher = Sha256Hasher(Sha256::new());
    CACHE_FORMAT.hash(&mut hasher);
    command_engine(Threads::One)?
        .precompile_compatibility_hash()
        .hash(&mut hasher);
    http_engine(Threads::One)?
        .precompile_compatibility_hash()
        .hash(&mut hasher);
    Ok(hex(&hasher.0.finalize()))
}

/// How a compilation is done; its result is the same.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Threads {
    One,
    Many,
}

fn common(threads: Threads) -> Config {
    let mut config = Config::new();
    config.parallel_compilation(threads == Threads::Many);
    config.wasm_component_model(true).wasm_component_model_async(true);
    // Backtraces walk frame pointers; unwind tables would only serve a native debugger and be registered at each start.
    config.native_unwind_info(false);
    config
}

fn command_engine(threads: Threads) -> wasmtime::Result<Engine> {
    Engine::new(&common(threads))
}

fn http_engine(threads: Threads) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(SERVICE_INSTANCES)
        .total_core_instances(SERVICE_INSTANCES * CORE_INSTANCES_EACH)
        .total_tables(SERVICE_INSTANCES * CORE_INSTANCES_EACH)
        .total_memories(SERVICE_INSTANCES)
        .total_stacks(SERVICE_INSTANCES)
        .total_gc_heaps(SERVICE_INSTANCES)
        .max_memories_per_module(MEMORIES_PER_MODULE)
        .max_tables_per_module(TABLES_PER_MODULE)
        .table_elements(TABLE_ELEMENTS)
        .max_unused_warm_slots(WARM_INSTANCES)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES / 4)
        // It would read the page map of the process that built the pool, which after the fork is another one.
        .pagemap_scan(Enabled::No);
    let mut config = common(threads);
    config
        .epoch_interruption(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

fn core_linker(engine: &Engine) -> wasmtime::Result<Linker<CoreGuest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |guest: &mut CoreGuest| &mut guest.wasi)?;
    wasmtime_wasi::p0::add_to_linker_async(&mut linker, |guest: &mut CoreGuest| &mut guest.wasi)?;
    Ok(linker)
}

fn component_linker(engine: &Engine) -> wasmtime::Result<component::Linker<Guest>> {
    let mut linker = component::Linker::new(engine);
    let mut options = wasmtime_wasi::p2::bindings::LinkOptions::default();
    options.network_error_code(true);
    wasmtime_wasi::p2::add_to_linker_with_options_async(&mut linker, &options)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// Feeds `std::hash` into SHA-256: the standard hashers promise nothing across builds.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_stable_within_a_build() {
        let key = compatibility_key().expect("engines can be built");
        assert_eq!(key.len(), 64);
        assert_eq!(compatibility_key().expect("again"), key);
    }
}
