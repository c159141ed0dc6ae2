//! `cata wait --for=…`.

use crate::client::discovery::{Catalogue, Resource};
use crate::client::refs::targets;
use crate::client::refusal::Refusal;
use crate::client::watch::{names_of, wait_for_object};
use crate::client::{ClientArgs, Connection, parse_duration};
use crate::data_dir::DataDir;
use crate::print::jsonpath::Template;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// TYPE NAME…, TYPE/NAME…, or TYPE with -l or --all
    #[arg(required = true, value_name = "RESOURCE")]
    words: Vec<String>,
    /// create, delete, condition=NAME[=VALUE], or jsonpath='{.path}'[=VALUE]
    #[arg(long = "for", value_name = "CONDITION")]
    condition: String,
    /// Label selector
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// All objects of the type in the namespace
    #[arg(long)]
    all: bool,
    /// How long to wait
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    client: ClientArgs,
}

/// What to wait for.
#[derive(Debug, PartialEq)]
enum Goal {
    Created,
    Deleted,
    Condition { name: String, status: String },
    JsonPath { template: Template, value: Option<String> },
}

impl Goal {
    fn parse(text: &str) -> Result<Self> {
        let lower = text.to_lowercase();
        if lower == "delete" {
            return Ok(Self::Deleted);
        }
        if lower == "create" {
            return Ok(Self::Created);
        }
        if let Some(condition) = text.strip_prefix("condition=") {
            let (name, status) = condition.split_once('=').unwrap_or((condition, "True"));
            return Ok(Self::Condition {
                name: name.to_owned(),
                status: status.to_owned(),
            });
        }
        if let Some(rest) = text.strip_prefix("jsonpath=") {
            let rest = rest.trim_matches('\'');
            let end = rest.rfind('}').with_context(|| format!("{text:?} has no {{…}} path"))?;
            let value = rest[end + 1..]
                .trim_start_matches('\'')
                .strip_prefix('=')
                .map(str::to_owned);
            return Ok(Self::JsonPath {
                template: Template::parse(&rest[..=end])?,
                value,
            });
        }
        bail!("unrecognized condition {text:?}; use create, delete, condition=NAME or jsonpath='{{.path}}'=VALUE")
    }

    /// `None` for an object that is not (or no longer) there.
    fn reached(&self, object: Option<&Value>) -> bool {
        match (self, object) {
            (Self::Deleted, object) => object.is_none(),
            (_, None) => false,
            (Self::Created, Some(_)) => true,
            (Self::Condition { name, status }, Some(object)) => {
                let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
                conditions.into_iter().any(|condition| {
                    condition["type"]
                        .as_str()
                        .is_some_and(|kind| kind.eq_ignore_ascii_case(name))
                        && condition["status"]
                            .as_str()
                            .is_some_and(|value| value.eq_ignore_ascii_case(status))
                })
            }
            (Self::JsonPath { template, value }, Some(object)) => {
                let found = template.values(object);
                match value {
                    None => !found.is_empty(),
                    Some(value) => found.iter().any(|found| match found {
                        Value::String(text) => text == value,
                        other => other.to_string() == *value,
                    }),
                }
            }
        }
    }
}

pub(super) async fn run(args: Args, data_dir: Option<&DataDir>) -> Result<()> {
    let goal = Goal::parse(&args.condition)?;
    let connection = args.client.connect(data_dir).await?;
    let catalogue = Catalogue::fetch(&connection).await?;
    let mut waits = Vec::new();
    for target in targets(&catalogue, &args.words)? {
        let names = match (target.names.is_empty(), args.all || args.selector.is_some()) {
            (false, _) => target.names,
            (true, true) => {
                names_of(
                    &connection,
                    target.resource,
                    &connection.namespace,
                    args.selector.as_deref().unwrap_or_default(),
                )
                .await?
            }
            (true, false) => bail!("name what to wait for, or use -l or --all"),
        };
        waits.extend(names.into_iter().map(|name| (target.resource, name)));
    }
    if waits.is_empty() && goal != Goal::Deleted {
        bail!("no matching resources found");
    }
    let waiting = async {
        for (resource, name) in &waits {
            let was_there = wait_for(&connection, resource, name, &goal).await?;
            let named = format!("{}/{name}", resource.qualified_singular());
            match goal {
                Goal::Deleted if !was_there => {}
                Goal::Deleted => println!("{named} deleted"),
                _ => println!("{named} condition met"),
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(args.timeout, waiting).await.map_err(|_| {
        let names: Vec<String> = waits
            .iter()
            .map(|(resource, name)| format!("{}/{name}", resource.qualified()))
            .collect();
        anyhow::anyhow!("timed out waiting for the condition on {}", names.join(", "))
    })?
}

/// Returns when the goal is reached; true if there was an object at the beginning.
async fn wait_for(connection: &Connection, resource: &Resource, name: &str, goal: &Goal) -> Result<bool> {
    let mut was_there = false;
    let exists = |object: Option<&Value>| {
        was_there = object.is_some();
        if !was_there && !matches!(goal, Goal::Created) {
            return Err(anyhow::Error::new(Refusal {
                reason: "NotFound".to_owned(),
                message: format!("{} {name:?} not found", resource.qualified()),
            }));
        }
        Ok(())
    };
    wait_for_object(connection, resource, &connection.namespace, name, exists, |object| {
        goal.reached(object)
    })
    .await?;
    Ok(was_there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn goals_are_read_and_reached() {
        let pod = json!({"status": {"phase": "Running", "n": 3, "conditions": [{"type": "Ready", "status": "True"}]}});
        for (text, reached) in [
            ("condition=Ready", true),
            ("condition=ready=true", true),
            ("condition=Ready=False", false),
            ("condition=Other", false),
            ("jsonpath='{.status.phase}'=Running", true),
            ("jsonpath={.status.phase}=Failed", false),
            ("jsonpath={.status.n}=3", true),
            ("jsonpath={.status.podIP}", false),
            ("create", true),
            ("delete", false),
        ] {
            assert_eq!(Goal::parse(text).expect(text).reached(Some(&pod)), reached, "{text}");
        }
        assert!(Goal::parse("delete").expect("goal").reached(None));
        assert!(Goal::parse("happiness").is_err());
    }
}
