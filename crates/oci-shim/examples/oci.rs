//! The runner as a program of its own: `cargo run -p catamaran-oci-shim --example oci -- run -b BUNDLE ID`.

fn main() -> std::process::ExitCode {
    catamaran_oci_shim::cli(std::env::args_os().skip(1).collect())
}
