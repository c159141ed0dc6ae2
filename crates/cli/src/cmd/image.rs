//! `cata image`: the image store by hand. It is the store of the node agent, and neither needs the other to run.

use crate::print::table::align;
use anyhow::{Context, Result, bail};
use catamaran_image::{Credential, ErrorKind, Form, Image, Options, PackSource, Reference, Store};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Fetch an image from its registry
    Pull(Pull),
    /// List the images in the store
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Remove names, and images that have no name left
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// Read an OCI image layout (directory or tar) or a docker archive
    Import(Import),
    /// Build a small image from a directory, from programs of this host, or from a .wasm file
    Pack(Pack),
    /// Send an image to a registry
    Push(Push),
}

/// How registries are talked to.
#[derive(Debug, clap::Args)]
struct Registry {
    /// Registry host that speaks plain HTTP (loopback hosts always may); may be repeated
    #[arg(long, value_name = "HOST[:PORT]")]
    plain_http: Vec<String>,
    /// Registry host whose certificate is not verified; may be repeated
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure: Vec<String>,
    /// PEM certificates to trust instead of the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Docker configuration with credentials [default: $DOCKER_CONFIG/config.json or ~/.docker/config.json]
    #[arg(long, value_name = "FILE")]
    docker_config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Pull {
    /// Name, for example nginx, ghcr.io/team/app:v1 or name@sha256:…
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    registry: Registry,
}

#[derive(Debug, clap::Args)]
struct Ls {
    /// Only image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Output format
    #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
    output: String,
}

#[derive(Debug, clap::Args)]
struct Rm {
    /// Name, digest, or ID (or the beginning of one)
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Do not fail when an image does not exist
    #[arg(long)]
    ignore_not_found: bool,
}

#[derive(Debug, clap::Args)]
struct Import {
    /// Layout directory or archive (may be compressed); - is standard input
    path: PathBuf,
    /// Name for the image, where the archive holds one; else its own names count
    #[arg(short, long, value_name = "NAME")]
    tag: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["rootfs", "from_host", "wasm"])))]
struct Pack {
    /// Name for the image
    #[arg(short, long, value_name = "NAME")]
    tag: String,
    /// A directory that is a root file system
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    /// Programs of this host, with the libraries they need; the first is the image's command
    #[arg(long, num_args = 1.., value_name = "PROGRAM")]
    from_host: Vec<PathBuf>,
    /// A WebAssembly module or component
    #[arg(long, value_name = "FILE")]
    wasm: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Push {
    /// Image in the store
    image: String,
    /// Where to [default: the image's own name]
    destination: Option<String>,
    #[command(flatten)]
    registry: Registry,
}

/// Runs one of the verbs on the store below `data_dir`.
///
/// # Errors
/// What the user has to know; the causes are in the chain.
pub(super) async fn run(args: Args, data_dir: &Path) -> Result<()> {
    match args.verb {
        Verb::Pull(args) => pull(&args, data_dir).await,
        Verb::Ls(args) => list(&args, &open(data_dir, Options::default())?).await,
        Verb::Rm(args) => remove(&args, &open(data_dir, Options::default())?).await,
        Verb::Import(args) => import(&args, &open(data_dir, Options::default())?)
            .await
            .with_context(|| format!("cannot import {}", args.path.display())),
        Verb::Pack(args) => pack(args, &open(data_dir, Options::default())?).await,
        Verb::Push(args) => push(&args, data_dir).await,
    }
}

fn open(data_dir: &Path, options: Options) -> Result<Store> {
    let dir = data_dir.join("images");
    let hint = format!(
        "cannot open the image store in {} (another one: --data-dir)",
        dir.display()
    );
    Store::open(dir, options).context(hint)
}

impl Registry {
    fn options(&self) -> Options {
        Options {
            plain_http_hosts: self.plain_http.clone(),
            insecure_tls_hosts: self.insecure.clone(),
            ca_file: self.ca_file.clone(),
            ..Options::default()
        }
    }

