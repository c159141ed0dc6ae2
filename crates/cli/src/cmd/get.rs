//! `cata get`.

use crate::client::discovery::Catalogue;
use crate::client::refs::{Target, manifest_targets, targets};
use crate::client::refusal::Refusal;
use crate::client::{ClientArgs, Connection, explain, query_string};
use crate::data_dir::DataDir;
use crate::manifest::FileArgs;
use crate::print::order::Order;
use crate::print::table::{self, Layout, Table};
use crate::print::{Output, items, without_managed_fields};
use crate::report;
use anyhow::{Context, Result, bail};
use futures::{AsyncBufReadExt, TryStreamExt};
use serde_json::{Value, json};
use std::io::Write;
use std::pin::pin;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// TYPE [NAME…], TYPE/NAME…, or TYPE,TYPE
    #[arg(value_name = "RESOURCE")]
    words: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    /// Print what the server answers at this path, as it is
    #[arg(long, value_name = "PATH", conflicts_with_all = ["words", "files", "output", "watch"])]
    raw: Option<String>,
    /// Output format: wide, yaml, json, name, jsonpath=…, custom-columns=…
    #[arg(short, long, default_value = "", hide_default_value = true, value_name = "FORMAT")]
    output: String,
    /// Objects of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Label selector
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Field selector
    #[arg(long, value_name = "SELECTOR")]
    field_selector: Option<String>,
    /// After listing, show changes as they come
    #[arg(short, long)]
    watch: bool,
    /// Show changes only, not what is there already
    #[arg(long)]
    watch_only: bool,
    /// Show labels as the last column
    #[arg(long)]
    show_labels: bool,
    /// Labels to show as columns; may be repeated
    #[arg(short = 'L', long, value_name = "KEY", value_delimiter = ',')]
    label_columns: Vec<String>,
    /// Sort by what this JSONPath finds in each object, for example .metadata.name
    #[arg(long, value_name = "JSONPATH", value_parser = Order::parse, conflicts_with = "watch")]
    sort_by: Option<Order>,
    /// Do not print column headers
    #[arg(long)]
    no_headers: bool,
    /// Print nothing, and no error, for names that do not exist
    #[arg(long)]
    ignore_not_found: bool,
    /// Ask the server for lists in chunks of this size; 0 asks for everything at once
    #[arg(long, default_value_t = 500, value_name = "COUNT")]
    chunk_size: u32,
    /// Keep metadata.managedFields in yaml and json
    #[arg(long)]
    show_managed_fields: bool,
    #[command(flatten)]
    client: ClientArgs,
}

