//! `cargo xtask bench`.

use anyhow::{Result, bail};

pub(crate) fn run(_arguments: &[String]) -> Result<()> {
    bail!("placeholder while the workspace is laid out")
}