    /// A file that was named must be there, the usual one need not be.
    fn credentials(&self) -> Result<Vec<Credential>> {
        let usual = || {
            let directory = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
            let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker"));
            Some(directory.or_else(home)?.join("config.json")).filter(|path| path.exists())
        };
        let Some(path) = self.docker_config.clone().or_else(usual) else {
            return Ok(Vec::new());
        };
        let what = path.display().to_string();
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {what}"))?;
        Ok(Credential::parse_docker_config(&bytes, &what)?)
    }
}

async fn pull(args: &Pull, data_dir: &Path) -> Result<()> {
    let store = open(data_dir, args.registry.options())?;
    let credentials = args.registry.credentials()?;
    for reference in &args.images {
        let image = store.pull(reference, &credentials).await.map_err(with_next_step)?;
        println!("{}  {}", Reference::parse(reference)?, image.manifest);
    }
    Ok(())
}

/// What can be done about an error, where it is not obvious.
fn with_next_step(error: catamaran_image::Error) -> anyhow::Error {
    let step = match error.kind() {
        ErrorKind::Unauthorized => "give credentials with --docker-config",
        ErrorKind::Tls => "trust its certificate with --ca-file, or use --insecure or --plain-http for this host",
        _ => return error.into(),
    };
    let text = format!("{error} ({step})");
    anyhow::Error::new(error).context(text)
}

async fn list(args: &Ls, store: &Store) -> Result<()> {
    let images = store.list().await?;
    if args.quiet {
        for image in images {
            println!("{}", image.id);
        }
        return Ok(());
    }
    if args.output == "json" {
        let images: Vec<_> = images.iter().map(document).collect();
        println!("{}", serde_json::to_string_pretty(&images)?);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = images.iter().flat_map(rows).collect();
    let headers = ["NAME", "ID", "PLATFORM", "SIZE"].map(str::to_owned);
    print!("{}", align(&headers, &rows, true));
    Ok(())
}

/// A row for every name; an image that is only known by digest shows that.
fn rows(image: &Image) -> Vec<Vec<String>> {
    let names = if image.names.is_empty() {
        &image.digests
    } else {
        &image.names
    };
    let id = image
        .id
        .trim_start_matches("sha256:")
        .chars()
        .take(12)
        .collect::<String>();
    let row = |name: &String| vec![name.clone(), id.clone(), platform(image), human_size(image.size)];
    names.iter().map(row).collect()
}

fn platform(image: &Image) -> String {
    match (image.os.as_str(), image.architecture.as_str()) {
        ("", _) | (_, "") if image.form.is_wasm() => "wasm".to_owned(),
        (os, architecture) => format!("{os}/{architecture}"),
    }
}

fn document(image: &Image) -> serde_json::Value {
    let form = match &image.form {
        Form::Linux => json!({"type": "linux"}),
        Form::WasmArtifact { digest, .. } => json!({"type": "wasm-artifact", "module": digest}),
        Form::WasmRootfs { entrypoint } => json!({"type": "wasm-rootfs", "entrypoint": entrypoint}),
    };
    json!({
        "id": image.id,
        "manifest": image.manifest,
        "names": image.names,
        "digests": image.digests,
        "size": image.size,
        "os": image.os,
        "architecture": image.architecture,
        "created": image.created,
        "form": form,
    })
}

/// Decimal units, as registries and docker count.
fn human_size(bytes: u64) -> String {
    let mut unit = 1u64;
    for name in ["B", "kB", "MB", "GB"] {
        if bytes < unit.saturating_mul(1000) || name == "GB" {
            let tenths = bytes.saturating_mul(10) / unit;
            return if name == "B" {
                format!("{bytes}B")
            } else {
                format!("{}.{}{name}", tenths / 10, tenths % 10)
            };
        }
        unit *= 1000;
    }
    unreachable!("the last unit always fits")
}

async fn remove(args: &Rm, store: &Store) -> Result<()> {
    for reference in &args.images {
        match store.remove(reference).await {
            Ok(removed) => {
                for name in removed.untagged {
                    println!("untagged {name}");
                }
                if let Some(id) = removed.deleted {
                    println!("deleted {id}");
                }
            }
            Err(error) if args.ignore_not_found && error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn import(args: &Import, store: &Store) -> Result<()> {
    let tag = args.tag.as_deref();
    let images = match args.path.to_str() {
        Some("-") => store.import_from(std::io::stdin(), tag).await?,
        _ => store.import(&args.path, tag).await?,
    };
    for image in images {
        for name in &image.names {
            println!("{name}  {}", image.manifest);
        }
    }
    Ok(())
}

async fn pack(args: Pack, store: &Store) -> Result<()> {
    let source = match (args.rootfs, args.wasm) {
        (Some(directory), _) => PackSource::RootfsDir(directory),
        (_, Some(file)) => PackSource::Wasm(file),
        (None, None) => PackSource::FromHost(args.from_host),
    };
    let image = store.pack(&source, &args.tag).await?;
    println!(
        "{}  {}  {}",
        Reference::parse(&args.tag)?,
        image.manifest,
        human_size(image.size)
    );
    Ok(())
}

async fn push(args: &Push, data_dir: &Path) -> Result<()> {
    let store = open(data_dir, args.registry.options())?;
    let destination = match (&args.destination, store.get(&args.image).await?) {
        (Some(destination), _) => destination.clone(),
        (None, None) => bail!("no image {:?} in the local store; see `cata image ls`", args.image),
        (None, Some(image)) => own_name(&args.image, &image)?,
    };
    let credentials = args.registry.credentials()?;
    let digest = store
        .push(&args.image, &destination, &credentials)
        .await
        .map_err(with_next_step)?;
    println!("{}  {digest}", Reference::parse(&destination)?);
    Ok(())
}

/// An image given by ID goes where its name says, if it has exactly one.
fn own_name(given: &str, image: &Image) -> Result<String> {
    let named = Reference::parse(given).map(|reference| reference.to_string()).ok();
    match (named.filter(|name| image.names.contains(name)), image.names.as_slice()) {
        (Some(name), _) => Ok(name),
        (None, [name]) => Ok(name.clone()),
        (None, _) => bail!("say where to push {given:?} to: it has {} names", image.names.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Command::try_parse_from(line.split_whitespace()).map(|command| command.args)
    }

    #[test]
    fn sizes_are_short() {
        let shown = [0, 999, 1000, 1_234_567, 98_765_432_100, u64::MAX / 20].map(human_size);
        assert_eq!(shown, ["0B", "999B", "1.0kB", "1.2MB", "98.7GB", "922337203.6GB"]);
    }

    #[test]
    fn pack_takes_exactly_one_source() {
        assert!(parse("image pack --tag x --wasm a.wasm").is_ok());
        assert!(parse("image pack --tag x --from-host /bin/sh ls").is_ok());
        for line in [
            "image pack --tag x",
            "image pack --wasm a",
            "image pack --tag x --wasm a --rootfs b",
            "image rm",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[tokio::test]
    async fn the_verbs_work_together_on_one_store() {
        let dir = tempfile::tempdir().unwrap();
        let module = dir.path().join("m.wasm");
        std::fs::write(&module, b"\0asm\x01\0\0\0").unwrap();
        let line = |line: String| parse(&line).unwrap();
        run(
            line(format!("image pack -t local/m --wasm {}", module.display())),
            dir.path(),
        )
        .await
        .unwrap();
        let store = open(dir.path(), Options::default()).unwrap();
        let image = store.get("local/m").await.unwrap().unwrap();
        assert_eq!(rows(&image)[0][0], "docker.io/local/m:latest");
        assert_eq!(document(&image)["form"]["type"], "wasm-artifact");
        run(line("image ls".to_owned()), dir.path()).await.unwrap();
        let error = run(line("image push deadbeef".to_owned()), dir.path())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("no image"), "{error}");
        run(line("image rm local/m".to_owned()), dir.path()).await.unwrap();
        run(line("image rm local/m --ignore-not-found".to_owned()), dir.path())
            .await
            .unwrap();
        assert!(run(line("image rm local/m".to_owned()), dir.path()).await.is_err());
    }
}
