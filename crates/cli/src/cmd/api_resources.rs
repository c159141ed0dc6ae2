//! `cata api-resources`.

use crate::client::ClientArgs;
use crate::client::discovery::Catalogue;
use crate::data_dir::DataDir;
use crate::print::table;
use anyhow::Result;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `wide` adds verbs and categories, `name` prints names only
    #[arg(short, long, value_name = "FORMAT", hide_possible_values = true, value_parser = ["wide", "name"])]
    output: Option<String>,
    /// Kinds that live in namespaces (or, with =false, those that do not)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    namespaced: Option<bool>,
    /// Kinds of one API group
    #[arg(long, value_name = "GROUP")]
    api_group: Option<String>,
    /// Do not print column headers
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: Args, data_dir: Option<&DataDir>) -> Result<()> {
    let catalogue = Catalogue::fetch(&args.client.connect(data_dir).await?).await?;
    let wanted = catalogue.resources.iter().filter(|resource| {
        args.namespaced
            .is_none_or(|namespaced| namespaced == resource.namespaced)
            && args.api_group.as_ref().is_none_or(|group| *group == resource.group)
    });
    if args.output.as_deref() == Some("name") {
        wanted.for_each(|resource| println!("{}", resource.qualified()));
        return Ok(());
    }
    let wide = args.output.as_deref() == Some("wide");
    let mut headers: Vec<String> = ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"]
        .map(str::to_owned)
        .into();
    if wide {
        headers.extend(["VERBS", "CATEGORIES"].map(str::to_owned));
    }
    let rows: Vec<Vec<String>> = wanted
        .map(|resource| {
            let mut row = vec![
                resource.plural.clone(),
                resource.short_names.join(","),
                resource.api_version(),
                resource.namespaced.to_string(),
                resource.kind.clone(),
            ];
            if wide {
                row.extend([resource.verbs.join(","), resource.categories.join(",")]);
            }
            row
        })
        .collect();
    print!("{}", table::align(&headers, &rows, !args.no_headers));
    Ok(())
}
