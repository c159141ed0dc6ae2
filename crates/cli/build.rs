//! How the program is linked.
//!
//! Every crate that reads a Pod compiles the reading of a Pod for itself; the linker folds equal functions into one, which
//! takes several megabytes off the program. Addresses inside the program are written in their packed form: each start of a
//! process (`cata oci` starts twice, see `shield_binary`) would otherwise read megabytes of them.
//!
//! Both are done where rustc links with its own lld, which is what it does on x86-64 unless told otherwise. Elsewhere the
//! program is merely larger.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    let own_lld = is("CARGO_CFG_TARGET_ARCH", "x86_64")
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && std::env::var_os("RUSTC_LINKER").is_none()
        && !std::env::var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| flags.contains("link"));
    if own_lld && is("PROFILE", "release") {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
