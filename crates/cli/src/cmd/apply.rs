//! `cata apply` and `cata create`.

use crate::apply::{self, DryRun, Options};
use crate::client::discovery::Catalogue;
use crate::client::{ClientArgs, Connection, explain, query_string};
use crate::data_dir::DataDir;
use crate::manifest::FileArgs;
use crate::print::{Output, without_managed_fields};
use crate::report;
use crate::server_side::{self, Ownership};
use anyhow::{Result, bail};
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: FileArgs,
    /// Change nothing: `server` asks it what it would do, `client` does not even ask
    #[arg(
        long,
        default_value = "none",
        value_name = "WHO",
        value_enum,
        hide_possible_values = true
    )]
    dry_run: DryRun,
    /// What to do about fields the server does not know
    #[arg(long, default_value = "strict", value_name = "HOW", value_parser = ["strict", "warn", "ignore", "true", "false"])]
    validate: String,
    /// Output format: yaml, json, name, jsonpath=…
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

/// `cata apply`: what it has beside `cata create`.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    /// Let the server merge the manifest and keep track of who owns which field
    #[arg(long)]
    server_side: bool,
    /// Take over fields that others own
    #[arg(long, requires = "server_side")]
    force_conflicts: bool,
    /// Name under which to own what is applied on the server's side
    #[arg(long, value_name = "NAME", default_value = "cata", requires = "server_side")]
    field_manager: String,
    #[command(flatten)]
    common: Args,
}

impl Args {
    fn options(&self) -> Options {
        let validation = match self.validate.as_str() {
            "warn" => "Warn",
            "ignore" | "false" => "Ignore",
            _ => "Strict",
        };
        Options {
            dry_run: self.dry_run,
            validation: Some(validation),
        }
    }

    async fn start(&self, data_dir: Option<&DataDir>) -> Result<(Vec<Value>, Connection, Catalogue)> {
        if self.files.files.is_empty() {
            bail!("name a manifest file, a directory, or - for standard input, with -f");
        }
        let objects = self.files.objects()?;
        if objects.is_empty() {
            bail!("no objects passed: the manifest is empty");
        }
        let connection = self.client.connect(data_dir).await?;
        let catalogue = Catalogue::fetch(&connection).await?;
        Ok((objects, connection, catalogue))
    }

    fn report(&self, named: &str, verb: &str, object: &Value) -> Result<()> {
        match self.output.as_deref().map(Output::parse).transpose()? {
            Some(output) if !output.is_table() => {
                let mut object = object.clone();
                without_managed_fields(&mut object);
                print!("{}", output.render(&object, &|_| named.to_owned())?);
            }
            _ => println!("{named} {verb}{}", self.dry_run.mark()),
        }
        Ok(())
    }
}

pub(super) async fn apply(args: ApplyArgs, data_dir: Option<&DataDir>) -> Result<()> {
    let common = &args.common;
    if args.server_side && common.dry_run == DryRun::Client {
        bail!("--dry-run=client asks no server, --server-side asks nobody else: did you mean --dry-run=server?");
    }
    let (objects, connection, mut catalogue) = common.start(data_dir).await?;
    let ownership = Ownership {
        manager: &args.field_manager,
        force: args.force_conflicts,
    };
    each(&objects, async |object| {
        catalogue.learn(&connection, object).await?;
        let options = common.options();
        let applied = if args.server_side {
            server_side::apply(&connection, &catalogue, object, options, ownership).await?
        } else {
            apply::apply(&connection, &catalogue, object, options).await?
        };
        common.report(
            &format!("{}/{}", applied.resource, applied.name),
            applied.verb,
            &applied.object,
        )
    })
    .await
}

pub(super) async fn create(args: Args, data_dir: Option<&DataDir>) -> Result<()> {
    let (objects, connection, mut catalogue) = args.start(data_dir).await?;
    let options = args.options();
    each(&objects, async |object| {
        catalogue.learn(&connection, object).await?;
        let (version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
        let resource = catalogue.by_kind(version.unwrap_or_default(), kind.unwrap_or_default())?;
        let mut pairs = vec![
            ("fieldManager", "cata-create"),
            ("fieldValidation", options.validation.unwrap_or("Strict")),
        ];
        if options.dry_run == DryRun::Server {
            pairs.push(("dryRun", "All"));
        }
        let path = format!(
            "{}?{}",
            resource.path(Some(connection.namespace_of(object)?)),
            query_string(&pairs)
        );
        let asked = object["metadata"]["name"].as_str().unwrap_or_default();
        let singular = resource.qualified_singular();
        let created = if options.dry_run == DryRun::Client {
            object.clone()
        } else {
            let created = connection
                .send(http::Method::POST, &path, "application/json", Some(object))
                .await;
            created.map_err(|error| {
                explain(error, &connection.server).context(format!("cannot create {singular}/{asked}"))
            })?
        };
        let name = created["metadata"]["name"].as_str().unwrap_or_default();
        args.report(&format!("{singular}/{name}"), "created", &created)
    })
    .await
}

/// One refused object does not keep the others back; the last refusal is the verb's.
async fn each(objects: &[Value], mut work: impl AsyncFnMut(&Value) -> Result<()>) -> Result<()> {
    let mut failure = None;
    for object in objects {
        if let Err(error) = work(object).await
            && let Some(earlier) = failure.replace(error)
        {
            report::print(&earlier);
        }
    }
    failure.map_or(Ok(()), Err)
}
