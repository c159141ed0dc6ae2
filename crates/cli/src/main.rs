//! The `cata` command.
fn main() {}