impl Args {
    fn layout(&self, wide: bool, headers: bool, target: &Target<'_>) -> Layout<'_> {
        Layout {
            wide,
            headers,
            namespace: self.all_namespaces && target.resource.namespaced,
            label_columns: &self.label_columns,
            labels: self.show_labels,
        }
    }
}

pub(super) async fn run(args: Args, data_dir: Option<&DataDir>) -> Result<()> {
    let output = Output::parse(&args.output)?;
    let connection = args.client.connect(data_dir).await?;
    if let Some(path) = &args.raw {
        return print_raw(&connection, path).await;
    }
    let manifests = args.files.objects()?;
    let catalogue = Catalogue::fetch(&connection).await?;
    let targets = match args.files.files.is_empty() {
        true => targets(&catalogue, &args.words)?,
        false if args.words.is_empty() => manifest_targets(&catalogue, &connection, &manifests)?,
        false => bail!("name resources by arguments or by manifests (-f), not both"),
    };
    if args.all_namespaces && targets.iter().any(|target| !target.names.is_empty()) {
        bail!("a resource cannot be retrieved by name across all namespaces; use -n NAMESPACE");
    }
    if args.watch || args.watch_only {
        let [target] = targets.as_slice() else {
            bail!("you may only watch one kind of resource at a time")
        };
        return watch(&args, &connection, target, &output).await;
    }
    if output.is_table() {
        print_tables(&args, &connection, &targets, &output).await
    } else {
        print_objects(&args, &connection, &targets, &output).await
    }
}

async fn print_raw(connection: &Connection, path: &str) -> Result<()> {
    let request = http::Request::get(path).body(Vec::new());
    let request = request.with_context(|| format!("{path:?} is no path; it begins with a slash"))?;
    let text = connection.client.request_text(request).await;
    print!("{}", text.map_err(|error| explain(error, &connection.server))?);
    Ok(())
}

/// The path of the collection a target is in.
fn collection(args: &Args, connection: &Connection, target: &Target<'_>) -> String {
    let namespace = target.namespace.as_deref().unwrap_or(&connection.namespace);
    target.resource.path((!args.all_namespaces).then_some(namespace))
}

/// One request's worth: a collection, or one object of it.
fn paths(args: &Args, connection: &Connection, target: &Target<'_>) -> Vec<String> {
    let collection = collection(args, connection, target);
    if target.names.is_empty() {
        return vec![format!("{collection}?{}", query(args, &[]))];
    }
    target
        .names
        .iter()
        .map(|name| format!("{collection}/{name}?{}", query_string(&whole_objects(args))))
        .collect()
}

/// Rows carry the object's metadata; what is sorted by may be anywhere in it.
fn whole_objects(args: &Args) -> Vec<(&'static str, &'static str)> {
    args.sort_by
        .is_some()
        .then_some(("includeObject", "Object"))
        .into_iter()
        .collect()
}

fn query(args: &Args, more: &[(&str, &str)]) -> String {
    let chunk = args.chunk_size.to_string();
    let mut pairs: Vec<(&str, &str)> = more.to_vec();
    pairs.extend(whole_objects(args));
    if let Some(selector) = &args.selector {
        pairs.push(("labelSelector", selector));
    }
    if let Some(selector) = &args.field_selector {
        pairs.push(("fieldSelector", selector));
    }
    if args.chunk_size > 0 && !more.iter().any(|(key, _)| *key == "watch") {
        pairs.push(("limit", &chunk));
    }
    query_string(&pairs)
}

/// GET, following `continue` to the end of a list; `None` when it does not exist and that is fine.
async fn fetch(args: &Args, connection: &Connection, path: &str, accept: &str) -> Result<Option<Value>> {
    let mut whole: Option<Value> = None;
    let mut token = String::new();
    loop {
        let separator = if path.ends_with('?') { "" } else { "&" };
        let next = match token.as_str() {
            "" => path.to_owned(),
            token => format!("{path}{separator}{}", query_string(&[("continue", token)])),
        };
        let request = http::Request::get(next)
            .header(http::header::ACCEPT, accept)
            .body(Vec::new())?;
        let text = match connection.client.request_text(request).await {
            Ok(text) => text,
            Err(kube::Error::Api(status)) if status.code == 404 && args.ignore_not_found => return Ok(None),
            Err(error) => return Err(explain(error, &connection.server)),
        };
        let mut page: Value = serde_json::from_str(&text).context("the server's answer is no JSON")?;
        token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        match &mut whole {
            None => whole = Some(page),
            Some(whole) => {
                let key = if whole.get("rows").is_some() { "rows" } else { "items" };
                if let (Some(all), Some(more)) = (whole[key].as_array_mut(), page[key].as_array_mut()) {
                    all.append(more);
                }
            }
        }
        if token.is_empty() {
            return Ok(whole);
        }
    }
}

async fn print_tables(args: &Args, connection: &Connection, targets: &[Target<'_>], output: &Output) -> Result<()> {
    let wide = matches!(output, Output::Table { wide: true });
    let mut tables = Vec::new();
    let mut failure = None;
    for target in targets {
        let mut joined: Option<Table> = None;
        for path in paths(args, connection, target) {
            let fetched = match fetch(args, connection, &path, table::ACCEPT).await {
                // As kubectl: one missing name does not hide the others.
                Err(error) => {
                    if let Some(earlier) = failure.replace(error) {
                        report::print(&earlier);
                    }
                    continue;
                }
                Ok(None) => continue,
                Ok(Some(value)) => {
                    serde_json::from_value::<Table>(value).context("the server's table cannot be read")?
                }
            };
            match &mut joined {
                None => joined = Some(fetched),
                Some(joined) => joined.rows.extend(fetched.rows),
            }
        }
        if let (Some(table), Some(order)) = (&mut joined, &args.sort_by) {
            order.sort(&mut table.rows, |row| &row.object);
        }
        tables.extend(joined.map(|table| (target, table)));
    }
    let several = tables.iter().any(|(target, _)| target.resource != tables[0].0.resource);
    let mut printed = false;
    for (target, table) in tables.iter().filter(|(_, table)| !table.rows.is_empty()) {
        let layout = args.layout(wide, !args.no_headers, target);
        let prefix = match several {
            true => format!("{}/", target.resource.qualified_singular()),
            false => String::new(),
        };
        if printed {
            println!();
        }
        print!("{}", table.render(layout, &prefix));
        printed = true;
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    if !printed && !args.ignore_not_found {
        let namespaced = targets.iter().any(|target| target.resource.namespaced);
        match namespaced && !args.all_namespaces {
            true => eprintln!("No resources found in {} namespace.", connection.namespace),
            false => eprintln!("No resources found"),
        }
    }
    Ok(())
}

async fn print_objects(args: &Args, connection: &Connection, targets: &[Target<'_>], output: &Output) -> Result<()> {
    let mut found = Vec::new();
    let mut failure = None;
    for target in targets {
        for path in paths(args, connection, target) {
            let mut value = match fetch(args, connection, &path, "application/json").await {
                Ok(Some(value)) => value,
                Ok(None) => continue,
                Err(error) => {
                    if let Some(earlier) = failure.replace(error) {
                        report::print(&earlier);
                    }
                    continue;
                }
            };
            fill_in_kinds(&mut value, target);
            found.extend(items(&value).into_iter().cloned());
        }
    }
    if let Some(order) = &args.sort_by {
        order.sort(&mut found, |object| object);
    }
    let single = matches!(targets, [target] if target.names.len() == 1);
    let mut object = match (single, found.len()) {
        (true, 0) => return failure.map_or(Ok(()), Err),
        (true, _) => found.swap_remove(0),
        (false, _) => json!({"apiVersion": "v1", "items": found, "kind": "List", "metadata": {"resourceVersion": ""}}),
    };
    if !args.show_managed_fields {
        without_managed_fields(&mut object);
    }
    print!("{}", output.render(&object, &|object| qualified_name(targets, object))?);
    std::io::stdout().flush()?;
    failure.map_or(Ok(()), Err)
}

/// Items of a list carry no kind of their own; readers of the output want one.
fn fill_in_kinds(value: &mut Value, target: &Target<'_>) {
    let Some(items) = value.get_mut("items").and_then(Value::as_array_mut) else {
        return;
    };
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.entry("kind")
            .or_insert_with(|| target.resource.kind.clone().into());
        item.entry("apiVersion")
            .or_insert_with(|| target.resource.api_version().into());
    }
}

fn qualified_name(targets: &[Target<'_>], object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default();
    let known = targets.iter().find(|target| target.resource.kind == kind);
    let resource = known.map_or_else(|| kind.to_lowercase(), |target| target.resource.qualified_singular());
    format!("{resource}/{}", object["metadata"]["name"].as_str().unwrap_or_default())
}

/// Lists (unless told not to), then shows every change as a row or an object until interrupted.
async fn watch(args: &Args, connection: &Connection, target: &Target<'_>, output: &Output) -> Result<()> {
    let collection = collection(args, connection, target);
    let name = match target.names.as_slice() {
        [] => None,
        [name] => Some(format!("metadata.name={name}")),
        _ => bail!("you may only watch one name, or all of a kind"),
    };
    let mut pairs = vec![("watch", "true"), ("allowWatchBookmarks", "true")];
    if let Some(name) = &name {
        pairs.push(("fieldSelector", name));
    }
    let list = format!(
        "{collection}?{}",
        name.as_deref()
            .map_or_else(|| query(args, &[]), |name| query_string(&[("fieldSelector", name)]))
    );
    let accept = if output.is_table() {
        table::ACCEPT
    } else {
        "application/json"
    };
    let present = fetch(args, connection, &list, accept)
        .await?
        .context("the server sent no list")?;
    let revision = present["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let mut screen = Screen {
        args,
        target,
        output,
        columns: Vec::new(),
        headers: !args.no_headers,
        widths: Vec::new(),
    };
    if !args.watch_only {
        screen.show(present)?;
    }
    pairs.push(("resourceVersion", &revision));
    let request = http::Request::get(format!("{collection}?{}", query(args, &pairs)))
        .header(http::header::ACCEPT, accept)
        .body(Vec::new())?;
    let stream = connection
        .client
        .request_stream(request)
        .await
        .map_err(|error| explain(error, &connection.server))?;
    let mut lines = pin!(stream.lines());
    while let Some(line) = lines.try_next().await.context("the watch broke off")? {
        let mut event: Value = serde_json::from_str(&line).context("the server's event is no JSON")?;
        match event["type"].as_str() {
            Some("BOOKMARK") => {}
            Some("ERROR") => {
                let text = |field: &str| event["object"][field].as_str().unwrap_or_default().to_owned();
                return Err(anyhow::Error::new(Refusal {
                    reason: text("reason"),
                    message: text("message"),
                }));
            }
            _ => screen.show(event["object"].take())?,
        }
    }
    Ok(())
}

/// Rows that come one by one keep the columns of the first table.
struct Screen<'a> {
    args: &'a Args,
    target: &'a Target<'a>,
    output: &'a Output,
    columns: Vec<table::Column>,
    headers: bool,
    widths: Vec<usize>,
}

impl Screen<'_> {
    fn show(&mut self, mut value: Value) -> Result<()> {
        if let Output::Table { wide } = self.output {
            let mut table: Table = serde_json::from_value(value).context("the server's table cannot be read")?;
            if table.column_definitions.is_empty() {
                table.column_definitions.clone_from(&self.columns);
            } else {
                self.columns.clone_from(&table.column_definitions);
            }
            if table.rows.is_empty() {
                return Ok(());
            }
            let layout = self.args.layout(*wide, std::mem::take(&mut self.headers), self.target);
            print!("{}", table.render_below(layout, "", &mut self.widths));
        } else {
            fill_in_kinds(&mut value, self.target);
            for item in items(&value) {
                let mut item = item.clone();
                if !self.args.show_managed_fields {
                    without_managed_fields(&mut item);
                }
                print!(
                    "{}",
                    self.output.render(&item, &|object| qualified_name(
                        std::slice::from_ref(self.target),
                        object
                    ))?
                );
            }
        }
        std::io::stdout().flush()?;
        Ok(())
    }
}
