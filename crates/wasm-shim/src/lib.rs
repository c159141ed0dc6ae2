//! Runs WebAssembly containers on wasmtime.
