#!/bin/sh
# Builds service-p3.wasm from source. Put the interfaces into wit/ first, see src/lib.rs.
#
# This script is for a Rust without a prebuilt wasm target (it made the committed file). It needs
#   RUSTC    a rustc with its standard library's sources, e.g. Debian's rustc-web + rust-web-src (1.96)
#   WASM_LD  wasm-ld, e.g. /usr/bin/wasm-ld-19 of Debian's lld-19
#   jco      of npm's @bytecodealliance/jco, for the step from core module to component
set -eu
cd "$(dirname "$0")"
: "${RUSTC:=rustc}" "${WASM_LD:=wasm-ld}"
export RUSTC RUSTC_BOOTSTRAP=1
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$WASM_LD"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}"
# No source locations: they would put this machine's paths into the file, and double its size.
export RUSTFLAGS="-Zlocation-detail=none"
cargo build --release --target wasm32-unknown-unknown -Zbuild-std=std,panic_abort
jco new "$CARGO_TARGET_DIR/wasm32-unknown-unknown/release/service_p3.wasm" -o service-p3.wasm
