//! `cata restore`: a cluster from a backup, into a data directory in which no server runs.

use crate::data_dir::{DataDir, Part};
use anyhow::{Context, Result, bail};
use catamaran_control::backup::{Error, Restored, restore};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The backup; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace the cluster that is in the data directory; it is put aside, not deleted
    #[arg(long)]
    replace: bool,
}

pub(super) async fn run(args: Args, data_dir: DataDir) -> Result<()> {
    let _lock = data_dir.lock(Part::Server)?;
    let backup: Box<dyn Read> = if args.file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        let file = File::open(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
        Box::new(file)
    };
    let restored = match restore(backup, &data_dir.path, args.replace).await {
        Ok(restored) => restored,
        Err(error @ Error::NotEmpty { .. }) => {
            bail!("{error}; choose another directory with --data-dir, or put it aside with --replace")
        }
        Err(error) => return Err(error).context("nothing was restored"),
    };
    let Restored { time, revision, aside } = restored;
    println!(
        "restored the cluster of {time} (revision {revision}) to {}; start it with `cata server` or `cata dev`",
        data_dir.path.display()
    );
    if let Some(aside) = aside {
        println!("the cluster that was there is kept in {}", aside.display());
    }
    Ok(())
}
